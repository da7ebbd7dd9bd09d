package pod

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/gatehouse-dev/gatehouse/internal/resource/signername"
)

const (
	minTokenSeconds       = int64(10 * 60)
	maxTokenSeconds       = int64(1) << 32
	minCertificateSeconds = int32(60 * 60)
	maxCertificateSeconds = int32(91 * 24 * 60 * 60)
	// maxOwnCertificateSeconds is for signers of the domain kubernetes.io.
	maxOwnCertificateSeconds = int32(24 * 60 * 60)
	maxUserAnnotations       = 256 << 10 // bytes
)

var keyTypes = []string{"ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519", "RSA3072", "RSA4096"}

// validateProjected checks a volume whose files come from several sources.
func validateProjected(at *field.Path, v *corev1.ProjectedVolumeSource) field.ErrorList {
	errs := fileMode(at.Child("defaultMode"), v.DefaultMode)
	paths := map[string]bool{}
	// claim gives a path to one source.
	claim := func(at *field.Path, path string) {
		if path != "" && paths[path] {
			errs = append(errs, field.Invalid(at, path, "conflicts with the path of another source"))
		}
		paths[path] = true
	}
	for i := range v.Sources {
		s, at := &v.Sources[i], at.Child("sources").Index(i)
		kinds := 0
		if s.Secret != nil {
			kinds++
			at := at.Child("secret")
			errs = append(errs, requireText(at.Child("name"), s.Secret.Name)...)
			errs = append(errs, validateItems(at.Child("items"), s.Secret.Items)...)
			for j, item := range s.Secret.Items {
				claim(at.Child("items").Index(j).Child("path"), item.Path)
			}
		}
		if s.ConfigMap != nil {
			kinds++
			at := at.Child("configMap")
			errs = append(errs, requireText(at.Child("name"), s.ConfigMap.Name)...)
			errs = append(errs, validateItems(at.Child("items"), s.ConfigMap.Items)...)
			for j, item := range s.ConfigMap.Items {
				claim(at.Child("items").Index(j).Child("path"), item.Path)
			}
		}
		if s.DownwardAPI != nil {
			kinds++
			at := at.Child("downwardAPI", "items")
			errs = append(errs, validateDownward(at, s.DownwardAPI.Items)...)
			for j, item := range s.DownwardAPI.Items {
				claim(at.Index(j).Child("path"), item.Path)
			}
		}
		if s.ServiceAccountToken != nil {
			kinds++
			errs = append(errs, validateToken(at.Child("serviceAccountToken"), s.ServiceAccountToken)...)
			claim(at.Child("serviceAccountToken", "path"), s.ServiceAccountToken.Path)
		}
		if s.ClusterTrustBundle != nil {
			kinds++
			errs = append(errs, validateTrustBundle(at.Child("clusterTrustBundle"), s.ClusterTrustBundle)...)
			claim(at.Child("clusterTrustBundle", "path"), s.ClusterTrustBundle.Path)
		}
		if c := s.PodCertificate; c != nil {
			kinds++
			at := at.Child("podCertificate")
			errs = append(errs, validateCertificate(at, c)...)
			claim(at.Child("credentialBundlePath"), c.CredentialBundlePath)
			claim(at.Child("keyPath"), c.KeyPath)
			claim(at.Child("certificateChainPath"), c.CertificateChainPath)
		}
		if kinds > 1 {
			errs = append(errs, field.Forbidden(at, "only one kind can be set"))
		}
	}
	return errs
}

func validateItems(at *field.Path, items []corev1.KeyToPath) field.ErrorList {
	var errs field.ErrorList
	for i, item := range items {
		at := at.Index(i)
		errs = append(errs, requireText(at.Child("key"), item.Key)...)
		errs = append(errs, projected(at.Child("path"), item.Path)...)
		errs = append(errs, fileMode(at.Child("mode"), item.Mode)...)
	}
	return errs
}

func validateDownward(at *field.Path, items []corev1.DownwardAPIVolumeFile) field.ErrorList {
	var errs field.ErrorList
	for i, item := range items {
		at := at.Index(i)
		errs = append(errs, projected(at.Child("path"), item.Path)...)
		errs = append(errs, fileMode(at.Child("mode"), item.Mode)...)
		if ref := item.FieldRef; ref != nil {
			errs = append(errs, validateFieldRef(at.Child("fieldRef"), ref, fileFields)...)
		}
		if ref := item.ResourceFieldRef; ref != nil {
			at := at.Child("resourceFieldRef")
			errs = append(errs, requireText(at.Child("containerName"), ref.ContainerName)...)
			errs = append(errs, validateResourceFieldRef(at, ref)...)
		}
		switch {
		case item.FieldRef != nil && item.ResourceFieldRef != nil:
			errs = append(errs, field.Invalid(at, item.Path, "fieldRef and resourceFieldRef exclude each other"))
		case item.FieldRef == nil && item.ResourceFieldRef == nil:
			errs = append(errs, field.Required(at, "must have fieldRef or resourceFieldRef"))
		}
	}
	return errs
}

func validateToken(at *field.Path, t *corev1.ServiceAccountTokenProjection) field.ErrorList {
	errs := projected(at.Child("path"), t.Path)
	switch s := t.ExpirationSeconds; {
	case s == nil:
		errs = append(errs, field.Required(at.Child("expirationSeconds"), ""))
	case *s < minTokenSeconds:
		errs = append(errs, field.Invalid(at.Child("expirationSeconds"), *s, "may not specify a duration less than 10 minutes"))
	case *s > maxTokenSeconds:
		errs = append(errs, field.Invalid(at.Child("expirationSeconds"), *s, "may not specify a duration larger than 2^32 seconds"))
	}
	return errs
}

func validateTrustBundle(at *field.Path, b *corev1.ClusterTrustBundleProjection) field.ErrorList {
	errs := projected(at.Child("path"), b.Path)
	switch {
	case b.Name != nil && b.SignerName != nil:
		errs = append(errs, field.Invalid(at, *b.Name, "name and signerName exclude each other"))
	case b.Name != nil:
		errs = append(errs, named(at.Child("name"), *b.Name, bundleName)...)
		if b.LabelSelector != nil {
			errs = append(errs, field.Invalid(at.Child("labelSelector"), "<selector>", "cannot be set together with name"))
		}
	case b.SignerName != nil:
		errs = append(errs, signername.Validate(at.Child("signerName"), *b.SignerName)...)
		errs = append(errs, metav1validation.ValidateLabelSelector(b.LabelSelector,
			metav1validation.LabelSelectorValidationOptions{}, at.Child("labelSelector"))...)
	default:
		errs = append(errs, field.Required(at, "must have name or signerName"))
	}
	return errs
}

// bundleName accepts the names of trust bundles: NAME, or SIGNER:NAME with
// the slash of the signer written as a colon.
func bundleName(name string) []string {
	return apivalidation.NameIsDNSSubdomain(name[strings.LastIndexByte(name, ':')+1:], false)
}

func validateCertificate(at *field.Path, c *corev1.PodCertificateProjection) field.ErrorList {
	errs := signername.Validate(at.Child("signerName"), c.SignerName)
	errs = append(errs, oneOf(at.Child("keyType"), c.KeyType, keyTypes...)...)
	if s := c.MaxExpirationSeconds; s != nil {
		longest := maxCertificateSeconds
		if domain, _, _ := strings.Cut(c.SignerName, "/"); domain == "kubernetes.io" || strings.HasSuffix(domain, ".kubernetes.io") {
			longest = maxOwnCertificateSeconds
		}
		if *s < minCertificateSeconds || *s > longest {
			errs = append(errs, field.Invalid(at.Child("maxExpirationSeconds"), *s,
				validation.InclusiveRangeError(int(minCertificateSeconds), int(longest))))
		}
	}
	paths := 0
	for _, p := range []struct{ name, path string }{
		{"credentialBundlePath", c.CredentialBundlePath},
		{"keyPath", c.KeyPath},
		{"certificateChainPath", c.CertificateChainPath},
	} {
		if p.path != "" {
			paths++
			errs = append(errs, projected(at.Child(p.name), p.path)...)
		}
	}
	if paths == 0 {
		errs = append(errs, field.Required(at, "must have credentialBundlePath, keyPath or certificateChainPath"))
	}
	size := 0
	for key, value := range c.UserAnnotations {
		at := at.Child("userAnnotations").Key(key)
		errs = append(errs, messages(at, key, validation.IsQualifiedName(strings.ToLower(key)))...)
		if !strings.Contains(key, "/") {
			errs = append(errs, field.Invalid(at, key, "must have a domain"))
		}
		size += len(key) + len(value)
	}
	if size > maxUserAnnotations {
		errs = append(errs, field.TooLong(at.Child("userAnnotations"), "", maxUserAnnotations))
	}
	return errs
}

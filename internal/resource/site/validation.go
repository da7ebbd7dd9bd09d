package site

import (
	"encoding/hex"
	"slices"
	"strings"

	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	federationv1alpha1 "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

const (
	maxNamespaces  = 10_000 // entries of namespaceMap
	maxForeignName = 253    // bytes of a namespace or project name of a site
	maxCredentials = 16
	maxConditions  = 32
	maxLimits      = 64
	maxFollowers   = 64
	maxMessage     = 1024 // bytes of the message of a limit

	certificateID = "X509SHA256="
)

var (
	kinds = []federationv1alpha1.SiteKind{
		federationv1alpha1.SiteFederated, federationv1alpha1.SiteFleet,
		federationv1alpha1.SiteKubernetes, federationv1alpha1.SiteOpenStack,
	}
	modes           = []federationv1alpha1.SiteMode{federationv1alpha1.SiteDeny, federationv1alpha1.SiteFull, federationv1alpha1.SiteObserve}
	rbacModes       = []federationv1alpha1.SiteRBAC{federationv1alpha1.SiteRBACNone, federationv1alpha1.SiteRBACShared}
	nodeModes       = []federationv1alpha1.SiteNodes{federationv1alpha1.SiteNodesNeeded, federationv1alpha1.SiteNodesNone}
	signers         = []federationv1alpha1.SiteTokens{federationv1alpha1.SiteTokensGatehouse, federationv1alpha1.SiteTokensOwn}
	failurePolicies = []federationv1alpha1.SiteFailurePolicy{federationv1alpha1.SiteFailureDeny, federationv1alpha1.SiteFailureNoOpinion}
	doors           = []string{"admit", "audit", "audit/totals", "authenticate", "authorize", "authorize/deny", "images", "journal", "keys", "objects", "reports", "sign", "snapshot", "snapshot/ack", "syslog", "v1/logs"}
)

// controlPlane is how policies name the control plane itself where they name
// sites, so no site may have that name.
const controlPlane = "gatehouse"

func validateName(name string, prefix bool) []string {
	msgs := resource.DNSLabel(name, prefix)
	if name == controlPlane {
		msgs = append(msgs, "is the name of the control plane itself")
	}
	return msgs
}

func validate(s *federationv1alpha1.Site) field.ErrorList {
	spec, path := &s.Spec, field.NewPath("spec")
	errs := oneOf(path.Child("kind"), spec.Kind, kinds)
	errs = append(errs, oneOf(path.Child("mode"), spec.Mode, modes)...)
	errs = append(errs, oneOf(path.Child("authorization", "rbac"), spec.Authorization.RBAC, rbacModes)...)
	nodes := path.Child("authorization", "nodes")
	errs = append(errs, oneOf(nodes, spec.Authorization.Nodes, nodeModes)...)
	if spec.Authorization.Nodes == federationv1alpha1.SiteNodesNeeded && spec.Kind != federationv1alpha1.SiteKubernetes {
		errs = append(errs, field.Invalid(nodes, spec.Authorization.Nodes, "only a Kubernetes cluster has nodes"))
	}
	errs = append(errs, oneOf(path.Child("serviceAccountTokens"), spec.ServiceAccountTokens, signers)...)
	errs = append(errs, oneOf(path.Child("failurePolicy"), spec.FailurePolicy, failurePolicies)...)
	errs = append(errs, validateNamespace(path.Child("ownerNamespace"), spec.OwnerNamespace)...)
	errs = append(errs, validateNamespaceMap(path.Child("namespaceMap"), spec.NamespaceMap)...)
	errs = append(errs, validateCredentials(path.Child("credentials"), spec.Credentials)...)
	return errs
}

func validateUpdate(s, old *federationv1alpha1.Site) field.ErrorList {
	errs := validate(s)
	return append(errs, apivalidation.ValidateImmutableField(s.Spec.Kind, old.Spec.Kind, field.NewPath("spec", "kind"))...)
}

func oneOf[T ~string](path *field.Path, value T, known []T) field.ErrorList {
	switch {
	case value == "":
		return field.ErrorList{field.Required(path, "")}
	case !slices.Contains(known, value):
		return field.ErrorList{field.NotSupported(path, value, known)}
	}
	return nil
}

func validateNamespace(path *field.Path, name string) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	var errs field.ErrorList
	for _, msg := range validation.IsDNS1123Label(name) {
		errs = append(errs, field.Invalid(path, name, msg))
	}
	return errs
}

// validateNamespaceMap leaves the grammar of foreign names to the site: what
// Kubernetes calls a namespace, OpenStack calls a project and writes as it
// likes.
func validateNamespaceMap(path *field.Path, namespaces map[string]string) field.ErrorList {
	if len(namespaces) > maxNamespaces {
		return field.ErrorList{field.TooMany(path, len(namespaces), maxNamespaces)}
	}
	var errs field.ErrorList
	for foreign, own := range namespaces {
		switch {
		case foreign == "":
			errs = append(errs, field.Invalid(path, foreign, "a name must not be empty"))
		case len(foreign) > maxForeignName:
			errs = append(errs, field.TooLong(path.Key(foreign[:32]+"..."), "", maxForeignName))
		case strings.ContainsFunc(foreign, func(r rune) bool { return r < ' ' || r == 0x7f }):
			errs = append(errs, field.Invalid(path, foreign, "a name must not contain control characters"))
		default:
			errs = append(errs, validateNamespace(path.Key(foreign), own)...)
		}
	}
	return errs
}

func validateCredentials(path *field.Path, ids []string) field.ErrorList {
	if len(ids) > maxCredentials {
		return field.ErrorList{field.TooMany(path, len(ids), maxCredentials)}
	}
	var errs field.ErrorList
	seen := make(map[string]bool, len(ids))
	for i, id := range ids {
		if seen[id] {
			errs = append(errs, field.Duplicate(path.Index(i), id))
		}
		seen[id] = true
		digest, ok := strings.CutPrefix(id, certificateID)
		raw, err := hex.DecodeString(digest)
		if !ok || err != nil || len(raw) != 32 || digest != strings.ToLower(digest) {
			errs = append(errs, field.Invalid(path.Index(i), id, "must be X509SHA256= and the 64 lower-case hexadecimal digits of the certificate's SHA-256"))
		}
	}
	return errs
}

func validateStatus(s, _ *federationv1alpha1.Site) field.ErrorList {
	path := field.NewPath("status")
	var errs field.ErrorList
	if n := len(s.Status.Conditions); n > maxConditions {
		errs = append(errs, field.TooMany(path.Child("conditions"), n, maxConditions))
	} else {
		errs = append(errs, metav1validation.ValidateConditions(s.Status.Conditions, path.Child("conditions"))...)
	}
	seen := make(map[string]bool, len(s.Status.Doors))
	for i, door := range s.Status.Doors {
		at := path.Child("doors").Index(i).Child("name")
		if seen[door.Name] {
			errs = append(errs, field.Duplicate(at, door.Name))
		}
		seen[door.Name] = true
		errs = append(errs, oneOf(at, door.Name, doors)...)
	}
	if n := len(s.Status.Followers); n > maxFollowers {
		return append(errs, field.TooMany(path.Child("followers"), n, maxFollowers))
	}
	clear(seen)
	for i, f := range s.Status.Followers {
		at := path.Child("followers").Index(i).Child("name")
		if f.Name == "" || len(f.Name) > 253 {
			errs = append(errs, field.Invalid(at, f.Name, "must have 1 to 253 characters"))
		}
		if seen[f.Name] {
			errs = append(errs, field.Duplicate(at, f.Name))
		}
		seen[f.Name] = true
	}
	if n := len(s.Status.Limits); n > maxLimits {
		return append(errs, field.TooMany(path.Child("limits"), n, maxLimits))
	}
	clear(seen)
	for i, limit := range s.Status.Limits {
		at := path.Child("limits").Index(i)
		if seen[limit.Reason] {
			errs = append(errs, field.Duplicate(at.Child("reason"), limit.Reason))
		}
		seen[limit.Reason] = true
		if limit.Reason == "" {
			errs = append(errs, field.Required(at.Child("reason"), ""))
		}
		if len(limit.Message) > maxMessage {
			errs = append(errs, field.TooLong(at.Child("message"), "", maxMessage))
		}
	}
	return errs
}

const (
	maxRequest    = 16 << 10 // bytes of a certificate request
	minExpiration = 600
	maxExpiration = 365 * 24 * 3600
)

// validateCredential checks the form of a request for a certificate; what is
// in the request is read by whoever issues it.
func validateCredential(c *federationv1alpha1.SiteCredential) field.ErrorList {
	spec := field.NewPath("spec")
	var errs field.ErrorList
	switch n := len(c.Spec.Request); {
	case n == 0:
		errs = append(errs, field.Required(spec.Child("request"), "a PKCS#10 request in PEM"))
	case n > maxRequest:
		errs = append(errs, field.TooLong(spec.Child("request"), "", maxRequest))
	}
	if s := c.Spec.ExpirationSeconds; s != nil && (*s < minExpiration || *s > maxExpiration) {
		errs = append(errs, field.Invalid(spec.Child("expirationSeconds"), *s, "must be between 600 and 31536000"))
	}
	return errs
}

// maxLead bounds how far ahead a key can be made.
const maxLead = 30 * 24 * 3600

func validateKeyRotation(r *federationv1alpha1.SiteKeyRotation) field.ErrorList {
	if s := r.Spec.LeadSeconds; s != nil && (*s < 0 || *s > maxLead) {
		return field.ErrorList{field.Invalid(field.NewPath("spec", "leadSeconds"), *s, "must be between 0 and 2592000")}
	}
	return nil
}

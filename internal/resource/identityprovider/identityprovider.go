// Package identityprovider describes identity providers: who beside the
// control plane may say who a caller is. It checks what is written about one;
// whose tokens are accepted is decided by the authentication chain. Start with
// [New].
package identityprovider

import (
	"context"
	"crypto/x509"
	"net/url"
	"strings"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	api "github.com/gatehouse-dev/gatehouse/api/identity/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// ValidateJWT finds what is wrong with a JWT authenticator that stands at
// path: the form of its issuer, its mappings and its expressions. It reaches
// for no network.
type ValidateJWT func(path *field.Path, jwt *api.JWTAuthenticator) field.ErrorList

// Check refuses a change by who makes it; old is nil on creation. It returns an
// error of package fault.
type Check func(ctx context.Context, caller resource.Caller, obj, old *api.IdentityProvider) error

// New describes identity providers.
func New(jwt ValidateJWT, allowed Check) resource.Kind {
	check := func(p *api.IdentityProvider) field.ErrorList { return validate(p, jwt) }
	return resource.Definition[*api.IdentityProvider]{
		Names: resource.Names{
			GroupVersion: api.GroupVersion,
			Kind:         "IdentityProvider",
			Resource:     "identityproviders",
			Singular:     "identityprovider",
			ShortNames:   []string{"idp"},
		},
		New:     func() *api.IdentityProvider { return &api.IdentityProvider{} },
		NewList: func() runtime.Object { return &api.IdentityProviderList{} },
		Default: func(p *api.IdentityProvider) {
			if p.Spec.TimeoutSeconds == 0 {
				p.Spec.TimeoutSeconds = 5
			}
		},
		ValidateName: func(name string, prefix bool) []string {
			if prefix {
				name += "x"
			}
			return validation.IsDNS1123Label(name)
		},
		PrepareCreate: func(_ resource.Caller, p *api.IdentityProvider) {
			p.Status = api.IdentityProviderStatus{}
			p.Generation = 1
		},
		PrepareUpdate: func(_ resource.Caller, p, old *api.IdentityProvider) {
			p.Status = old.Status
			p.Generation = old.Generation
			if !apiequality.Semantic.DeepEqual(p.Spec, old.Spec) {
				p.Generation++
			}
		},
		Validate: check,
		Check: func(ctx context.Context, caller resource.Caller, p, old *api.IdentityProvider) error {
			if old != nil && apiequality.Semantic.DeepEqual(p.Spec, old.Spec) {
				return nil
			}
			return allowed(ctx, caller, p, old)
		},
		ValidateUpdate: func(p, _ *api.IdentityProvider) field.ErrorList { return check(p) },
		Columns: []resource.Column[*api.IdentityProvider]{
			{
				Name: "Kind", Description: "How tokens are verified.",
				Value: func(p *api.IdentityProvider) any { return kindOf(p) },
			},
			{
				Name: "Issuer", Description: "Whose tokens are accepted, or where the webhook is.",
				Value: func(p *api.IdentityProvider) any { return issuerOf(p) },
			},
			condition(api.ConditionAccepted, "Whether tokens of the provider are accepted."),
			condition(api.ConditionAvailable, "Whether the provider could tell about the last token."),
			resource.Age[*api.IdentityProvider](),
		},
		Subresources: []resource.Subresource[*api.IdentityProvider]{{
			Name: "status",
			Prepare: func(_ resource.Caller, p, old *api.IdentityProvider) {
				p.Spec = old.Spec
				p.Generation = old.Generation
			},
			Validate: validateStatus,
			Fields:   []string{"status"},
			Ignored:  []string{"spec"},
		}},
	}.Kind()
}

func condition(kind, description string) resource.Column[*api.IdentityProvider] {
	return resource.Column[*api.IdentityProvider]{
		Name: kind, Description: description,
		Value: func(p *api.IdentityProvider) any {
			if c := meta.FindStatusCondition(p.Status.Conditions, kind); c != nil {
				return string(c.Status)
			}
			return string(metav1.ConditionUnknown)
		},
	}
}

func kindOf(p *api.IdentityProvider) string {
	if p.Spec.Webhook != nil {
		return "Webhook"
	}
	return "JWT"
}

func issuerOf(p *api.IdentityProvider) string {
	switch {
	case p.Spec.JWT != nil:
		return p.Spec.JWT.Issuer.URL
	case p.Spec.Webhook != nil:
		return p.Spec.Webhook.URL
	}
	return ""
}

// Bounds on what can be written about a provider.
const (
	maxText       = 1024
	maxBundle     = 256 << 10
	maxIssuers    = 16
	maxConditions = 16
	maxTimeout    = 30
)

func validate(p *api.IdentityProvider, jwt ValidateJWT) field.ErrorList {
	spec := field.NewPath("spec")
	var errs field.ErrorList
	if t := p.Spec.TimeoutSeconds; t < 1 || t > maxTimeout {
		errs = append(errs, field.Invalid(spec.Child("timeoutSeconds"), t, "must be between 1 and 30"))
	}
	switch {
	case p.Spec.JWT == nil && p.Spec.Webhook == nil:
		errs = append(errs, field.Required(spec, "one of jwt and webhook"))
	case p.Spec.JWT != nil && p.Spec.Webhook != nil:
		errs = append(errs, field.Forbidden(spec.Child("webhook"), "cannot stand beside jwt"))
	case p.Spec.JWT != nil:
		path := spec.Child("jwt")
		if n := len(p.Spec.JWT.Issuer.CertificateAuthority); n > maxBundle {
			return append(errs, field.TooLong(path.Child("issuer", "certificateAuthority"), "", maxBundle))
		}
		errs = append(errs, jwt(path, p.Spec.JWT)...)
	default:
		errs = append(errs, validateWebhook(spec.Child("webhook"), p.Spec.Webhook)...)
	}
	return errs
}

func validateWebhook(path *field.Path, w *api.TokenWebhook) field.ErrorList {
	var errs field.ErrorList
	at := path.Child("url")
	if u, err := url.Parse(w.URL); w.URL == "" {
		errs = append(errs, field.Required(at, ""))
	} else if err != nil || len(w.URL) > maxText || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		errs = append(errs, field.Invalid(at, "<url>", "must be an https URL without user, query and fragment"))
	}
	switch bundle := w.CertificateAuthority; {
	case len(bundle) > maxBundle:
		errs = append(errs, field.TooLong(path.Child("certificateAuthority"), "", maxBundle))
	case bundle != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(bundle)):
		errs = append(errs, field.Invalid(path.Child("certificateAuthority"), "<PEM>", "must hold a certificate"))
	}
	if n := len(w.Issuers); n > maxIssuers {
		errs = append(errs, field.TooMany(path.Child("issuers"), n, maxIssuers))
	}
	seen := map[string]bool{}
	for i, issuer := range w.Issuers {
		switch at := path.Child("issuers").Index(i); {
		case issuer == "":
			errs = append(errs, field.Required(at, ""))
		case len(issuer) > maxText:
			errs = append(errs, field.TooLong(at, "", maxText))
		case seen[issuer]:
			errs = append(errs, field.Duplicate(at, issuer))
		}
		seen[issuer] = true
	}
	for name, prefix := range map[string]string{"usernamePrefix": w.UsernamePrefix, "groupPrefix": w.GroupPrefix} {
		// The chain refuses every such name; said here, it is said once.
		if strings.HasPrefix(prefix, "system:") || strings.HasPrefix(prefix, "gatehouse:") || len(prefix) > 128 {
			errs = append(errs, field.Invalid(path.Child(name), prefix, "must be at most 128 characters and not begin with system: or gatehouse:"))
		}
	}
	return errs
}

func validateStatus(p, _ *api.IdentityProvider) field.ErrorList {
	path := field.NewPath("status", "conditions")
	if n := len(p.Status.Conditions); n > maxConditions {
		return field.ErrorList{field.TooMany(path, n, maxConditions)}
	}
	return metav1validation.ValidateConditions(p.Status.Conditions, path)
}

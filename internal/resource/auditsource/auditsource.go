// Package auditsource describes audit sources: who is expected to write to the
// record. It checks what is written about a source; who is recognised as one is
// decided at the doors (internal/collect). Start with [New].
package auditsource

import (
	"context"
	"encoding/hex"
	"slices"
	"strings"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	auditapi "github.com/gatehouse-dev/gatehouse/api/audit/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// Bounds of a source.
const (
	maxCredentials = 4
	maxInterval    = 30 * 24 * 3600 // seconds
	maxRequest     = 16 << 10       // bytes of a certificate request
	minExpiration  = 600
	maxExpiration  = 365 * 24 * 3600

	certificateID = "X509SHA256="
)

var (
	kinds  = []auditapi.AuditSourceKind{auditapi.AuditSourceJournal, auditapi.AuditSourceKubernetes, auditapi.AuditSourceOTLP, auditapi.AuditSourceSyslog}
	states = []auditapi.AuditSourceState{auditapi.AuditSourceActive, auditapi.AuditSourceSilent, auditapi.AuditSourceWaiting}
)

// IssueCredential answers a request for a certificate by which source is
// recognised, and lists it in the source's spec. With dryRun it leaves no
// trace. It returns an error of package fault or an apimachinery status error.
type IssueCredential func(ctx context.Context, caller resource.Caller, source *auditapi.AuditSource, request *auditapi.AuditSourceCredential, dryRun bool) error

// New describes audit sources.
func New(issue IssueCredential) resource.Kind {
	return resource.Definition[*auditapi.AuditSource]{
		Names: resource.Names{
			GroupVersion: auditapi.GroupVersion,
			Kind:         "AuditSource",
			Resource:     "auditsources",
			Singular:     "auditsource",
		},
		New:     func() *auditapi.AuditSource { return &auditapi.AuditSource{} },
		NewList: func() runtime.Object { return &auditapi.AuditSourceList{} },
		Default: func(s *auditapi.AuditSource) {
			// A generated name is not there yet when defaults are set.
			if s.Spec.Host == "" && s.Spec.Kind != auditapi.AuditSourceKubernetes {
				s.Spec.Host = s.Name
			}
		},
		PrepareCreate: func(_ resource.Caller, s *auditapi.AuditSource) {
			s.Status = auditapi.AuditSourceStatus{State: auditapi.AuditSourceWaiting}
			s.Generation = 1
		},
		PrepareUpdate: func(_ resource.Caller, s, old *auditapi.AuditSource) {
			s.Status = old.Status
			s.Generation = old.Generation
			if !apiequality.Semantic.DeepEqual(s.Spec, old.Spec) {
				s.Generation++
			}
		},
		Validate:       validate,
		ValidateUpdate: validateUpdate,
		Columns: []resource.Column[*auditapi.AuditSource]{
			{Name: "Site", Description: "The site that the source belongs to.", Value: func(s *auditapi.AuditSource) any { return s.Spec.Site }},
			{Name: "Kind", Description: "How it writes.", Value: func(s *auditapi.AuditSource) any { return string(s.Spec.Kind) }},
			{Name: "Host", Description: "The host under which its entries are recorded.", Value: func(s *auditapi.AuditSource) any { return s.Spec.Host }},
			{Name: "State", Description: "Whether it is heard.", Value: func(s *auditapi.AuditSource) any { return string(s.Status.State) }},
			{Name: "Last Heard", Description: "Time since it last wrote something.", Value: func(s *auditapi.AuditSource) any { return lastHeard(s) }},
			resource.Age[*auditapi.AuditSource](),
			{Name: "Lag", Priority: 1, Description: "Seconds that its newest entry took to arrive.", Value: func(s *auditapi.AuditSource) any { return s.Status.LagSeconds }},
		},
		Subresources: []resource.Subresource[*auditapi.AuditSource]{{
			Name: "status",
			Prepare: func(_ resource.Caller, s, old *auditapi.AuditSource) {
				s.Spec = old.Spec
				s.Generation = old.Generation
			},
			Validate: validateStatus,
			Fields:   []string{"status"},
			Ignored:  []string{"spec"},
		}},
		Actions: []resource.Action[*auditapi.AuditSource]{{
			Name:             "credential",
			GroupVersionKind: auditapi.GroupVersion.WithKind("AuditSourceCredential"),
			New:              func() runtime.Object { return &auditapi.AuditSourceCredential{} },
			Do: func(ctx context.Context, caller resource.Caller, s *auditapi.AuditSource, in runtime.Object, dryRun bool) (runtime.Object, error) {
				request := in.(*auditapi.AuditSourceCredential)
				if errs := validateCredential(s, request); len(errs) > 0 {
					return nil, apierrors.NewInvalid(auditapi.GroupVersion.WithKind("AuditSourceCredential").GroupKind(), s.Name, errs)
				}
				return request, issue(ctx, caller, s, request, dryRun)
			},
		}},
	}.Kind()
}

func lastHeard(s *auditapi.AuditSource) string {
	if s.Status.LastHeard == nil {
		return "<never>"
	}
	return resource.Since(*s.Status.LastHeard)
}

func validate(s *auditapi.AuditSource) field.ErrorList {
	spec, path := &s.Spec, field.NewPath("spec")
	var errs field.ErrorList
	if spec.Site == "" {
		errs = append(errs, field.Required(path.Child("site"), ""))
	} else {
		for _, msg := range validation.IsDNS1123Label(spec.Site) {
			errs = append(errs, field.Invalid(path.Child("site"), spec.Site, msg))
		}
	}
	switch {
	case spec.Kind == "":
		errs = append(errs, field.Required(path.Child("kind"), ""))
	case !slices.Contains(kinds, spec.Kind):
		errs = append(errs, field.NotSupported(path.Child("kind"), spec.Kind, kinds))
	}
	if spec.Kind == auditapi.AuditSourceKubernetes {
		if spec.Host != "" {
			errs = append(errs, field.Forbidden(path.Child("host"), "a kube-apiserver writes for its site"))
		}
		if len(spec.Credentials) > 0 {
			errs = append(errs, field.Forbidden(path.Child("credentials"), "a kube-apiserver is recognised by the certificate of its site"))
		}
	} else if spec.Host != "" {
		for _, msg := range validation.IsDNS1123Subdomain(spec.Host) {
			errs = append(errs, field.Invalid(path.Child("host"), spec.Host, msg))
		}
	}
	if n := spec.ExpectedIntervalSeconds; n != nil && (*n < 1 || *n > maxInterval) {
		errs = append(errs, field.Invalid(path.Child("expectedIntervalSeconds"), *n, "must be between 1 and 2592000"))
	}
	return append(errs, validateCredentials(path.Child("credentials"), spec.Credentials)...)
}

func validateUpdate(s, old *auditapi.AuditSource) field.ErrorList {
	errs := validate(s)
	path := field.NewPath("spec")
	errs = append(errs, apivalidation.ValidateImmutableField(s.Spec.Site, old.Spec.Site, path.Child("site"))...)
	return append(errs, apivalidation.ValidateImmutableField(s.Spec.Kind, old.Spec.Kind, path.Child("kind"))...)
}

func validateCredentials(path *field.Path, ids []string) field.ErrorList {
	if len(ids) > maxCredentials {
		return field.ErrorList{field.TooMany(path, len(ids), maxCredentials)}
	}
	var errs field.ErrorList
	for i, id := range ids {
		if slices.Contains(ids[:i], id) {
			errs = append(errs, field.Duplicate(path.Index(i), id))
		}
		digest, ok := strings.CutPrefix(id, certificateID)
		raw, err := hex.DecodeString(digest)
		if !ok || err != nil || len(raw) != 32 || digest != strings.ToLower(digest) {
			errs = append(errs, field.Invalid(path.Index(i), id, "must be X509SHA256= and the 64 lower-case hexadecimal digits of the certificate's SHA-256"))
		}
	}
	return errs
}

func validateStatus(s, _ *auditapi.AuditSource) field.ErrorList {
	path := field.NewPath("status")
	var errs field.ErrorList
	if s.Status.State != "" && !slices.Contains(states, s.Status.State) {
		errs = append(errs, field.NotSupported(path.Child("state"), s.Status.State, states))
	}
	return errs
}

// validateCredential checks the form of a request for a certificate; what is
// in the request is read by whoever issues it.
func validateCredential(s *auditapi.AuditSource, c *auditapi.AuditSourceCredential) field.ErrorList {
	spec := field.NewPath("spec")
	var errs field.ErrorList
	if s.Spec.Kind == auditapi.AuditSourceKubernetes {
		errs = append(errs, field.Forbidden(spec, "a kube-apiserver is recognised by the certificate of its site"))
	}
	switch n := len(c.Spec.Request); {
	case n == 0:
		errs = append(errs, field.Required(spec.Child("request"), "a PKCS#10 request in PEM"))
	case n > maxRequest:
		errs = append(errs, field.TooLong(spec.Child("request"), "", maxRequest))
	}
	if n := c.Spec.ExpirationSeconds; n != nil && (*n < minExpiration || *n > maxExpiration) {
		errs = append(errs, field.Invalid(spec.Child("expirationSeconds"), *n, "must be between 600 and 31536000"))
	}
	return errs
}

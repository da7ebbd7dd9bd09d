// Package ban describes bans: subjects and credentials that are turned off,
// superusers included. It checks what is written about one; who is refused is
// decided by the engine and, for credentials, by authentication. Start with
// [New].
package ban

import (
	"context"
	"fmt"
	"strings"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/access/grant"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// Check refuses a ban that its author may not write. old is nil on creation.
// It returns an error of package fault.
type Check func(ctx context.Context, author resource.Caller, ban, old *accessv1alpha1.Ban) error

// New describes bans.
func New(check Check) resource.Kind {
	validator := grant.Validator{Now: time.Now}
	return resource.Definition[*accessv1alpha1.Ban]{
		Names: resource.Names{
			GroupVersion: accessv1alpha1.GroupVersion,
			Kind:         "Ban",
			Resource:     "bans",
			Singular:     "ban",
		},
		New:     func() *accessv1alpha1.Ban { return &accessv1alpha1.Ban{} },
		NewList: func() runtime.Object { return &accessv1alpha1.BanList{} },
		PrepareCreate: func(_ resource.Caller, b *accessv1alpha1.Ban) {
			b.Status = accessv1alpha1.BanStatus{}
			b.Generation = 1
		},
		PrepareUpdate: func(_ resource.Caller, b, old *accessv1alpha1.Ban) {
			b.Status = old.Status
			b.Generation = old.Generation
			if !apiequality.Semantic.DeepEqual(b.Spec, old.Spec) {
				b.Generation++
			}
		},
		Validate:       validator.Ban,
		ValidateUpdate: validator.BanUpdate,
		Check:          check,
		Columns: []resource.Column[*accessv1alpha1.Ban]{
			{Name: "Banned", Description: "Who or what is turned off.", Value: func(b *accessv1alpha1.Ban) any { return banned(&b.Spec) }},
			{Name: "Until", Description: "When the ban ends.", Value: func(b *accessv1alpha1.Ban) any { return until(b) }},
			{Name: "Sites", Description: "Where the ban holds.", Value: func(b *accessv1alpha1.Ban) any { return where(b) }},
			{Name: "Heard", Description: "How many of the sites concerned are known to decide by the ban.", Value: func(b *accessv1alpha1.Ban) any { return heard(b) }},
			resource.Age[*accessv1alpha1.Ban](),
			{Name: "Reason", Priority: 1, Description: "Why.", Value: func(b *accessv1alpha1.Ban) any { return b.Spec.Reason }},
		},
		Fields: []resource.Field[*accessv1alpha1.Ban]{
			{Path: "spec.credentialID", Value: func(b *accessv1alpha1.Ban) string { return b.Spec.CredentialID }},
		},
		Subresources: []resource.Subresource[*accessv1alpha1.Ban]{{
			Name: "status",
			Prepare: func(_ resource.Caller, b, old *accessv1alpha1.Ban) {
				b.Spec = old.Spec
				b.Generation = old.Generation
			},
			Validate: validateStatus,
			Fields:   []string{"status"},
			Ignored:  []string{"spec"},
		}},
	}.Kind()
}

func validateStatus(b, _ *accessv1alpha1.Ban) field.ErrorList {
	var errs field.ErrorList
	seen := map[string]bool{}
	for i := range b.Status.Sites {
		s, path := &b.Status.Sites[i], field.NewPath("status", "sites").Index(i)
		switch {
		case s.Name == "":
			errs = append(errs, field.Required(path.Child("name"), "must be given"))
		case seen[s.Name]:
			errs = append(errs, field.Duplicate(path.Child("name"), s.Name))
		}
		seen[s.Name] = true
	}
	return errs
}

// banned names who or what is banned in one word.
func banned(s *accessv1alpha1.BanSpec) string {
	switch {
	case s.Subject != nil && s.Subject.Namespace != "":
		return fmt.Sprintf("%s/%s/%s", s.Subject.Kind, s.Subject.Namespace, s.Subject.Name)
	case s.Subject != nil:
		return fmt.Sprintf("%s/%s", s.Subject.Kind, s.Subject.Name)
	case s.IssuerKey != "":
		return "IssuerKey/" + s.IssuerKey
	default:
		return s.CredentialID
	}
}

func until(b *accessv1alpha1.Ban) string {
	if b.Spec.NotAfter == nil {
		return "lifted"
	}
	return b.Spec.NotAfter.UTC().Format(time.RFC3339)
}

func where(b *accessv1alpha1.Ban) string {
	if len(b.Spec.Sites) == 0 {
		return "*"
	}
	return strings.Join(b.Spec.Sites, ",")
}

func heard(b *accessv1alpha1.Ban) string {
	n := 0
	for i := range b.Status.Sites {
		if b.Status.Sites[i].Acknowledged != nil {
			n++
		}
	}
	return fmt.Sprintf("%d/%d", n, len(b.Status.Sites))
}

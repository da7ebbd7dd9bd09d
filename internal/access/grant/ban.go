package grant

import (
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
)

// credentialKinds begin the ids of credentials, in the forms that TokenReview
// and audit events show them: every one that package authn gives, so that none
// is out of a ban's reach.
var credentialKinds = []string{"BOOTSTRAP=", "JTI=", "JWTSHA256=", "KEY=", "SECRET=", "X509SHA256="}

// Ban returns what is wrong with a new ban.
func (v Validator) Ban(b *accessv1alpha1.Ban) field.ErrorList {
	errs := v.ban(b)
	if end := b.Spec.NotAfter; end != nil && !end.After(v.Now()) {
		errs = append(errs, field.Invalid(root.Child("notAfter"), end.UTC().Format(time.RFC3339), "is already past"))
	}
	return errs
}

// BanUpdate returns what is wrong with a change of a ban. Whom it is about
// stays: an edit must not turn one ban into another under the same record.
func (v Validator) BanUpdate(b, old *accessv1alpha1.Ban) field.ErrorList {
	errs := v.ban(b)
	errs = append(errs, unchanged(equality.Semantic.DeepEqual(b.Spec.Subject, old.Spec.Subject), root.Child("subject"), "the banned subject")...)
	errs = append(errs, unchanged(b.Spec.CredentialID == old.Spec.CredentialID, root.Child("credentialID"), "the banned credential")...)
	errs = append(errs, unchanged(b.Spec.IssuerKey == old.Spec.IssuerKey, root.Child("issuerKey"), "the banned key")...)
	return append(errs, unchanged(slices.Equal(b.Spec.Sites, old.Spec.Sites), root.Child("sites"), "where a ban holds")...)
}

func (v Validator) ban(b *accessv1alpha1.Ban) field.ErrorList {
	s := &b.Spec
	var errs field.ErrorList
	id := root.Child("credentialID")
	switch {
	case s.Subject == nil && s.CredentialID == "" && s.IssuerKey == "":
		errs = append(errs, field.Required(root, "one of subject, credentialID and issuerKey must be given"))
	case s.IssuerKey != "" && (s.Subject != nil || s.CredentialID != ""):
		errs = append(errs, field.Forbidden(root.Child("issuerKey"), "must stand alone"))
	case s.IssuerKey != "":
		errs = append(errs, tooLong(root.Child("issuerKey"), s.IssuerKey, maxName)...)
		if len(s.Sites) > 0 {
			errs = append(errs, field.Forbidden(root.Child("sites"), "the ban of a key holds everywhere"))
		}
	case s.Subject != nil && s.CredentialID != "":
		errs = append(errs, field.Forbidden(id, "cannot stand beside subject"))
	case s.Subject != nil:
		errs = append(errs, exact(s.Subject.Kind, s.Subject.Namespace, s.Subject.Name, root.Child("subject"))...)
	default:
		errs = append(errs, tooLong(id, s.CredentialID, maxName)...)
		if !slices.ContainsFunc(credentialKinds, func(k string) bool {
			return strings.HasPrefix(s.CredentialID, k) && len(s.CredentialID) > len(k)
		}) {
			errs = append(errs, field.Invalid(id, s.CredentialID, "must begin with one of "+strings.Join(credentialKinds, ", ")))
		}
	}
	switch made := root.Child("made"); {
	case s.Made != "" && s.Made != accessv1alpha1.BanEndsMade && s.Made != accessv1alpha1.BanKeepsMade:
		errs = append(errs, field.NotSupported(made, s.Made, []accessv1alpha1.BanMade{accessv1alpha1.BanEndsMade, accessv1alpha1.BanKeepsMade}))
	case s.Made != "" && s.Subject != nil:
		errs = append(errs, field.Forbidden(made, "is for a credential or a key: what a subject made has credentials of its own"))
	}
	errs = append(errs, siteList(s.Sites, root.Child("sites"))...)
	if strings.TrimSpace(s.Reason) == "" {
		errs = append(errs, field.Required(root.Child("reason"), "is recorded with every refusal"))
	}
	return append(errs, tooLong(root.Child("reason"), s.Reason, maxText)...)
}

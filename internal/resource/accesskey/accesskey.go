// Package accesskey describes access keys: the opaque secrets of doors that
// speak other protocols. It checks what is written about one; who may write
// it, the secret itself and what it opens are the business of the functions it
// is given and of internal/authn. Start with [New].
package accesskey

import (
	"context"
	"strings"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	identityv1alpha1 "github.com/gatehouse-dev/gatehouse/api/identity/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/authn/accesskey"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// Issue makes the secret of a new key and fills in the status. What it returns
// puts the secret into the answer to the creation. A key that cannot be issued
// is left without a hash, and validation or the check refuses it.
type Issue func(ctx context.Context, creator resource.Caller, key *identityv1alpha1.AccessKey) (reveal func(context.Context, *identityv1alpha1.AccessKey))

// Check refuses a key that its author may not write. old is nil on creation.
// It returns an error of package fault.
type Check func(ctx context.Context, author resource.Caller, key, old *identityv1alpha1.AccessKey) error

// Reach answers what a key can do. It returns an error of package fault.
type Reach func(ctx context.Context, key *identityv1alpha1.AccessKey) (identityv1alpha1.AccessKeyReachStatus, error)

// Bounds of a key.
const (
	defaultSeconds = 90 * 24 * 3600
	minSeconds     = 60
	maxSeconds     = int64(accesskey.MaxLifetime / time.Second)
	maxAudience    = 253
	maxDescription = 1024
)

// New describes access keys.
func New(issue Issue, check Check, reach Reach) resource.Kind {
	return resource.Definition[*identityv1alpha1.AccessKey]{
		Names: resource.Names{
			GroupVersion: identityv1alpha1.GroupVersion,
			Kind:         "AccessKey",
			Resource:     "accesskeys",
			Singular:     "accesskey",
			Namespaced:   true,
		},
		New:     func() *identityv1alpha1.AccessKey { return &identityv1alpha1.AccessKey{} },
		NewList: func() runtime.Object { return &identityv1alpha1.AccessKeyList{} },
		Default: func(k *identityv1alpha1.AccessKey) {
			if k.Spec.ExpirationSeconds == nil {
				seconds := int64(defaultSeconds)
				k.Spec.ExpirationSeconds = &seconds
			}
		},
		PrepareCreate: func(creator resource.Caller, k *identityv1alpha1.AccessKey) {
			k.Status = identityv1alpha1.AccessKeyStatus{CreatedBy: creator.Name}
			k.Generation = 1
			if k.Spec.Subject == nil {
				k.Spec.Subject = subjectOf(creator, k.Namespace)
			}
		},
		PrepareUpdate: func(_ resource.Caller, k, old *identityv1alpha1.AccessKey) {
			k.Status = old.Status
			k.Generation = old.Generation
			if !apiequality.Semantic.DeepEqual(k.Spec, old.Spec) {
				k.Generation++
			}
		},
		Issue:          issue,
		Validate:       validate,
		ValidateUpdate: validateUpdate,
		Warnings: func(_, old *identityv1alpha1.AccessKey) []string {
			if old != nil {
				return nil
			}
			return []string{"the key is in status.secret of this answer and is never shown again"}
		},
		Check: check,
		Columns: []resource.Column[*identityv1alpha1.AccessKey]{
			{Name: "Subject", Description: "Who the key speaks for.", Value: func(k *identityv1alpha1.AccessKey) any { return subject(k) }},
			{Name: "Audience", Description: "The door that accepts the key.", Value: func(k *identityv1alpha1.AccessKey) any { return k.Spec.Audience }},
			{Name: "Expires", Description: "When the key ends.", Value: func(k *identityv1alpha1.AccessKey) any { return expires(k) }},
			{Name: "Last Used", Description: "When the key was last accepted.", Value: func(k *identityv1alpha1.AccessKey) any { return lastUsed(k) }},
			resource.Age[*identityv1alpha1.AccessKey](),
			{Name: "Credential", Priority: 1, Description: "The id of the key in the record and in bans.", Value: func(k *identityv1alpha1.AccessKey) any { return k.Status.CredentialID }},
			{Name: "Description", Priority: 1, Description: "What the key is for.", Value: func(k *identityv1alpha1.AccessKey) any { return k.Spec.Description }},
		},
		Fields: []resource.Field[*identityv1alpha1.AccessKey]{
			{Path: "spec.audience", Value: func(k *identityv1alpha1.AccessKey) string { return k.Spec.Audience }},
			{Path: "status.credentialID", Value: func(k *identityv1alpha1.AccessKey) string { return k.Status.CredentialID }},
		},
		Subresources: []resource.Subresource[*identityv1alpha1.AccessKey]{{
			Name: "status",
			// Whoever may write the status must not choose what opens the door.
			Prepare: func(_ resource.Caller, k, old *identityv1alpha1.AccessKey) {
				used := k.Status.LastUsed
				k.Spec, k.Generation, k.Status = old.Spec, old.Generation, old.Status
				k.Status.LastUsed = used
			},
			Fields:  []string{"status"},
			Ignored: []string{"spec"},
		}},
		Actions: []resource.Action[*identityv1alpha1.AccessKey]{{
			Name:             "reach",
			GroupVersionKind: identityv1alpha1.GroupVersion.WithKind("AccessKeyReach"),
			New:              func() runtime.Object { return &identityv1alpha1.AccessKeyReach{} },
			Do: func(ctx context.Context, _ resource.Caller, k *identityv1alpha1.AccessKey, in runtime.Object, _ bool) (runtime.Object, error) {
				out := in.(*identityv1alpha1.AccessKeyReach)
				status, err := reach(ctx, k)
				out.Name, out.Namespace, out.Status = k.Name, k.Namespace, status
				return out, err
			},
		}},
	}.Kind()
}

// subjectOf is the creator as a key can speak for it.
func subjectOf(creator resource.Caller, namespace string) *identityv1alpha1.AccessKeySubject {
	if name, ok := strings.CutPrefix(creator.Name, serviceAccountUser+namespace+":"); ok {
		return &identityv1alpha1.AccessKeySubject{ServiceAccount: name}
	}
	return &identityv1alpha1.AccessKeySubject{
		User: creator.Name, UID: creator.UID, Groups: authn.KeyGroups(creator.Groups), Extra: authn.KeyExtra(creator.Extra),
	}
}

const serviceAccountUser = "system:serviceaccount:"

// Record is what authentication knows of a key. It fails for a key without a
// complete status.
func Record(k *identityv1alpha1.AccessKey) (accesskey.Record, bool) {
	id, ok := strings.CutPrefix(k.Status.CredentialID, accesskey.CredentialPrefix)
	hash, whole := accesskey.ParseHash(k.Status.Hash)
	if !ok || !whole || k.Status.Expires == nil || k.Spec.Subject == nil {
		return accesskey.Record{}, false
	}
	s := k.Spec.Subject
	r := accesskey.Record{
		ID: id, Hash: hash, User: s.User, UID: s.UID, Groups: s.Groups, Extra: s.Extra, Audience: k.Spec.Audience, Namespace: k.Namespace,
		OpenedBy: k.Status.OpenedBy, Origin: k.Status.Origin, Created: k.CreationTimestamp.Time, NotAfter: k.Status.Expires.Time,
		// A key that waits for somebody's finalizer has ended.
		Revoked: k.Spec.Revoked || k.DeletionTimestamp != nil,
	}
	if s.ServiceAccount != "" {
		r.User, r.Groups, r.Extra = serviceAccountUser+k.Namespace+":"+s.ServiceAccount, nil, nil
	}
	return r, true
}

func validate(k *identityv1alpha1.AccessKey) field.ErrorList {
	spec, path := &k.Spec, field.NewPath("spec")
	errs := validateSubject(path.Child("subject"), spec.Subject, k.Namespace)
	switch at := path.Child("audience"); {
	case spec.Audience == "":
		errs = append(errs, field.Required(at, "the door that accepts the key"))
	case len(spec.Audience) > maxAudience:
		errs = append(errs, field.TooLong(at, "", maxAudience))
	case strings.HasPrefix(spec.Audience, "gatehouse:"):
		errs = append(errs, field.Invalid(at, spec.Audience, "sites take tokens, which live short, and no access keys"))
	default:
		for _, msg := range validation.IsQualifiedName(spec.Audience) {
			errs = append(errs, field.Invalid(at, spec.Audience, msg))
		}
	}
	if s := spec.ExpirationSeconds; s != nil && (*s < minSeconds || *s > maxSeconds) {
		errs = append(errs, field.Invalid(path.Child("expirationSeconds"), *s, "must be between 60 and 31622400"))
	}
	if len(spec.Description) > maxDescription {
		errs = append(errs, field.TooLong(path.Child("description"), "", maxDescription))
	}
	return errs
}

func validateSubject(path *field.Path, s *identityv1alpha1.AccessKeySubject, namespace string) field.ErrorList {
	switch {
	case s == nil:
		return field.ErrorList{field.Required(path, "")}
	case (s.User == "") == (s.ServiceAccount == ""):
		return field.ErrorList{field.Invalid(path, s.User, "exactly one of user and serviceAccount must be set")}
	case s.ServiceAccount != "" && len(s.Groups) > 0:
		return field.ErrorList{field.Forbidden(path.Child("groups"), "a service account has its own")}
	case s.ServiceAccount != "" && len(s.Extra) > 0:
		return field.ErrorList{field.Forbidden(path.Child("extra"), "a service account has none")}
	case s.ServiceAccount != "":
		var errs field.ErrorList
		for _, msg := range validation.IsDNS1123Subdomain(s.ServiceAccount) {
			errs = append(errs, field.Invalid(path.Child("serviceAccount"), s.ServiceAccount, msg))
		}
		return errs
	}
	if err := authn.CheckKeySubject(accesskey.Record{User: s.User, UID: s.UID, Namespace: namespace}); err != nil || strings.HasPrefix(s.User, serviceAccountUser) {
		return field.ErrorList{field.Invalid(path.Child("user"), s.User, "a key cannot speak for this name")}
	}
	if err := authn.CheckKeySubject(accesskey.Record{User: s.User, UID: s.UID, Groups: s.Groups, Namespace: namespace}); err != nil {
		return field.ErrorList{field.Invalid(path.Child("groups"), len(s.Groups), "a key cannot carry one of these groups")}
	}
	if err := authn.CheckKeySubject(accesskey.Record{User: s.User, UID: s.UID, Groups: s.Groups, Extra: s.Extra, Namespace: namespace}); err != nil {
		return field.ErrorList{field.Invalid(path.Child("extra"), len(s.Extra), "a key cannot carry one of these: "+err.Error())}
	}
	return nil
}

// validateUpdate lets a key be described and revoked, and nothing else: what
// it opens was decided for whoever created it.
func validateUpdate(k, old *identityv1alpha1.AccessKey) field.ErrorList {
	path := field.NewPath("spec")
	errs := validate(k)
	same := old.Spec
	same.Description, same.Revoked = k.Spec.Description, k.Spec.Revoked
	if !apiequality.Semantic.DeepEqual(same, k.Spec) {
		errs = append(errs, field.Forbidden(path, "only the description can change; create another key"))
	}
	if old.Spec.Revoked && !k.Spec.Revoked {
		errs = append(errs, field.Forbidden(path.Child("revoked"), "a key that was revoked stays so; create another key"))
	}
	return errs
}

func subject(k *identityv1alpha1.AccessKey) string {
	if s := k.Spec.Subject; s != nil {
		if s.ServiceAccount != "" {
			return "serviceaccount/" + s.ServiceAccount
		}
		return s.User
	}
	return ""
}

func expires(k *identityv1alpha1.AccessKey) string {
	switch {
	case k.Spec.Revoked:
		return "revoked"
	case k.Status.Expires == nil:
		return "<unknown>"
	}
	return k.Status.Expires.UTC().Format(time.RFC3339)
}

func lastUsed(k *identityv1alpha1.AccessKey) string {
	if k.Status.LastUsed == nil {
		return "<never>"
	}
	return k.Status.LastUsed.UTC().Format(time.RFC3339)
}

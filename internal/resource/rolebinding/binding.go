package rolebinding

import (
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// SetDefaults fills in the API groups of a role reference and of subjects.
func SetDefaults(ref *rbacv1.RoleRef, subjects []rbacv1.Subject) {
	if ref.APIGroup == "" {
		ref.APIGroup = rbacv1.GroupName
	}
	for i := range subjects {
		s := &subjects[i]
		if s.APIGroup == "" && (s.Kind == rbacv1.UserKind || s.Kind == rbacv1.GroupKind) {
			s.APIGroup = rbacv1.GroupName
		}
	}
}

// ValidateRoleRef checks a reference to a role of one of kinds.
func ValidateRoleRef(ref rbacv1.RoleRef, kinds ...string) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("roleRef")
	if ref.APIGroup != rbacv1.GroupName {
		errs = append(errs, field.NotSupported(path.Child("apiGroup"), ref.APIGroup, []string{rbacv1.GroupName}))
	}
	known := false
	for _, kind := range kinds {
		known = known || ref.Kind == kind
	}
	if !known {
		errs = append(errs, field.NotSupported(path.Child("kind"), ref.Kind, kinds))
	}
	if ref.Name == "" {
		return append(errs, field.Required(path.Child("name"), ""))
	}
	for _, msg := range resource.PathSegment(ref.Name, false) {
		errs = append(errs, field.Invalid(path.Child("name"), ref.Name, msg))
	}
	return errs
}

// ValidateRoleRefUpdate refuses another role: whoever may edit the subjects of
// a binding need not be allowed to bind another role.
func ValidateRoleRefUpdate(ref, old rbacv1.RoleRef) field.ErrorList {
	if ref == old {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("roleRef"), ref, "cannot change roleRef")}
}

// ValidateSubjects checks the subjects of a role binding, or of a cluster role
// binding when namespaced is false.
func ValidateSubjects(subjects []rbacv1.Subject, namespaced bool) field.ErrorList {
	var errs field.ErrorList
	for i := range subjects {
		errs = append(errs, validateSubject(&subjects[i], namespaced, field.NewPath("subjects").Index(i))...)
	}
	return errs
}

func validateSubject(s *rbacv1.Subject, namespaced bool, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if s.Name == "" {
		errs = append(errs, field.Required(path.Child("name"), ""))
	}
	group := rbacv1.GroupName
	switch s.Kind {
	case rbacv1.UserKind, rbacv1.GroupKind:
	case rbacv1.ServiceAccountKind:
		group = ""
		if s.Name != "" {
			for _, msg := range apivalidation.ValidateServiceAccountName(s.Name, false) {
				errs = append(errs, field.Invalid(path.Child("name"), s.Name, msg))
			}
		}
		if !namespaced && s.Namespace == "" {
			errs = append(errs, field.Required(path.Child("namespace"), ""))
		}
	default:
		return append(errs, field.NotSupported(path.Child("kind"), s.Kind,
			[]string{rbacv1.ServiceAccountKind, rbacv1.UserKind, rbacv1.GroupKind}))
	}
	if s.APIGroup != group {
		errs = append(errs, field.NotSupported(path.Child("apiGroup"), s.APIGroup, []string{group}))
	}
	return errs
}

// Columns are the columns of both kinds of binding.
func Columns[T resource.Object](ref func(T) rbacv1.RoleRef, subjects func(T) []rbacv1.Subject) []resource.Column[T] {
	names := func(kind string) func(T) any {
		return func(obj T) any { return subjectNames(subjects(obj), kind) }
	}
	return []resource.Column[T]{
		{
			Name: "Role", Description: "The role that is granted.",
			Value: func(obj T) any { return ref(obj).Kind + "/" + ref(obj).Name },
		},
		resource.Age[T](),
		{Name: "Users", Priority: 1, Description: "The users it is granted to.", Value: names(rbacv1.UserKind)},
		{Name: "Groups", Priority: 1, Description: "The groups it is granted to.", Value: names(rbacv1.GroupKind)},
		{Name: "ServiceAccounts", Priority: 1, Description: "The service accounts it is granted to.", Value: names(rbacv1.ServiceAccountKind)},
	}
}

func subjectNames(subjects []rbacv1.Subject, kind string) string {
	var names []string
	for _, s := range subjects {
		if s.Kind != kind {
			continue
		}
		name := s.Name
		if kind == rbacv1.ServiceAccountKind {
			name = s.Namespace + "/" + name
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

// Package impactreview describes the question who would gain or lose what, if
// objects were applied or deleted. It reads the objects and decides nothing
// itself. Start with [New].
package impactreview

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
	"github.com/gatehouse-dev/gatehouse/internal/resource/subjectaccessreview"
)

// Changes are the objects of a review, in its order.
type Changes struct{ Apply, Delete []metav1.Object }

// Answer answers a review whose objects are well-formed.
type Answer func(ctx context.Context, caller resource.Caller, changes Changes) (accessv1alpha1.ImpactReviewStatus, error)

// MaxObjects is how many objects one review may hold.
const MaxObjects = 500

// kinds are those that an answer can tell something about.
var kinds = map[schema.GroupVersionKind]struct {
	namespaced bool
	new        func() metav1.Object
}{
	rbacv1.SchemeGroupVersion.WithKind("Role"):               {true, func() metav1.Object { return &rbacv1.Role{} }},
	rbacv1.SchemeGroupVersion.WithKind("ClusterRole"):        {false, func() metav1.Object { return &rbacv1.ClusterRole{} }},
	rbacv1.SchemeGroupVersion.WithKind("RoleBinding"):        {true, func() metav1.Object { return &rbacv1.RoleBinding{} }},
	rbacv1.SchemeGroupVersion.WithKind("ClusterRoleBinding"): {false, func() metav1.Object { return &rbacv1.ClusterRoleBinding{} }},
	corev1.SchemeGroupVersion.WithKind("Namespace"):          {false, func() metav1.Object { return &corev1.Namespace{} }},
	accessv1alpha1.GroupVersion.WithKind("AccessPolicy"):     {false, func() metav1.Object { return &accessv1alpha1.AccessPolicy{} }},
	accessv1alpha1.GroupVersion.WithKind("Delegation"):       {false, func() metav1.Object { return &accessv1alpha1.Delegation{} }},
	accessv1alpha1.GroupVersion.WithKind("Ban"):              {false, func() metav1.Object { return &accessv1alpha1.Ban{} }},
}

// New describes impact reviews.
func New(answer Answer) resource.Kind {
	names := resource.Names{
		GroupVersion: accessv1alpha1.GroupVersion,
		Kind:         "ImpactReview",
		Resource:     "impactreviews",
		Singular:     "impactreview",
	}
	return resource.Review[*accessv1alpha1.ImpactReview]{
		Names: names,
		New:   func() *accessv1alpha1.ImpactReview { return &accessv1alpha1.ImpactReview{} },
		Answer: func(ctx context.Context, caller resource.Caller, r *accessv1alpha1.ImpactReview) error {
			errs := subjectaccessreview.ValidateMetadata(r.ObjectMeta)
			changes, more := read(&r.Spec)
			if err := subjectaccessreview.Invalid(names, append(errs, more...)); err != nil {
				return err
			}
			status, err := answer(ctx, caller, changes)
			if err != nil {
				return err
			}
			r.Status = status
			return nil
		},
	}.Kind()
}

func read(spec *accessv1alpha1.ImpactReviewSpec) (Changes, field.ErrorList) {
	path := field.NewPath("spec")
	if len(spec.Apply)+len(spec.Delete) == 0 {
		return Changes{}, field.ErrorList{field.Required(path.Child("apply"), "give objects to apply or to delete")}
	}
	r := &reader{}
	apply := r.list(spec.Apply, path.Child("apply"), false)
	remove := r.list(spec.Delete, path.Child("delete"), true)
	return Changes{apply, remove}, r.errs
}

// reader counts and checks the objects of one review.
type reader struct {
	errs field.ErrorList
	n    int
}

func (r *reader) list(raw []runtime.RawExtension, path *field.Path, remove bool) []metav1.Object {
	var out []metav1.Object
	for i := range raw {
		out = append(out, r.object(raw[i].Raw, path.Index(i), remove, true)...)
		if r.n > MaxObjects {
			r.errs = append(r.errs, field.TooMany(path, r.n, MaxObjects))
			return nil
		}
	}
	return out
}

func (r *reader) fail(err *field.Error) []metav1.Object {
	r.errs = append(r.errs, err)
	return nil
}

// object reads one object, or with lists those of a List.
func (r *reader) object(raw []byte, path *field.Path, remove, lists bool) []metav1.Object {
	r.n++
	if r.n > MaxObjects {
		return nil
	}
	var head struct {
		metav1.TypeMeta `json:",inline"`
		Items           []runtime.RawExtension `json:"items"`
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(raw, &head); err != nil || len(bytes.TrimSpace(raw)) == 0 {
		return r.fail(field.Invalid(path, "", "must be an object"))
	}
	gv, err := schema.ParseGroupVersion(head.APIVersion)
	if err != nil || head.Kind == "" {
		return r.fail(field.Invalid(path.Child("apiVersion"), head.APIVersion, "an object needs apiVersion and kind"))
	}
	if lists && head.Items != nil && strings.HasSuffix(head.Kind, "List") {
		var out []metav1.Object
		for i := range head.Items {
			out = append(out, r.object(head.Items[i].Raw, path.Child("items").Index(i), remove, false)...)
		}
		return out
	}
	kind, ok := kinds[gv.WithKind(head.Kind)]
	if !ok {
		return r.fail(field.NotSupported(path.Child("kind"), head.APIVersion+" "+head.Kind, supported()))
	}
	obj := kind.new()
	strict, err := kjson.UnmarshalStrict(raw, obj)
	if err != nil {
		return r.fail(field.Invalid(path, "", err.Error()))
	}
	for _, fault := range strict {
		// What a cluster prints is often ahead of these types in fields that
		// say nothing about access.
		if !remove {
			r.errs = append(r.errs, field.Invalid(path, "", fault.Error()))
		}
	}
	meta := path.Child("metadata")
	switch {
	case obj.GetName() == "":
		r.errs = append(r.errs, field.Required(meta.Child("name"), ""))
	case kind.namespaced && obj.GetNamespace() == "":
		r.errs = append(r.errs, field.Required(meta.Child("namespace"), ""))
	case !kind.namespaced && obj.GetNamespace() != "":
		r.errs = append(r.errs, field.Forbidden(meta.Child("namespace"), fmt.Sprintf("%s is in no namespace", head.Kind)))
	}
	return []metav1.Object{obj}
}

func supported() []string {
	return []string{"rbac.authorization.k8s.io/v1 Role", "rbac.authorization.k8s.io/v1 ClusterRole", "rbac.authorization.k8s.io/v1 RoleBinding",
		"rbac.authorization.k8s.io/v1 ClusterRoleBinding", "v1 Namespace", "access.gatehouse.dev/v1alpha1 AccessPolicy", "access.gatehouse.dev/v1alpha1 Ban", "access.gatehouse.dev/v1alpha1 Delegation"}
}

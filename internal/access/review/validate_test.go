package review_test

import (
	"slices"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/gatehouse-dev/gatehouse/internal/access/review"
)

func fieldSelector(s authorizationv1.FieldSelectorAttributes) *authorizationv1.ResourceAttributes {
	return &authorizationv1.ResourceAttributes{FieldSelector: &s}
}

func labelSelector(s authorizationv1.LabelSelectorAttributes) *authorizationv1.ResourceAttributes {
	return &authorizationv1.ResourceAttributes{LabelSelector: &s}
}

func fieldRequirement(key, operator string, values ...string) *authorizationv1.ResourceAttributes {
	return fieldSelector(authorizationv1.FieldSelectorAttributes{Requirements: []metav1.FieldSelectorRequirement{
		{Key: key, Operator: metav1.FieldSelectorOperator(operator), Values: values}}})
}

func labelRequirement(key, operator string, values ...string) *authorizationv1.ResourceAttributes {
	return labelSelector(authorizationv1.LabelSelectorAttributes{Requirements: []metav1.LabelSelectorRequirement{
		{Key: key, Operator: metav1.LabelSelectorOperator(operator), Values: values}}})
}

// attributeCases are about the attributes and so hold for all three reviews of
// access.
var attributeCases = []struct {
	name     string
	resource *authorizationv1.ResourceAttributes
	path     *authorizationv1.NonResourceAttributes
	want     string // a part of the only error, "" for none
}{
	{name: "resource", resource: &authorizationv1.ResourceAttributes{}},
	{name: "raw field selector that cannot be read", resource: fieldSelector(authorizationv1.FieldSelectorAttributes{RawSelector: "***foo"})},
	{name: "raw label selector that cannot be read", resource: labelSelector(authorizationv1.LabelSelectorAttributes{RawSelector: "***foo"})},
	{name: "field operator of a newer client", resource: fieldRequirement("k", "fake", "val")},
	{name: "label operator of a newer client", resource: labelRequirement("k", "fake", "val")},
	{name: "good field requirement", resource: fieldRequirement("k", "In", "val")},
	{name: "good label requirement", resource: labelRequirement("k", "Exists")},

	{name: "neither", want: "spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified"},
	{name: "both", resource: &authorizationv1.ResourceAttributes{}, path: &authorizationv1.NonResourceAttributes{},
		want: "cannot be specified in combination with resourceAttributes"},
	{name: "field selector without anything", resource: fieldSelector(authorizationv1.FieldSelectorAttributes{}),
		want: "spec.resourceAttributes.fieldSelector.requirements: Required value: when spec.resourceAttributes.fieldSelector is specified, requirements or rawSelector is required"},
	{name: "field requirement without key", resource: fieldRequirement("", ""),
		want: "spec.resourceAttributes.fieldSelector.requirements[0].key: Required value: must be specified"},
	{name: "field In without values", resource: fieldRequirement("k", "In"),
		want: "spec.resourceAttributes.fieldSelector.requirements[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"},
	{name: "field NotIn without values", resource: fieldRequirement("k", "NotIn"),
		want: "spec.resourceAttributes.fieldSelector.requirements[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"},
	{name: "field Exists with values", resource: fieldRequirement("k", "Exists", "val"),
		want: "spec.resourceAttributes.fieldSelector.requirements[0].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'"},
	{name: "field DoesNotExist with values", resource: fieldRequirement("k", "DoesNotExist", "val"),
		want: "spec.resourceAttributes.fieldSelector.requirements[0].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'"},
	{name: "label selector without anything", resource: labelSelector(authorizationv1.LabelSelectorAttributes{}),
		want: "spec.resourceAttributes.labelSelector.requirements: Required value: when spec.resourceAttributes.labelSelector is specified, requirements or rawSelector is required"},
	{name: "label key outside the grammar", resource: labelRequirement("()foo", ""),
		want: `spec.resourceAttributes.labelSelector.requirements[0].key: Invalid value: "()foo": name part must consist of alphanumeric characters`},
	{name: "label In without values", resource: labelRequirement("k", "In"),
		want: "spec.resourceAttributes.labelSelector.requirements[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"},
	{name: "label NotIn without values", resource: labelRequirement("k", "NotIn"),
		want: "spec.resourceAttributes.labelSelector.requirements[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"},
	{name: "label Exists with values", resource: labelRequirement("k", "Exists", "val"),
		want: "spec.resourceAttributes.labelSelector.requirements[0].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'"},
	{name: "label DoesNotExist with values", resource: labelRequirement("k", "DoesNotExist", "val"),
		want: "spec.resourceAttributes.labelSelector.requirements[0].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'"},
}

// Some faults are followed by another about the same value.
func TestValidateFirstOfSeveral(t *testing.T) {
	t.Parallel()
	for want, r := range map[string]*authorizationv1.ResourceAttributes{
		`spec.resourceAttributes.fieldSelector.rawSelector: Invalid value: "foo": may not specified at the same time as requirements`: fieldSelector(
			authorizationv1.FieldSelectorAttributes{RawSelector: "foo", Requirements: []metav1.FieldSelectorRequirement{{}}}),
		`spec.resourceAttributes.labelSelector.rawSelector: Invalid value: "foo": may not specified at the same time as requirements`: labelSelector(
			authorizationv1.LabelSelectorAttributes{RawSelector: "foo", Requirements: []metav1.LabelSelectorRequirement{{}}}),
		`spec.resourceAttributes.labelSelector.requirements[0].key: Invalid value: "": name part must be non-empty`: labelRequirement("", ""),
	} {
		errs := review.ValidateSpec(&authorizationv1.SubjectAccessReviewSpec{User: "me", ResourceAttributes: r})
		if len(errs) < 2 || !strings.Contains(errs[0].Error(), want) {
			t.Errorf("got %v, want first %s", errs, want)
		}
	}
}

func expectOne(t *testing.T, errs field.ErrorList, want string) {
	t.Helper()
	switch {
	case want == "" && len(errs) > 0:
		t.Errorf("unexpected %v", errs)
	case want != "" && (len(errs) != 1 || !strings.Contains(errs[0].Error(), want)):
		t.Errorf("got %v, want one with %q", errs, want)
	}
}

func TestValidateAttributes(t *testing.T) {
	t.Parallel()
	for _, tc := range attributeCases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			spec := authorizationv1.SubjectAccessReviewSpec{User: "me", ResourceAttributes: tc.resource, NonResourceAttributes: tc.path}
			expectOne(t, review.ValidateSpec(&spec), tc.want)
			expectOne(t, review.ValidateSubjectAccessReview(&authorizationv1.SubjectAccessReview{Spec: spec}), tc.want)
			expectOne(t, review.ValidateSelfSubjectAccessReview(&authorizationv1.SelfSubjectAccessReview{
				Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: tc.resource, NonResourceAttributes: tc.path}}), tc.want)
			local := review.ValidateLocalSubjectAccessReview(&authorizationv1.LocalSubjectAccessReview{Spec: spec})
			local = slices.DeleteFunc(local, func(e *field.Error) bool { return e.Detail == "disallowed on this kind of request" })
			expectOne(t, local, tc.want)
		})
	}
}

func TestValidateSubjectAndMetadata(t *testing.T) {
	t.Parallel()
	resource := func(namespace string) authorizationv1.SubjectAccessReviewSpec {
		return authorizationv1.SubjectAccessReviewSpec{User: "me", ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: namespace}}
	}
	managed := metav1.ObjectMeta{ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubectl"}}}
	expectOne(t, review.ValidateSpec(&authorizationv1.SubjectAccessReviewSpec{Groups: []string{"g"},
		NonResourceAttributes: &authorizationv1.NonResourceAttributes{}}), "")
	expectOne(t, review.ValidateSpec(&authorizationv1.SubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{}}),
		`spec.user: Invalid value: "": at least one of user or group must be specified`)
	expectOne(t, review.ValidateSubjectAccessReview(&authorizationv1.SubjectAccessReview{ObjectMeta: managed, Spec: resource("")}), "")
	for name, meta := range map[string]metav1.ObjectMeta{
		"name": {Name: "a"}, "namespace": {Namespace: "a"}, "label": {Labels: map[string]string{"a": "b"}}, "uid": {UID: "1"},
	} {
		expectOne(t, review.ValidateSubjectAccessReview(&authorizationv1.SubjectAccessReview{ObjectMeta: meta, Spec: resource("")}), "must be empty")
		expectOne(t, review.ValidateSelfSubjectAccessReview(&authorizationv1.SelfSubjectAccessReview{ObjectMeta: meta,
			Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{}}}), "must be empty")
		if name == "namespace" {
			continue
		}
		meta.Namespace = "ns"
		expectOne(t, review.ValidateLocalSubjectAccessReview(&authorizationv1.LocalSubjectAccessReview{ObjectMeta: meta, Spec: resource("ns")}),
			"must be empty except for namespace")
	}
	local := func(namespace string, spec authorizationv1.SubjectAccessReviewSpec) field.ErrorList {
		return review.ValidateLocalSubjectAccessReview(&authorizationv1.LocalSubjectAccessReview{ObjectMeta: metav1.ObjectMeta{Namespace: namespace}, Spec: spec})
	}
	expectOne(t, local("", resource("")), "")
	expectOne(t, local("a", resource("a")), "")
	expectOne(t, local("a", resource("")), `spec.resourceAttributes.namespace: Invalid value: "": must match metadata.namespace`)
	expectOne(t, local("a", resource("b")), "must match metadata.namespace")
	expectOne(t, local("a", authorizationv1.SubjectAccessReviewSpec{User: "me", NonResourceAttributes: &authorizationv1.NonResourceAttributes{}}),
		"disallowed on this kind of request")
}

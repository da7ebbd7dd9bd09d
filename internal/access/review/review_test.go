package review_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/access/review"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

func reviewer(t *testing.T) review.Reviewer {
	t.Helper()
	p := access.NewPolicy()
	ref := func(kind, name string) rbacv1.RoleRef {
		return rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: kind, Name: name}
	}
	p.Roles.Replace(nil)
	read := rbacv1.PolicyRule{Verbs: []string{"get", "list"}, APIGroups: []string{""}, Resources: []string{"pods", "pods/log"}}
	p.ClusterRoles.Replace([]*rbacv1.ClusterRole{
		{ObjectMeta: metav1.ObjectMeta{Name: "reader"}, Rules: []rbacv1.PolicyRule{read, {Verbs: []string{"get"}, NonResourceURLs: []string{"/metrics"}}}},
		{ObjectMeta: metav1.ObjectMeta{Name: "copy"}, Rules: []rbacv1.PolicyRule{read}},
	})
	p.RoleBindings.Replace([]*rbacv1.RoleBinding{
		{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "a"}, RoleRef: ref("ClusterRole", "reader"), Subjects: []rbacv1.Subject{{Kind: "Group", Name: "dev"}}},
		{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "b"}, RoleRef: ref("ClusterRole", "copy"), Subjects: []rbacv1.Subject{{Kind: "User", Name: "alice"}}},
		{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "c"}, RoleRef: ref("Role", "gone"), Subjects: []rbacv1.Subject{{Kind: "User", Name: "alice"}}},
		{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "d"}, RoleRef: ref("ClusterRole", "gone"), Subjects: []rbacv1.Subject{{Kind: "User", Name: "alice"}}},
	})
	p.ClusterRoleBindings.Replace(nil)
	p.Sites.Replace(nil)
	a, err := access.New(access.Config{Policy: p})
	if err != nil {
		t.Fatal(err)
	}
	return review.Reviewer{Access: a}
}

func resource(verb, namespace, resource string) *authorizationv1.ResourceAttributes {
	r := &authorizationv1.ResourceAttributes{Verb: verb, Namespace: namespace}
	r.Resource, r.Subresource, _ = strings.Cut(resource, "/")
	return r
}

func TestReviews(t *testing.T) {
	t.Parallel()
	r := reviewer(t)
	const byGroup = `RBAC: allowed by RoleBinding "a/ns" of ClusterRole "reader" to Group "dev"`
	badSelector := resource("list", "ns", "pods")
	badSelector.LabelSelector = &authorizationv1.LabelSelectorAttributes{RawSelector: "&foo"}
	badSelector.FieldSelector = &authorizationv1.FieldSelectorAttributes{Requirements: []metav1.FieldSelectorRequirement{
		{Key: "a", Operator: "In", Values: []string{"1"}}, {Key: "b", Operator: "Near"}}}
	for _, tc := range []struct {
		name     string
		user     string
		groups   []string
		resource *authorizationv1.ResourceAttributes
		path     *authorizationv1.NonResourceAttributes
		want     authorizationv1.SubjectAccessReviewStatus
	}{
		{"allowed", "bob", []string{"dev"}, resource("get", "ns", "pods"), nil, authorizationv1.SubjectAccessReviewStatus{Allowed: true, Reason: byGroup}},
		{"by group alone", "", []string{"dev"}, resource("get", "ns", "pods/log"), nil, authorizationv1.SubjectAccessReviewStatus{Allowed: true, Reason: byGroup}},
		{"refused", "bob", []string{"dev"}, resource("delete", "ns", "pods"), nil, authorizationv1.SubjectAccessReviewStatus{}},
		{"elsewhere", "bob", []string{"dev"}, resource("get", "other", "pods"), nil, authorizationv1.SubjectAccessReviewStatus{}},
		{"refused with roles missing", "alice", nil, resource("delete", "ns", "pods"), nil, authorizationv1.SubjectAccessReviewStatus{
			Reason: `RBAC: [clusterroles.rbac.authorization.k8s.io "gone" not found roles.rbac.authorization.k8s.io "gone" not found]`}},
		{"no URL from a namespace", "bob", []string{"dev"}, nil, &authorizationv1.NonResourceAttributes{Verb: "get", Path: "/metrics"}, authorizationv1.SubjectAccessReviewStatus{}},
		{"superuser", "root", []string{"system:masters"}, nil, &authorizationv1.NonResourceAttributes{Verb: "get", Path: "/metrics"},
			authorizationv1.SubjectAccessReviewStatus{Allowed: true, Reason: `allowed to members of group "system:masters"`}},
		{"denied", "root", []string{"system:masters"}, &authorizationv1.ResourceAttributes{Verb: "impersonate", Resource: "groups", Name: "system:sites"}, nil,
			authorizationv1.SubjectAccessReviewStatus{Denied: true, Reason: "names of sites cannot be impersonated"}},
		{"selectors that are not understood", "bob", []string{"dev"}, badSelector, nil, authorizationv1.SubjectAccessReviewStatus{Allowed: true, Reason: byGroup,
			EvaluationError: "spec.resourceAttributes.fieldSelector partially ignored due to parse error; spec.resourceAttributes.labelSelector ignored due to parse error"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			sar := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
				User: tc.user, Groups: tc.groups, ResourceAttributes: tc.resource, NonResourceAttributes: tc.path}}
			if err := r.SubjectAccessReview(t.Context(), sar); err != nil || sar.Status != tc.want {
				t.Errorf("subject: got %+v, error %v\nwant %+v", sar.Status, err, tc.want)
			}
			self := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
				ResourceAttributes: tc.resource, NonResourceAttributes: tc.path}}
			if err := r.SelfSubjectAccessReview(t.Context(), access.Subject{Name: tc.user, Groups: tc.groups}, self); err != nil || self.Status != tc.want {
				t.Errorf("self: got %+v, error %v\nwant %+v", self.Status, err, tc.want)
			}
			if tc.resource == nil || tc.resource.Namespace == "" {
				return
			}
			local := &authorizationv1.LocalSubjectAccessReview{ObjectMeta: metav1.ObjectMeta{Namespace: tc.resource.Namespace}, Spec: sar.Spec}
			if err := r.LocalSubjectAccessReview(t.Context(), local); err != nil || local.Status != tc.want {
				t.Errorf("local: got %+v, error %v\nwant %+v", local.Status, err, tc.want)
			}
		})
	}
}

func TestMalformedReviews(t *testing.T) {
	t.Parallel()
	r := reviewer(t)
	for name, err := range map[string]error{
		"SubjectAccessReview":      r.SubjectAccessReview(t.Context(), &authorizationv1.SubjectAccessReview{}),
		"LocalSubjectAccessReview": r.LocalSubjectAccessReview(t.Context(), &authorizationv1.LocalSubjectAccessReview{}),
		"SelfSubjectAccessReview":  r.SelfSubjectAccessReview(t.Context(), access.Subject{Name: "a"}, &authorizationv1.SelfSubjectAccessReview{}),
	} {
		var status apierrors.APIStatus
		if !errors.As(err, &status) || !apierrors.IsInvalid(err) || status.Status().Details.Kind != name || status.Status().Details.Group != "authorization.k8s.io" {
			t.Errorf("%s: %v", name, err)
		}
	}
	err := r.LocalSubjectAccessReview(t.Context(), &authorizationv1.LocalSubjectAccessReview{
		Spec: authorizationv1.SubjectAccessReviewSpec{User: "a", ResourceAttributes: &authorizationv1.ResourceAttributes{}}})
	if fault.KindOf(err) != fault.Invalid || fault.Public(err) != "namespace is required on this type" {
		t.Errorf("local without namespace: %v", err)
	}
	err = r.SelfSubjectRulesReview(t.Context(), access.Subject{Name: "a"}, &authorizationv1.SelfSubjectRulesReview{})
	if fault.KindOf(err) != fault.Invalid || fault.Public(err) != "no namespace on request" {
		t.Errorf("rules without namespace: %v", err)
	}
}

func TestSelfSubjectRulesReview(t *testing.T) {
	t.Parallel()
	r := reviewer(t)
	for _, tc := range []struct {
		who  access.Subject
		want string
	}{
		{access.Subject{Name: "bob", Groups: []string{"dev"}}, `{[{[get list] [] [pods pods/log] []}] [{[get] [/metrics]}] false }`},
		{access.Subject{Name: "alice", Groups: []string{"dev"}}, `{[{[get list] [] [pods pods/log] []}] [{[get] [/metrics]}] false [clusterroles.rbac.authorization.k8s.io "gone" not found roles.rbac.authorization.k8s.io "gone" not found]}`},
		{access.Subject{Name: "root", Groups: []string{"system:masters"}}, `{[{[*] [*] [*] []}] [{[*] [*]}] false }`},
		{access.Subject{Name: "nobody"}, `{[] [] false }`},
	} {
		srr := &authorizationv1.SelfSubjectRulesReview{Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: "ns"}}
		if err := r.SelfSubjectRulesReview(t.Context(), tc.who, srr); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(srr.Status); got != tc.want {
			t.Errorf("%s: got %s, want %s", tc.who.Name, got, tc.want)
		}
		if srr.Status.ResourceRules == nil || srr.Status.NonResourceRules == nil {
			t.Errorf("%s: a list is null", tc.who.Name)
		}
	}
}

// An answer is the caller's to change; the policy must not change with it.
func TestRulesReviewSharesNothing(t *testing.T) {
	t.Parallel()
	r := reviewer(t)
	bob := access.Subject{Name: "bob", Groups: []string{"dev"}}
	get := func() *authorizationv1.SelfSubjectRulesReview {
		srr := &authorizationv1.SelfSubjectRulesReview{Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: "ns"}}
		if err := r.SelfSubjectRulesReview(t.Context(), bob, srr); err != nil {
			t.Fatal(err)
		}
		return srr
	}
	first := get()
	want := first.DeepCopy()
	first.Status.ResourceRules[0].Verbs[0] = "delete"
	first.Status.NonResourceRules[0].NonResourceURLs[0] = "*"
	if got := get(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
}

func TestReviewsWaitForThePolicy(t *testing.T) {
	t.Parallel()
	a, err := access.New(access.Config{Policy: access.NewPolicy()})
	if err != nil {
		t.Fatal(err)
	}
	r := review.Reviewer{Access: a}
	sar := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{User: "a", ResourceAttributes: resource("get", "ns", "pods")}}
	if err := r.SubjectAccessReview(t.Context(), sar); fault.KindOf(err) != fault.Unavailable || sar.Status != (authorizationv1.SubjectAccessReviewStatus{}) {
		t.Errorf("%v %+v", err, sar.Status)
	}
	srr := &authorizationv1.SelfSubjectRulesReview{Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: "ns"}}
	if err := r.SelfSubjectRulesReview(t.Context(), access.Subject{}, srr); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("%v", err)
	}
}

func TestSubjectOf(t *testing.T) {
	t.Parallel()
	got := review.SubjectOf(&authorizationv1.SubjectAccessReviewSpec{User: "a", UID: "1", Groups: []string{"g"},
		Extra: map[string]authorizationv1.ExtraValue{"Scopes": {"x", "y"}}})
	want := access.Subject{Name: "a", UID: "1", Groups: []string{"g"}, Extra: map[string][]string{"Scopes": {"x", "y"}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}

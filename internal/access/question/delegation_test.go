package question_test

import (
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/access/rbac"
)

// What was handed on is what the giver holds of it, and goes with it.
func TestHandedOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	binding := &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "grace", Namespace: "n0"},
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "reader"}, Subjects: []rbacv1.Subject{{Kind: "User", Name: "grace"}}}
	end := metav1.NewTime(time.Unix(1_800_003_600, 0))
	delegation := &accessv1alpha1.Delegation{ObjectMeta: metav1.ObjectMeta{Name: "holiday", UID: "1"}, Spec: accessv1alpha1.DelegationSpec{
		From: accessv1alpha1.DelegationGiver{User: "grace"}, To: accessv1alpha1.DelegationReceiver{Kind: accessv1alpha1.SubjectUser, Name: "rob"},
		Rules: []rbacv1.PolicyRule{rule("get,delete", "pods,secrets")}, Sites: []string{"gatehouse"}, NotAfter: end}}
	for _, c := range []access.Change{
		{Object: &rbacv1.ClusterRole{ObjectMeta: named("reader"), Rules: []rbacv1.PolicyRule{rule("get,list", "pods")}}},
		{Object: binding},
	} {
		w.apply(c)
	}
	// Before it is written: what it would give.
	impact, err := w.asker.Impact(t.Context(), []access.Change{{Object: delegation}})
	if got, want := told(impact), "User/rob +n0{get pods} by [Delegation/holiday]"; err != nil || got != want {
		t.Errorf("got %q %v, want %q", got, err, want)
	}
	w.grants.Delegations.Put(delegation)
	has, err := w.asker.WhatCan(access.Subject{Name: "rob"}, "n0")
	if err != nil || len(has.Entitlements) != 1 || has.Entitlements[0].Delegation == nil || len(has.Entitlements[0].Rules) != 1 || rbac.Words(has.Entitlements[0].Rules[0]) != "get pods" {
		t.Errorf("%+v %v", has, err)
	}
	holders, _, err := w.asker.WhoCan(t.Context(), authz.Request{ResourceRequest: true, Verb: "get", Resource: "pods", Namespace: "n0"})
	if err != nil || len(holders) != 3 || holders[2].Subject.Name != "rob" {
		t.Errorf("%+v %v", holders, err)
	}
	// What the giver loses the receiver loses.
	impact, err = w.asker.Impact(t.Context(), []access.Change{{Object: binding, Delete: true}})
	if got, want := told(impact), "User/grace -n0{get,list pods} by [RoleBinding/n0/grace]\nUser/rob -n0{get pods} by [Delegation/holiday]"; err != nil || got != want {
		t.Errorf("got %q %v, want %q", got, err, want)
	}
}

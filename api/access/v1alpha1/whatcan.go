package v1alpha1

import (
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// WhatCanReview asks for everything that a subject may do in a namespace of
// the control plane, and for everything that it is denied. It is answered and
// forgotten.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type WhatCanReview struct {
	metav1.TypeMeta `json:",inline"`
	// Standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what is asked.
	Spec WhatCanReviewSpec `json:"spec"`
	// status is the answer.
	// +optional
	Status WhatCanReviewStatus `json:"status,omitempty"`
}

// WhatCanReviewSpec is what is asked.
type WhatCanReviewSpec struct {
	// subject is whom the question is about; without it, the caller.
	// +optional
	Subject *ReviewSubject `json:"subject,omitempty"`
	// namespace is where; empty asks for what is allowed everywhere, outside
	// of namespaces too, and for what is denied anywhere.
	// +optional
	Namespace string `json:"namespace,omitempty"`
}

// WhatCanReviewStatus is the answer.
type WhatCanReviewStatus struct {
	// entitlements are in the order in which a decision asks them: bans, then
	// policies that deny, then what superusers and bindings are allowed, then
	// policies that allow. The first that a request meets decides it.
	// +optional
	// +listType=atomic
	Entitlements []Entitlement `json:"entitlements,omitempty"`
	// missingRoles are roles that bindings or policies of the subject name and
	// that do not exist, as KIND/NAME.
	// +optional
	// +listType=atomic
	MissingRoles []string `json:"missingRoles,omitempty"`
}

// Entitlement is what one object says of a subject.
type Entitlement struct {
	// effect is Allow or Deny.
	Effect Effect `json:"effect"`
	// rules are what is allowed or denied. An allow needs a request that lies
	// inside of one of them; a deny meets every request that could touch one.
	// +optional
	// +listType=atomic
	Rules []rbacv1.PolicyRule `json:"rules,omitempty"`
	// by is the object that says so.
	By Decider `json:"by"`
	// limits narrow it beyond its rules.
	// +optional
	Limits *Limits `json:"limits,omitempty"`
}

// Limits narrow what a policy allows or denies.
type Limits struct {
	// namespaces are those that the policy names. It reaches no URLs, and
	// nothing outside of namespaces.
	// +optional
	Namespaces *NamespaceScope `json:"namespaces,omitempty"`
	// labelSelector is the objects' labels.
	// +optional
	// +listType=atomic
	LabelSelector []metav1.LabelSelectorRequirement `json:"labelSelector,omitempty"`
	// fieldSelector is the objects' fields.
	// +optional
	// +listType=atomic
	FieldSelector []metav1.FieldSelectorRequirement `json:"fieldSelector,omitempty"`
	// condition is the policy's expression.
	// +optional
	Condition string `json:"condition,omitempty"`
	// notBefore is when it begins.
	// +optional
	NotBefore *metav1.Time `json:"notBefore,omitempty"`
	// notAfter is when it ends.
	// +optional
	NotAfter *metav1.Time `json:"notAfter,omitempty"`
}

package v1alpha1

import (
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// ImpactReview asks who would gain or lose what, if objects were applied or
// deleted. Nothing is changed. It is answered and forgotten.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type ImpactReview struct {
	metav1.TypeMeta `json:",inline"`
	// Standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what is asked.
	Spec ImpactReviewSpec `json:"spec"`
	// status is the answer.
	// +optional
	Status ImpactReviewStatus `json:"status,omitempty"`
}

// ImpactReviewSpec is what is asked. At least one object is given, and at most
// 500 in all.
type ImpactReviewSpec struct {
	// apply are objects as "kubectl apply" would take them: Roles,
	// ClusterRoles, RoleBindings, ClusterRoleBindings, AccessPolicies, Bans,
	// Delegations and Namespaces, or Lists of them.
	// +optional
	// +listType=atomic
	Apply []runtime.RawExtension `json:"apply,omitempty"`
	// delete are objects of the same kinds that would be deleted; of each only
	// kind, namespace and name are read.
	// +optional
	// +listType=atomic
	Delete []runtime.RawExtension `json:"delete,omitempty"`
}

// ImpactReviewStatus is the answer.
type ImpactReviewStatus struct {
	// subjects gain or lose something, in the order of their names. Whoever is
	// not listed keeps what it has.
	// +optional
	// +listType=atomic
	Subjects []SubjectImpact `json:"subjects,omitempty"`
	// notes say what the answer cannot know, such as the members of groups.
	// +optional
	// +listType=atomic
	Notes []string `json:"notes,omitempty"`
}

// SubjectImpact is what one subject gains and loses.
type SubjectImpact struct {
	// subject is named exactly, by a prefix or by a domain.
	Subject Subject `json:"subject"`
	// memberOf names the group through which a member is affected that no
	// changed object names itself.
	// +optional
	MemberOf string `json:"memberOf,omitempty"`
	// gains are actions that are not allowed now and would be.
	// +optional
	// +listType=atomic
	Gains []ImpactRule `json:"gains,omitempty"`
	// loses are actions that are allowed now and would not be.
	// +optional
	// +listType=atomic
	Loses []ImpactRule `json:"loses,omitempty"`
}

// ImpactRule is what is gained or lost in one scope.
type ImpactRule struct {
	// site is where; empty is the control plane.
	// +optional
	Site string `json:"site,omitempty"`
	// namespace is where; empty is everywhere.
	// +optional
	Namespace string `json:"namespace,omitempty"`
	// rules are the actions.
	// +listType=atomic
	Rules []rbacv1.PolicyRule `json:"rules"`
	// limits narrow them: it is gained or lost only within these.
	// +optional
	Limits *Limits `json:"limits,omitempty"`
	// except are bans and policies that deny parts of it, as KIND/NAME.
	// +optional
	// +listType=atomic
	Except []string `json:"except,omitempty"`
	// by are the objects that grant what is gained, or that granted or now
	// deny what is lost, as KIND/[NAMESPACE/]NAME.
	// +optional
	// +listType=atomic
	By []string `json:"by,omitempty"`
}

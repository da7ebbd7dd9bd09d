package v1alpha1

import (
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// AccessReview asks whether a subject may do several things, in one request.
// It is answered and forgotten.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type AccessReview struct {
	metav1.TypeMeta `json:",inline"`
	// Standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what is asked.
	Spec AccessReviewSpec `json:"spec"`
	// status is the answer.
	// +optional
	Status AccessReviewStatus `json:"status,omitempty"`
}

// AccessReviewSpec is what is asked.
type AccessReviewSpec struct {
	// subject is whom the questions are about; without it, the caller.
	// +optional
	Subject *ReviewSubject `json:"subject,omitempty"`
	// questions are answered in order, at most 10,000.
	// +listType=atomic
	Questions []Question `json:"questions"`
}

// ReviewSubject is a subject as authentication would establish it.
type ReviewSubject struct {
	// user is the user name.
	// +optional
	User string `json:"user,omitempty"`
	// uid of the user.
	// +optional
	UID string `json:"uid,omitempty"`
	// groups are the user's groups.
	// +optional
	// +listType=atomic
	Groups []string `json:"groups,omitempty"`
	// extra is what authentication says beyond names.
	// +optional
	Extra map[string]authorizationv1.ExtraValue `json:"extra,omitempty"`
}

// Question is about a resource or about a URL: exactly one is given.
type Question struct {
	// resourceAttributes describe a request for a resource.
	// +optional
	ResourceAttributes *authorizationv1.ResourceAttributes `json:"resourceAttributes,omitempty"`
	// nonResourceAttributes describe a request for a URL.
	// +optional
	NonResourceAttributes *authorizationv1.NonResourceAttributes `json:"nonResourceAttributes,omitempty"`
}

// AccessReviewStatus is the answer.
type AccessReviewStatus struct {
	// all says whether everything asked is allowed.
	All bool `json:"all"`
	// any says whether something asked is allowed.
	Any bool `json:"any"`
	// answers are one for each question, in their order.
	// +optional
	// +listType=atomic
	Answers []Answer `json:"answers,omitempty"`
}

// Answer is a decision.
type Answer struct {
	// allowed is the decision.
	Allowed bool `json:"allowed"`
	// denied says that something denies it, so that no grant would help.
	// +optional
	Denied bool `json:"denied,omitempty"`
	// reason says in words what decided.
	// +optional
	Reason string `json:"reason,omitempty"`
}

// WhoCanReview asks who may do something in the control plane. It is answered
// and forgotten.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type WhoCanReview struct {
	metav1.TypeMeta `json:",inline"`
	// Standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what is asked.
	Spec Question `json:"spec"`
	// status is the answer.
	// +optional
	Status WhoCanReviewStatus `json:"status,omitempty"`
}

// WhoCanReviewStatus is the answer.
type WhoCanReviewStatus struct {
	// holders may do what was asked, each once for every grant that says so.
	// Groups are named; of those whose members are known, the members are in
	// members.
	// +optional
	// +listType=atomic
	Holders []Holder `json:"holders,omitempty"`
	// refused hold a grant that a ban or a deny overrules.
	// +optional
	// +listType=atomic
	Refused []Holder `json:"refused,omitempty"`
}

// Holder is a subject with a grant.
type Holder struct {
	// subject is named exactly, or by a prefix.
	Subject Subject `json:"subject"`
	// resourceNames is set when the question named no object and the grant is
	// for objects of these names only.
	// +optional
	// +listType=atomic
	ResourceNames []string `json:"resourceNames,omitempty"`
	// members of a group, when the control plane knows them: those of
	// system:serviceaccounts and of its groups for namespaces. A member that is
	// denied stands among refused.
	// +optional
	// +listType=atomic
	Members []Subject `json:"members,omitempty"`
	// reason names the grant, or what overrules it.
	Reason string `json:"reason"`
}

// ExplainReview asks why a subject may do something, or why not. It is answered
// and forgotten.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type ExplainReview struct {
	metav1.TypeMeta `json:",inline"`
	// Standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what is asked.
	Spec ExplainReviewSpec `json:"spec"`
	// status is the answer.
	// +optional
	Status ExplainReviewStatus `json:"status,omitempty"`
}

// ExplainReviewSpec is what is asked.
type ExplainReviewSpec struct {
	// subject is whom the question is about; without it, the caller.
	// +optional
	Subject *ReviewSubject `json:"subject,omitempty"`
	// question is what the subject may or may not do.
	Question Question `json:"question"`
}

// ExplainReviewStatus is the answer.
type ExplainReviewStatus struct {
	Answer `json:",inline"`
	// decidedBy is the object that decided; absent when nothing did.
	// +optional
	DecidedBy *Decider `json:"decidedBy,omitempty"`
	// nearest are the rules of bindings and policies that lack the least, when
	// nothing allows the request and nothing denies it.
	// +optional
	// +listType=atomic
	Nearest []NearRule `json:"nearest,omitempty"`
	// missingRoles are roles that bindings of the subject name and that do not
	// exist.
	// +optional
	// +listType=atomic
	MissingRoles []string `json:"missingRoles,omitempty"`
}

// Decider is the object that decided.
type Decider struct {
	// kind is Ban, AccessPolicy, RoleBinding, ClusterRoleBinding or Delegation;
	// or Group, for members of system:masters.
	Kind string `json:"kind"`
	// namespace of a RoleBinding.
	// +optional
	Namespace string `json:"namespace,omitempty"`
	// name of the object.
	Name string `json:"name"`
	// role that the binding gives, as KIND/NAME.
	// +optional
	Role string `json:"role,omitempty"`
	// subject of the binding that matched, as KIND/NAME; the giver, for a
	// delegation.
	// +optional
	Subject string `json:"subject,omitempty"`
	// rule of the role or policy that decides.
	// +optional
	Rule *rbacv1.PolicyRule `json:"rule,omitempty"`
}

// NearRule is a rule that almost allows.
type NearRule struct {
	// rule as it stands in the role.
	Rule rbacv1.PolicyRule `json:"rule"`
	// by is the binding or the policy that gives it.
	By Decider `json:"by"`
	// lacks names what keeps the rule from allowing the request: verb,
	// apiGroup, resource, resourceName, path, namespace, site, period,
	// selector, condition, or subject where it is for others.
	// +listType=atomic
	Lacks []string `json:"lacks"`
}

package v1alpha1

import (
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// AccessPolicy allows or denies what RBAC cannot express: at chosen sites, in
// chosen namespaces, for a time, under a condition. A deny overrules every
// allow, RBAC included. An allow matches when the request lies wholly inside
// the policy; a deny matches when the request could touch it.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type AccessPolicy struct {
	metav1.TypeMeta `json:",inline"`
	// Standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what the policy says.
	Spec AccessPolicySpec `json:"spec"`
	// status is what the control plane makes of it.
	// +optional
	Status AccessPolicyStatus `json:"status,omitempty"`
}

// Effect is what a policy does with the requests it matches.
// +enum
type Effect string

const (
	// EffectAllow allows what nothing denies.
	EffectAllow Effect = "Allow"
	// EffectDeny denies whatever else allows.
	EffectDeny Effect = "Deny"
)

// AccessPolicySpec is what a policy says. All of its parts must match.
type AccessPolicySpec struct {
	// effect is Allow or Deny.
	Effect Effect `json:"effect"`
	// subjects are those whose requests the policy is about.
	// +listType=atomic
	Subjects []Subject `json:"subjects"`
	// roles are names of ClusterRoles of the control plane whose rules the
	// policy is about. A role that goes away takes its rules with it.
	// +optional
	// +listType=set
	Roles []string `json:"roles,omitempty"`
	// rules are further actions that the policy is about.
	// +optional
	// +listType=atomic
	Rules []rbacv1.PolicyRule `json:"rules,omitempty"`
	// sites are the sites where the policy holds: names, prefixes ending in
	// "*", "gatehouse" for the control plane itself, "*" for everything.
	// +listType=set
	Sites []string `json:"sites"`
	// namespaces limits the policy to namespaces. Without it the policy holds
	// everywhere, outside of namespaces too.
	// +optional
	Namespaces *NamespaceScope `json:"namespaces,omitempty"`
	// fieldSelector limits the policy to objects that these requirements
	// select. An allow asks the request to select at least as narrowly.
	// +optional
	// +listType=atomic
	FieldSelector []metav1.FieldSelectorRequirement `json:"fieldSelector,omitempty"`
	// labelSelector is fieldSelector for labels.
	// +optional
	// +listType=atomic
	LabelSelector []metav1.LabelSelectorRequirement `json:"labelSelector,omitempty"`
	// notBefore is when the policy begins to hold.
	// +optional
	NotBefore *metav1.Time `json:"notBefore,omitempty"`
	// notAfter is when the policy ceases to hold.
	// +optional
	NotAfter *metav1.Time `json:"notAfter,omitempty"`
	// condition is a CEL expression over the request that must be true. An
	// error in it denies in a deny and grants nothing in an allow.
	// +optional
	Condition string `json:"condition,omitempty"`
	// message tells whoever is refused by the policy why, or whom to ask.
	// +optional
	Message string `json:"message,omitempty"`
}

// SubjectKind is what a subject is.
// +enum
type SubjectKind string

const (
	// SubjectUser is a user by the name that authentication establishes.
	SubjectUser SubjectKind = "User"
	// SubjectGroup is everybody in a group.
	SubjectGroup SubjectKind = "Group"
	// SubjectServiceAccount is a service account of the control plane.
	SubjectServiceAccount SubjectKind = "ServiceAccount"
	// SubjectSite is a site itself, recognised by its certificate.
	SubjectSite SubjectKind = "Site"
)

// Subject names one subject, or several by a prefix or a domain. Exactly one
// of name, namePrefix and domain is given.
type Subject struct {
	// kind is User, Group, ServiceAccount or Site.
	Kind SubjectKind `json:"kind"`
	// name is the exact name.
	// +optional
	Name string `json:"name,omitempty"`
	// namePrefix matches every name that begins with it.
	// +optional
	NamePrefix string `json:"namePrefix,omitempty"`
	// domain matches service accounts in the namespaces of a domain, or sites
	// whose owner namespace is in it.
	// +optional
	Domain string `json:"domain,omitempty"`
	// namespace of a service account named by name or namePrefix.
	// +optional
	Namespace string `json:"namespace,omitempty"`
}

// NamespaceScope selects namespaces, by name or by label of the control
// plane's namespace.
type NamespaceScope struct {
	// names are exact names, or prefixes ending in "*".
	// +optional
	// +listType=set
	Names []string `json:"names,omitempty"`
	// selector selects namespaces of the control plane by their labels.
	// +optional
	Selector *metav1.LabelSelector `json:"selector,omitempty"`
}

// AccessPolicyStatus is what the control plane makes of a policy.
type AccessPolicyStatus struct {
	// observedGeneration is the generation that the status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// rules is how many rules the policy has, those of its roles included.
	// +optional
	Rules int32 `json:"rules,omitempty"`
	// matchedSubjects is how many names and patterns its subjects stand for: a
	// domain stands for what is in it now.
	// +optional
	MatchedSubjects int32 `json:"matchedSubjects,omitempty"`
	// conditions: Compiled says whether the condition can be evaluated,
	// RolesFound whether every role exists, InForce whether the policy allows
	// or denies now.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// AccessPolicyList is a list of policies.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type AccessPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	// Standard list metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	// items are the policies.
	Items []AccessPolicy `json:"items"`
}

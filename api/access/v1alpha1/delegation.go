package v1alpha1

import (
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Delegation hands a part of the authority of its author to somebody else for
// a limited time. It gives nothing that the author does not hold, neither when
// it is written nor when it is used.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type Delegation struct {
	metav1.TypeMeta `json:",inline"`
	// Standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what is handed on. It cannot be changed.
	Spec DelegationSpec `json:"spec"`
	// status is what the control plane makes of it.
	// +optional
	Status DelegationStatus `json:"status,omitempty"`
}

// DelegationSpec is what is handed on, from whom, to whom and for how long.
type DelegationSpec struct {
	// from is the giver. The control plane fills it in with the author. An
	// author who names somebody else there gives on their behalf, and needs the
	// right to impersonate the user, each of the groups and the UID.
	// +optional
	From DelegationGiver `json:"from,omitempty"`
	// author is who wrote the delegation, filled in by the control plane.
	// +optional
	Author string `json:"author,omitempty"`
	// to is the receiver: a User or ServiceAccount by its exact name.
	To DelegationReceiver `json:"to"`
	// roles are names of ClusterRoles of the control plane.
	// +optional
	// +listType=set
	Roles []string `json:"roles,omitempty"`
	// rules are further actions.
	// +optional
	// +listType=atomic
	Rules []rbacv1.PolicyRule `json:"rules,omitempty"`
	// sites as in an AccessPolicy.
	// +listType=set
	Sites []string `json:"sites"`
	// namespaces as in an AccessPolicy.
	// +optional
	Namespaces *NamespaceScope `json:"namespaces,omitempty"`
	// notBefore is when the delegation begins; at once without it.
	// +optional
	NotBefore *metav1.Time `json:"notBefore,omitempty"`
	// notAfter is when the delegation ends.
	NotAfter metav1.Time `json:"notAfter"`
	// mayDelegate lets the receiver hand on what it received.
	// +optional
	MayDelegate bool `json:"mayDelegate,omitempty"`
	// parent is the delegation by which the giver itself received what it
	// hands on here.
	// +optional
	Parent string `json:"parent,omitempty"`
	// parentUID is the UID of parent, filled in by the control plane: another
	// delegation of that name, written later, is not it.
	// +optional
	ParentUID types.UID `json:"parentUID,omitempty"`
}

// DelegationGiver is the giver as it was authenticated when it wrote the
// delegation.
type DelegationGiver struct {
	// user is the giver's user name.
	// +optional
	User string `json:"user,omitempty"`
	// uid is the giver's UID, when it has one.
	// +optional
	UID string `json:"uid,omitempty"`
	// groups are the giver's groups.
	// +optional
	// +listType=set
	Groups []string `json:"groups,omitempty"`
	// credentialID is the credential that wrote the delegation, filled in by
	// the control plane. A ban of it ends the delegation.
	// +optional
	CredentialID string `json:"credentialID,omitempty"`
	// origins are the credentials with which that one was made, filled in by the
	// control plane. A ban of one ends the delegation.
	// +optional
	// +listType=atomic
	Origins []string `json:"origins,omitempty"`
	// extra is what else authentication said of the giver, for conditions of
	// policies. An author who gives on behalf of another needs the right to
	// impersonate each value (userextras).
	// +optional
	Extra map[string][]string `json:"extra,omitempty"`
}

// DelegationReceiver is the receiver by its exact name.
type DelegationReceiver struct {
	// kind is User or ServiceAccount.
	Kind SubjectKind `json:"kind"`
	// name of the receiver.
	Name string `json:"name"`
	// namespace of a service account.
	// +optional
	Namespace string `json:"namespace,omitempty"`
}

// DelegationStatus is what the control plane makes of a delegation.
type DelegationStatus struct {
	// chain is who has it from whom: the receiver, its giver and so on to
	// whoever holds it itself.
	// +optional
	// +listType=atomic
	Chain []string `json:"chain,omitempty"`
	// conditions: InForce says whether it gives anything now, and why not.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// DelegationList is a list of delegations.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type DelegationList struct {
	metav1.TypeMeta `json:",inline"`
	// Standard list metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	// items are the delegations.
	Items []Delegation `json:"items"`
}

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// AuditPolicy asks for more to be recorded than the static policy does. It can
// raise the level of what it matches and add stages, and never lower or leave
// out what the static policy or another AuditPolicy records.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type AuditPolicy struct {
	metav1.TypeMeta `json:",inline"`
	// Standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what to record.
	Spec PolicySpec `json:"spec"`
}

// PolicySpec says which requests are meant and how much of them, as the file of
// kube-apiserver's --audit-policy-file does.
type PolicySpec struct {
	// rules are tried in order, and the first that matches decides. A request
	// that none matches is not meant.
	// +listType=atomic
	Rules []PolicyRule `json:"rules"`
	// omitStages are left out whatever rule matches.
	// +optional
	// +listType=set
	OmitStages []string `json:"omitStages,omitempty"`
	// omitManagedFields leaves metadata.managedFields out of bodies, unless
	// the rule says otherwise.
	// +optional
	OmitManagedFields bool `json:"omitManagedFields,omitempty"`
}

// PolicyRule matches a request when every field that is set matches.
type PolicyRule struct {
	// level is None, Metadata, Request or RequestResponse.
	Level string `json:"level"`
	// users who make the request. Default: any.
	// +optional
	// +listType=set
	Users []string `json:"users,omitempty"`
	// userGroups of which the caller is in one. Default: any.
	// +optional
	// +listType=set
	UserGroups []string `json:"userGroups,omitempty"`
	// verbs of the request. Default: any.
	// +optional
	// +listType=set
	Verbs []string `json:"verbs,omitempty"`
	// resources that the request is about. Default: any.
	// +optional
	// +listType=atomic
	Resources []PolicyResources `json:"resources,omitempty"`
	// namespaces of the object; "" stands for none. Default: any.
	// +optional
	// +listType=set
	Namespaces []string `json:"namespaces,omitempty"`
	// nonResourceURLs are paths, with a * at the end as wildcard. A rule is
	// about these or about resources.
	// +optional
	// +listType=set
	NonResourceURLs []string `json:"nonResourceURLs,omitempty"`
	// omitStages are left out of what this rule matches.
	// +optional
	// +listType=set
	OmitStages []string `json:"omitStages,omitempty"`
	// omitManagedFields overrides the field of the same name above.
	// +optional
	OmitManagedFields *bool `json:"omitManagedFields,omitempty"`
}

// PolicyResources are resources of one API group.
type PolicyResources struct {
	// group without a version; "" is the core group, * any.
	// +optional
	Group string `json:"group,omitempty"`
	// resources are plurals: pods, pods/log, pods/*, */log or *. Default: all
	// of the group.
	// +optional
	// +listType=set
	Resources []string `json:"resources,omitempty"`
	// resourceNames are names of objects. Default: any.
	// +optional
	// +listType=set
	ResourceNames []string `json:"resourceNames,omitempty"`
}

// AuditPolicyList is a list of AuditPolicies.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type AuditPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	// Standard list metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	// items are the policies.
	Items []AuditPolicy `json:"items"`
}

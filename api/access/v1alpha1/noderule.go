package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// NodeRule lets agents that run on nodes mark their own node: set, change and
// remove one taint or one label, and nothing else. An agent is a service account
// whose token is bound to a pod or to the node itself; the node in the token is
// the one that it may mark.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type NodeRule struct {
	metav1.TypeMeta `json:",inline"`
	// Standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says who may set what.
	Spec NodeRuleSpec `json:"spec"`
}

// NodeRuleSpec says who may set what: exactly one of taint and label.
type NodeRuleSpec struct {
	// agents are the service accounts that may.
	// +listType=atomic
	Agents []NodeRuleAgent `json:"agents"`
	// taint may be set, changed and removed.
	// +optional
	Taint *NodeRuleTaint `json:"taint,omitempty"`
	// label may be set, changed and removed.
	// +optional
	Label *NodeRuleLabel `json:"label,omitempty"`
}

// NodeRuleAgent is a service account.
type NodeRuleAgent struct {
	// namespace of the service account.
	Namespace string `json:"namespace"`
	// name of the service account.
	Name string `json:"name"`
}

// NodeRuleTaint is a taint of a node.
type NodeRuleTaint struct {
	// key of the taint.
	Key string `json:"key"`
	// effects that the taint may have; none are all.
	// +optional
	// +listType=set
	Effects []corev1.TaintEffect `json:"effects,omitempty"`
}

// NodeRuleLabel is a label of a node.
type NodeRuleLabel struct {
	// key of the label.
	Key string `json:"key"`
}

// NodeRuleList is a list of node rules.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type NodeRuleList struct {
	metav1.TypeMeta `json:",inline"`
	// Standard list metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	// items are the rules.
	Items []NodeRule `json:"items"`
}

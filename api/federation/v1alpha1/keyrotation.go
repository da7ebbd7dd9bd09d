package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// SiteKeyRotation asks for a new key that signs the service-account tokens of a
// site. It is posted to sites/NAME/keyrotation and answered, never stored. What
// the key before signed stays valid to its end.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type SiteKeyRotation struct {
	metav1.TypeMeta `json:",inline"`
	// Standard object metadata; nothing in it is read.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what the caller asks for.
	// +optional
	Spec SiteKeyRotationSpec `json:"spec,omitempty"`
	// status is the answer.
	// +optional
	Status SiteKeyRotationStatus `json:"status,omitempty"`
}

// SiteKeyRotationSpec is what the caller asks for.
type SiteKeyRotationSpec struct {
	// leadSeconds is how long the new key is published before it signs, so
	// that verifiers that keep keys for a while know it in time; from 0 to
	// 2592000. Default: 7200.
	// +optional
	LeadSeconds *int64 `json:"leadSeconds,omitempty"`
}

// SiteKeyRotationStatus is the answer.
type SiteKeyRotationStatus struct {
	// keyID names the new key in tokens and key sets.
	// +optional
	KeyID string `json:"keyID,omitempty"`
	// signsFrom is when it signs first.
	// +optional
	SignsFrom metav1.Time `json:"signsFrom,omitempty"`
}

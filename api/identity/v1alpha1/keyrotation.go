package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TokenKeyRotation asks for a new key that signs the tokens of the control
// plane. It is created, answered at once and never stored. What the key before
// signed stays valid to its end.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type TokenKeyRotation struct {
	metav1.TypeMeta `json:",inline"`
	// Standard object metadata; nothing in it is read.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what the caller asks for.
	// +optional
	Spec TokenKeyRotationSpec `json:"spec,omitempty"`
	// status is the answer.
	// +optional
	Status TokenKeyRotationStatus `json:"status,omitempty"`
}

// TokenKeyUse is what a key signs.
// +enum
type TokenKeyUse string

const (
	// UseTokens is the tokens that expire.
	UseTokens TokenKeyUse = "Tokens"
	// UseLegacyTokens is the tokens in Secrets.
	UseLegacyTokens TokenKeyUse = "LegacyTokens"
)

// TokenKeyRotationSpec is what the caller asks for.
type TokenKeyRotationSpec struct {
	// use is Tokens, for tokens that expire, or LegacyTokens, for those in
	// Secrets, whose keys stay in force until they are revoked. Default:
	// Tokens.
	// +optional
	Use TokenKeyUse `json:"use,omitempty"`
	// leadSeconds is how long the new key is published before it signs, so
	// that verifiers that keep keys for a while know it in time; from 0 to
	// 2592000. Default: 7200.
	// +optional
	LeadSeconds *int64 `json:"leadSeconds,omitempty"`
}

// TokenKeyRotationStatus is the answer.
type TokenKeyRotationStatus struct {
	// keyID names the new key in tokens and key sets.
	// +optional
	KeyID string `json:"keyID,omitempty"`
	// keys are all that verify, the new one last.
	// +optional
	// +listType=atomic
	Keys []TokenKey `json:"keys,omitempty"`
}

// TokenKey is one key.
type TokenKey struct {
	// keyID names the key in tokens and key sets.
	KeyID string `json:"keyID"`
	// signsFrom is when it signs first.
	SignsFrom metav1.Time `json:"signsFrom"`
	// verifiesUntil is when nothing valid can need it any more and it is
	// removed; absent for the newest.
	// +optional
	VerifiesUntil *metav1.Time `json:"verifiesUntil,omitempty"`
}

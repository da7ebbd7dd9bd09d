package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// SiteCredential asks for a certificate by which the control plane recognises
// a site. It is posted to sites/NAME/credential and answered, never stored;
// the id of the certificate is added to spec.credentials of the site.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type SiteCredential struct {
	metav1.TypeMeta `json:",inline"`
	// Standard object metadata; nothing in it is read.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what the caller asks for.
	Spec SiteCredentialSpec `json:"spec"`
	// status is the answer.
	// +optional
	Status SiteCredentialStatus `json:"status,omitempty"`
}

// SiteCredentialSpec is what the caller asks for.
type SiteCredentialSpec struct {
	// request is a PKCS#10 certificate request in PEM. Only its public key and
	// its signature are read: the names in the certificate are the site's.
	Request []byte `json:"request"`
	// expirationSeconds is the wished life of the certificate, from 600 (10
	// minutes) to 31536000 (a year). Default: 31536000.
	// +optional
	ExpirationSeconds *int64 `json:"expirationSeconds,omitempty"`
	// replace makes the new certificate the only one by which the site is
	// recognised; otherwise it is added to those that are.
	// +optional
	Replace bool `json:"replace,omitempty"`
}

// SiteCredentialStatus is the answer.
type SiteCredentialStatus struct {
	// certificate in PEM.
	// +optional
	Certificate []byte `json:"certificate,omitempty"`
	// credentialID names the certificate in records and bans (X509SHA256=...).
	// +optional
	CredentialID string `json:"credentialID,omitempty"`
	// expirationTimestamp is when the certificate ends.
	// +optional
	ExpirationTimestamp metav1.Time `json:"expirationTimestamp,omitempty"`
	// servingCA is the PEM of the authorities by which the site recognises the
	// control plane.
	// +optional
	ServingCA []byte `json:"servingCA,omitempty"`
}

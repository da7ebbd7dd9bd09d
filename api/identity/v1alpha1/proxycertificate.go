package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ProxyCertificate asks for a certificate of the request header authority: its
// holder is an authenticating proxy, which names its callers in the headers
// X-Remote-User, -Uid, -Group and -Extra-*. It is created, answered at once and
// never stored. Such a proxy can speak for anybody but a site, so that asking
// needs the verb impersonate on all users and all groups as well.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type ProxyCertificate struct {
	metav1.TypeMeta `json:",inline"`
	// Standard object metadata; nothing in it is read.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what the caller asks for.
	Spec ProxyCertificateSpec `json:"spec"`
	// status is the answer.
	// +optional
	Status ProxyCertificateStatus `json:"status,omitempty"`
}

// ProxyCertificateSpec is what the caller asks for.
type ProxyCertificateSpec struct {
	// request is a PKCS#10 request in PEM; only its key is taken.
	Request []byte `json:"request"`
	// commonName names the proxy. It must be among the allowed names, where
	// the configuration gives any.
	CommonName string `json:"commonName"`
	// expirationSeconds is from 600 to 31536000. Default: 31536000.
	// +optional
	ExpirationSeconds *int64 `json:"expirationSeconds,omitempty"`
}

// ProxyCertificateStatus is the answer.
type ProxyCertificateStatus struct {
	// certificate is the certificate in PEM.
	// +optional
	Certificate []byte `json:"certificate,omitempty"`
	// credentialID names the certificate in the record and in bans.
	// +optional
	CredentialID string `json:"credentialID,omitempty"`
	// expirationTimestamp is when it ends.
	// +optional
	ExpirationTimestamp metav1.Time `json:"expirationTimestamp,omitempty"`
}

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// AuditSource is somebody who is expected to write to the record: a host with
// its journal or syslog, a program with OpenTelemetry logs, or the
// kube-apiserver of a site. It says by which certificates the source is
// recognised, under which host its entries are recorded, and how long it may be
// silent.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type AuditSource struct {
	metav1.TypeMeta `json:",inline"`
	// Standard object metadata. The name is a part of the source's certificate
	// and of what it records.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what is expected of the source.
	Spec AuditSourceSpec `json:"spec"`
	// status is what was heard of it.
	// +optional
	Status AuditSourceStatus `json:"status,omitempty"`
}

// AuditSourceSpec is what is expected of a source.
type AuditSourceSpec struct {
	// site that the source belongs to. It cannot be changed.
	Site string `json:"site"`
	// kind says how it writes: Journal (systemd-journal-upload), Syslog (RFC
	// 5424 over TLS, RFC 5425), OTLP (OpenTelemetry logs over HTTP) or
	// KubernetesAudit (the audit webhook of a kube-apiserver). It cannot be
	// changed.
	Kind AuditSourceKind `json:"kind"`
	// host under which its entries are recorded, whatever they say themselves.
	// Default: the name of the source. Not for KubernetesAudit.
	// +optional
	Host string `json:"host,omitempty"`
	// expectedIntervalSeconds is how often something is heard of the source
	// when it is well, from 1 second to 30 days. After two intervals without a
	// word its silence is recorded, once, and its return. Default: silence is
	// nothing unusual.
	// +optional
	ExpectedIntervalSeconds *int64 `json:"expectedIntervalSeconds,omitempty"`
	// credentials are the ids (X509SHA256=...) of the certificates of the site
	// CA by which the source is recognised. Without one, the source is what the
	// site writes under this host with its own certificate.
	// +optional
	// +listType=set
	Credentials []string `json:"credentials,omitempty"`
}

// AuditSourceKind is how a source writes.
// +enum
type AuditSourceKind string

const (
	// AuditSourceJournal is a systemd journal.
	AuditSourceJournal AuditSourceKind = "Journal"
	// AuditSourceSyslog is syslog over TLS.
	AuditSourceSyslog AuditSourceKind = "Syslog"
	// AuditSourceOTLP is OpenTelemetry logs over HTTP.
	AuditSourceOTLP AuditSourceKind = "OTLP"
	// AuditSourceKubernetes is the audit webhook of a kube-apiserver.
	AuditSourceKubernetes AuditSourceKind = "KubernetesAudit"
)

// AuditSourceState sums up what is heard of a source.
// +enum
type AuditSourceState string

const (
	// AuditSourceWaiting was never heard.
	AuditSourceWaiting AuditSourceState = "Waiting"
	// AuditSourceActive was heard.
	AuditSourceActive AuditSourceState = "Active"
	// AuditSourceSilent was not heard for two intervals.
	AuditSourceSilent AuditSourceState = "Silent"
)

// AuditSourceStatus is what was heard of a source.
type AuditSourceStatus struct {
	// state is Waiting, Active or Silent.
	// +optional
	State AuditSourceState `json:"state,omitempty"`
	// lastHeard is when the source last wrote something that was recorded.
	// +optional
	LastHeard *metav1.Time `json:"lastHeard,omitempty"`
	// lastEntry is the newest time that an entry of the source bears.
	// +optional
	LastEntry *metav1.Time `json:"lastEntry,omitempty"`
	// lagSeconds is how far behind lastHeard lastEntry was: how long an entry
	// took to arrive.
	// +optional
	LagSeconds int64 `json:"lagSeconds,omitempty"`
	// silentSince is the last word before a silence that lasts.
	// +optional
	SilentSince *metav1.Time `json:"silentSince,omitempty"`
	// pendingEvent is Silent or Returned while the event about it is not on
	// record yet.
	// +optional
	PendingEvent string `json:"pendingEvent,omitempty"`
	// pendingSince is when a replica took it upon itself to record that event.
	// +optional
	PendingSince *metav1.Time `json:"pendingSince,omitempty"`
}

// AuditSourceList is a list of AuditSources.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type AuditSourceList struct {
	metav1.TypeMeta `json:",inline"`
	// Standard list metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	// items are the sources.
	Items []AuditSource `json:"items"`
}

// AuditSourceCredential asks for a certificate by which the control plane
// recognises a source. It is posted to auditsources/NAME/credential and
// answered, never stored; the id of the certificate is added to
// spec.credentials of the source.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type AuditSourceCredential struct {
	metav1.TypeMeta `json:",inline"`
	// Standard object metadata; nothing in it is read.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what the caller asks for.
	Spec AuditSourceCredentialSpec `json:"spec"`
	// status is the answer.
	// +optional
	Status AuditSourceCredentialStatus `json:"status,omitempty"`
}

// AuditSourceCredentialSpec is what the caller asks for.
type AuditSourceCredentialSpec struct {
	// request is a PKCS#10 certificate request in PEM. Only its public key and
	// its signature are read: the names in the certificate are the source's.
	Request []byte `json:"request"`
	// expirationSeconds is the wished life of the certificate, from 600 (10
	// minutes) to 31536000 (a year). Default: 31536000.
	// +optional
	ExpirationSeconds *int64 `json:"expirationSeconds,omitempty"`
	// replace makes the new certificate the only one by which the source is
	// recognised; otherwise it is added to those that are.
	// +optional
	Replace bool `json:"replace,omitempty"`
}

// AuditSourceCredentialStatus is the answer.
type AuditSourceCredentialStatus struct {
	// certificate in PEM.
	// +optional
	Certificate []byte `json:"certificate,omitempty"`
	// credentialID names the certificate in records and bans (X509SHA256=...).
	// +optional
	CredentialID string `json:"credentialID,omitempty"`
	// expirationTimestamp is when the certificate ends.
	// +optional
	ExpirationTimestamp metav1.Time `json:"expirationTimestamp,omitempty"`
	// servingCA is the PEM of the authorities by which the source recognises
	// the control plane.
	// +optional
	ServingCA []byte `json:"servingCA,omitempty"`
}

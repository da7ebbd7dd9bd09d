package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// AuditSink passes the record, or a part of it, on to somebody. Every replica
// passes its own log on, from the moment the sink was made, each event at least
// once. A sink that is away for hours loses nothing and slows nobody.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type AuditSink struct {
	metav1.TypeMeta `json:",inline"`
	// Standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what goes where.
	Spec AuditSinkSpec `json:"spec"`
	// status is how far each replica has come.
	// +optional
	Status AuditSinkStatus `json:"status,omitempty"`
}

// AuditSinkSpec says what goes where. Exactly one of webhook, syslog, otlp, s3
// and directory is given.
type AuditSinkSpec struct {
	// scope confines the sink to one domain or to some namespaces. Default:
	// the whole record.
	// +optional
	Scope *SinkScope `json:"scope,omitempty"`
	// policy says what of that is passed on and how much of it. It can only
	// take away. Default: everything as it was recorded.
	// +optional
	Policy *PolicySpec `json:"policy,omitempty"`
	// credential is a Secret by which the receiver knows us: tls.crt and
	// tls.key for a client certificate, token for a bearer token (webhook,
	// otlp), accessKeyID and secretAccessKey for s3. Whoever names it must be
	// allowed to read it.
	// +optional
	Credential *SecretReference `json:"credential,omitempty"`

	// webhook posts audit.k8s.io/v1 EventLists, each with a signature (RFC
	// 9421).
	// +optional
	Webhook *WebhookSink `json:"webhook,omitempty"`
	// syslog sends RFC 5424 messages over TLS (RFC 5425), whose protocol does
	// not acknowledge: what was on the way when the receiver died is sent
	// again where that was noticed.
	// +optional
	Syslog *SyslogSink `json:"syslog,omitempty"`
	// otlp posts OTLP/HTTP logs.
	// +optional
	OTLP *OTLPSink `json:"otlp,omitempty"`
	// s3 puts objects of JSON lines into a bucket.
	// +optional
	S3 *S3Sink `json:"s3,omitempty"`
	// directory writes files of JSON lines into a directory of the replica's
	// data directory, audit-sinks/NAME.
	// +optional
	Directory *DirectorySink `json:"directory,omitempty"`
}

// SinkScope confines a sink; exactly one field is given.
type SinkScope struct {
	// domain lets through what concerns namespaces of this domain.
	// +optional
	Domain string `json:"domain,omitempty"`
	// namespaces lets through what concerns these.
	// +optional
	// +listType=set
	Namespaces []string `json:"namespaces,omitempty"`
}

// SecretReference names a Secret.
type SecretReference struct {
	// namespace of the Secret.
	Namespace string `json:"namespace"`
	// name of the Secret.
	Name string `json:"name"`
}

// WebhookSink is a receiver of EventList posts.
type WebhookSink struct {
	// url to post to, https.
	URL string `json:"url"`
	// caBundle are the PEM certificates that the receiver's must come from.
	// Default: those that the system trusts.
	// +optional
	CABundle []byte `json:"caBundle,omitempty"`
}

// SyslogSink is a receiver of syslog over TLS.
type SyslogSink struct {
	// address is host:port; the port of RFC 5425 is 6514.
	Address string `json:"address"`
	// serverName is expected in the receiver's certificate. Default: the host
	// of address.
	// +optional
	ServerName string `json:"serverName,omitempty"`
	// caBundle are the PEM certificates that the receiver's must come from.
	// Default: those that the system trusts.
	// +optional
	CABundle []byte `json:"caBundle,omitempty"`
}

// OTLPSink is a receiver of OTLP/HTTP logs.
type OTLPSink struct {
	// url to post to, https; its path is usually /v1/logs.
	URL string `json:"url"`
	// caBundle are the PEM certificates that the receiver's must come from.
	// Default: those that the system trusts.
	// +optional
	CABundle []byte `json:"caBundle,omitempty"`
}

// S3Sink is a bucket of an object store that speaks S3 with signature version 4.
type S3Sink struct {
	// endpoint is the https URL of the store, without the bucket.
	Endpoint string `json:"endpoint"`
	// region that signatures are for. Default: us-east-1.
	// +optional
	Region string `json:"region,omitempty"`
	// bucket to put objects into, addressed by path.
	Bucket string `json:"bucket"`
	// prefix of the objects' names.
	// +optional
	Prefix string `json:"prefix,omitempty"`
	// caBundle are the PEM certificates that the store's must come from.
	// Default: those that the system trusts.
	// +optional
	CABundle []byte `json:"caBundle,omitempty"`
}

// DirectorySink is a directory of each replica.
type DirectorySink struct{}

// AuditSinkStatus is how far each replica has come.
type AuditSinkStatus struct {
	// replicas are the logs that are passed on.
	// +optional
	// +listType=map
	// +listMapKey=log
	Replicas []SinkReplica `json:"replicas,omitempty"`
}

// SinkReplica is how far one replica has come.
type SinkReplica struct {
	// log is the id of the replica's log.
	Log string `json:"log"`
	// observedGeneration is the generation of the spec that is in force there.
	ObservedGeneration int64 `json:"observedGeneration"`
	// next is the first record of the log that was not passed on yet.
	Next int64 `json:"next"`
	// lag is how many records wait.
	Lag int64 `json:"lag"`
	// lastDelivered is when the receiver last took something.
	// +optional
	LastDelivered *metav1.Time `json:"lastDelivered,omitempty"`
	// error is why the last attempt failed; empty when it did not.
	// +optional
	Error string `json:"error,omitempty"`
	// updated is when this was written.
	Updated metav1.Time `json:"updated"`
}

// AuditSinkList is a list of AuditSinks.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type AuditSinkList struct {
	metav1.TypeMeta `json:",inline"`
	// Standard list metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	// items are the sinks.
	Items []AuditSink `json:"items"`
}

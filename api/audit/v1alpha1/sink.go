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

// AuditSinkSpec says what goes where. Exactly one of webhook, syslog, otlp, s3,
// kafka and directory is given.
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
	// otlp), accessKeyID and secretAccessKey for s3, username and password for
	// kafka with sasl. Whoever names it must be allowed to read it.
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
	// kafka sends messages to a topic of brokers that speak Kafka's protocol.
	// +optional
	Kafka *KafkaSink `json:"kafka,omitempty"`
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

// KafkaSink is a topic of brokers that speak Kafka's protocol over TLS. Each
// event is a message of JSON, which all replicas in sync have (acks=all) before
// it counts as delivered; the headers gatehouse-log and gatehouse-record tell
// one that comes again.
type KafkaSink struct {
	// brokers are host:port of some brokers of the cluster, which name the
	// others. One that answers is enough.
	// +listType=set
	Brokers []string `json:"brokers"`
	// topic to write to. It is not made, and must take messages of 256,000
	// bytes (max.message.bytes).
	Topic string `json:"topic"`
	// caBundle are the PEM certificates that the brokers' must come from.
	// Default: those that the system trusts.
	// +optional
	CABundle []byte `json:"caBundle,omitempty"`
	// sasl says how username and password of the credential are shown.
	// Default: the client certificate of the credential, if there is one, says
	// alone who we are.
	// +optional
	SASL *KafkaSASL `json:"sasl,omitempty"`
	// compression of batches. Default: zstd; brokers before Kafka 2.1 get none
	// instead.
	// +optional
	Compression KafkaCompression `json:"compression,omitempty"`
	// key of messages, which chooses the partition and so what stays in order.
	// Default: AuditID.
	// +optional
	Key KafkaKey `json:"key,omitempty"`
}

// KafkaSASL is how a password is shown to brokers, inside TLS.
type KafkaSASL struct {
	// mechanism is that of RFC 4616 or RFC 5802.
	Mechanism KafkaMechanism `json:"mechanism"`
}

// KafkaMechanism is a way to show a password.
// +enum
type KafkaMechanism string

// The mechanisms.
const (
	// KafkaPlain shows the password itself.
	KafkaPlain KafkaMechanism = "PLAIN"
	// KafkaSCRAMSHA256 and the next prove that both sides know it.
	KafkaSCRAMSHA256 KafkaMechanism = "SCRAM-SHA-256"
	KafkaSCRAMSHA512 KafkaMechanism = "SCRAM-SHA-512"
)

// KafkaCompression is a codec, by Kafka's name for it.
// +enum
type KafkaCompression string

// The codecs.
const (
	KafkaUncompressed KafkaCompression = "none"
	KafkaGzip         KafkaCompression = "gzip"
	KafkaSnappy       KafkaCompression = "snappy"
	KafkaLZ4          KafkaCompression = "lz4"
	KafkaZstd         KafkaCompression = "zstd"
)

// KafkaKey is what the key of a message is.
// +enum
type KafkaKey string

// The keys.
const (
	// KafkaKeyAuditID keeps the stages of a request together.
	KafkaKeyAuditID KafkaKey = "AuditID"
	// KafkaKeyUser keeps what a user did together.
	KafkaKeyUser KafkaKey = "User"
	// KafkaKeyNone spreads events evenly.
	KafkaKeyNone KafkaKey = "None"
)

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

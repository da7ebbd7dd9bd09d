package config

// File is the configuration file, version config.gatehouse.dev/v1alpha1. Every
// field may be left out; the zero value is safe.
type File struct {
	// APIVersion must be config.gatehouse.dev/v1alpha1.
	APIVersion string `json:"apiVersion"`
	// Kind must be Configuration.
	Kind string `json:"kind"`
	// DataDir is where the replica keeps its state. Default: gatehouse-data in
	// the working directory.
	DataDir string `json:"dataDir,omitempty"`
	// Listen is the host:port of the one HTTPS listener. Port 0 lets the
	// system choose. Default: 127.0.0.1:7443.
	Listen string `json:"listen,omitempty"`
	// AdvertiseAddress is the host:port that clients are told (in
	// admin.kubeconfig, discovery and site files). Default: the listener's.
	AdvertiseAddress string `json:"advertiseAddress,omitempty"`
	// ServingNames are further DNS names and IP addresses in the serving
	// certificate, beside localhost and the addresses above.
	ServingNames []string `json:"servingNames,omitempty"`
	// RootKeyFile holds the root key, mode 0600, the same on every replica.
	// Default: root.key in the data directory, created on the first start.
	RootKeyFile string `json:"rootKeyFile,omitempty"`
	// Storage says where state is kept.
	Storage Storage `json:"storage,omitempty"`
	// Tokens says what the control plane mints.
	Tokens Tokens `json:"tokens,omitempty"`
	// PolicySnapshots is what sites decide by themselves.
	PolicySnapshots PolicySnapshots `json:"policySnapshots,omitempty"`
	// Authentication says whom the control plane believes beside itself.
	Authentication Authentication `json:"authentication,omitempty"`
	// Audit says what is recorded.
	Audit Audit `json:"audit,omitempty"`
	// Log says what the process writes about itself to standard error.
	Log Log `json:"log,omitempty"`
}

// Storage says where state is kept.
type Storage struct {
	// Etcd is an external etcd cluster; without endpoints one is embedded.
	Etcd Etcd `json:"etcd,omitempty"`
	// SQL is the database of what is recorded in bulk; SQLite in the data
	// directory unless a PostgreSQL is named.
	SQL SQL `json:"sql,omitempty"`
}

// Etcd is an external etcd cluster.
type Etcd struct {
	// Endpoints are https://host:port URLs.
	Endpoints []string `json:"endpoints,omitempty"`
	// CAFile is the authority of the members' certificates. It, CertFile and
	// KeyFile are PEM files, and all three are required with endpoints.
	CAFile string `json:"caFile,omitempty"`
	// CertFile is this replica's client certificate.
	CertFile string `json:"certFile,omitempty"`
	// KeyFile is the key of CertFile, mode 0600.
	KeyFile string `json:"keyFile,omitempty"`
}

// SQL is the database of what is recorded in bulk.
type SQL struct {
	// PostgresDSNFile is a file, mode 0600, that holds a PostgreSQL connection
	// string.
	PostgresDSNFile string `json:"postgresDSNFile,omitempty"`
}

// Tokens says what the control plane mints.
type Tokens struct {
	// Issuer is the https URL in the iss claim of tokens. Default: the address
	// at which the first replica first served; it stays when that changes.
	Issuer string `json:"issuer,omitempty"`
	// MaxExpirationSeconds caps the life of tokens, from 600 (10 minutes) to
	// 31536000 (a year). Default: 86400.
	MaxExpirationSeconds int64 `json:"maxExpirationSeconds,omitempty"`
	// DiscoveryListen is the host:port of a second HTTPS listener that serves
	// the OpenID discovery document and the key set of tokens to anybody, and
	// nothing else, with the same certificate. Verifiers look for both below
	// the issuer URL, so issuer must lead to it. Default: none; the main
	// listener serves the documents to callers who may read them.
	DiscoveryListen string `json:"discoveryListen,omitempty"`
}

// PolicySnapshots says how long a site may decide by itself.
type PolicySnapshots struct {
	// MaxAgeSeconds is how long a local decision point goes on deciding when it
	// hears nothing of the control plane, from 600 (10 minutes) to 2592000 (30
	// days). A local decision point may be told to stop earlier. Default:
	// 86400.
	MaxAgeSeconds int64 `json:"maxAgeSeconds,omitempty"`
}

// Authentication says whom the control plane believes beside itself. Further
// identity providers are resources: identityproviders.identity.gatehouse.dev.
type Authentication struct {
	// ConfigFile is an AuthenticationConfiguration (apiserver.config.k8s.io)
	// as kube-apiserver reads it; its issuers are believed on this replica
	// from the start and take precedence over the resources. It is read
	// again when it changes.
	ConfigFile string `json:"configFile,omitempty"`
	// AllowLoopbackIssuers lets documents of identity providers be fetched
	// from this machine, for a provider that runs beside the control plane.
	AllowLoopbackIssuers bool `json:"allowLoopbackIssuers,omitempty"`
	// ClientCertificates says which certificates of others sign people and
	// programs in, and which ones their authorities took back.
	ClientCertificates ClientCertificates `json:"clientCertificates,omitempty"`
	// RequestHeader says which proxies may name their callers in the headers
	// X-Remote-User, -Uid, -Group and -Extra-*.
	RequestHeader RequestHeader `json:"requestHeader,omitempty"`
}

// ClientCertificates is whose client certificates count beside the control
// plane's own. The files are read again when they change.
type ClientCertificates struct {
	// CAFile is a PEM file of further authorities. The common name of a
	// certificate is the user, its organizations are the groups; none that
	// begins with system: or gatehouse: is accepted of them.
	CAFile string `json:"caFile,omitempty"`
	// CRLFiles are certificate revocation lists, in PEM or DER, of these
	// authorities, of the control plane's own, or of those of proxies. A
	// certificate in one is refused within seconds. When a list is past its
	// next update, every certificate of its authority is refused until there
	// is a newer one.
	CRLFiles []string `json:"crlFiles,omitempty"`
}

// RequestHeader is who may speak for others.
type RequestHeader struct {
	// ClientCAFile is a PEM file of further authorities whose client
	// certificates make a proxy. They must issue nothing else: a proxy can
	// speak for anybody. The control plane's own request header authority
	// always counts.
	ClientCAFile string `json:"clientCAFile,omitempty"`
	// AllowedNames are the common names that a proxy's certificate may have.
	// Default: any that these authorities certify.
	AllowedNames []string `json:"allowedNames,omitempty"`
}

// Audit says what is recorded.
type Audit struct {
	// PolicyFile is an audit.k8s.io/v1 Policy. Default: everything at level
	// Metadata, changes of policy with their bodies.
	PolicyFile string `json:"policyFile,omitempty"`
	// AllowLoopbackSinks lets audit sinks of one domain or namespace send to
	// this machine, for a receiver that runs beside the control plane. Sinks of
	// the whole record may always.
	AllowLoopbackSinks bool `json:"allowLoopbackSinks,omitempty"`
	// Retention says for how long each class of record is kept.
	Retention Retention `json:"retention,omitempty"`
	// Witnesses are asked to sign the checkpoints of this replica's log (C2SP
	// tlog-witness).
	Witnesses []Witness `json:"witnesses,omitempty"`
	// Syslog says where syslog of hosts is taken in.
	Syslog AuditSyslog `json:"syslog,omitempty"`
}

// AuditSyslog says where syslog of hosts is taken in.
type AuditSyslog struct {
	// Listen is the host:port of a listener for syslog over TLS (RFC 5425),
	// whose usual port is 6514. Senders show a certificate of the site CA.
	// Default: there is none.
	Listen string `json:"listen,omitempty"`
}

// Witness signs checkpoints of the log after it saw that the log only grew.
type Witness struct {
	// URL is the witness's submission prefix, https.
	URL string `json:"url"`
	// Key is the witness's public key in the signed-note format, NAME+HASH+KEY.
	Key string `json:"key"`
	// CAFile is a PEM file of the authorities of its certificate. Default:
	// those of the system.
	CAFile string `json:"caFile,omitempty"`
}

// Retention says for how long each class of record is kept: days ("90d") or
// hours ("2160h"), at least a day. A class that is left out is kept for ever.
// What is dropped leaves its hash and a record of what was dropped and why, and
// what an audit sink has not taken yet is not dropped.
type Retention struct {
	// Denial is for requests that were refused.
	Denial string `json:"denial,omitempty"`
	// Change is for requests that could change state.
	Change string `json:"change,omitempty"`
	// Review is for questions: access and token reviews.
	Review string `json:"review,omitempty"`
	// Read is for everything else.
	Read string `json:"read,omitempty"`
}

// Log says what the process writes about itself.
type Log struct {
	// Level is debug, info, warn or error. Default: info.
	Level string `json:"level,omitempty"`
	// Format is text or json. Default: text.
	Format string `json:"format,omitempty"`
}

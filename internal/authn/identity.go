package authn

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/authn/jws"
	"github.com/gatehouse-dev/gatehouse/internal/authn/origin"
)

// Method says what kind of credential proved an identity.
type Method uint8

// The methods. The zero Method belongs to the zero [Identity].
const (
	NoMethod Method = iota
	Certificate
	ServiceAccountToken
	BootstrapToken
	AccessKey
	ProviderToken
	RequestHeader
	LegacyToken
)

var methodNames = [...]string{
	NoMethod:            "none",
	Certificate:         "certificate",
	ServiceAccountToken: "service-account-token",
	BootstrapToken:      "bootstrap-token",
	AccessKey:           "access-key",
	ProviderToken:       "provider-token",
	RequestHeader:       "request-header",
	LegacyToken:         "legacy-token",
}

func (m Method) String() string { return methodNames[m] }

// Extra keys that an identity carries, as Kubernetes names them.
const (
	ExtraCredentialID = "authentication.kubernetes.io/credential-id"
	ExtraPodName      = "authentication.kubernetes.io/pod-name"
	ExtraPodUID       = "authentication.kubernetes.io/pod-uid"
	ExtraNodeName     = "authentication.kubernetes.io/node-name"
	ExtraNodeUID      = "authentication.kubernetes.io/node-uid"
	// ExtraContainerName is ours: a token can be bound to one container.
	ExtraContainerName = "authentication.gatehouse.dev/container-name"
	// These are ours, too: a token can be bound to a connected site, and to a pod
	// or node of it. What Kubernetes calls pod and node is of the control plane.
	ExtraSiteName      = "authentication.gatehouse.dev/site-name"
	ExtraSiteUID       = "authentication.gatehouse.dev/site-uid"
	ExtraSiteNamespace = "authentication.gatehouse.dev/site-namespace"
	ExtraSitePodName   = "authentication.gatehouse.dev/site-pod-name"
	ExtraSitePodUID    = "authentication.gatehouse.dev/site-pod-uid"
	ExtraSiteNodeName  = "authentication.gatehouse.dev/site-node-name"
	ExtraSiteNodeUID   = "authentication.gatehouse.dev/site-node-uid"
	// ExtraAttestationPrefix begins the keys of what a token attests.
	ExtraAttestationPrefix = "attestation.authentication.kubernetes.io/"
	// ExtraOrigin lists the credentials that this one was made with; see
	// package origin.
	ExtraOrigin = origin.Extra
	// ExtraKeyNamespace is the namespace that an access key belongs to.
	ExtraKeyNamespace = "authentication.gatehouse.dev/key-namespace"
)

// AnnotationStaleToken marks, in an audit event, a token used after the time
// at which its holder should have renewed it (claim warnafter).
const AnnotationStaleToken = "authentication.k8s.io/stale-token"

// Identity is a caller whose credential this package verified. The zero
// Identity is nobody: [Identity.Valid] tells. Identities are immutable and
// safe for concurrent use; what their methods return must not be modified.
type Identity struct {
	v         *verified
	audiences []string
}

// account is what a credential speaks for. Accounts are shared by the
// credentials of one service account.
type account struct {
	name   string
	uid    string
	groups []string
	// namespace and serviceAccount are set for service accounts only.
	namespace, serviceAccount string
	// extra and credential are set where they do not depend on the token.
	extra      map[string][]string
	credential string
	// origin is the line of credentials that this one was made with.
	origin []string
	// legacy is set for tokens in Secrets.
	legacy *legacyRef
}

// verified is one credential after verification. Many of them are remembered
// at once, so the layout is tight: 64 bytes and the packed claims.
type verified struct {
	who    *account
	src    *source
	key    *jws.Key
	shared *sharedClaims
	// bound holds the packed claims of a service account token; see bound.go.
	bound string
	// expires is in Unix seconds; 0 is never.
	expires int64
	// at is when the credential was verified, in Unix seconds.
	at uint32
	// once keeps a credential from being remembered.
	once bool
}

func (v *verified) stamp() uint32 { return v.at }

// sharedClaims are claims that many tokens have in common.
type sharedClaims struct {
	audiences         []string
	nodeName, nodeUID string
	attested          string
	// origin is the line of credentials that the token was asked for with.
	origin []string
	// site is what of a connected site the token is bound to.
	site *boundSite
	// asked are the audiences that a provider was asked for; nil where the
	// credential itself says what it is good for.
	asked []string
}

// Valid reports whether the identity is somebody.
func (i Identity) Valid() bool { return i.v != nil }

// Name returns the user name, never empty for a valid identity.
func (i Identity) Name() string {
	if i.v == nil {
		return ""
	}
	return i.v.who.name
}

// UID returns what tells this user from a later one of the same name; it may
// be empty.
func (i Identity) UID() string {
	if i.v == nil {
		return ""
	}
	return i.v.who.uid
}

// Groups returns the groups, system:authenticated among them.
func (i Identity) Groups() []string {
	if i.v == nil {
		return nil
	}
	return i.v.who.groups
}

// Extra returns further facts by their Kubernetes extra keys. The map is the
// caller's own.
func (i Identity) Extra() map[string][]string {
	if i.v == nil {
		return nil
	}
	extra := make(map[string][]string, len(i.v.who.extra)+5)
	maps.Copy(extra, i.v.who.extra)
	if id := i.CredentialID(); id != "" {
		extra[ExtraCredentialID] = []string{id}
	}
	if line := i.Origin(); len(line) > 0 {
		extra[ExtraOrigin] = line
	}
	if i.v.shared == nil {
		return extra
	}
	b := unpack(i.v.bound)
	if b.podName != "" && b.podUID != "" {
		extra[ExtraPodName] = []string{b.podName}
		extra[ExtraPodUID] = []string{b.podUID}
	}
	if b.container != "" {
		extra[ExtraContainerName] = []string{b.container}
	}
	if i.v.shared.attested != "" {
		extra[claimAttested] = []string{i.v.shared.attested}
	}
	if s := i.v.shared.site; s != nil {
		s.addTo(extra)
	}
	if i.v.shared.nodeName != "" {
		extra[ExtraNodeName] = []string{i.v.shared.nodeName}
		if i.v.shared.nodeUID != "" {
			extra[ExtraNodeUID] = []string{i.v.shared.nodeUID}
		}
	}
	return extra
}

// CredentialID returns the id by which this one credential can be banned and
// found in the record: "JTI=…" of a token, "X509SHA256=…" of a certificate,
// "KEY=…" of an access key. It is empty when the credential has none.
func (i Identity) CredentialID() string {
	if i.v == nil {
		return ""
	}
	if i.v.who.credential != "" || i.v.bound == "" {
		return i.v.who.credential
	}
	if jti := unpackID(i.v.bound); jti != "" {
		return "JTI=" + jti
	}
	return ""
}

// Origin returns the line of credentials that this one was made with, nearest
// first, as package origin writes them; nil when it was made with none that is
// known. A ban on any of them refuses this one.
func (i Identity) Origin() []string {
	switch {
	case i.v == nil:
		return nil
	case i.v.shared != nil && len(i.v.shared.origin) > 0:
		return i.v.shared.origin
	}
	return i.v.who.origin
}

// Made returns the line of what is made with a credential now. An error, of
// kind Denied, says that nothing can be made with it.
func (c *Chain) Made(i Identity) ([]string, error) {
	return origin.Extend(origin.Entry{ID: i.CredentialID(), NotAfter: i.NotAfter(), IssuerKey: i.IssuerKey()}, i.Origin(), c.now())
}

// Audiences returns the audiences for which the credential was accepted: those
// asked for that it is good for, in the order asked. It is empty for
// credentials without audiences, such as certificates.
func (i Identity) Audiences() []string { return i.audiences }

// Method returns what kind of credential it was.
func (i Identity) Method() Method {
	if i.v == nil {
		return NoMethod
	}
	return i.v.src.method
}

// Source names the issuer, identity provider or door that vouched for the
// credential; it is empty for certificates.
func (i Identity) Source() string {
	if i.v == nil {
		return ""
	}
	return i.v.src.name
}

// IssuerKey returns the id of the key that signed the token, or "".
func (i Identity) IssuerKey() string {
	if i.v == nil || i.v.key == nil {
		return ""
	}
	return i.v.key.ID()
}

// NotAfter returns when the credential ends by itself, or the zero time.
func (i Identity) NotAfter() time.Time {
	if i.v == nil || i.v.expires == 0 {
		return time.Time{}
	}
	return time.Unix(i.v.expires, 0)
}

// ServiceAccount returns the namespace and name of a service account.
func (i Identity) ServiceAccount() (namespace, name string, ok bool) {
	if i.v == nil || i.v.who.serviceAccount == "" {
		return "", "", false
	}
	return i.v.who.namespace, i.v.who.serviceAccount, true
}

// Annotations returns what the audit event of a request at this time should
// say about the credential beyond its id, or nil.
func (i Identity) Annotations(now time.Time) map[string]string {
	if i.Method() == LegacyToken {
		return map[string]string{AnnotationLegacyToken: i.v.who.name, AnnotationLegacySecret: i.v.who.legacy.secret}
	}
	if i.v == nil || i.v.shared == nil {
		return nil
	}
	if warn := unpack(i.v.bound).warnAfter; warn != 0 && now.Unix() > warn {
		return map[string]string{AnnotationStaleToken: "subject: " + i.v.who.name +
			", seconds after warning threshold: " + itoa(now.Unix()-warn)}
	}
	return nil
}

// String returns the name.
func (i Identity) String() string { return i.Name() }

// newAccount is the only place where names enter an identity. It adds the
// group that every verified caller is in.
func newAccount(a account) (*account, error) {
	if err := allowedNames(a.name, a.groups); err != nil {
		return nil, err
	}
	a.groups = withAuthenticated(a.name, a.groups)
	return &a, nil
}

// withAuthenticated adds system:authenticated as upstream does: not for the
// anonymous user and not beside a group that already says how the caller came.
func withAuthenticated(name string, groups []string) []string {
	if name == userAnonymous || slices.Contains(groups, groupAuthenticated) || slices.Contains(groups, groupUnauthenticated) {
		return slices.Clip(slices.Clone(groups))
	}
	out := make([]string, 0, len(groups)+1)
	return append(append(out, groups...), groupAuthenticated)
}

// intersect returns the wanted audiences that are among have, in the order
// wanted. The usual results share memory with have.
func intersect(have, want []string) []string {
	if len(want) == 1 {
		if at := slices.Index(have, want[0]); at >= 0 {
			return have[at : at+1 : at+1]
		}
		return nil
	}
	var out []string
	for _, audience := range want {
		if slices.Contains(have, audience) && !slices.Contains(out, audience) {
			out = append(out, audience)
		}
	}
	return out
}

// joinKey makes one map key of several strings that cannot run into each other.
func joinKey(parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		b.WriteString(itoa(int64(len(p))))
		b.WriteByte(':')
		b.WriteString(p)
	}
	return b.String()
}

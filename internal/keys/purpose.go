package keys

// A purpose is a type, so that a key made for one cannot be passed where
// another is wanted. The constraints below name the types themselves: a type
// of another package that embeds one of them is not a purpose.
type (
	// Tokens signs service-account tokens of the control plane (ES256).
	Tokens struct{}
	// LegacyTokens signs tokens kept in annotated secrets, and is never in
	// discovery (ES256).
	LegacyTokens struct{}
	// SiteTokens signs a site's own service-account tokens, one ring for each
	// site, trusted by that site only (ES256).
	SiteTokens struct{}
	// Jobs signs what hosts are told to do (Ed25519).
	Jobs struct{}
	// PolicySnapshots signs policy that is decided elsewhere (Ed25519).
	PolicySnapshots struct{}
	// Reports signs reports and exports (Ed25519).
	Reports struct{}
	// Checkpoints signs tree heads of the audit log (Ed25519).
	Checkpoints struct{}

	// ServingCA certifies our listeners (ECDSA P-256, like every authority).
	ServingCA struct{}
	// ClientCA certifies people and programs, on request.
	ClientCA struct{}
	// SiteCA certifies sites: its certificates alone make a caller a site.
	SiteCA struct{}
	// RequestHeaderCA certifies front proxies.
	RequestHeaderCA struct{}
	// AgentCA certifies hosts.
	AgentCA struct{}
)

// Purpose is the closed list of what a key may be for.
type Purpose interface {
	Tokens | LegacyTokens | SiteTokens | Jobs | PolicySnapshots | Reports | Checkpoints |
		ServingCA | ClientCA | SiteCA | RequestHeaderCA | AgentCA
	spec() spec
}

// Signing is the purposes with one ring in a control plane.
type Signing interface {
	Tokens | LegacyTokens | Jobs | PolicySnapshots | Reports | Checkpoints
	spec() spec
}

// PerSite is the purposes with one ring for each site.
type PerSite interface {
	SiteTokens
	spec() spec
}

// Authority is the purposes whose keys sign certificates, and so carry a
// certificate of their own.
type Authority interface {
	ServingCA | ClientCA | SiteCA | RequestHeaderCA | AgentCA
	spec() spec
}

// Algorithm names what a key signs with, as JOSE does.
type Algorithm string

// The algorithms in use.
const (
	// ES256 is ECDSA on P-256; it signs SHA-256 digests.
	ES256 Algorithm = "ES256"
	// Ed25519 signs whole messages.
	Ed25519 Algorithm = "Ed25519"
)

// spec is what distinguishes purposes at run time. The name is part of the
// stored format.
type spec struct {
	name      string
	algorithm Algorithm
	perSite   bool
	authority bool
}

func (Tokens) spec() spec          { return spec{name: "tokens", algorithm: ES256} }
func (LegacyTokens) spec() spec    { return spec{name: "legacy-tokens", algorithm: ES256} }
func (SiteTokens) spec() spec      { return spec{name: "site-tokens", algorithm: ES256, perSite: true} }
func (Jobs) spec() spec            { return spec{name: "jobs", algorithm: Ed25519} }
func (PolicySnapshots) spec() spec { return spec{name: "policy-snapshots", algorithm: Ed25519} }
func (Reports) spec() spec         { return spec{name: "reports", algorithm: Ed25519} }
func (Checkpoints) spec() spec     { return spec{name: "checkpoints", algorithm: Ed25519} }
func (ServingCA) spec() spec       { return authority("serving-ca") }
func (ClientCA) spec() spec        { return authority("client-ca") }
func (SiteCA) spec() spec          { return authority("site-ca") }
func (RequestHeaderCA) spec() spec { return authority("requestheader-ca") }
func (AgentCA) spec() spec         { return authority("agent-ca") }

func authority(name string) spec { return spec{name: name, algorithm: ES256, authority: true} }

// specs lists every purpose once.
func specs() []spec {
	return []spec{
		Tokens{}.spec(), LegacyTokens{}.spec(), SiteTokens{}.spec(), Jobs{}.spec(),
		PolicySnapshots{}.spec(), Reports{}.spec(), Checkpoints{}.spec(),
		ServingCA{}.spec(), ClientCA{}.spec(), SiteCA{}.spec(), RequestHeaderCA{}.spec(), AgentCA{}.spec(),
	}
}

func specOf[P Purpose]() spec {
	var p P
	return p.spec()
}

// Name returns the stored name of a purpose, such as "policy-snapshots".
func Name[P Purpose]() string { return specOf[P]().name }

// Package keycloak writes what a Keycloak needs so that people sign in there
// and count here: a realm to import, the client alone for a realm that exists,
// and the IdentityProvider that trusts it.
//
// It owns: the settings of the client (public, PKCE with S256 required, device
// code, no password grant, no implicit flow, a groups claim) and what the
// control plane demands of its tokens. It refuses: plain http, and names that
// would need quoting anywhere. It speaks to no Keycloak; names and meanings of
// the fields follow the representations of Keycloak's admin REST API.
//
// Start at [Render].
package keycloak

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	identity "github.com/gatehouse-dev/gatehouse/api/identity/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// Config is one realm.
type Config struct {
	// Name is that of the IdentityProvider, and the prefix of names and groups.
	Name string
	// URL is the base of the Keycloak, without /realms.
	URL, Realm, ClientID string
	// RedirectPort is where the browser comes back to, 0 for any port.
	RedirectPort uint16
	// CA is whom the control plane trusts for URL, in PEM; empty for the
	// authorities of its machine.
	CA string
}

// Files is what [Render] makes.
type Files struct {
	Realm    *Realm
	Client   *Client
	Provider *identity.IdentityProvider
}

// Realm is the part of Keycloak's RealmRepresentation that is set; what is not
// set has Keycloak's default. Times are in seconds.
type Realm struct {
	Realm                     string   `json:"realm"`
	DisplayName               string   `json:"displayName"`
	Enabled                   bool     `json:"enabled"`
	SSLRequired               string   `json:"sslRequired"`
	RegistrationAllowed       bool     `json:"registrationAllowed"`
	EditUsernameAllowed       bool     `json:"editUsernameAllowed"`
	DuplicateEmailsAllowed    bool     `json:"duplicateEmailsAllowed"`
	BruteForceProtected       bool     `json:"bruteForceProtected"`
	DefaultSignatureAlgorithm string   `json:"defaultSignatureAlgorithm"`
	RevokeRefreshToken        bool     `json:"revokeRefreshToken"`
	RefreshTokenMaxReuse      int      `json:"refreshTokenMaxReuse"`
	AccessTokenLifespan       int      `json:"accessTokenLifespan"`
	SSOSessionIdleTimeout     int      `json:"ssoSessionIdleTimeout"`
	SSOSessionMaxLifespan     int      `json:"ssoSessionMaxLifespan"`
	OAuth2DeviceCodeLifespan  int      `json:"oauth2DeviceCodeLifespan"`
	OAuth2DevicePollInterval  int      `json:"oauth2DevicePollingInterval"`
	EventsEnabled             bool     `json:"eventsEnabled"`
	AdminEventsEnabled        bool     `json:"adminEventsEnabled"`
	Clients                   []Client `json:"clients"`
}

// Client is the part of ClientRepresentation that is set.
type Client struct {
	ClientID                  string            `json:"clientId"`
	Name                      string            `json:"name"`
	Description               string            `json:"description"`
	Enabled                   bool              `json:"enabled"`
	Protocol                  string            `json:"protocol"`
	PublicClient              bool              `json:"publicClient"`
	StandardFlowEnabled       bool              `json:"standardFlowEnabled"`
	ImplicitFlowEnabled       bool              `json:"implicitFlowEnabled"`
	DirectAccessGrantsEnabled bool              `json:"directAccessGrantsEnabled"`
	ServiceAccountsEnabled    bool              `json:"serviceAccountsEnabled"`
	FullScopeAllowed          bool              `json:"fullScopeAllowed"`
	RedirectURIs              []string          `json:"redirectUris"`
	WebOrigins                []string          `json:"webOrigins"`
	OptionalClientScopes      []string          `json:"optionalClientScopes"`
	Attributes                map[string]string `json:"attributes"`
	ProtocolMappers           []ProtocolMapper  `json:"protocolMappers"`
}

// ProtocolMapper is a ProtocolMapperRepresentation.
type ProtocolMapper struct {
	Name           string            `json:"name"`
	Protocol       string            `json:"protocol"`
	ProtocolMapper string            `json:"protocolMapper"`
	Config         map[string]string `json:"config"`
}

const protocol = "openid-connect"

var plain = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

const notPlain = "must be 1 to 63 lower-case letters, digits and inner dashes"

// CheckName refuses what cannot be the name of a provider and the prefix of its
// people.
func CheckName(name string) error {
	if !plain.MatchString(name) {
		return fault.New(fault.Invalid, "name: "+notPlain)
	}
	if name == "system" || name == "gatehouse" {
		return fault.New(fault.Invalid, "name: must not be system or gatehouse, whose names are not given to others")
	}
	return nil
}

// Render makes the files. Errors are of kind Invalid and name the field.
func Render(c Config) (*Files, error) {
	if err := CheckName(c.Name); err != nil {
		return nil, err
	}
	for field, value := range map[string]string{"realm": c.Realm, "client id": c.ClientID} {
		if !plain.MatchString(value) {
			return nil, fault.Newf(fault.Invalid, "%s: "+notPlain, field)
		}
	}
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fault.New(fault.Invalid, "url: must be an https URL of host, port and path only")
	}
	if strings.Contains(u.Path, "/realms") {
		return nil, fault.New(fault.Invalid, "url: must be the base of the Keycloak, without /realms")
	}
	client := c.client()
	return &Files{Client: &client, Realm: c.realm(client), Provider: c.provider()}, nil
}

// Issuer is what tokens of the realm have as iss.
func (c Config) Issuer() string { return strings.TrimSuffix(c.URL, "/") + "/realms/" + c.Realm }

func (c Config) realm(client Client) *Realm {
	return &Realm{
		Realm: c.Realm, DisplayName: c.Realm, Enabled: true, SSLRequired: "all",
		// A name that is given up and taken by another would inherit rights.
		EditUsernameAllowed: false,
		BruteForceProtected: true, DefaultSignatureAlgorithm: "ES256",
		// Each refresh token works once: one that was copied ends the session
		// instead of living beside it.
		RevokeRefreshToken: true, RefreshTokenMaxReuse: 0,
		AccessTokenLifespan: 300, SSOSessionIdleTimeout: 4 * 3600, SSOSessionMaxLifespan: 10 * 3600,
		OAuth2DeviceCodeLifespan: 600, OAuth2DevicePollInterval: 5,
		EventsEnabled: true, AdminEventsEnabled: true,
		Clients: []Client{client},
	}
}

func (c Config) client() Client {
	// The port is left out for any port on loopback (RFC 8252, section 7.3). A
	// wildcard would admit more than ports.
	back := "http://127.0.0.1/callback"
	if c.RedirectPort != 0 {
		back = fmt.Sprintf("http://127.0.0.1:%d/callback", c.RedirectPort)
	}
	mapper := func(name, kind, claim string, more map[string]string) ProtocolMapper {
		config := map[string]string{
			"claim.name": claim, "id.token.claim": "true", "access.token.claim": "false", "userinfo.token.claim": "false",
		}
		for key, value := range more {
			config[key] = value
		}
		return ProtocolMapper{Name: name, Protocol: protocol, ProtocolMapper: kind, Config: config}
	}
	return Client{
		ClientID: c.ClientID, Name: "Gatehouse", Description: "People who use the control plane with kubectl", Enabled: true,
		Protocol: protocol, PublicClient: true, StandardFlowEnabled: true,
		RedirectURIs: []string{back}, WebOrigins: []string{},
		// Without offline_access a session ends for good when the realm says so.
		OptionalClientScopes: []string{},
		Attributes: map[string]string{
			"pkce.code.challenge.method":                "S256",
			"oauth2.device.authorization.grant.enabled": "true",
			"use.refresh.tokens":                        "true",
			"id.token.signed.response.alg":              "ES256",
			"access.token.lifespan":                     "300",
		},
		ProtocolMappers: []ProtocolMapper{
			mapper("groups", "oidc-group-membership-mapper", "groups", map[string]string{"full.path": "false"}),
			mapper("username", "oidc-usermodel-property-mapper", "preferred_username", map[string]string{"user.attribute": "username", "jsonType.label": "String"}),
		},
	}
}

func (c Config) provider() *identity.IdentityProvider {
	prefix := c.Name + ":"
	p := Provider(c.Name, c.Issuer(), c.ClientID, c.CA)
	p.Spec.JWT.ClaimMappings.Username = identity.PrefixedClaimOrExpression{Claim: "preferred_username", Prefix: &prefix}
	p.Spec.JWT.ClaimMappings.Groups = identity.PrefixedClaimOrExpression{Claim: "groups", Prefix: &prefix}
	p.Spec.JWT.ClaimValidationRules = []identity.ClaimValidationRule{
		// Access tokens go to other services, which must not be able to use them here.
		{Claim: "typ", RequiredValue: "ID"},
		{Claim: "azp", RequiredValue: c.ClientID},
	}
	return p
}

// Provider is the IdentityProvider for any OpenID Connect provider: people are
// who sub says, in the groups that groups says, both behind the name as prefix.
func Provider(name, issuer, clientID, ca string) *identity.IdentityProvider {
	prefix := name + ":"
	return &identity.IdentityProvider{
		TypeMeta:   metav1.TypeMeta{APIVersion: identity.GroupVersion.String(), Kind: "IdentityProvider"},
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: identity.IdentityProviderSpec{JWT: &identity.JWTAuthenticator{
			Issuer: identity.Issuer{URL: issuer, CertificateAuthority: ca, Audiences: []string{clientID}},
			ClaimMappings: identity.ClaimMappings{
				Username: identity.PrefixedClaimOrExpression{Claim: "sub", Prefix: &prefix},
				Groups:   identity.PrefixedClaimOrExpression{Claim: "groups", Prefix: &prefix},
				UID:      identity.ClaimOrExpression{Claim: "sub"},
			},
		}},
	}
}

package identityprovider

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/apis/apiserver/install"
	"k8s.io/apiserver/pkg/apis/apiserver/validation"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	authenticationcel "k8s.io/apiserver/pkg/authentication/cel"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/plugin/pkg/authenticator/token/oidc"

	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/authn/jws"
	"github.com/gatehouse-dev/gatehouse/internal/authn/strictjson"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// Load reads an AuthenticationConfiguration (apiserver.config.k8s.io) as
// strictly as kube-apiserver does: unknown fields, duplicate and disallowed
// issuers and expressions that do not compile are errors that name the field.
func Load(data []byte, disallowedIssuers []string) ([]apiserver.JWTAuthenticator, error) {
	scheme := runtime.NewScheme()
	install.Install(scheme)
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDecoder()
	decoded, err := runtime.Decode(decoder, data)
	if err != nil {
		return nil, fmt.Errorf("authentication configuration: %w", err)
	}
	configuration, ok := decoded.(*apiserver.AuthenticationConfiguration)
	if !ok {
		return nil, fmt.Errorf("authentication configuration: expected kind AuthenticationConfiguration, got %T", decoded)
	}
	if configuration.Anonymous != nil {
		return nil, errors.New("authentication configuration: anonymous is not configured here")
	}
	if errs := validation.ValidateAuthenticationConfiguration(authenticationcel.NewDefaultCompiler(), configuration, disallowedIssuers); len(errs) > 0 {
		return nil, fmt.Errorf("authentication configuration: %w", errs.ToAggregate())
	}
	return configuration.JWT, nil
}

// Config is one issuer.
type Config struct {
	// JWT is its part of an AuthenticationConfiguration.
	JWT apiserver.JWTAuthenticator
	// DisallowedIssuers are ours: nobody else may speak for them.
	DisallowedIssuers []string
	// Fetching rules where its documents may come from.
	Fetching Fetching
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Provider verifies the tokens of one issuer. It implements authn.Provider and
// starts nothing: keys are fetched when a token needs them.
type Provider struct {
	issuer string
	// prefix goes before every user name; alone it names nobody.
	prefix string
	keys   *remoteKeys
	inner  authenticator.Token
	cancel context.CancelFunc
}

// New returns the provider of one issuer. It fails on a configuration that is
// not valid, not on an issuer that is away.
func New(cfg Config) (*Provider, error) {
	roots, err := rootsOf(cfg.JWT.Issuer.CertificateAuthority)
	if err != nil {
		return nil, err
	}
	now := cfg.Now
	if now == nil {
		now = time.Now
	}
	keys := newRemoteKeys(cfg.JWT.Issuer.URL, cfg.JWT.Issuer.DiscoveryURL, cfg.Fetching.client(roots), now)
	jwt := cfg.JWT
	if jwt.Issuer.EgressSelectorType != "" {
		return nil, errors.New("issuer.egressSelectorType: there is no egress selector here")
	}
	// Fetching is ours, so that upstream needs neither.
	jwt.Issuer.DiscoveryURL, jwt.Issuer.CertificateAuthority = "", ""
	ctx, cancel := context.WithCancel(context.Background())
	inner, err := oidc.New(ctx, oidc.Options{
		JWTAuthenticator:     jwt,
		KeySet:               keys,
		Client:               &http.Client{Transport: noClaims{}},
		SupportedSigningAlgs: oidc.AllValidSigningAlgorithms(),
		DisallowedIssuers:    cfg.DisallowedIssuers,
	})
	if err != nil {
		cancel()
		return nil, err
	}
	p := &Provider{issuer: cfg.JWT.Issuer.URL, keys: keys, inner: inner, cancel: cancel}
	if prefix := cfg.JWT.ClaimMappings.Username.Prefix; prefix != nil {
		p.prefix = *prefix
	}
	return p, nil
}

func rootsOf(bundle string) (*x509.CertPool, error) {
	if bundle == "" {
		return nil, nil
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(bundle)) {
		return nil, errors.New("issuer.certificateAuthority: no certificate in it")
	}
	return roots, nil
}

// Issuer returns the iss whose tokens the provider verifies.
func (p *Provider) Issuer() string { return p.issuer }

// Issuers returns the iss of every token that the provider verifies: the
// issuer, and for Google's the form without scheme that it may use as well
// (developers.google.com/identity/openid-connect/openid-connect).
func (p *Provider) Issuers() []string {
	if p.issuer == "https://accounts.google.com" {
		return []string{p.issuer, "accounts.google.com"}
	}
	return []string{p.issuer}
}

// noClaims refuses to fetch what a token merely refers to (distributed claims,
// OpenID Connect Core 1.0 §5.6.2): upstream would ask whatever address a token
// names, and keep asking every issuer that the answer names. Keys are not
// fetched through it.
type noClaims struct{}

func (noClaims) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("distributed claims are not fetched")
}

// Close ends what the provider may still be fetching.
func (p *Provider) Close() {
	p.cancel()
	p.keys.client.CloseIdleConnections()
}

// VerifyToken implements authn.Provider. Tokens of other issuers are for this
// control plane only, whatever audiences are asked for.
func (p *Provider) VerifyToken(ctx context.Context, token string, _ []string) (authn.Claimed, error) {
	var unavailable error
	response, ok, err := p.inner.AuthenticateToken(context.WithValue(ctx, outcome{}, &unavailable), token)
	switch {
	case err != nil && (unavailable != nil || ctx.Err() != nil):
		return authn.Claimed{}, fault.Wrap(fault.Unavailable, "the identity provider does not answer", errors.Join(unavailable, err))
	case err != nil:
		return authn.Claimed{}, fault.Wrap(fault.Unauthenticated, "invalid token", err)
	case !ok:
		return authn.Claimed{}, fault.New(fault.Unauthenticated, "the token is not of this issuer")
	case response.User.GetName() == p.prefix:
		return authn.Claimed{}, fault.New(fault.Unauthenticated, "the token names nobody")
	}
	return claimed(response.User, token), nil
}

// claimed takes apart what upstream made of the token. The expiry is read from
// the payload, which upstream has verified by now.
func claimed(u user.Info, token string) authn.Claimed {
	out := authn.Claimed{Name: u.GetName(), UID: u.GetUID(), Groups: u.GetGroups(), Extra: maps.Clone(u.GetExtra())}
	if ids := out.Extra[user.CredentialIDKey]; len(ids) > 0 {
		out.CredentialID = ids[0]
		delete(out.Extra, user.CredentialIDKey)
	}
	if parts, err := jws.Split(token); err == nil {
		if payload, err := jws.Decode(parts.Payload); err == nil {
			if v, err := strictjson.Parse(payload); err == nil {
				if expires, ok := v.Get("exp").Float(); ok && expires > 0 && expires < 1<<40 {
					out.NotAfter = time.Unix(int64(expires), 0)
				}
			}
		}
	}
	return out
}

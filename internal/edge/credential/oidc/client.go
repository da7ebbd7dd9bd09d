package oidc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/secret"
)

// Bounds on what is asked and read.
const (
	requestTimeout = 10 * time.Second
	maxDocument    = 256 << 10
	maxTokens      = 256 << 10
)

// Config is what one client knows of its provider.
type Config struct {
	// Issuer is the provider's https URL, exactly as it writes it in iss.
	Issuer, ClientID string
	// Secret is of clients that have one; PKCE protects those that do not.
	Secret secret.String
	// Scopes are asked for beside openid.
	Scopes []string
	// CA is the authorities to trust for the provider, in PEM. Empty means
	// those of the machine.
	CA  []byte
	Now func() time.Time
}

// Tokens is what a sign-in or a refresh gave.
type Tokens struct {
	ID, Refresh secret.String
	// Expires is the end of the ID token.
	Expires time.Time
	// Subject is the provider's name for the person.
	Subject string
}

// Errors that callers tell apart.
var (
	// ErrLogin: what the client holds is worth nothing any more, and a person
	// has to sign in.
	ErrLogin = errors.New("a new sign-in is needed")
	// ErrDenied: the person or the provider said no.
	ErrDenied = errors.New("sign-in refused")
	// ErrUnreachable: the provider did not answer as one, which may pass.
	ErrUnreachable = errors.New("provider does not answer")
)

// Client is one client of one provider. It is safe for concurrent use.
type Client struct {
	cfg  Config
	http *http.Client

	mu   sync.Mutex // guards seen
	seen *document
}

// document is what of the discovery document is used (OpenID Connect
// Discovery 3, RFC 8414, RFC 9207).
type document struct {
	Issuer        string   `json:"issuer"`
	Authorization string   `json:"authorization_endpoint"`
	Token         string   `json:"token_endpoint"`
	Device        string   `json:"device_authorization_endpoint"`
	Revocation    string   `json:"revocation_endpoint"`
	Challenges    []string `json:"code_challenge_methods_supported"`
	NamesItself   bool     `json:"authorization_response_iss_parameter_supported"`
}

// Check refuses what cannot be an issuer and a client of it.
func Check(issuer, clientID string) error {
	if err := checkURL(issuer); err != nil {
		return fmt.Errorf("issuer: %w", err)
	}
	if strings.ContainsAny(issuer, "?#") {
		return errors.New("issuer: must be a URL without query and fragment")
	}
	if !visible(clientID) {
		return errors.New("client id: must be printable and not empty")
	}
	return nil
}

// New checks the configuration; it reaches for no network.
func New(cfg Config) (*Client, error) {
	if err := Check(cfg.Issuer, cfg.ClientID); err != nil {
		return nil, err
	}
	for _, s := range cfg.Scopes {
		if !visible(s) || strings.Contains(s, " ") {
			return nil, fmt.Errorf("scope %q: must be one printable word", s)
		}
	}
	if cfg.Now == nil {
		return nil, errors.New("a clock is required")
	}
	// Providers are other people's programs: TLS 1.2 is the least that is safe.
	trust := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(cfg.CA) > 0 {
		trust.RootCAs = x509.NewCertPool()
		if !trust.RootCAs.AppendCertsFromPEM(cfg.CA) {
			return nil, errors.New("authorities of the issuer: no certificate in PEM")
		}
	}
	return &Client{cfg: cfg, http: &http.Client{
		Timeout:   requestTimeout,
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: trust, ForceAttemptHTTP2: true, MaxResponseHeaderBytes: 64 << 10},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("the provider redirects, which is not followed")
		},
	}}, nil
}

// discover reads the provider's document once.
func (c *Client) discover(ctx context.Context) (*document, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen != nil {
		return c.seen, nil
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(c.cfg.Issuer, "/")+"/.well-known/openid-configuration", nil)
	if err != nil {
		return nil, fmt.Errorf("discovery: %w", err)
	}
	code, body, err := c.do(request, maxDocument)
	if err != nil {
		return nil, fmt.Errorf("discovery: %w", err)
	}
	if code != http.StatusOK {
		return nil, fmt.Errorf("discovery: %w: status %d", ErrUnreachable, code)
	}
	var d document
	if err := json.Unmarshal(body, &d); err != nil {
		return nil, fmt.Errorf("discovery: %w: the document is not JSON", ErrUnreachable)
	}
	// Discovery 4.3: exactly equal, or somebody else's tokens would pass.
	if d.Issuer != c.cfg.Issuer {
		return nil, fmt.Errorf("discovery: the document is about issuer %.200q", d.Issuer)
	}
	for name, endpoint := range map[string]string{"token_endpoint": d.Token, "authorization_endpoint": d.Authorization, "device_authorization_endpoint": d.Device, "revocation_endpoint": d.Revocation} {
		if endpoint == "" && name != "token_endpoint" {
			continue
		}
		if err := checkURL(endpoint); err != nil {
			return nil, fmt.Errorf("discovery: %s: %w", name, err)
		}
	}
	if len(d.Challenges) > 0 && !slices.Contains(d.Challenges, "S256") {
		return nil, errors.New("discovery: the provider cannot do PKCE with S256")
	}
	c.seen = &d
	return c.seen, nil
}

// Refresh turns a refresh token into new tokens for the same subject. If the
// provider does not rotate refresh tokens, the old one is returned again. An
// error is [ErrLogin] when the refresh token is worth nothing any more.
func (c *Client) Refresh(ctx context.Context, refresh secret.String, subject string) (Tokens, error) {
	t, err := c.grant(ctx, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh.Reveal()}}, "")
	if err != nil {
		var refused *refusal
		if errors.As(err, &refused) && (refused.code == "invalid_grant" || refused.code == "invalid_client" || refused.code == "unauthorized_client") {
			return Tokens{}, fmt.Errorf("refresh: %w: %w", ErrLogin, err)
		}
		return Tokens{}, fmt.Errorf("refresh: %w", err)
	}
	// Core 12.2: a refresh never changes who somebody is.
	if t.Subject != subject {
		return Tokens{}, fmt.Errorf("refresh: %w: the provider answered about somebody else", ErrLogin)
	}
	if t.Refresh.Len() == 0 {
		t.Refresh = refresh
	}
	return t, nil
}

// Revoke tells the provider that a refresh token is not needed any more (RFC
// 7009). It reports false when the provider has no way for that.
func (c *Client) Revoke(ctx context.Context, refresh secret.String) (bool, error) {
	d, err := c.discover(ctx)
	if err != nil {
		return false, err
	}
	if d.Revocation == "" {
		return false, nil
	}
	if err := c.post(ctx, d.Revocation, url.Values{"token": {refresh.Reveal()}, "token_type_hint": {"refresh_token"}}, nil); err != nil {
		return false, fmt.Errorf("revoke: %w", err)
	}
	return true, nil
}

// grant asks the token endpoint (RFC 6749 section 3.2).
func (c *Client) grant(ctx context.Context, form url.Values, nonce string) (Tokens, error) {
	d, err := c.discover(ctx)
	if err != nil {
		return Tokens{}, err
	}
	var answer struct {
		ID      string `json:"id_token"`
		Refresh string `json:"refresh_token"`
	}
	if err := c.post(ctx, d.Token, form, &answer); err != nil {
		return Tokens{}, err
	}
	if answer.ID == "" {
		return Tokens{}, fmt.Errorf("%w: the provider gave no ID token", ErrLogin)
	}
	claims, err := c.check(answer.ID, nonce)
	if err != nil {
		return Tokens{}, fmt.Errorf("ID token: %w", err)
	}
	return Tokens{ID: secret.NewString(answer.ID), Refresh: secret.NewString(answer.Refresh), Expires: time.Unix(claims.Expires, 0), Subject: claims.Subject}, nil
}

// refusal is an error answer of RFC 6749 section 5.2.
type refusal struct {
	code, text string
}

func (r *refusal) Error() string {
	if r.text == "" {
		return fmt.Sprintf("the provider says %q", r.code)
	}
	return fmt.Sprintf("the provider says %q: %q", r.code, r.text)
}

// post sends a form to an endpoint and reads its JSON.
func (c *Client) post(ctx context.Context, endpoint string, form url.Values, into any) error {
	form.Set("client_id", c.cfg.ClientID)
	if c.cfg.Secret.Len() > 0 {
		form.Set("client_secret", c.cfg.Secret.Reveal())
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	code, body, err := c.do(request, maxTokens)
	if err != nil {
		return err
	}
	if code != http.StatusOK {
		var e struct {
			Code string `json:"error"`
			Text string `json:"error_description"`
		}
		if code >= http.StatusInternalServerError || json.Unmarshal(body, &e) != nil || e.Code == "" {
			return fmt.Errorf("%w: status %d", ErrUnreachable, code)
		}
		return &refusal{cut(e.Code), cut(e.Text)}
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(body, into); err != nil {
		// The text of a JSON error may quote a token.
		return fmt.Errorf("%w: the answer is not what was asked for", ErrUnreachable)
	}
	return nil
}

func (c *Client) do(request *http.Request, limit int64) (int, []byte, error) {
	request.Header.Set("Accept", "application/json")
	response, err := c.http.Do(request)
	if err != nil {
		// url.Error names the endpoint, which holds no secret: those are in bodies.
		return 0, nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	if err != nil {
		return 0, nil, fmt.Errorf("%w: the answer broke off", ErrUnreachable)
	}
	if int64(len(body)) > limit {
		return 0, nil, fmt.Errorf("%w: the answer is larger than %d bytes", ErrUnreachable, limit)
	}
	if kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")); response.StatusCode == http.StatusOK && len(body) > 0 && kind != "application/json" {
		return 0, nil, fmt.Errorf("%w: the answer is %.100q, not JSON", ErrUnreachable, kind)
	}
	return response.StatusCode, body, nil
}

func (c *Client) scope() string {
	return strings.Join(append([]string{"openid"}, c.cfg.Scopes...), " ")
}

func checkURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || !visible(text) {
		return errors.New("must be an https URL")
	}
	return nil
}

// visible reports whether a text can be shown on a terminal: printable ASCII,
// because anything else may be a command to it or look like something else.
func visible(text string) bool {
	return text != "" && len(text) <= 2048 && !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' })
}

// cut bounds a provider's text that goes into an error, where it is quoted.
func cut(text string) string {
	if len(text) > 200 {
		return text[:200]
	}
	return text
}

package oidc

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// Loopback is how the answer of an authorization code sign-in comes back.
type Loopback struct {
	// Port is where to listen on 127.0.0.1; 0 takes a free one, which providers
	// allow for native clients (RFC 8252 section 7.3).
	Port uint16
	// Show gives the person the URL to open. It must not block.
	Show func(url string)
}

// Code signs a person in with the authorization code grant. It ends with ctx.
func (c *Client) Code(ctx context.Context, l Loopback) (Tokens, error) {
	d, err := c.discover(ctx)
	if err != nil {
		return Tokens{}, err
	}
	if d.Authorization == "" {
		return Tokens{}, errors.New("the provider has no authorization endpoint; use device code")
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", fmt.Sprint(l.Port)))
	if err != nil {
		return Tokens{}, fmt.Errorf("wait for the browser: %w", err)
	}
	back := "http://" + listener.Addr().String() + "/callback"
	state, nonce := random(), random()
	verifier, challenge := proof()
	question, err := url.Parse(d.Authorization)
	if err != nil {
		_ = listener.Close()
		return Tokens{}, err
	}
	query := question.Query()
	for key, value := range map[string]string{
		"response_type": "code", "client_id": c.cfg.ClientID, "redirect_uri": back, "scope": c.scope(),
		"state": state, "nonce": nonce,
		"code_challenge": challenge, "code_challenge_method": "S256",
	} {
		query.Set(key, value)
	}
	// Core 11: without it a provider must ignore offline_access.
	if slices.Contains(c.cfg.Scopes, "offline_access") {
		query.Set("prompt", "consent")
	}
	question.RawQuery = query.Encode()

	waiting := &callback{host: listener.Addr().String(), state: state, issuer: c.cfg.Issuer, mustNameItself: d.NamesItself, result: make(chan answer, 1)}
	server := &http.Server{
		Handler: waiting, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second,
		MaxHeaderBytes: 32 << 10,
	}
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(listener) }()
	defer func() {
		// The page that tells the person must leave before the server ends.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		_ = server.Shutdown(ctx)
		_ = server.Close()
		<-served
	}()
	l.Show(question.String())
	select {
	case <-ctx.Done():
		return Tokens{}, fmt.Errorf("nobody signed in: %w", context.Cause(ctx))
	case got := <-waiting.result:
		if got.err != nil {
			return Tokens{}, got.err
		}
		return c.grant(ctx, url.Values{
			"grant_type": {"authorization_code"}, "code": {got.code}, "redirect_uri": {back}, "code_verifier": {verifier},
		}, nonce)
	}
}

// proof makes a code verifier and its S256 challenge (RFC 7636, section 4).
func proof() (verifier, challenge string) {
	verifier = random()
	sum := sha256.Sum256([]byte(verifier))
	return verifier, base64.RawURLEncoding.EncodeToString(sum[:])
}

// answer is what the browser brought back.
type answer struct {
	code string
	err  error
}

// callback serves the one page to which the provider sends the browser back.
// Whatever does not carry the state is turned away without ending the wait, so
// that another local user cannot spoil a sign-in or slip in an own one.
type callback struct {
	host, state, issuer string
	mustNameItself      bool
	result              chan answer
}

func (cb *callback) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	query := r.URL.Query()
	switch {
	case r.Host != cb.host || r.URL.Path != "/callback":
		http.NotFound(w, r)
		return
	case r.Method != http.MethodGet:
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	case len(query["state"]) != 1 || subtle.ConstantTimeCompare([]byte(query.Get("state")), []byte(cb.state)) != 1:
		page(w, http.StatusBadRequest, "This is no answer to the sign-in that was started.")
		return
	}
	got := cb.read(query)
	select {
	case cb.result <- got:
	default: // answered already
	}
	if got.err != nil {
		page(w, http.StatusForbidden, "The sign-in failed; the terminal says why.")
		return
	}
	page(w, http.StatusOK, "You are signed in. You can close this window.")
}

// read takes the answer apart (RFC 6749 section 4.1.2, RFC 9207 section 2.4).
func (cb *callback) read(query url.Values) answer {
	if len(query["iss"]) > 1 || (query.Get("iss") != "" || cb.mustNameItself) && query.Get("iss") != cb.issuer {
		return answer{err: fmt.Errorf("%w: another provider answered (iss)", ErrDenied)}
	}
	if code := query.Get("error"); code != "" {
		return answer{err: fmt.Errorf("%w: %w", ErrDenied, &refusal{cut(code), cut(query.Get("error_description"))})}
	}
	if len(query["code"]) != 1 || query.Get("code") == "" {
		return answer{err: errors.New("the provider answered without a code")}
	}
	return answer{code: query.Get("code")}
}

func page(w http.ResponseWriter, code int, text string) {
	w.WriteHeader(code)
	_, _ = io.WriteString(w, "<!doctype html><title>Gatehouse</title><p>"+text+"</p>\n")
}

// random is 256 bits as 43 characters, as RFC 7636 section 4.1 recommends.
func random() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

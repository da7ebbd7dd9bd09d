// Package webhook delivers events as audit.k8s.io/v1 EventList posts, what a
// receiver of kube-apiserver's audit webhook already understands.
//
// Each post is signed by RFC 9421 HTTP message signatures over the digest of
// the body (RFC 9530), so that a receiver behind proxies knows who sent it and
// that nobody changed it. The site and index of an event, which the format has
// no place for, travel as annotations.
//
// It owns: the post and its signature. It refuses: redirects, since a receiver
// must not be able to point the record elsewhere, and retries, which are the
// runner's.
package webhook

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit/sink"
)

// maxAnswer bounds what is read of a receiver's answer.
const maxAnswer = 4096

// Config describes the receiver.
type Config struct {
	URL string
	// Client makes the calls; its transport holds the receiver's CA and our
	// client certificate. Its own redirect policy is not used.
	Client *http.Client
	// Key signs, KeyID names it to the receiver.
	Key   crypto.Signer
	KeyID string
	Clock func() time.Time
}

// Target is a sink.Target.
type Target struct {
	cfg    Config
	client http.Client
}

// New checks the configuration. Only https is accepted, but to a loopback
// address plain http too.
func New(cfg Config) (*Target, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("audit webhook: url: %w", err)
	}
	host := u.Hostname()
	loopback := host == "127.0.0.1" || host == "::1" || host == "localhost"
	if u.Host == "" || u.User != nil || u.Fragment != "" || (u.Scheme != "https" && (u.Scheme != "http" || !loopback)) {
		return nil, errors.New("audit webhook: url must be https, without user or fragment")
	}
	if cfg.Client == nil || cfg.Key == nil || cfg.KeyID == "" || strings.ContainsAny(cfg.KeyID, "\"\\\n") {
		return nil, errors.New("audit webhook: client, key and key id are required")
	}
	if _, ok := cfg.Key.Public().(ed25519.PublicKey); !ok {
		return nil, fmt.Errorf("audit webhook: key is %T, not Ed25519", cfg.Key.Public())
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	t := &Target{cfg: cfg, client: *cfg.Client}
	t.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return t, nil
}

// Deliver implements sink.Target. Any 2xx answer counts as taken.
func (t *Target) Deliver(ctx context.Context, batch []sink.Event) error {
	body := encode(batch)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("audit webhook: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	if err := t.sign(req, body); err != nil {
		return fmt.Errorf("audit webhook: %w", err)
	}
	resp, err := t.client.Do(req)
	if err != nil {
		return fmt.Errorf("audit webhook: %w", err)
	}
	defer resp.Body.Close()
	// Read to the end, within bounds, so that the connection is used again.
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer)); err != nil {
		return fmt.Errorf("audit webhook: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("audit webhook: receiver answered %d", resp.StatusCode)
	}
	return nil
}

// encode writes the EventList.
func encode(batch []sink.Event) []byte {
	b := []byte(`{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[`)
	for i, e := range batch {
		if i > 0 {
			b = append(b, ',')
		}
		b = e.Annotated().AppendJSON(b)
	}
	return append(b, "]}"...)
}

// sign adds Content-Digest (RFC 9530, section 2) and the signature over it,
// method, target and type (RFC 9421, sections 2.5 and 3.1).
func (t *Target) sign(req *http.Request, body []byte) error {
	digest := sha256.Sum256(body)
	req.Header.Set("Content-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(digest[:])+":")
	params := fmt.Sprintf(`("@method" "@target-uri" "content-digest" "content-type");created=%d;keyid="%s";alg="ed25519"`, t.cfg.Clock().Unix(), t.cfg.KeyID)
	base := fmt.Sprintf("\"@method\": %s\n\"@target-uri\": %s\n\"content-digest\": %s\n\"content-type\": %s\n\"@signature-params\": %s",
		req.Method, req.URL, req.Header.Get("Content-Digest"), req.Header.Get("Content-Type"), params)
	sig, err := t.cfg.Key.Sign(rand.Reader, []byte(base), crypto.Hash(0))
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	req.Header.Set("Signature-Input", "gatehouse="+params)
	req.Header.Set("Signature", "gatehouse=:"+base64.StdEncoding.EncodeToString(sig)+":")
	return nil
}

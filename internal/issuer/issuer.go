package issuer

import (
	"crypto"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/authn/jws"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// Config is what an issuer needs.
type Config struct {
	// URL is the iss claim and the base of the discovery documents: https,
	// without query and fragment. Required.
	URL string
	// KeySetURL is where the key set is served. Empty means KeySetPath under
	// URL.
	KeySetURL string
	// MaxLifetime caps every token. 0 means 24 hours.
	MaxLifetime time.Duration
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

// Limits on the lifetime of a token.
const (
	// MinLifetime is the shortest lifetime that can be asked for.
	MinLifetime = 10 * time.Minute
	// defaultMaxLifetime is the cap when the operator sets none.
	defaultMaxLifetime = 24 * time.Hour
	// longestLifetime bounds the cap itself.
	longestLifetime = 366 * 24 * time.Hour
)

// Issuer mints the tokens of one iss. It is safe for concurrent use.
type Issuer struct {
	url         string
	keySetURL   string
	maxLifetime time.Duration
	now         func() time.Time
	ring        *authn.KeyRing

	// setKeys serialises changes of keys; readers take the current ones.
	setKeys sync.Mutex
	current atomic.Pointer[state]
}

// state is what changes with the keys, all at once.
type state struct {
	signer    *jws.Signer
	documents Documents
}

// Keys are those of an issuer at one time.
type Keys struct {
	// Signing makes new tokens. It holds a P-256 key.
	Signing crypto.Signer
	// Published verify as well and stand in the key set: the signing key's
	// predecessors and its successor.
	Published []crypto.PublicKey
	// Hidden verify but are not in the key set, such as those of legacy
	// tokens, which nobody else shall trust.
	Hidden []crypto.PublicKey
}

// New returns an issuer without keys: it mints nothing until SetKeys.
func New(cfg Config) (*Issuer, error) {
	if err := checkURL(cfg.URL); err != nil {
		return nil, fmt.Errorf("issuer URL: %w", err)
	}
	i := &Issuer{url: cfg.URL, keySetURL: cfg.KeySetURL, maxLifetime: cfg.MaxLifetime, now: cfg.Now}
	if i.keySetURL == "" {
		i.keySetURL = strings.TrimSuffix(cfg.URL, "/") + KeySetPath
	}
	if err := checkURL(i.keySetURL); err != nil {
		return nil, fmt.Errorf("issuer key set URL: %w", err)
	}
	if i.maxLifetime == 0 {
		i.maxLifetime = defaultMaxLifetime
	}
	if i.maxLifetime < MinLifetime || i.maxLifetime > longestLifetime {
		return nil, fmt.Errorf("issuer: the longest lifetime of a token must be between %v and %v, not %v", MinLifetime, longestLifetime, i.maxLifetime)
	}
	if i.now == nil {
		i.now = time.Now
	}
	var err error
	i.ring, err = authn.NewKeyRing()
	return i, err
}

// checkURL holds an issuer to OpenID Connect Discovery 1.0 §3.
func checkURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return errors.New("not a URL")
	case u.Scheme != "https" || u.Host == "":
		return fmt.Errorf("%q is not an https URL with a host", text)
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Contains(text, "#") || u.User != nil:
		return fmt.Errorf("%q has a query, a fragment or a user", text)
	}
	return nil
}

// URL returns the iss claim.
func (i *Issuer) URL() string { return i.url }

// MaxLifetime returns the cap on every token.
func (i *Issuer) MaxLifetime() time.Duration { return i.maxLifetime }

// Trusted returns the issuer as the authentication chain needs it. It follows
// every change of keys.
func (i *Issuer) Trusted() authn.TrustedIssuer {
	return authn.TrustedIssuer{URL: i.url, Keys: i.ring}
}

// SetKeys puts keys into force. A token signed by a key that is no longer
// among them is refused from now on. On an error nothing changes.
func (i *Issuer) SetKeys(keys Keys) error {
	i.setKeys.Lock()
	defer i.setKeys.Unlock()
	if keys.Signing == nil {
		return errors.New("issuer keys: none signs")
	}
	id, err := jws.KeyID(keys.Signing.Public())
	if err != nil {
		return fmt.Errorf("issuer keys: %w", err)
	}
	signer, err := jws.NewSigner(id, keys.Signing)
	if err != nil {
		return fmt.Errorf("issuer keys: %w", err)
	}
	published := []*jws.Key{signer.Key()}
	seen := map[string]bool{id: true}
	if published, err = appendKeys(published, seen, keys.Published); err != nil {
		return err
	}
	all, err := appendKeys(published[:len(published):len(published)], seen, keys.Hidden)
	if err != nil {
		return err
	}
	documents, err := i.render(published)
	if err != nil {
		return err
	}
	// Verifying comes first: no token is ever minted that we would refuse.
	if err := i.ring.Replace(all); err != nil {
		return fmt.Errorf("issuer keys: %w", err)
	}
	i.current.Store(&state{signer: signer, documents: documents})
	return nil
}

func appendKeys(keys []*jws.Key, seen map[string]bool, publics []crypto.PublicKey) ([]*jws.Key, error) {
	for _, public := range publics {
		id, err := jws.KeyID(public)
		if err != nil {
			return nil, fmt.Errorf("issuer keys: %w", err)
		}
		if seen[id] {
			continue
		}
		seen[id] = true
		key, err := jws.NewKey(id, jws.ES256, public)
		if err != nil {
			return nil, fmt.Errorf("issuer keys: %w", err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// SigningKeyID returns the id of the key that signs now, or "".
func (i *Issuer) SigningKeyID() string {
	if s := i.current.Load(); s != nil {
		return s.signer.Key().ID()
	}
	return ""
}

var errNoKeys = fault.New(fault.Unavailable, "the token issuer has no keys yet")

// Package sitetoken signs the service-account tokens of sites.
//
// It owns: the keys of each site, made when the site first asks, and what a
// site may have signed. A site has an issuer URL and keys of its own, which
// nothing but that site trusts; the private keys never leave the control plane.
// It refuses: to sign for another issuer, for anything but a service account,
// or for longer than the cap. Who a site is, is decided before.
//
// Start at [Signer.Sign].
package sitetoken

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/authn/jws"
	"github.com/gatehouse-dev/gatehouse/internal/authn/strictjson"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/keys"
)

// Signer signs for all sites. Its fields are set once; all are required. It is
// safe for concurrent use.
type Signer struct {
	// Issuer is the URL of the control plane's own issuer; those of sites lie
	// below it.
	Issuer string
	// MaxLifetime caps every token.
	MaxLifetime time.Duration
	// Schedule says how keys follow each other.
	Schedule keys.Schedule
	// Ring opens the keys of a site, and makes them if there are none. Drop
	// deletes them.
	Ring func(ctx context.Context, site string) (*keys.Ring[keys.SiteTokens], error)
	Drop func(ctx context.Context, site string) error
	Now  func() time.Time
	Log  *slog.Logger

	mu    sync.Mutex // guards what follows
	rings map[string]*keys.Ring[keys.SiteTokens]
	gone  map[string]bool
}

// Key is one public key of a site.
type Key struct {
	ID string
	// Public is PKIX.
	Public []byte
}

// KeySet is what a site needs to verify its own tokens.
type KeySet struct {
	Issuer      string
	Keys        []Key
	MaxLifetime time.Duration
	At          time.Time
}

// slack is how far the clock of a site may be off.
const slack = time.Minute

// IssuerOf returns the issuer URL of a site.
func (s *Signer) IssuerOf(site string) string {
	return strings.TrimSuffix(s.Issuer, "/") + "/sites/" + site
}

// ring returns the keys of a site.
func (s *Signer) ring(ctx context.Context, site string) (*keys.Ring[keys.SiteTokens], error) {
	s.mu.Lock()
	ring := s.rings[site]
	s.mu.Unlock()
	if ring != nil {
		return ring, nil
	}
	ring, err := s.Ring(ctx, site)
	if err != nil {
		return nil, fmt.Errorf("keys of site %s: %w", site, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rings == nil {
		s.rings = map[string]*keys.Ring[keys.SiteTokens]{}
	}
	if first := s.rings[site]; first != nil {
		return first, nil
	}
	s.rings[site] = ring
	return ring, nil
}

// Signed is a token just signed, without its payload.
type Signed struct {
	// Header and Signature are the first and the last part of the token.
	Header, Signature string
	// CredentialID is "JTI=…", or empty for a token without a jti.
	CredentialID string
	// Subject is whom the token speaks for, at the site.
	Subject string
}

// Sign signs the payload of a token of a site: the middle part of a JWT, in
// base64url, as the site's kube-apiserver made it. An error of kind Invalid
// says what of it cannot be signed.
func (s *Signer) Sign(ctx context.Context, site, claims string) (Signed, error) {
	payload, err := base64.RawURLEncoding.Strict().DecodeString(claims)
	if err != nil {
		return Signed{}, fault.New(fault.Invalid, "claims: not base64url without padding")
	}
	now := s.Now()
	out, err := s.check(payload, s.IssuerOf(site), now)
	if err != nil {
		return Signed{}, err
	}
	ring, err := s.ring(ctx, site)
	if err != nil {
		return Signed{}, err
	}
	private := ring.Set().Signer(now)
	signer, err := jws.NewSigner(private.KeyID(), private)
	if err != nil {
		return Signed{}, fmt.Errorf("sign for site %s: %w", site, err)
	}
	token, err := signer.Typed().Sign(payload)
	if errors.Is(err, jws.ErrTooLarge) {
		return Signed{}, fault.New(fault.Invalid, "claims: too large")
	}
	if err != nil {
		return Signed{}, fmt.Errorf("sign for site %s: %w", site, err)
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 || parts[1] != claims {
		return Signed{}, errors.New("sign: the payload changed on the way")
	}
	out.Header, out.Signature = parts[0], parts[2]
	return out, nil
}

// check holds a payload to what a kube-apiserver makes for a service account.
func (s *Signer) check(payload []byte, issuer string, now time.Time) (Signed, error) {
	refuse := func(text string) (Signed, error) { return Signed{}, fault.New(fault.Invalid, "claims: "+text) }
	v, err := strictjson.Parse(payload)
	if err != nil || v.Kind != strictjson.Object {
		return refuse("not a JSON object without repeated names")
	}
	if v.Get("iss").Text != issuer {
		return refuse("iss must be " + issuer)
	}
	account := v.Get("kubernetes.io")
	namespace, name := account.Get("namespace").Text, account.Get("serviceaccount").Get("name").Text
	subject := v.Get("sub").Text
	if namespace == "" || name == "" || strings.Contains(namespace+name, ":") || subject != "system:serviceaccount:"+namespace+":"+name {
		return refuse("sub and kubernetes.io must name one service account")
	}
	issued, ok1 := moment(v, "iat")
	from, ok2 := moment(v, "nbf")
	expires, ok3 := moment(v, "exp")
	switch {
	case !ok1 || !ok2 || !ok3:
		return refuse("iat, nbf and exp are required")
	case issued.After(now.Add(slack)) || from.After(now.Add(slack)):
		return refuse("iat and nbf must not be in the future")
	case issued.Before(now.Add(-slack)):
		return refuse("iat must be the present time")
	case !expires.After(now):
		return refuse("exp is over")
	case expires.After(issued.Add(s.MaxLifetime)):
		return refuse("exp is later than the cap of " + s.MaxLifetime.String())
	}
	out := Signed{Subject: subject}
	if id := v.Get("jti").Text; id != "" {
		out.CredentialID = "JTI=" + id
	}
	return out, nil
}

func moment(v strictjson.Value, name string) (time.Time, bool) {
	const year9999 = 253402300799
	f, ok := v.Get(name).Float()
	return time.Unix(int64(f), 0), ok && f > 0 && f < year9999
}

// Keys returns what verifies the tokens of a site, keys that sign later
// included.
func (s *Signer) Keys(ctx context.Context, site string) (KeySet, error) {
	ring, err := s.ring(ctx, site)
	if err != nil {
		return KeySet{}, err
	}
	now := s.Now()
	out := KeySet{Issuer: s.IssuerOf(site), MaxLifetime: s.MaxLifetime, At: now}
	for _, v := range ring.Set().Verifiers(now) {
		der, err := x509.MarshalPKIXPublicKey(v.Public())
		if err != nil {
			return KeySet{}, fmt.Errorf("keys of site %s: %w", site, err)
		}
		out.Keys = append(out.Keys, Key{ID: v.KeyID(), Public: der})
	}
	return out, nil
}

// Rotate makes the next key of a site, which signs after lead, and returns it.
func (s *Signer) Rotate(ctx context.Context, site string, lead time.Duration) (id string, from time.Time, err error) {
	ring, err := s.ring(ctx, site)
	if err != nil {
		return "", time.Time{}, err
	}
	schedule := s.Schedule
	schedule.Every, schedule.Lead = 0, lead
	if err := ring.Rotate(ctx, schedule); err != nil {
		return "", time.Time{}, err
	}
	all := ring.Set().Verifiers(s.Now())
	newest := all[len(all)-1]
	return newest.KeyID(), newest.SignFrom(), nil
}

// Refresh reads the keys of all sites again that have been asked for.
func (s *Signer) Refresh(ctx context.Context) error {
	var errs []error
	for _, ring := range s.all() {
		if err := ring.Refresh(ctx); err != nil && fault.KindOf(err) != fault.NotFound {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (s *Signer) all() map[string]*keys.Ring[keys.SiteTokens] {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]*keys.Ring[keys.SiteTokens], len(s.rings))
	for site, ring := range s.rings {
		out[site] = ring
	}
	return out
}

// Forget has the keys of a deleted site deleted, soon.
func (s *Signer) Forget(site string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.rings, site)
	if s.gone == nil {
		s.gone = map[string]bool{}
	}
	s.gone[site] = true
}

// interval is how often keys are looked at.
const interval = 10 * time.Second

// Run keeps the keys of sites to their schedule until ctx ends.
func (s *Signer) Run(ctx context.Context) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.mu.Lock()
		gone := s.gone
		s.gone = nil
		s.mu.Unlock()
		for site := range gone {
			if err := s.Drop(ctx, site); err != nil && ctx.Err() == nil {
				s.Log.Warn("keys of a deleted site not deleted", "site", site, "error", err)
				s.Forget(site)
			}
		}
		for site, ring := range s.all() {
			if err := ring.Maintain(ctx, s.Schedule); err != nil && ctx.Err() == nil {
				s.Log.Warn("keys of a site not maintained", "site", site, "error", err)
			}
		}
	}
}

package authn_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/authn/jws"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

const (
	issuerURL = "https://gatehouse.example"
	audience  = "https://gatehouse.example/api"
)

// clock is a time that tests move.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Unix(1514764800, 0)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// world is a chain with one issuer of service account tokens and its objects.
type world struct {
	t       testing.TB
	clock   *clock
	private *ecdsa.PrivateKey
	signer  *jws.Signer
	ring    *authn.KeyRing
	objects *authn.Index
	bans    *authn.Bans
	chain   *authn.Chain
}

func newWorld(t testing.TB, change ...func(*authn.Config)) *world {
	t.Helper()
	w := &world{t: t, clock: newClock(), objects: authn.NewIndex(nil), bans: authn.NewBans()}
	w.private = newKey(t)
	w.signer = newSigner(t, w.private)
	var err error
	if w.ring, err = authn.NewKeyRing(w.signer.Key()); err != nil {
		t.Fatal(err)
	}
	cfg := authn.Config{
		Audiences: []string{audience},
		Issuers:   []authn.TrustedIssuer{{URL: issuerURL, Keys: w.ring}},
		Objects:   w.objects,
		Bans:      w.bans,
		Now:       w.clock.now,
	}
	for _, f := range change {
		f(&cfg)
	}
	if w.chain, err = authn.New(cfg); err != nil {
		t.Fatal(err)
	}
	w.put(authn.ServiceAccountObject, "ns", "saname", "sauid", time.Time{})
	return w
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newSigner(t testing.TB, private *ecdsa.PrivateKey) *jws.Signer {
	t.Helper()
	id, err := jws.KeyID(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jws.NewSigner(id, private)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

func (w *world) put(kind authn.ObjectKind, namespace, name, uid string, deleted time.Time) {
	w.objects.Put(authn.ObjectKey{Kind: kind, Namespace: namespace, Name: name}, authn.ObjectState{UID: uid, Deleted: deleted})
}

func (w *world) delete(kind authn.ObjectKind, namespace, name string) {
	w.objects.Delete(authn.ObjectKey{Kind: kind, Namespace: namespace, Name: name})
}

type object = map[string]any

// claims are those of a good token that lives an hour.
func (w *world) claims() object {
	now := w.clock.now().Unix()
	return object{
		"iss": issuerURL, "aud": []string{audience}, "sub": "system:serviceaccount:ns:saname",
		"exp": now + 3600, "nbf": now, "iat": now, "jti": "0a0b0c0d-0000-4000-8000-00000000002a",
		"kubernetes.io": object{"namespace": "ns", "serviceaccount": object{"name": "saname", "uid": "sauid"}},
	}
}

// with returns the claims with top level members replaced; nil removes one.
func (w *world) with(changes object) object {
	out := maps.Clone(w.claims())
	for name, value := range changes {
		if value == nil {
			delete(out, name)
		} else {
			out[name] = value
		}
	}
	return out
}

// bound returns the claims with members added to kubernetes.io.
func (w *world) bound(members object) object {
	out := w.claims()
	own := maps.Clone(out["kubernetes.io"].(object))
	maps.Copy(own, members)
	out["kubernetes.io"] = own
	return out
}

func (w *world) token(claims object) string {
	w.t.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		w.t.Fatal(err)
	}
	token, err := w.signer.Sign(payload)
	if err != nil {
		w.t.Fatal(err)
	}
	return token
}

func (w *world) verify(token string, audiences ...string) (authn.Identity, error) {
	return w.chain.VerifyToken(context.Background(), token, audiences)
}

// accepted verifies a token that must be good.
func (w *world) accepted(token string, audiences ...string) authn.Identity {
	w.t.Helper()
	id, err := w.verify(token, audiences...)
	if err != nil {
		w.t.Fatalf("refused: %v", err)
	}
	if !id.Valid() {
		w.t.Fatal("no error and no identity")
	}
	return id
}

// refused verifies a token that must be refused for the reason.
func (w *world) refused(token string, reason authn.Reason, audiences ...string) error {
	w.t.Helper()
	id, err := w.verify(token, audiences...)
	if err == nil || id.Valid() {
		w.t.Fatalf("accepted as %q, want a refusal (%s)", id.Name(), reason)
	}
	if got := authn.ReasonOf(err); got != reason {
		w.t.Fatalf("refused as %q (%v), want %q", got, err, reason)
	}
	if fault.KindOf(err) != fault.Unauthenticated || fault.Public(err) != "invalid bearer token" {
		w.t.Fatalf("kind %v, public text %q", fault.KindOf(err), fault.Public(err))
	}
	return err
}

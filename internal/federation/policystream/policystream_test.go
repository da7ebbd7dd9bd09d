package policystream_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/authz/snapshot"
	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/federation"
	"github.com/gatehouse-dev/gatehouse/internal/federation/policystream"
	"github.com/gatehouse-dev/gatehouse/internal/keys"
	"github.com/gatehouse-dev/gatehouse/internal/keys/keystest"
)

// replica is a publisher on an engine of its own.
type replica struct {
	*policystream.Publisher
	t      *testing.T
	engine *authz.Engine
	index  *authn.Index
	ring   *keys.Ring[keys.PolicySnapshots]
	broken atomic.Pointer[error]
	// issuer is the key set of the one issuer.
	issuer atomic.Pointer[string]
}

func (r *replica) trusted() []snapshot.Issuer {
	return []snapshot.Issuer{{URL: "https://issuer.example", KeySet: *r.issuer.Load()}}
}

func start(t *testing.T, store keys.Store) *replica { return startFor(t, store, 0) }

func startFor(t *testing.T, store keys.Store, maxAge time.Duration) *replica {
	t.Helper()
	r := &replica{t: t, engine: authz.New(), index: authn.NewIndex(nil)}
	none := `{"keys":[]}`
	r.issuer.Store(&none)
	var err error
	if r.ring, err = keys.Ensure[keys.PolicySnapshots](t.Context(), keystest.NewVault(t, time.Now)); err != nil {
		t.Fatal(err)
	}
	r.Publisher, err = policystream.New(policystream.Config{
		Policy: r.engine.Snapshot, Objects: r.index, Keys: r.ring.Set, Issuers: r.trusted, Conditions: "v1",
		Sequence: (&policystream.Sequence{Store: store, Now: time.Now}).Next,
		Ready: func() error {
			if err := r.broken.Load(); err != nil {
				return *err
			}
			return nil
		},
		MaxAge: maxAge, Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = r.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return r
}

// follower is a subscription with what it was told.
type follower struct {
	*policystream.Subscription
	*snapshot.Follower
	t    *testing.T
	keys map[string]ed25519.PublicKey
	last []byte
}

func (f *follower) Verify(id string, message, signature []byte) error {
	if key, ok := f.keys[id]; !ok || !ed25519.Verify(key, message, signature) {
		return errors.New("bad signature")
	}
	return nil
}

func (r *replica) follow(site, name string, held policystream.Held) *follower {
	r.t.Helper()
	s, err := r.Follow(site, name, held)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(s.Close)
	f := &follower{Subscription: s, t: r.t}
	f.Follower = snapshot.NewFollower(snapshot.Rules{
		Site: site, Conditions: "v1", Verifier: f, Skew: time.Minute,
		Compile: func(string) (authz.Condition, error) { return nil, errors.New("none") },
	})
	return f
}

// frame reads the next frame, and the keys before it.
func (f *follower) frame() snapshot.Header {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), time.Minute)
	defer cancel()
	for {
		u, err := f.Next(ctx)
		if err != nil {
			f.t.Fatal(err)
		}
		if u.Frame == nil {
			f.keys = map[string]ed25519.PublicKey{}
			for _, k := range u.Keys {
				f.keys[k.ID] = k.Public
			}
			continue
		}
		f.last = u.Frame
		h, err := f.Accept(u.Frame, time.Now())
		if err != nil {
			f.t.Fatal(err)
		}
		return h
	}
}

func (f *follower) allows(user string) bool {
	f.t.Helper()
	p, err := f.Current(time.Now())
	if err != nil {
		f.t.Fatal(err)
	}
	return p.Snapshot.Decide(&authz.Request{User: user, Verb: "get", Resource: "pods", ResourceRequest: true, Site: p.Header.Site, Time: time.Now()}).Allowed()
}

func allow(name, site, user string) func(*authz.Tx) {
	return func(t *authz.Tx) {
		t.PutSite(authz.Site{Name: site})
		t.PutPolicy(authz.Policy{Name: name, Effect: authz.Allow, Sites: []string{site},
			Subjects: []authz.PolicySubject{{Subject: authz.Subject{Kind: authz.User, Name: user}}},
			Rules:    []authz.Rule{{Verbs: []string{"get"}, APIGroups: []string{"*"}, Resources: []string{"*"}}}})
	}
}

func TestFollowersShareOneFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, keystest.NewMemory())
		r.engine.Update(allow("blue-only", "blue", "ada"))
		r.engine.Update(allow("secret-red", "red", "secret-rita"))
		a, b := r.follow("blue", "a", policystream.Held{}), r.follow("blue", "b", policystream.Held{})
		red := r.follow("red", "c", policystream.Held{})
		time.Sleep(time.Second) // until all have been compiled for
		first := a.frame()
		b.frame()
		red.frame()
		if &a.last[0] != &b.last[0] {
			t.Error("two followers of a site have frames of their own")
		}
		if bytes.Contains(a.last, []byte("secret")) || !bytes.Contains(red.last, []byte("secret-rita")) {
			t.Error("a site is told about another")
		}
		if !a.allows("ada") || a.allows("bea") {
			t.Error("wrong answers")
		}
		if age := first.Ends.Sub(first.Issued); age != 24*time.Hour {
			t.Errorf("a frame decides for %v", age)
		}

		// A change reaches them within the second.
		began := time.Now()
		r.engine.Update(func(tx *authz.Tx) {
			tx.PutBan(authz.Ban{Name: "lost", Subjects: []authz.PolicySubject{{Subject: authz.Subject{Kind: authz.User, Name: "ada"}}}, Sites: []string{"blue"}})
		})
		second := a.frame()
		if took := time.Since(began); took > time.Second {
			t.Errorf("a ban was told after %v", took)
		}
		if second.Sequence <= first.Sequence || second.Digest == first.Digest || a.allows("ada") {
			t.Errorf("the ban is not in force: %+v", second)
		}
		// What does not concern a site renews what it has, in a few bytes.
		if h := red.frame(); len(red.last) > 1024 || h.Sequence != second.Sequence {
			t.Errorf("a change elsewhere: %d bytes, %+v", len(red.last), h)
		}
		// Without any change there is a beat.
		b.frame()
		began = time.Now()
		if h := b.frame(); h.Digest != second.Digest || len(b.last) > 1024 || time.Since(began) > policystream.Beat+time.Second {
			t.Errorf("beat: %+v after %v", h, time.Since(began))
		}
		// A slow follower sees the last of several changes, once.
		for i := range 5 {
			r.engine.Update(allow(fmt.Sprint("p", i), "blue", fmt.Sprint("user-", i)))
			time.Sleep(200 * time.Millisecond)
		}
		if a.frame(); !a.allows("user-4") {
			t.Error("the newest policy was skipped")
		}
	})
}

func TestObjectsOfCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, keystest.NewMemory())
		robot := authn.ObjectKey{Kind: authn.ServiceAccountObject, Namespace: "lab", Name: "robot"}
		secret := authn.ObjectKey{Kind: authn.SecretObject, Namespace: "lab", Name: "s"}
		r.index.Put(robot, authn.ObjectState{UID: "uid-1"})
		r.index.Put(secret, authn.ObjectState{UID: "uid-2"})
		f := r.follow("blue", "a", policystream.Held{})
		present := func(key authn.ObjectKey, uid string) bool {
			p, err := f.Current(time.Now())
			if err != nil {
				t.Fatal(err)
			}
			return p.Present(federation.Fingerprint("blue", key, uid))
		}
		f.frame()
		if !present(robot, "uid-1") || present(robot, "uid-2") || !present(secret, "uid-2") {
			t.Error("wrong objects")
		}
		r.index.Delete(robot)
		if f.frame(); present(robot, "uid-1") {
			t.Error("a deleted account is still there")
		}
		// Another state of the same object is no change.
		r.index.Put(robot, authn.ObjectState{UID: "uid-3"})
		f.frame()
		generation := r.index.Generation()
		r.index.Put(robot, authn.ObjectState{UID: "uid-3"})
		if r.index.Generation() != generation {
			t.Error("an unchanged object counts as a change")
		}
	})
}

// TestIssuersOfTokens changes the keys that verify tokens.
func TestIssuersOfTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, keystest.NewMemory())
		f := r.follow("blue", "a", policystream.Held{})
		keySet := func() string {
			p, err := f.Current(time.Now())
			if err != nil || len(p.Issuers) != 1 || p.Issuers[0].URL != "https://issuer.example" {
				t.Fatal(p, err)
			}
			return p.Issuers[0].KeySet
		}
		first := f.frame()
		if keySet() != `{"keys":[]}` {
			t.Errorf("at first: %s", keySet())
		}
		began, next := time.Now(), `{"keys":[{}]}`
		r.issuer.Store(&next)
		if h := f.frame(); keySet() != next || h.Digest == first.Digest || time.Since(began) > time.Second {
			t.Errorf("%s after %v", keySet(), time.Since(began))
		}
	})
}

// TestResume leaves a replica and follows another one, on the same store.
func TestResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := keystest.NewMemory()
		one, two := start(t, store), start(t, store)
		for _, r := range []*replica{one, two} {
			r.engine.Update(allow("p", "blue", "ada"))
		}
		f := one.follow("blue", "a", policystream.Held{})
		h := f.frame()
		f.Close()
		if list := one.Followers()["blue"]; len(list) != 1 || list[0].Left.IsZero() {
			t.Errorf("still followed: %v", one.Followers())
		}
		// The same policy is only renewed.
		g := two.follow("blue", "a", policystream.Held{Sequence: h.Sequence, Digest: h.Digest})
		for g.last == nil {
			u, err := g.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			g.last = u.Frame
		}
		if len(g.last) > 1024 {
			t.Errorf("policy that was held was sent again: %d bytes", len(g.last))
		}
		// One who is ahead of this replica's last round is answered at once, by a
		// number above its own.
		other := two.follow("blue", "b", policystream.Held{Sequence: uint64(time.Now().UnixMicro()), Digest: "other"})
		began := time.Now()
		if got := other.frame(); got.Sequence <= h.Sequence || time.Since(began) > time.Second {
			t.Errorf("%+v after %v", got, time.Since(began))
		}
	})
}

func TestKeysRollOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, keystest.NewMemory())
		f := r.follow("blue", "a", policystream.Held{})
		first := f.frame()
		time.Sleep(time.Hour)
		if err := r.ring.Rotate(t.Context(), keys.Schedule{Every: time.Hour, Lead: time.Minute, Keep: time.Hour}); err != nil {
			t.Fatal(err)
		}
		for began := time.Now(); ; {
			h := f.frame() // fails when it is signed by a key that was not told
			if h.Key != first.Key {
				break
			}
			if time.Since(began) > 5*time.Minute {
				t.Fatal("the new key does not sign")
			}
		}
		if len(f.keys) != 2 {
			t.Errorf("%d keys were told", len(f.keys))
		}
	})
}

func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, keystest.NewMemory())
		f := r.follow("blue", "a", policystream.Held{})
		f.frame()

		// What may be out of date is not signed: followers go elsewhere.
		var stale error = fault.New(fault.Unavailable, "policy may be out of date")
		r.broken.Store(&stale)
		_, err := f.Next(t.Context())
		for err == nil {
			_, err = f.Next(t.Context())
		}
		if fault.KindOf(err) != fault.Unavailable {
			t.Errorf("a stale replica goes on: %v", err)
		}
		if _, err := r.Follow("blue", "a", policystream.Held{}); fault.KindOf(err) != fault.Unavailable {
			t.Errorf("a stale replica is followed: %v", err)
		}
		f.Close()
		r.broken.Store(nil)

		// A follower too many.
		var subs []*policystream.Subscription
		for range 32 {
			s, err := r.Follow("blue", "x", policystream.Held{})
			if err != nil {
				t.Fatal(err)
			}
			subs = append(subs, s)
		}
		if _, err := r.Follow("blue", "x", policystream.Held{}); fault.KindOf(err) != fault.Exhausted {
			t.Errorf("a follower too many: %v", err)
		}
		for _, s := range subs {
			s.Close()
			s.Close()
		}
		g := r.follow("blue", "x", policystream.Held{})

		// Only what was told can be acknowledged.
		h := g.frame()
		for _, wrong := range []struct {
			site, name string
			sequence   uint64
		}{{"blue", "x", h.Sequence + 1}, {"blue", "y", h.Sequence}, {"red", "x", h.Sequence}} {
			if at, ok := r.Acknowledge(wrong.site, wrong.name, wrong.sequence); ok || !at.IsZero() {
				t.Errorf("%+v acknowledged", wrong)
			}
		}
		// What one follower of two has is not in force at the site.
		i := r.follow("blue", "z", policystream.Held{})
		i.frame()
		if at, ok := r.Acknowledge("blue", "x", h.Sequence); !ok || !at.IsZero() {
			t.Errorf("%v %v", at, ok)
		}
		i.Close()
		if at, ok := r.Acknowledge("blue", "x", h.Sequence); !ok || !at.Equal(h.Issued) ||
			!slices.ContainsFunc(r.Followers()["blue"], func(s policystream.State) bool { return s.Name == "x" && s.Sequence == h.Sequence }) {
			t.Errorf("not acknowledged: %v %v %+v", at, ok, r.Followers())
		}
	})
}

// TestWhoLeftIsRemembered: a follower that is gone goes on deciding.
func TestWhoLeftIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const maxAge = 10 * time.Minute
		r := startFor(t, keystest.NewMemory(), maxAge)
		one := func() (out policystream.State) {
			if list := r.Followers()["blue"]; len(list) == 1 {
				out = list[0]
			}
			return out
		}
		f := r.follow("blue", "a", policystream.Held{})
		h := f.frame()
		r.Acknowledge("blue", "a", h.Sequence)
		time.Sleep(time.Minute)
		f.Close()
		if s := one(); s.Left.IsZero() || s.Told.Before(h.Issued) || !s.Issued.Equal(h.Issued) {
			t.Errorf("it left: %+v", s)
		}
		// It comes, is told nothing, and leaves again.
		g := r.follow("blue", "a", policystream.Held{})
		if s := one(); !s.Left.IsZero() || !s.Issued.Equal(h.Issued) {
			t.Errorf("it is back: %+v", s)
		}
		g.Close()
		if s := one(); s.Left.IsZero() || s.Told.Before(h.Issued) {
			t.Errorf("it left again: %+v", s)
		}
		// It comes back before its old connection is seen to end.
		old := r.follow("blue", "a", policystream.Held{})
		next := r.follow("blue", "a", policystream.Held{})
		old.Close()
		if s := one(); !s.Left.IsZero() || !s.Issued.Equal(h.Issued) || s.Told.Before(h.Issued) {
			t.Errorf("it is here once: %+v", s)
		}
		next.Close()
		if s := one(); s.Left.IsZero() || !s.Issued.Equal(h.Issued) {
			t.Errorf("it left for good: %+v", s)
		}
		time.Sleep(maxAge)
		if s := one(); s.Name != "" {
			t.Errorf("after the end of its policy: %+v", s)
		}
		// Who was told nothing decides nothing that came from here.
		r.follow("red", "b", policystream.Held{}).Close()
		if list := r.Followers()["red"]; len(list) > 0 {
			t.Errorf("%+v", list)
		}
		for i := range 100 {
			x := r.follow("blue", fmt.Sprint("x", i), policystream.Held{})
			x.frame()
			x.Close()
		}
		if n := len(r.Followers()["blue"]); n != 64 {
			t.Errorf("%d are remembered", n)
		}
	})
}

// TestPolicyThatCannotBeShipped breaks the policy of one site alone.
func TestPolicyThatCannotBeShipped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, keystest.NewMemory())
		r.engine.Update(func(tx *authz.Tx) {
			tx.PutPolicy(authz.Policy{Name: "p", Effect: authz.Allow, Sites: []string{"blue"}, Condition: textless{},
				Subjects: []authz.PolicySubject{{Subject: authz.Subject{Kind: authz.User, Name: "ada"}}}})
		})
		blue, red := r.follow("blue", "a", policystream.Held{}), r.follow("red", "b", policystream.Held{})
		red.frame()
		_, err := blue.Next(t.Context())
		for err == nil {
			_, err = blue.Next(t.Context())
		}
		if fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "no text") {
			t.Errorf("the broken site: %v", err)
		}
	})
}

type textless struct{}

func (textless) Holds(*authz.Request) (bool, error) { return true, nil }
func (textless) ReadsObject() bool                  { return false }

func TestSequence(t *testing.T) {
	t.Parallel()
	store := keystest.NewMemory()
	noon := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	one := &policystream.Sequence{Store: store, Now: func() time.Time { return noon }}
	behind := &policystream.Sequence{Store: store, Now: func() time.Time { return noon.Add(-time.Hour) }}
	var last uint64
	for i := range 20 {
		s := one
		if i%3 == 0 {
			s = behind
		}
		if i%5 == 0 { // a restart
			s = &policystream.Sequence{Store: store, Now: s.Now}
		}
		n, err := s.Next(t.Context())
		if err != nil || n <= last {
			t.Fatalf("%d after %d, %v", n, last, err)
		}
		last = n
	}
	// A store that was put back to an earlier state does not put numbers back.
	restored := &policystream.Sequence{Store: keystest.NewMemory(), Now: func() time.Time { return noon.Add(time.Second) }}
	if n, err := restored.Next(t.Context()); err != nil || n <= last {
		t.Errorf("after a restore %d, before it %d, %v", n, last, err)
	}
	if _, err := store.CompareAndSwap(t.Context(), "policy-sequence", []byte("x"), must(store.Get(t.Context(), "policy-sequence")).Revision); err != nil {
		t.Fatal(err)
	}
	if _, err := (&policystream.Sequence{Store: store, Now: time.Now}).Next(t.Context()); err == nil {
		t.Error("a damaged number was taken")
	}
}

func must(e keys.Entry, err error) keys.Entry {
	if err != nil {
		panic(err)
	}
	return e
}

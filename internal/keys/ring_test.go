package keys_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/keys"
	"github.com/gatehouse-dev/gatehouse/internal/keys/keystest"
)

var start = time.Date(2031, 2, 3, 4, 5, 6, 789, time.UTC)

// clock is a settable clock.
type clock struct {
	mu  sync.Mutex // guards now
	now time.Time
}

func newClock() *clock { return &clock{now: start} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func newKeyring(t *testing.T) *keys.Keyring {
	t.Helper()
	root, err := keys.GenerateRoot()
	if err != nil {
		t.Fatal(err)
	}
	ring, err := keys.NewKeyring(root)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func openVault(t *testing.T, store keys.Store, roots *keys.Keyring, now func() time.Time) *keys.Vault {
	t.Helper()
	vault, err := keys.OpenVault(t.Context(), keys.VaultConfig{
		Store: store, Keyring: roots, Clock: now, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return vault
}

func ensure[P keys.Signing](t *testing.T, v *keys.Vault) *keys.Ring[P] {
	t.Helper()
	ring, err := keys.Ensure[P](t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// TestReplicasStartingTogetherShareOneKey starts many replicas, each with its
// own vault, on one empty store.
func TestReplicasStartingTogetherShareOneKey(t *testing.T) {
	t.Parallel()
	store, roots := keystest.NewMemory(), newKeyring(t)
	const replicas = 16
	ids := make([][3]string, replicas)
	var wg sync.WaitGroup
	for i := range replicas {
		wg.Go(func() {
			vault, err := keys.OpenVault(t.Context(), keys.VaultConfig{Store: store, Keyring: roots, Clock: newClock().Now, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Errorf("open vault: %v", err)
				return
			}
			tokens, err1 := keys.Ensure[keys.Tokens](t.Context(), vault)
			site, err2 := keys.EnsureForSite[keys.SiteTokens](t.Context(), vault, "berlin")
			ca, err3 := keys.EnsureAuthority(t.Context(), vault, func(s *keys.Signer[keys.SiteCA]) ([]byte, error) {
				return []byte("certificate of " + s.KeyID()), nil
			})
			if err := errors.Join(err1, err2, err3); err != nil {
				t.Errorf("ensure: %v", err)
				return
			}
			ca1 := ca.Set().Signer(start)
			if string(ca1.Certificate()) != "certificate of "+ca1.KeyID() {
				t.Error("the certificate is not that of the key")
			}
			ids[i] = [3]string{tokens.Set().Signer(start).KeyID(), site.Set().Signer(start).KeyID(), ca1.KeyID()}
		})
	}
	wg.Wait()
	for i, id := range ids {
		if id != ids[0] {
			t.Errorf("replica %d has keys %v, replica 0 has %v", i, id, ids[0])
		}
	}
	if ids[0][0] == ids[0][1] || ids[0][0] == ids[0][2] {
		t.Error("two purposes share a key")
	}
}

func TestKeysSurviveRestart(t *testing.T) {
	t.Parallel()
	store, roots := keystest.NewMemory(), newKeyring(t)
	before := ensure[keys.Checkpoints](t, openVault(t, store, roots, newClock().Now))
	after := ensure[keys.Checkpoints](t, openVault(t, store, roots, newClock().Now))
	if before.Set().Signer(start).KeyID() != after.Set().Signer(start).KeyID() {
		t.Error("the key changed")
	}
	entries, err := store.List(t.Context(), "")
	if err != nil || len(entries) != 2 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	for _, e := range entries {
		if strings.Contains(string(e.Value), "pkcs8") || strings.Contains(string(e.Value), "check") {
			t.Errorf("entry %s is not sealed", e.Name)
		}
	}
}

func TestSignersSign(t *testing.T) {
	t.Parallel()
	vault := openVault(t, keystest.NewMemory(), newKeyring(t), newClock().Now)
	message := []byte("message")
	digest := sha256.Sum256(message)

	tokens := ensure[keys.Tokens](t, vault).Set().Signer(start)
	sig, err := tokens.Sign(nil, digest[:], crypto.SHA256)
	if err != nil || tokens.Algorithm() != keys.ES256 || !ecdsa.VerifyASN1(tokens.Public().(*ecdsa.PublicKey), digest[:], sig) {
		t.Errorf("ES256: %v", err)
	}
	for name, bad := range map[string]struct {
		digest []byte
		opts   crypto.SignerOpts
	}{
		"short digest": {digest[:31], crypto.SHA256},
		"other hash":   {make([]byte, 64), crypto.SHA512},
		"no hash":      {digest[:], crypto.Hash(0)},
		"no options":   {digest[:], nil},
	} {
		if _, err := tokens.Sign(nil, bad.digest, bad.opts); err == nil {
			t.Errorf("ES256 signs with %s", name)
		}
	}

	reports := ensure[keys.Reports](t, vault).Set().Signer(start)
	sig, err = reports.Sign(nil, message, crypto.Hash(0))
	if err != nil || reports.Algorithm() != keys.Ed25519 || !ed25519.Verify(reports.Public().(ed25519.PublicKey), message, sig) {
		t.Errorf("Ed25519: %v", err)
	}
	if _, err := reports.Sign(nil, digest[:], crypto.SHA256); err == nil {
		t.Error("Ed25519 signs a digest")
	}
	if _, err := reports.Sign(nil, message, nil); err == nil {
		t.Error("Ed25519 signs without options")
	}
}

// TestPurposesDoNotConvert proves that a key of one purpose cannot be used for
// another, not even by an explicit conversion.
func TestPurposesDoNotConvert(t *testing.T) {
	t.Parallel()
	families := map[string][]reflect.Type{
		"ring":     {reflect.TypeFor[*keys.Ring[keys.Tokens]](), reflect.TypeFor[*keys.Ring[keys.Jobs]](), reflect.TypeFor[*keys.Ring[keys.SiteCA]]()},
		"set":      {reflect.TypeFor[*keys.Set[keys.Tokens]](), reflect.TypeFor[*keys.Set[keys.LegacyTokens]](), reflect.TypeFor[*keys.Set[keys.ClientCA]]()},
		"signer":   {reflect.TypeFor[*keys.Signer[keys.Tokens]](), reflect.TypeFor[*keys.Signer[keys.SiteTokens]](), reflect.TypeFor[*keys.Signer[keys.AgentCA]]()},
		"verifier": {reflect.TypeFor[*keys.Verifier[keys.Reports]](), reflect.TypeFor[*keys.Verifier[keys.Checkpoints]](), reflect.TypeFor[*keys.Verifier[keys.PolicySnapshots]]()},
	}
	for name, types := range families {
		for i, from := range types {
			for j, to := range types {
				if i != j && (from.ConvertibleTo(to) || from.Elem().ConvertibleTo(to.Elem())) {
					t.Errorf("%s: %v converts to %v", name, from, to)
				}
			}
		}
	}
}

func TestRingsAreBoundToTheirPlace(t *testing.T) {
	t.Parallel()
	store, roots := keystest.NewMemory(), newKeyring(t)
	vault := openVault(t, store, roots, newClock().Now)
	ensure[keys.Jobs](t, vault)
	if _, err := keys.EnsureForSite[keys.SiteTokens](t.Context(), vault, "berlin"); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{"rings/jobs": "rings/reports", "rings/site-tokens/berlin": "rings/site-tokens/paris"} {
		entry, err := store.Get(t.Context(), from)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := store.Create(t.Context(), to, entry.Value); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := keys.Ensure[keys.Reports](t.Context(), vault); !errors.Is(err, keys.ErrSealed) {
		t.Errorf("keys for jobs became keys for reports: %v", err)
	}
	if _, err := keys.EnsureForSite[keys.SiteTokens](t.Context(), vault, "paris"); !errors.Is(err, keys.ErrSealed) {
		t.Errorf("keys of one site became keys of another: %v", err)
	}
}

func TestSiteNames(t *testing.T) {
	t.Parallel()
	vault := openVault(t, keystest.NewMemory(), newKeyring(t), newClock().Now)
	for _, site := range []string{"", "a/b", "../tokens", "A", "a b", strings.Repeat("a", keys.MaxName)} {
		if _, err := keys.EnsureForSite[keys.SiteTokens](t.Context(), vault, site); fault.KindOf(err) != fault.Invalid {
			t.Errorf("site %.20q: %v", site, err)
		}
		if err := keys.DropForSite[keys.SiteTokens](t.Context(), vault, site); fault.KindOf(err) != fault.Invalid {
			t.Errorf("drop site %.20q: %v", site, err)
		}
	}
	first, err := keys.EnsureForSite[keys.SiteTokens](t.Context(), vault, "berlin")
	if err != nil {
		t.Fatal(err)
	}
	if first.Site() != "berlin" {
		t.Errorf("site %q", first.Site())
	}
	for range 2 {
		if err := keys.DropForSite[keys.SiteTokens](t.Context(), vault, "berlin"); err != nil {
			t.Fatal(err)
		}
	}
	if err := first.Refresh(t.Context()); fault.KindOf(err) != fault.NotFound {
		t.Errorf("refresh of a dropped ring: %v", err)
	}
	second, err := keys.EnsureForSite[keys.SiteTokens](t.Context(), vault, "berlin")
	if err != nil {
		t.Fatal(err)
	}
	if first.Set().Signer(start).KeyID() == second.Set().Signer(start).KeyID() {
		t.Error("a dropped key came back")
	}
}

func TestInventory(t *testing.T) {
	t.Parallel()
	store, roots, now := keystest.NewMemory(), newKeyring(t), newClock()
	vault := openVault(t, store, roots, now.Now)
	tokens := ensure[keys.Tokens](t, vault)
	site, err := keys.EnsureForSite[keys.SiteTokens](t.Context(), vault, "berlin")
	if err != nil {
		t.Fatal(err)
	}
	now.Advance(time.Hour)
	if err := tokens.Rotate(t.Context(), keys.Schedule{Lead: time.Minute, Keep: time.Hour}); err != nil {
		t.Fatal(err)
	}
	got, err := vault.Inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	when := start.Truncate(time.Second)
	set := tokens.Set().Verifiers(now.Now())
	want := []keys.Info{
		{Purpose: "site-tokens", Site: "berlin", KeyID: site.Set().Signer(start).KeyID(), Algorithm: keys.ES256, SignFrom: when, Root: roots.RootID()},
		{Purpose: "tokens", KeyID: set[0].KeyID(), Algorithm: keys.ES256, SignFrom: when, RetireAfter: when.Add(2*time.Hour + 6*time.Minute), Root: roots.RootID()},
		{Purpose: "tokens", KeyID: set[1].KeyID(), Algorithm: keys.ES256, SignFrom: when.Add(61 * time.Minute), Root: roots.RootID()},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("inventory\n%+v, want\n%+v", got, want)
	}
	if keys.Name[keys.PolicySnapshots]() != "policy-snapshots" {
		t.Error("wrong name")
	}
	entry, err := store.Get(t.Context(), "rings/tokens")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"rings/unknown", "rings/tokens/site", "rings/site-tokens"} {
		if _, err := store.Create(t.Context(), name, entry.Value); err != nil {
			t.Fatal(err)
		}
		if _, err := vault.Inventory(t.Context()); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("inventory with %s: %v", name, err)
		}
		if err := store.Delete(t.Context(), name, mustGet(t, store, name).Revision); err != nil {
			t.Fatal(err)
		}
	}
}

func mustGet(t *testing.T, store keys.Store, name string) keys.Entry {
	t.Helper()
	entry, err := store.Get(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return entry
}

// flaky lets a test answer store calls before or after they happen.
type flaky struct {
	keys.Store
	before, after func(op string) error
}

func (f *flaky) run(op string, call func() error) error {
	if f.before != nil {
		if err := f.before(op); err != nil {
			return err
		}
	}
	err := call()
	if err == nil && f.after != nil {
		err = f.after(op)
	}
	return err
}

func (f *flaky) Get(ctx context.Context, name string) (e keys.Entry, err error) {
	err = f.run("get", func() error { e, err = f.Store.Get(ctx, name); return err })
	return e, err
}

func (f *flaky) List(ctx context.Context, prefix string) (e []keys.Entry, err error) {
	err = f.run("list", func() error { e, err = f.Store.List(ctx, prefix); return err })
	return e, err
}

func (f *flaky) Create(ctx context.Context, name string, value []byte) (rev int64, err error) {
	err = f.run("create", func() error { rev, err = f.Store.Create(ctx, name, value); return err })
	return rev, err
}

func (f *flaky) CompareAndSwap(ctx context.Context, name string, value []byte, revision int64) (rev int64, err error) {
	err = f.run("swap", func() error { rev, err = f.Store.CompareAndSwap(ctx, name, value, revision); return err })
	return rev, err
}

func (f *flaky) Delete(ctx context.Context, name string, revision int64) error {
	return f.run("delete", func() error { return f.Store.Delete(ctx, name, revision) })
}

func TestStoreFailures(t *testing.T) {
	t.Parallel()
	down := fault.New(fault.Unavailable, "storage does not answer")
	for _, op := range []string{"get", "create"} {
		store := &flaky{Store: keystest.NewMemory()}
		vault := openVault(t, store, newKeyring(t), newClock().Now)
		fail := func(got string) error {
			if got == op {
				return down
			}
			return nil
		}
		store.before = fail
		if _, err := keys.Ensure[keys.Tokens](t.Context(), vault); !errors.Is(err, down) {
			t.Errorf("%s fails before: %v", op, err)
		}
		// The write that looked lost took effect: the next try finds it.
		store.before, store.after = nil, fail
		if _, err := keys.Ensure[keys.Tokens](t.Context(), vault); !errors.Is(err, down) {
			t.Errorf("%s fails after: %v", op, err)
		}
		store.after = nil
		ring := ensure[keys.Tokens](t, vault)
		id := ring.Set().Signer(start).KeyID()

		store.before = func(string) error { return down }
		for name, err := range map[string]error{
			"refresh":  ring.Refresh(t.Context()),
			"rotate":   ring.Rotate(t.Context(), keys.Schedule{}),
			"revoke":   ring.Revoke(t.Context(), id),
			"maintain": ring.Maintain(t.Context(), keys.Schedule{Every: 1}),
		} {
			if !errors.Is(err, down) || fault.KindOf(err) != fault.Unavailable {
				t.Errorf("%s without a store: %v", name, err)
			}
		}
		if _, err := ring.Retire(t.Context()); !errors.Is(err, down) {
			t.Errorf("retire without a store: %v", err)
		}
		if _, err := vault.Inventory(t.Context()); !errors.Is(err, down) {
			t.Errorf("inventory without a store: %v", err)
		}
		if _, err := vault.Reseal(t.Context()); !errors.Is(err, down) {
			t.Errorf("reseal without a store: %v", err)
		}
		if ring.Set().Signer(start).KeyID() != id {
			t.Error("a failure replaced the set")
		}
	}
}

func TestContentionEnds(t *testing.T) {
	t.Parallel()
	store := &flaky{Store: keystest.NewMemory()}
	vault := openVault(t, store, newKeyring(t), newClock().Now)
	ring := ensure[keys.Tokens](t, vault)
	if _, err := keys.EnsureForSite[keys.SiteTokens](t.Context(), vault, "berlin"); err != nil {
		t.Fatal(err)
	}
	tries := 0
	store.before = func(op string) error {
		if op == "swap" || op == "delete" {
			tries++
			return fault.New(fault.Conflict, "changed")
		}
		return nil
	}
	if err := ring.Rotate(t.Context(), keys.Schedule{}); fault.KindOf(err) != fault.Conflict || tries != 8 {
		t.Errorf("after %d tries: %v", tries, err)
	}
	if err := keys.DropForSite[keys.SiteTokens](t.Context(), vault, "berlin"); fault.KindOf(err) != fault.Conflict || tries != 16 {
		t.Errorf("after %d tries: %v", tries, err)
	}
}

func TestCertifyFailure(t *testing.T) {
	t.Parallel()
	store := keystest.NewMemory()
	vault := openVault(t, store, newKeyring(t), newClock().Now)
	broken := errors.New("broken")
	_, err := keys.EnsureAuthority(t.Context(), vault, func(*keys.Signer[keys.AgentCA]) ([]byte, error) { return nil, broken })
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	entries, err := store.List(t.Context(), "rings/")
	if err != nil || len(entries) != 0 {
		t.Errorf("%d rings stored, %v", len(entries), err)
	}
}

func TestOpenVaultNeedsEveryField(t *testing.T) {
	t.Parallel()
	if _, err := keys.OpenVault(t.Context(), keys.VaultConfig{}); err == nil {
		t.Error("opened")
	}
}

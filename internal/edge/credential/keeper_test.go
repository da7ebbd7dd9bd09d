package credential

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/edge/credential/cache"
	"github.com/gatehouse-dev/gatehouse/internal/edge/credential/oidc"
)

// source counts what is asked of it.
type source struct {
	mu             sync.Mutex // guards what follows
	renewed, asked int
	renew          error
	life           time.Duration
	now            func() time.Time
}

func (s *source) Key() string { return "k" }

func (s *source) entry(name string) *cache.Entry {
	return &cache.Entry{Token: name, Refresh: "r", Issued: s.now(), Expires: s.now().Add(s.life)}
}

func (s *source) Renew(_ context.Context, old *cache.Entry) (*cache.Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.renewed++
	if s.renew != nil {
		return nil, s.renew
	}
	if old == nil {
		return nil, oidc.ErrLogin
	}
	return s.entry(fmt.Sprintf("renewed-%d", s.renewed)), nil
}

func (s *source) Login(context.Context) (*cache.Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	return s.entry(fmt.Sprintf("login-%d", s.asked)), nil
}

func TestKeeper(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	s := &source{life: 10 * time.Minute, now: clock}
	k := &Keeper{Source: s, Dir: filepath.Join(t.TempDir(), "c"), Now: clock, Warn: io.Discard, Patience: time.Second}
	get := func(ask Ask, want string, wantErr error) time.Time {
		t.Helper()
		e, until, err := k.Get(t.Context(), ask)
		if !errors.Is(err, wantErr) || (err == nil) != (wantErr == nil) {
			t.Fatalf("error %v, want %v", err, wantErr)
		}
		if err == nil && e.Token != want {
			t.Fatalf("got %s, want %s", e.Token, want)
		}
		return until
	}
	get(Ask{}, "", ErrNobody)
	if until := get(Ask{Person: true}, "login-1", nil); !until.Equal(now.Add(9 * time.Minute)) {
		t.Errorf("to be used until %v", until)
	}
	get(Ask{}, "login-1", nil)
	now = now.Add(9*time.Minute + time.Second)
	get(Ask{}, "renewed-3", nil) // the two before were of nothing

	// The same process asks again: what it got was refused.
	now = now.Add(time.Minute)
	get(Ask{Process: "1/1"}, "renewed-3", nil)
	get(Ask{Process: "2/1"}, "renewed-3", nil)
	get(Ask{Process: "2/1"}, "renewed-4", nil)
	get(Ask{Process: "2/1"}, "renewed-4", nil) // not in an endless loop

	// While the provider is away, what lasts is used to its end.
	s.renew = oidc.ErrUnreachable
	now = now.Add(9*time.Minute + 30*time.Second)
	if until := get(Ask{}, "renewed-4", nil); !until.After(now) {
		t.Errorf("to be used until %v, it is %v", until, now)
	}
	now = now.Add(time.Minute)
	get(Ask{}, "", oidc.ErrUnreachable)

	// When the sign-in has ended, a person is asked, if one is there.
	s.renew = oidc.ErrLogin
	get(Ask{}, "", ErrNobody)
	get(Ask{Person: true}, "login-2", nil)
	get(Ask{Person: true, Anew: true}, "login-3", nil)
	if ended, err := k.Forget(t.Context()); err != nil || ended {
		t.Fatal(ended, err)
	}
	get(Ask{}, "", ErrNobody)
}

// Of many at a time one renews.
func TestKeeperTogether(t *testing.T) {
	t.Parallel()
	s := &source{life: time.Hour, now: time.Now}
	dir := filepath.Join(t.TempDir(), "c")
	newKeeper := func() *Keeper {
		return &Keeper{Source: s, Dir: dir, Now: time.Now, Warn: io.Discard, Patience: time.Minute}
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, _, err := newKeeper().Get(t.Context(), Ask{Person: true}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if s.asked != 1 {
		t.Errorf("%d sign-ins", s.asked)
	}
}

func TestExec(t *testing.T) {
	t.Parallel()
	until := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	got, err := Exec(&cache.Entry{Token: "t"}, until)
	if err != nil || string(got) != `{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"expirationTimestamp":"2026-01-01T00:00:00Z","token":"t"}}`+"\n" {
		t.Errorf("%s %v", got, err)
	}
	if got, err = Exec(&cache.Entry{Certificate: "c", Key: "k"}, until); err != nil || !strings.Contains(string(got), `"clientCertificateData":"c","clientKeyData":"k"`) {
		t.Errorf("%s %v", got, err)
	}
	if _, err := Exec(&cache.Entry{}, until); err == nil {
		t.Error("an empty entry")
	}
}

func FuzzParseInfo(f *testing.F) {
	f.Add(`{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","spec":{"interactive":true,"cluster":{"server":"https://a","certificate-authority-data":"eA=="}}}`)
	f.Add(`{"apiVersion":"client.authentication.k8s.io/v1beta1","kind":"ExecCredential"}`)
	f.Fuzz(func(t *testing.T, text string) {
		if info, err := ParseInfo(text); err != nil && (info.Interactive || info.Cluster != nil) {
			t.Errorf("%q is an error that says something", text)
		}
	})
}

func TestParent(t *testing.T) {
	t.Parallel()
	if a, b := Parent(), Parent(); a != b || !strings.Contains(a, "/") {
		t.Errorf("%q %q", a, b)
	}
}

func TestSettingsRefuse(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]Settings{
		"nothing": {}, "both": {Issuer: "https://a", ClientID: "c", Certificate: "x", PrivateKey: "y"},
		"no key": {Certificate: "x"}, "no cluster": {Certificate: "x", PrivateKey: "y", Lifetime: time.Hour},
	} {
		s.Patience = time.Minute
		if _, err := s.Keeper(World{Say: io.Discard}); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	s := Settings{Certificate: "x", PrivateKey: "y", Lifetime: time.Hour, Patience: time.Minute}
	if _, err := s.Keeper(World{Say: io.Discard, Cluster: &Cluster{Server: "https://a", Insecure: true, CA: []byte("x")}}); err == nil {
		t.Error("a server that nobody verifies gets a certificate")
	}
	s = Settings{Issuer: "https://issuer.example", ClientID: "c", Patience: time.Minute}
	for url, insecure := range map[string]bool{"https://a": true, "http://a": false, "": false} {
		if _, err := s.Keeper(World{Say: io.Discard, Cluster: &Cluster{Server: url, Insecure: insecure}}); err == nil {
			t.Errorf("%q, insecure %v: a server that nobody verifies gets a token", url, insecure)
		}
	}
	if _, err := s.Keeper(World{Say: io.Discard, Cluster: &Cluster{Server: "https://a"}}); err != nil {
		t.Errorf("a server under an authority of the machine: %v", err)
	}
}

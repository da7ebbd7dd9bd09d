package authn_test

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// fakeProvider answers with a function and counts.
type fakeProvider struct {
	calls atomic.Int32
	// echo accepts every token for exactly the audiences asked.
	echo   bool
	answer func(ctx context.Context, token string) (authn.Claimed, error)
}

func (f *fakeProvider) VerifyToken(ctx context.Context, token string, audiences []string) (authn.Claimed, error) {
	if f.calls.Add(1); f.echo {
		return authn.Claimed{Name: "x", Audiences: audiences}, nil
	}
	return f.answer(ctx, token)
}

// uncomparable would make a comparison of providers panic.
type uncomparable struct{ answer func() }

func (uncomparable) VerifyToken(context.Context, string, []string) (authn.Claimed, error) {
	return authn.Claimed{}, nil
}

func says(c authn.Claimed) *fakeProvider {
	return &fakeProvider{answer: func(context.Context, string) (authn.Claimed, error) { return c, nil }}
}

func fails(err error) *fakeProvider {
	return &fakeProvider{answer: func(context.Context, string) (authn.Claimed, error) { return authn.Claimed{}, err }}
}

const loginURL = "https://login.example"

// foreignToken is a signed token of an identity provider.
func (w *world) foreignToken(id string) string {
	return sign(w.t, w.private, `{"alg":"ES256","kid":"theirs"}`, `{"iss":"`+loginURL+`","jti":"`+id+`"}`)
}

func TestProviderIdentity(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	claimed := authn.Claimed{
		Name: "jane@example.org", UID: "7", Groups: []string{"team"}, Extra: map[string][]string{"example.org/floor": {"3"}},
		CredentialID: "JTI=t1", NotAfter: w.clock.now().Add(5 * time.Second),
	}
	provider := says(claimed)
	must(t, w.chain.SetProviders([]authn.ProviderConfig{{Name: "login", Issuers: []string{loginURL}, Provider: provider}}))
	token := w.foreignToken("t1")
	for range 3 {
		id := w.accepted(token)
		if id.Name() != "jane@example.org" || id.UID() != "7" || !slices.Equal(id.Groups(), []string{"team", "system:authenticated"}) ||
			!reflect.DeepEqual(id.Extra(), map[string][]string{"example.org/floor": {"3"}, authn.ExtraCredentialID: {"JTI=t1"}}) ||
			id.Method() != authn.ProviderToken || id.Source() != "login" || !slices.Equal(id.Audiences(), []string{audience}) || !id.NotAfter().Equal(claimed.NotAfter) {
			t.Errorf("got %q %q %q %q", id.Name(), id.UID(), id.Groups(), id.Extra())
		}
	}
	if n := provider.calls.Load(); n != 1 {
		t.Errorf("the provider was asked %d times", n)
	}
	// A token for the control plane is not for a site.
	w.refused(token, authn.WrongAudience, "gatehouse:site:one")
	w.clock.advance(5 * time.Second)
	w.refused(token, authn.Expired)
	// Without an id of its own a token gets one that is its alone.
	plain := says(authn.Claimed{Name: "jane@example.org"})
	must(t, w.chain.SetProviders([]authn.ProviderConfig{{Name: "login", Issuers: []string{loginURL}, Provider: plain}}))
	token, other := w.foreignToken("a"), w.foreignToken("b")
	a, b := w.accepted(token), w.accepted(other)
	if !strings.HasPrefix(a.CredentialID(), "JWTSHA256=") || a.CredentialID() == b.CredentialID() {
		t.Errorf("ids %q and %q", a.CredentialID(), b.CredentialID())
	}
	must(t, w.bans.Replace([]authn.Ban{{Name: "b", Credential: a.CredentialID()}}))
	w.refused(token, authn.Banned)
	w.accepted(other)
}

func TestProviderCannotGiveReservedNames(t *testing.T) {
	t.Parallel()
	for name, claimed := range map[string]authn.Claimed{
		"no name":               {Name: ""},
		"administrator":         {Name: "system:admin"},
		"service account":       {Name: "system:serviceaccount:kube-system:root"},
		"node":                  {Name: "system:node:n"},
		"site":                  {Name: "system:site:one"},
		"anonymous":             {Name: "system:anonymous"},
		"crossed over":          {Name: "gatehouse:system:serviceaccount:a:b"},
		"masters":               {Name: "x", Groups: []string{"ok", "system:masters"}},
		"authenticated":         {Name: "x", Groups: []string{"system:authenticated"}},
		"sites":                 {Name: "x", Groups: []string{"system:sites"}},
		"crossed over group":    {Name: "x", Groups: []string{"gatehouse:system:serviceaccounts"}},
		"empty group":           {Name: "x", Groups: []string{""}},
		"long name":             {Name: strings.Repeat("x", 2000)},
		"long group":            {Name: "x", Groups: []string{strings.Repeat("x", 2000)}},
		"many groups":           {Name: "x", Groups: slices.Repeat([]string{"g"}, 2000)},
		"pod of its choice":     {Name: "x", Extra: map[string][]string{authn.ExtraPodName: {"p"}}},
		"credential id":         {Name: "x", Extra: map[string][]string{authn.ExtraCredentialID: {"p"}}},
		"our own extra":         {Name: "x", Extra: map[string][]string{authn.ExtraContainerName: {"p"}}},
		"bare domain":           {Name: "x", Extra: map[string][]string{"gatehouse.dev": {"p"}}},
		"k8s.io":                {Name: "x", Extra: map[string][]string{"x.k8s.io/y": {"p"}}},
		"upper case extra":      {Name: "x", Extra: map[string][]string{"Authentication.Kubernetes.io/pod-name": {"p"}}},
		"empty extra":           {Name: "x", Extra: map[string][]string{"": {"p"}}},
		"big extra":             {Name: "x", Extra: map[string][]string{"a": {strings.Repeat("x", 20_000)}}},
		"uid beyond the limits": {Name: "x", UID: strings.Repeat("x", 2000)},
	} {
		w := newWorld(t)
		must(t, w.chain.SetProviders([]authn.ProviderConfig{{Name: "login", Issuers: []string{loginURL}, Provider: says(claimed)}}))
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := *w
			v.t = t
			v.refused(v.foreignToken("x"), authn.ReservedName)
		})
	}
}

func TestProviderFailures(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	refusing := fails(fault.New(fault.Unauthenticated, "bad token"))
	broken := fails(errors.New("connection refused"))
	must(t, w.chain.SetProviders([]authn.ProviderConfig{
		{Name: "login", Issuers: []string{loginURL}, Provider: refusing},
		{Name: "broken", Issuers: []string{"https://broken.example"}, Provider: broken},
	}))
	token := w.foreignToken("x")
	w.refused(token, authn.Refused)
	w.refused(token, authn.Refused)
	if n := refusing.calls.Load(); n != 1 {
		t.Errorf("asked %d times about a token just refused", n)
	}
	w.clock.advance(time.Second)
	w.refused(token, authn.Refused)
	if n := refusing.calls.Load(); n != 2 {
		t.Errorf("asked %d times after a second", n)
	}
	lost := sign(t, w.private, `{"alg":"ES256","kid":"theirs"}`, `{"iss":"https://broken.example"}`)
	if _, err := w.verify(lost); fault.KindOf(err) != fault.Unavailable || authn.ReasonOf(err) != "" || strings.Contains(fault.Public(err), "connection") {
		t.Errorf("got %v, public %q", err, fault.Public(err))
	}
	status := w.chain.Providers()
	if len(status) != 2 || status[0].Down || status[0].Name != "login" || !status[1].Down || !strings.Contains(status[1].Detail, "connection refused") || !status[1].Since.Equal(w.clock.now()) {
		t.Errorf("status %+v", status)
	}
	// The broken one holds up nobody else, and recovery shows.
	w.accepted(w.token(w.claims()))
	broken.answer = func(context.Context, string) (authn.Claimed, error) { return authn.Claimed{Name: "x"}, nil }
	w.accepted(lost)
	if status := w.chain.Providers(); status[1].Down || status[1].Detail != "" {
		t.Errorf("status %+v", status)
	}
}

func TestOpaqueTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, second := fails(fault.New(fault.Unauthenticated, "no")), says(authn.Claimed{Name: "x", Audiences: []string{"gatehouse:site:one"}})
	config := []authn.ProviderConfig{{Name: "first", Provider: first}, {Name: "second", Provider: second}}
	must(t, w.chain.SetProviders(config))
	id := w.accepted("some-opaque-token", "gatehouse:site:one", "other")
	if id.Source() != "second" || !slices.Equal(id.Audiences(), []string{"gatehouse:site:one"}) || id.CredentialID() != "" {
		t.Errorf("got %q for %q, %q", id.Source(), id.Audiences(), id.CredentialID())
	}
	w.refused("some-opaque-token", authn.WrongAudience)
	second.answer = fails(fault.New(fault.Unauthenticated, "no")).answer
	w.refused("other-opaque-token", authn.Refused)
	// While one cannot tell, nobody can say that the token is bad.
	first.answer = fails(errors.New("down")).answer
	if _, err := w.verify("third-opaque-token"); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("got %v", err)
	}
	// Signed tokens go to the providers of their issuer only.
	calls := first.calls.Load()
	w.refused(w.foreignToken("x"), authn.UnknownIssuer)
	if first.calls.Load() != calls {
		t.Error("a provider of opaque tokens saw a signed token")
	}
	must(t, w.chain.SetProviders(nil))
	w.refused("some-opaque-token", authn.Malformed, "gatehouse:site:one")
}

// TestProviderIsAskedPerAudience: a provider that answers for the audiences it
// was asked about is asked again for others.
func TestProviderIsAskedPerAudience(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	provider := &fakeProvider{echo: true}
	must(t, w.chain.SetProviders([]authn.ProviderConfig{{Name: "webhook", Provider: provider}}))
	for i, want := range [][]string{{"a"}, {"b"}, {"a", "b"}, {"a", "b"}} {
		if id := w.accepted("some-opaque-token", want...); !slices.Equal(id.Audiences(), want) {
			t.Errorf("%d: got %q, want %q", i, id.Audiences(), want)
		}
	}
	if n := provider.calls.Load(); n != 3 {
		t.Errorf("asked %d times, want 3", n)
	}
	picky := fails(fault.New(fault.Unauthenticated, "not for this audience"))
	must(t, w.chain.SetProviders([]authn.ProviderConfig{{Name: "webhook", Provider: picky}}))
	w.refused("some-opaque-token", authn.Refused, "a")
	picky.echo = true
	w.refused("some-opaque-token", authn.Refused, "a")
	w.accepted("some-opaque-token", "b")
}

func TestProvidersChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	provider := says(authn.Claimed{Name: "x"})
	config := authn.ProviderConfig{Name: "login", Issuers: []string{loginURL}, Provider: provider}
	must(t, w.chain.SetProviders([]authn.ProviderConfig{config}))
	token := w.foreignToken("x")
	w.accepted(token)
	// Given again, it goes on; a second beside it changes nothing.
	must(t, w.chain.SetProviders([]authn.ProviderConfig{config, {Name: "other", Issuers: []string{"https://other.example"}, Provider: says(authn.Claimed{Name: "y"})}}))
	w.accepted(token)
	if n := provider.calls.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	for name, bad := range map[string][]authn.ProviderConfig{
		"not comparable": {{Name: "x", Issuers: []string{loginURL}, Provider: uncomparable{answer: func() {}}}},
		"no name":        {{Issuers: []string{loginURL}, Provider: provider}},
		"no provider":    {{Name: "x", Issuers: []string{loginURL}}},
		"same name":      {config, {Name: "login", Provider: provider}},
		"same issuer":    {config, {Name: "other", Issuers: []string{loginURL}, Provider: provider}},
		"our own issuer": {{Name: "other", Issuers: []string{issuerURL}, Provider: provider}},
		"empty issuer":   {{Name: "other", Issuers: []string{""}, Provider: provider}},
	} {
		if err := w.chain.SetProviders(bad); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	w.accepted(token)
	// Replaced or removed, what it verified ends at once.
	must(t, w.chain.SetProviders([]authn.ProviderConfig{{Name: "login", Issuers: []string{loginURL}, Provider: fails(fault.New(fault.Unauthenticated, "no"))}}))
	w.refused(token, authn.Refused)
	w.clock.advance(time.Second)
	must(t, w.chain.SetProviders(nil))
	w.refused(token, authn.UnknownIssuer)
}

// TestHangingProvider has a provider that answers nothing: its own callers are
// released by the deadline or told to come back, the others notice nothing.
func TestHangingProvider(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		hanging := &fakeProvider{answer: func(ctx context.Context, _ string) (authn.Claimed, error) {
			<-ctx.Done()
			return authn.Claimed{}, ctx.Err()
		}}
		must(t, w.chain.SetProviders([]authn.ProviderConfig{{Name: "login", Issuers: []string{loginURL}, Provider: hanging, Timeout: 2 * time.Second, Concurrent: 1}}))
		token := w.foreignToken("x")
		results := make(chan error, 10)
		started := time.Now()
		for range cap(results) {
			go func() {
				_, err := w.chain.VerifyToken(context.Background(), token, nil)
				results <- err
			}()
		}
		synctest.Wait()
		w.accepted(w.token(w.claims()))
		kinds := map[fault.Kind]int{}
		for range cap(results) {
			kinds[fault.KindOf(<-results)]++
		}
		if waited := time.Since(started); waited > 4*time.Second {
			t.Errorf("callers were held for %v", waited)
		}
		if kinds[fault.Exhausted] != 5 || kinds[fault.Unavailable] != 5 {
			t.Errorf("kinds %v", kinds)
		}
		if status := w.chain.Providers(); !status[0].Down {
			t.Errorf("status %+v", status)
		}
		// A caller that leaves says nothing about the provider.
		must(t, w.chain.SetProviders([]authn.ProviderConfig{{Name: "again", Issuers: []string{loginURL}, Provider: hanging}}))
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := w.chain.VerifyToken(ctx, token, nil); fault.KindOf(err) != fault.Unavailable || w.chain.Providers()[0].Down {
			t.Errorf("got %v, status %+v", err, w.chain.Providers())
		}
	})
}

package fastlane_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	federationapi "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/authz/snapshot"
	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/fastlane"
	"github.com/gatehouse-dev/gatehouse/internal/fastlane/followwire"
	"github.com/gatehouse-dev/gatehouse/internal/federation/policystream"
	"github.com/gatehouse-dev/gatehouse/internal/keys"
	"github.com/gatehouse-dev/gatehouse/internal/keys/keystest"
)

// publisher signs policy that names a secret of another site.
func publisher(t *testing.T) (*policystream.Publisher, *authz.Engine) {
	t.Helper()
	engine := authz.New()
	engine.Update(func(tx *authz.Tx) {
		for _, site := range []string{"one", "secret-site"} {
			tx.PutSite(authz.Site{Name: site})
			tx.PutPolicy(authz.Policy{Name: "policy-of-" + site, Effect: authz.Allow, Sites: []string{site},
				Subjects: []authz.PolicySubject{{Subject: authz.Subject{Kind: authz.User, Name: "ada"}}},
				Rules:    []authz.Rule{{Verbs: []string{"get"}, APIGroups: []string{"*"}, Resources: []string{"*"}}}})
		}
	})
	ring, err := keys.Ensure[keys.PolicySnapshots](t.Context(), keystest.NewVault(t, time.Now))
	must(t, err)
	p, err := policystream.New(policystream.Config{
		Policy: engine.Snapshot, Objects: authn.NewIndex(nil), Keys: ring.Set, Issuers: func() []snapshot.Issuer { return nil }, Conditions: "v1", Ready: func() error { return nil },
		Sequence: (&policystream.Sequence{Store: keystest.NewMemory(), Now: time.Now}).Next, Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = p.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return p, engine
}

func TestFollow(t *testing.T) {
	t.Parallel()
	p, engine := publisher(t)
	acknowledged := make(chan time.Time, 16)
	w := newWorld(t, func(c *fastlane.Config) {
		c.Snapshots = p
		c.Acknowledged = func(site string, at time.Time) {
			if site == "one" {
				acknowledged <- at
			}
		}
	})
	client := w.client(w.siteOne, false)
	client.Timeout = 0
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	open := func(mode string) io.ReadCloser {
		t.Helper()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url+"/sites/one/snapshot", strings.NewReader(`{"follower":"host-1"}`))
		must(t, err)
		req.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(req)
		must(t, err)
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("status %d", resp.StatusCode)
		}
		if got := resp.Header.Get(followwire.HeaderMode); got != mode {
			t.Errorf("mode %q, want %q", got, mode)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp.Body
	}
	stream := open("Full")
	if ev := w.one(); ev.Verb != "watch" || ev.User.Username != "system:site:one" || ev.Annotations["snapshot.gatehouse.dev/follower"] != "host-1" {
		t.Errorf("record: %+v", ev)
	}
	var ring map[string]ed25519.PublicKey
	next := func() (snapshot.Header, []byte) {
		t.Helper()
		for {
			message, err := snapshot.ReadFrame(stream)
			must(t, err)
			if keys, is, err := followwire.ParseKeys(message); is {
				must(t, err)
				ring = keys
				continue
			}
			h, _, _, err := snapshot.Parts(message)
			must(t, err)
			if ring[h.Key] == nil {
				t.Fatalf("signed by key %q, which was not told", h.Key)
			}
			return h, message
		}
	}
	h, first := next()
	if h.Site != "one" || !bytes.Contains(first, []byte("policy-of-one")) || bytes.Contains(first, []byte("secret-site")) {
		t.Errorf("frame of %q: %q", h.Site, first)
	}
	ack := func(body string) answer {
		return w.do(w.client(w.siteOne, false), call{path: "/sites/one/snapshot/ack", body: body})
	}
	if got := ack(fmt.Sprintf(`{"follower":"host-1","sequence":%d}`, h.Sequence)); got.code != 200 {
		t.Errorf("ack: %d %s", got.code, got.body)
	}
	if at := <-acknowledged; !at.Equal(h.Issued) {
		t.Errorf("acknowledged %v, issued %v", at, h.Issued)
	}
	for body, want := range map[string]int{
		fmt.Sprintf(`{"follower":"host-1","sequence":%d}`, h.Sequence+1<<40): 404,
		`{"follower":"other","sequence":1}`:                                  404,
		`{"follower":"host-1","sequence":1,"more":1}`:                        400,
		`{"sequence":1}`: 400,
	} {
		if got := ack(body); got.code != want {
			t.Errorf("ack %s: %d %s", body, got.code, got.body)
		}
	}

	// A change arrives. That it does so within the second is held in virtual time
	// by package policystream.
	engine.Update(func(tx *authz.Tx) {
		tx.PutBan(authz.Ban{Name: "ban-of-one", CredentialIDs: []string{"JTI=1"}, Sites: []string{"*"}})
	})
	if _, second := next(); !bytes.Contains(second, []byte("ban-of-one")) {
		t.Errorf("the ban is not in %q", second)
	}

	// Who may not follow any more is cut off.
	cutOff := func() {
		t.Helper()
		began := time.Now()
		for {
			if _, err := snapshot.ReadFrame(stream); err != nil {
				if !errors.Is(err, io.EOF) {
					t.Errorf("the stream broke: %v", err)
				}
				break
			}
		}
		if took := time.Since(began); took > policystream.Beat {
			t.Errorf("cut off after %v", took)
		}
	}
	// Another mode is told by another stream.
	was, _ := w.directory.Get("one")
	w.directory.Put(site("one", federationapi.SiteDeny, was.Spec.Credentials...))
	cutOff()
	stream = open("Deny")
	w.directory.Put(site("one", federationapi.SiteDeny, "X509SHA256=another"))
	cutOff()
	for name, followers := range p.Followers() {
		for _, f := range followers {
			if f.Left.IsZero() {
				t.Errorf("%s is followed still: %+v", name, f)
			}
		}
	}
}

func TestFollowIsForTheSiteAlone(t *testing.T) {
	t.Parallel()
	p, _ := publisher(t)
	w := newWorld(t, func(c *fastlane.Config) { c.Snapshots = p })
	const body = `{"follower":"h"}`
	long := strings.Repeat("a", 300)
	for name, tc := range map[string]struct {
		client *http.Client
		call
		code int
	}{
		"nobody":              {w.client(nil, false), call{path: "/sites/one/snapshot", body: body}, 401},
		"a user":              {w.client(w.admin, false), call{path: "/sites/one/snapshot", body: body}, 401},
		"a token":             {w.client(w.siteOne, false), call{path: "/sites/one/snapshot", body: body, header: http.Header{"Authorization": {"Bearer x"}}}, 401},
		"another site":        {w.client(w.siteTwo, false), call{path: "/sites/one/snapshot", body: body}, 403},
		"another authority":   {w.client(w.siteForeign, false), call{path: "/sites/one/snapshot", body: body}, 401},
		"not listed":          {w.client(w.siteUnlisted, false), call{path: "/sites/one/snapshot", body: body}, 403},
		"impersonating":       {w.client(w.siteOne, false), call{path: "/sites/one/snapshot", body: body, header: http.Header{"Impersonate-User": {"x"}}}, 403},
		"observe mode":        {w.client(w.siteTwo, false), call{path: "/sites/two/snapshot", body: body}, 403},
		"observe mode, ack":   {w.client(w.siteTwo, false), call{path: "/sites/two/snapshot/ack", body: body}, 403},
		"get":                 {w.client(w.siteOne, false), call{method: "GET", path: "/sites/one/snapshot"}, 405},
		"no name":             {w.client(w.siteOne, false), call{path: "/sites/one/snapshot", body: `{}`}, 400},
		"a long name":         {w.client(w.siteOne, false), call{path: "/sites/one/snapshot", body: `{"follower":"` + long + `"}`}, 400},
		"a long digest":       {w.client(w.siteOne, false), call{path: "/sites/one/snapshot", body: `{"follower":"h","digest":"` + long + `"}`}, 400},
		"an unknown field":    {w.client(w.siteOne, false), call{path: "/sites/one/snapshot", body: `{"follower":"h","site":"two"}`}, 400},
		"too large":           {w.client(w.siteOne, false), call{path: "/sites/one/snapshot", body: `{"follower":"` + strings.Repeat("a", 5000) + `"}`}, 413},
		"deeper":              {w.client(w.siteOne, false), call{path: "/sites/one/x/snapshot", body: body}, 404},
		"without a publisher": {nil, call{path: "/sites/one/snapshot", body: body}, 503},
	} {
		at := w
		if name == "without a publisher" {
			at = newWorld(t)
			tc.client = at.client(at.siteOne, false)
		}
		if got := at.do(tc.client, tc.call); got.code != tc.code {
			t.Errorf("%s: %d %s, want %d", name, got.code, got.body, tc.code)
		}
	}
	if n := len(p.Followers()); n != 0 {
		t.Errorf("%d sites are followed", n)
	}
}

package fastlane_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/fastlane"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/issuer/sitetoken"
)

// siteTokens signs everything but one payload.
type siteTokens struct{}

func (siteTokens) Sign(_ context.Context, site, claims string) (sitetoken.Signed, error) {
	if claims == "bad" {
		return sitetoken.Signed{}, fault.New(fault.Invalid, "claims: of another issuer")
	}
	return sitetoken.Signed{Header: "head", Signature: site + "-" + claims, CredentialID: "JTI=1", Subject: "system:serviceaccount:a:b"}, nil
}

func (siteTokens) Keys(_ context.Context, site string) (sitetoken.KeySet, error) {
	return sitetoken.KeySet{Issuer: "https://x/sites/" + site, Keys: []sitetoken.Key{{ID: "k", Public: []byte{1}}}, MaxLifetime: time.Hour, At: time.Unix(0, 0).UTC()}, nil
}

func TestSignDoors(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *fastlane.Config) { c.SiteTokens = siteTokens{} })
	one := w.client(w.siteOne, false)
	for _, tc := range []struct {
		path, body, want string
		code             int
	}{
		{"/sites/one/sign", `{"claims":"abc"}`, `{"header":"head","signature":"one-abc"}`, 200},
		{"/sites/one/sign", `{"claims":"bad"}`, "of another issuer", 400},
		{"/sites/one/sign", `{}`, "claims", 400},
		{"/sites/one/sign", `{"claims":"abc","issuer":"x"}`, "claims", 400},
		{"/sites/one/sign", `abc`, "claims", 400},
		{"/sites/one/sign", `{"claims":"` + strings.Repeat("a", 64<<10) + `"}`, "limit", 413},
		{"/sites/two/sign", `{"claims":"abc"}`, "own doors", 403},
		{"/sites/one/keys", `{}`, `{"issuer":"https://x/sites/one","keys":[{"id":"k","key":"AQ=="}],"maxLifetimeSeconds":3600,"at":"1970-01-01T00:00:00Z"}`, 200},
		{"/sites/one/keys", `{"x":1}`, "{}", 400},
	} {
		got := w.do(one, call{path: tc.path, body: tc.body})
		if got.code != tc.code || !strings.Contains(string(got.body), tc.want) {
			t.Errorf("%s %.60s: %d %s", tc.path, tc.body, got.code, got.body)
		}
		events, kept := w.record.take()
		if len(events) != 1 {
			t.Fatalf("%s: %d records", tc.path, len(events))
		}
		if issued := events[0].Annotations["authentication.kubernetes.io/issued-credential-id"]; (issued == "JTI=1") != (tc.code == 200 && tc.path == "/sites/one/sign") {
			t.Errorf("%s: recorded %q as issued", tc.path, issued)
		}
		if strings.HasSuffix(tc.path, "sign") && kept[0] != audit.Durable {
			t.Errorf("%s: a token was signed before its record was on disk", tc.path)
		}
	}
	if got := w.do(w.client(w.nobody, false), call{path: "/sites/one/sign", body: `{"claims":"abc"}`}); got.code != 401 {
		t.Errorf("a user: %d", got.code)
	}
	if got := w.do(w.client(w.siteTwo, false), call{path: "/sites/two/sign", body: `{"claims":"abc"}`}); got.code != 403 || !strings.Contains(string(got.body), "its own") {
		t.Errorf("a site that signs its own tokens: %d %s", got.code, got.body)
	}
	if got := w.do(w.client(w.siteTwo, false), call{path: "/sites/two/keys", body: `{}`}); got.code != 403 {
		t.Errorf("its keys: %d %s", got.code, got.body)
	}
	closed := newWorld(t)
	if got := closed.do(closed.client(closed.siteOne, false), call{path: "/sites/one/sign", body: `{"claims":"abc"}`}); got.code != 503 {
		t.Errorf("without a signer: %d", got.code)
	}
}

package sitetoken_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/authn/jws"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/issuer/sitetoken"
	"github.com/gatehouse-dev/gatehouse/internal/keys"
	"github.com/gatehouse-dev/gatehouse/internal/keys/keystest"
)

type world struct {
	t  testing.TB
	s  *sitetoken.Signer
	at time.Time
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, at: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	now := func() time.Time { return w.at }
	vault := keystest.NewVault(t, now)
	w.s = &sitetoken.Signer{
		Issuer: "https://gatehouse.example", MaxLifetime: time.Hour, Schedule: keys.Schedule{Keep: time.Hour}, Now: now, Log: slog.New(slog.DiscardHandler),
		Ring: func(ctx context.Context, site string) (*keys.Ring[keys.SiteTokens], error) {
			return keys.EnsureForSite[keys.SiteTokens](ctx, vault, site)
		},
		Drop: func(ctx context.Context, site string) error {
			return keys.DropForSite[keys.SiteTokens](ctx, vault, site)
		},
	}
	return w
}

func (w *world) payload(changes map[string]any) string {
	w.t.Helper()
	claims := map[string]any{
		"iss": "https://gatehouse.example/sites/blue", "sub": "system:serviceaccount:ns:app", "aud": []string{"x"}, "jti": "1",
		"iat": w.at.Unix(), "nbf": w.at.Unix(), "exp": w.at.Add(time.Hour).Unix(),
		"kubernetes.io": map[string]any{"namespace": "ns", "serviceaccount": map[string]string{"name": "app", "uid": "u"}},
	}
	maps.Copy(claims, changes)
	raw, err := json.Marshal(claims)
	if err != nil {
		w.t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

// verifies reports whether a key of the site verifies the token.
func (w *world) verifies(site, claims string, signed sitetoken.Signed) bool {
	w.t.Helper()
	set, err := w.s.Keys(w.t.Context(), site)
	if err != nil {
		w.t.Fatal(err)
	}
	token, err := jws.Parse(signed.Header + "." + claims + "." + signed.Signature)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, k := range set.Keys {
		public, err := x509.ParsePKIXPublicKey(k.Public)
		if err != nil {
			w.t.Fatal(err)
		}
		key, err := jws.NewKey(k.ID, jws.ES256, public.(*ecdsa.PublicKey))
		if err != nil {
			w.t.Fatal(err)
		}
		if k.ID == token.KeyID() {
			_, err = token.Verify(key)
			return err == nil
		}
	}
	return false
}

func TestSign(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	claims := w.payload(nil)
	got, err := w.s.Sign(t.Context(), "blue", claims)
	if err != nil {
		t.Fatal(err)
	}
	if got.CredentialID != "JTI=1" || got.Subject != "system:serviceaccount:ns:app" || !w.verifies("blue", claims, got) {
		t.Errorf("signed %+v", got)
	}
	// kube-apiserver takes these three members and no other.
	header, err := base64.RawURLEncoding.DecodeString(got.Header)
	var members map[string]string
	if err != nil || json.Unmarshal(header, &members) != nil || len(members) != 3 || members["alg"] != "ES256" || members["typ"] != "JWT" || members["kid"] == "" {
		t.Errorf("header %s", header)
	}
	// No other site trusts it.
	if w.verifies("green", claims, got) {
		t.Error("the key of one site verifies at another")
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	account := func(namespace, name string) map[string]any {
		return map[string]any{"namespace": namespace, "serviceaccount": map[string]string{"name": name}}
	}
	for name, claims := range map[string]string{
		"nothing":              "",
		"no base64url":         "a+b/",
		"padding":              w.payload(nil) + "=",
		"no JSON":              base64.RawURLEncoding.EncodeToString([]byte("hello")),
		"a list":               base64.RawURLEncoding.EncodeToString([]byte("[]")),
		"iss twice":            base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"https://gatehouse.example/sites/blue","iss":"x"}`)),
		"our own issuer":       w.payload(map[string]any{"iss": "https://gatehouse.example"}),
		"another site":         w.payload(map[string]any{"iss": "https://gatehouse.example/sites/green"}),
		"no issuer":            w.payload(map[string]any{"iss": nil}),
		"a person":             w.payload(map[string]any{"sub": "jane"}),
		"another account":      w.payload(map[string]any{"sub": "system:serviceaccount:ns:other"}),
		"a node":               w.payload(map[string]any{"sub": "system:node:one", "kubernetes.io": account("ns", "app")}),
		"a colon in the name":  w.payload(map[string]any{"sub": "system:serviceaccount:a:b:c", "kubernetes.io": account("a", "b:c")}),
		"no account":           w.payload(map[string]any{"kubernetes.io": nil}),
		"no end":               w.payload(map[string]any{"exp": nil}),
		"ended":                w.payload(map[string]any{"exp": w.at.Unix()}),
		"beyond the cap":       w.payload(map[string]any{"exp": w.at.Add(time.Hour + time.Second).Unix()}),
		"issued long ago":      w.payload(map[string]any{"iat": w.at.Add(-time.Hour).Unix()}),
		"issued in the future": w.payload(map[string]any{"iat": w.at.Add(time.Hour).Unix()}),
		"not yet valid":        w.payload(map[string]any{"nbf": w.at.Add(time.Hour).Unix()}),
		"an end beyond time":   w.payload(map[string]any{"exp": 1e300}),
		"a huge one":           w.payload(map[string]any{"x": strings.Repeat("x", 1<<20)}),
	} {
		if got, err := w.s.Sign(t.Context(), "blue", claims); fault.KindOf(err) != fault.Invalid || got.Signature != "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRotation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sign := func() (string, sitetoken.Signed, string) {
		t.Helper()
		claims := w.payload(nil)
		got, err := w.s.Sign(t.Context(), "blue", claims)
		if err != nil {
			t.Fatal(err)
		}
		token, err := jws.Parse(got.Header + "." + claims + "." + got.Signature)
		if err != nil {
			t.Fatal(err)
		}
		return claims, got, token.KeyID()
	}
	claims, old, first := sign()
	w.at = w.at.Add(time.Minute)
	next, from, err := w.s.Rotate(t.Context(), "blue", 10*time.Minute)
	if err != nil || from.Before(w.at.Add(10*time.Minute)) || next == first {
		t.Fatalf("rotated to %s from %v: %v", next, from, err)
	}
	if _, _, id := sign(); id != first {
		t.Error("the new key signs before its time")
	}
	if set, err := w.s.Keys(t.Context(), "blue"); err != nil || len(set.Keys) != 2 || set.Keys[1].ID != next {
		t.Errorf("the new key is not published: %+v %v", set.Keys, err)
	}
	w.at = from
	if _, _, id := sign(); id != next || !w.verifies("blue", claims, old) {
		t.Error("after the rotation the new key signs and the old one verifies")
	}
	w.at = from.Add(2 * time.Hour)
	if w.verifies("blue", claims, old) {
		t.Error("the old key verifies when nothing it signed can be valid")
	}
}

func FuzzSign(f *testing.F) {
	f.Add("eyJpc3MiOiJ4In0")
	f.Add("")
	f.Fuzz(func(t *testing.T, claims string) {
		if got, err := newWorld(t).s.Sign(t.Context(), "blue", claims); err == nil && got.Subject == "" {
			t.Fatal("signed for nobody")
		}
	})
}

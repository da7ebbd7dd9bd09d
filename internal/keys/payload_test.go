package keys

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

var testTime = time.Date(2031, 2, 3, 4, 5, 6, 0, time.UTC)

func newTestRing(t testing.TB, s spec, n int) *ring {
	t.Helper()
	r := &ring{spec: s}
	for i := range n {
		k, err := newKey(s.algorithm, testTime.Add(time.Duration(i)*time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		if i < n-1 {
			k.retireAfter = testTime.Add(100 * time.Hour)
		}
		if s.authority {
			k.certificate = []byte("certificate")
		}
		r.keys = append(r.keys, k)
	}
	return r
}

func TestRingPayloadRoundTrip(t *testing.T) {
	t.Parallel()
	for _, s := range specs() {
		r := newTestRing(t, s, 3)
		data, err := r.encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := decodeRing(s, "", data)
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		again, err := back.encode()
		if err != nil || !bytes.Equal(data, again) {
			t.Errorf("%s: encodes differently, %v", s.name, err)
		}
		for _, other := range specs() {
			if other.name == s.name {
				continue
			}
			if _, err := decodeRing(other, "", data); err == nil {
				t.Errorf("keys for %s decode as keys for %s", s.name, other.name)
			}
		}
		if _, err := decodeRing(s, "berlin", data); err == nil {
			t.Errorf("%s: decodes for another site", s.name)
		}
	}
}

func TestPurposeNamesAreFrozen(t *testing.T) {
	t.Parallel()
	var got []string
	for _, s := range specs() {
		got = append(got, s.name)
	}
	want := "tokens legacy-tokens site-tokens jobs policy-snapshots reports checkpoints serving-ca client-ca site-ca requestheader-ca agent-ca"
	if strings.Join(got, " ") != want {
		t.Errorf("purposes %v, want %s", got, want)
	}
}

// TestRingPayloadIsFrozen decodes a ring written by the first version.
func TestRingPayloadIsFrozen(t *testing.T) {
	t.Parallel()
	const frozen = `{"version":1,"purpose":"jobs","keys":[` +
		`{"id":"_RENMB0vB33hQUuPmfRBsUA_qyB7IFL70sBl5O6OfcI","algorithm":"Ed25519","pkcs8":"MC4CAQAwBQYDK2VwBCIEIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB","signFrom":"2031-02-03T04:05:06Z"}]}`
	r, err := decodeRing(Jobs{}.spec(), "", []byte(frozen))
	if err != nil {
		t.Fatal(err)
	}
	back, err := r.encode()
	if err != nil || string(back) != frozen {
		t.Errorf("encodes as %s, %v", back, err)
	}
}

func TestRingPayloadRefusals(t *testing.T) {
	t.Parallel()
	s := Tokens{}.spec()
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384DER, err := x509.MarshalPKCS8PrivateKey(p384)
	if err != nil {
		t.Fatal(err)
	}
	edDER, err := x509.MarshalPKCS8PrivateKey(newTestRing(t, Jobs{}.spec(), 1).keys[0].private)
	if err != nil {
		t.Fatal(err)
	}
	data, err := newTestRing(t, s, 3).encode()
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]func(*ringPayload){
		"version 0":                  func(p *ringPayload) { p.Version = 0 },
		"version 2":                  func(p *ringPayload) { p.Version = 2 },
		"no keys":                    func(p *ringPayload) { p.Keys = nil },
		"too many keys":              func(p *ringPayload) { p.Keys = make([]keyPayload, maxKeys+1) },
		"one key twice":              func(p *ringPayload) { p.Keys[1].PKCS8, p.Keys[1].ID = p.Keys[0].PKCS8, p.Keys[0].ID },
		"id of another key":          func(p *ringPayload) { p.Keys[1].ID = p.Keys[0].ID },
		"another algorithm named":    func(p *ringPayload) { p.Keys[0].Algorithm = Ed25519 },
		"key of another algorithm":   func(p *ringPayload) { p.Keys[0].PKCS8 = edDER },
		"key on another curve":       func(p *ringPayload) { p.Keys[0].PKCS8 = p384DER },
		"no key":                     func(p *ringPayload) { p.Keys[0].PKCS8 = nil },
		"key with trailing data":     func(p *ringPayload) { p.Keys[0].PKCS8 = append(p.Keys[0].PKCS8, 0) },
		"no start":                   func(p *ringPayload) { p.Keys[0].SignFrom = time.Time{} },
		"start with a fraction":      func(p *ringPayload) { p.Keys[0].SignFrom = p.Keys[0].SignFrom.Add(1) },
		"end with a fraction":        func(p *ringPayload) { p.Keys[0].RetireAfter = p.Keys[0].RetireAfter.Add(1) },
		"starts out of order":        func(p *ringPayload) { p.Keys[1].SignFrom = p.Keys[0].SignFrom },
		"old key without an end":     func(p *ringPayload) { p.Keys[0].RetireAfter = time.Time{} },
		"newest key with an end":     func(p *ringPayload) { p.Keys[2].RetireAfter = testTime },
		"certificate without reason": func(p *ringPayload) { p.Keys[0].Certificate = []byte{1} },
		"site without reason":        func(p *ringPayload) { p.Site = "berlin" },
	}
	for name, change := range cases {
		var p ringPayload
		if err := json.Unmarshal(data, &p); err != nil {
			t.Fatal(err)
		}
		change(&p)
		bad, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeRing(s, "", bad); err == nil {
			t.Errorf("%s: decoded", name)
		}
	}
	for name, bad := range map[string]string{
		"empty": "", "null": "null", "list": "[]", "trailing": string(data) + "{}",
		"unknown field": strings.Replace(string(data), `{"version"`, `{"x":1,"version"`, 1),
	} {
		if _, err := decodeRing(s, "", []byte(bad)); err == nil {
			t.Errorf("%s: decoded", name)
		}
	}
	ca, err := newTestRing(t, SiteCA{}.spec(), 1).encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, certificate := range map[string][]byte{"authority without a certificate": nil, "oversized certificate": make([]byte, maxCertificate+1)} {
		var p ringPayload
		if err := json.Unmarshal(ca, &p); err != nil {
			t.Fatal(err)
		}
		p.Keys[0].Certificate = certificate
		bad, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeRing(SiteCA{}.spec(), "", bad); err == nil {
			t.Errorf("%s: decoded", name)
		}
	}
	if _, err := newKey("none", testTime); err == nil {
		t.Error("generated a key of no algorithm")
	}
}

// TestSignersDoNotPrintKeys looks for the private key in what fmt makes of
// every type that holds it and leaves this package.
func TestSignersDoNotPrintKeys(t *testing.T) {
	t.Parallel()
	for _, s := range []spec{Tokens{}.spec(), Jobs{}.spec()} {
		r := newTestRing(t, s, 1)
		der, err := x509.MarshalPKCS8PrivateKey(r.keys[0].private)
		if err != nil {
			t.Fatal(err)
		}
		secrets := []string{hex.EncodeToString(der[40:48]), strings.Trim(fmt.Sprint(der[40:48]), "[]")}
		set := newSet[Tokens](r, 1)
		holder := &Ring[Tokens]{}
		holder.publish(set)
		for _, v := range []any{set, *set, set.signers[0], set.signers, holder} {
			for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%d"} {
				out := fmt.Sprintf(verb, v)
				for _, secret := range secrets {
					if strings.Contains(out, secret) {
						t.Errorf("%s of %T shows the private key", verb, v)
					}
				}
			}
		}
	}
}

func FuzzDecodeRing(f *testing.F) {
	for _, s := range []spec{Tokens{}.spec(), Jobs{}.spec(), SiteCA{}.spec()} {
		data, err := newTestRing(f, s, 2).encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"version":1,"purpose":"tokens","keys":[{}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, s := range []spec{Tokens{}.spec(), Jobs{}.spec(), SiteCA{}.spec()} {
			r, err := decodeRing(s, "", data)
			if err != nil {
				continue
			}
			out, err := r.encode()
			if err != nil {
				t.Fatal(err)
			}
			back, err := decodeRing(s, "", out)
			if err != nil {
				t.Fatalf("what was accepted does not decode again: %v", err)
			}
			if again, err := back.encode(); err != nil || !bytes.Equal(out, again) {
				t.Errorf("the encoding is not stable: %v", err)
			}
		}
	})
}

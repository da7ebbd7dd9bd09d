package snapshot

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/authz"
)

func siteContent() *authz.Content {
	c := authz.New().Update(func(t *authz.Tx) { t.PutSite(authz.Site{Name: "s1"}) }).Content()
	return &c
}

func TestPresent(t *testing.T) {
	t.Parallel()
	robot := FingerprintOf("s1", "serviceaccount", "lab", "robot", "uid-1")
	other := FingerprintOf("s1", "serviceaccount", "lab", "other", "uid-2")
	frame, h, err := Seal(siteContent(), Credentials{Present: []Fingerprint{other, robot, other}}, header("s1", "", 1), newKey(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, again, err := Seal(siteContent(), Credentials{Present: []Fingerprint{robot, other}}, header("s1", "", 1), newKey(1)); err != nil || again.Digest != h.Digest {
		t.Errorf("the order of the objects shows: %v", err)
	}
	f := NewFollower(rules("s1", ""))
	if _, err := f.Accept(frame, noon); err != nil {
		t.Fatal(err)
	}
	p, err := f.Current(noon)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		f    Fingerprint
		want bool
	}{
		{robot, true}, {other, true},
		{FingerprintOf("s2", "serviceaccount", "lab", "robot", "uid-1"), false},
		{FingerprintOf("s1", "serviceaccount", "lab", "robot", "uid-2"), false},
		{FingerprintOf("s1", "serviceaccount", "labrobot", "", "uid-1"), false},
	} {
		if p.Present(tc.f) != tc.want {
			t.Errorf("%x: %v", tc.f, !tc.want)
		}
	}
	if strings.Contains(string(frame), "robot") || strings.Contains(string(frame), "uid-1") {
		t.Error("the frame names an object")
	}
	// Neither more fingerprints than bytes nor fingerprints out of order.
	body, err := encodeBody(siteContent(), Credentials{Present: []Fingerprint{robot, other}})
	if err != nil {
		t.Fatal(err)
	}
	const size = len(Fingerprint{})
	swapped := bytes.Clone(body)
	copy(swapped[1:], body[1+size:1+2*size])
	copy(swapped[1+size:], body[1:1+size])
	for name, bad := range map[string][]byte{"swapped": swapped, "cut": body[:20], "empty": nil, "many": {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}} {
		if _, _, err := decodeBody(bad, compileVerb); err == nil {
			t.Errorf("%s: decoded", name)
		}
	}
}

// TestIssuers ships the keys of issuers.
func TestIssuers(t *testing.T) {
	t.Parallel()
	a, b := Issuer{"https://a", `{"keys":[]}`}, Issuer{"https://b", "{}"}
	accept := func(creds Credentials) (*InForce, error) {
		frame, _, err := Seal(siteContent(), creds, header("s1", "", 1), newKey(1))
		if err != nil {
			return nil, err
		}
		f := NewFollower(rules("s1", ""))
		if _, err := f.Accept(frame, noon); err != nil {
			t.Fatal(err)
		}
		return f.Current(noon)
	}
	for _, list := range [][]Issuer{{a, b}, {b, a}} {
		if p, err := accept(Credentials{Issuers: list}); err != nil || !slices.Equal(p.Issuers, []Issuer{a, b}) {
			t.Errorf("%v: %v %v", list, p, err)
		}
	}
	for name, list := range map[string][]Issuer{
		"twice": {a, a}, "nobody": {{KeySet: "{}"}}, "long": {{"https://a", strings.Repeat("x", maxKeySet+1)}}, "far": {{strings.Repeat("x", maxURL+1), ""}}, "many": make([]Issuer, MaxIssuers+1),
	} {
		if _, err := accept(Credentials{Issuers: list}); err == nil {
			t.Errorf("%s: sealed", name)
		}
	}
	for name, bad := range map[string][]byte{
		"out of order": {0, 2, 1, 'b', 0, 1, 'a', 0}, "twice": {0, 2, 1, 'a', 0, 1, 'a', 0}, "nobody": {0, 1, 0, 0}, "many": {0, MaxIssuers + 1}, "cut": {0, 1, 5, 'a'},
	} {
		if _, _, err := decodeBody(bad, compileVerb); !errors.Is(err, errMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRestore stops a follower and starts another on what it held.
func TestRestore(t *testing.T) {
	t.Parallel()
	full, h, err := Seal(siteContent(), Credentials{}, header("s1", "", 5), newKey(1))
	if err != nil {
		t.Fatal(err)
	}
	h.Sequence, h.Issued, h.Ends = 7, noon.Add(30*time.Minute), noon.Add(2*time.Hour)
	renewal, err := Renew(h, newKey(1))
	if err != nil {
		t.Fatal(err)
	}
	// The head of the renewal before the body of the full frame.
	_, _, body, err := Parts(full)
	if err != nil {
		t.Fatal(err)
	}
	_, head, none, err := Parts(renewal)
	if err != nil || len(none) != 0 {
		t.Fatal(err)
	}
	stored := append(bytes.Clone(head), body...)

	f := NewFollower(rules("s1", ""))
	if got, err := f.Restore(stored); err != nil || got.Sequence != 7 {
		t.Fatalf("%+v %v", got, err)
	}
	if p, err := f.Current(noon.Add(time.Hour)); err != nil || p.Header.Sequence != 7 {
		t.Errorf("not in force again: %v", err)
	}
	if _, err := f.Current(noon.Add(2 * time.Hour)); !errors.Is(err, ErrEnded) {
		t.Errorf("after its end: %v", err)
	}
	if _, _, ok := f.Held(); !ok {
		t.Error("an ended policy is not known any more")
	}
	if _, err := f.Accept(full, noon); err == nil {
		t.Error("went back to 5")
	}
	for i := range stored {
		bad := bytes.Clone(stored)
		bad[i] ^= 1
		if _, err := NewFollower(rules("s1", "")).Restore(bad); err == nil {
			t.Fatalf("restored with byte %d changed", i)
		}
	}
	// What cannot decide here any more still bars what is older.
	newer := rules("s1", "")
	newer.Conditions = "v2"
	g := NewFollower(newer)
	if _, err := g.Restore(stored); err == nil {
		t.Error("restored conditions of another version")
	}
	old := header("s1", "", 6)
	old.Conditions = "v2"
	older, _, err := Seal(siteContent(), Credentials{}, old, newKey(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Accept(older, noon); err == nil {
		t.Error("went back to 6")
	}
}

func FuzzDecodeBody(f *testing.F) {
	body, err := encodeBody(siteContent(), Credentials{Present: []Fingerprint{{1}, {2}}, Issuers: []Issuer{{"https://a", "{}"}, {"https://b", ""}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Fuzz(func(t *testing.T, body []byte) {
		c, creds, err := decodeBody(body, compileVerb)
		if err != nil {
			return
		}
		again, err := encodeBody(&c, creds)
		if err != nil {
			t.Fatal(err)
		}
		if _, other, err := decodeBody(again, compileVerb); err != nil || !reflect.DeepEqual(creds, other) {
			t.Fatalf("%+v became %+v, %v", creds, other, err)
		}
	})
}

package checkpoint_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/gatehouse-dev/gatehouse/internal/audit/checkpoint"
)

var testKey = ed25519.NewKeyFromSeed([]byte("0123456789abcdef0123456789abcdef"))

func TestSignAndOpen(t *testing.T) {
	t.Parallel()
	s, err := checkpoint.NewSigner("example.com/log", testKey)
	if err != nil {
		t.Fatal(err)
	}
	c := checkpoint.Checkpoint{Origin: "example.com/log", Size: 12345, Root: [32]byte{1, 2, 3}}
	signed, err := s.Checkpoint(c)
	if err != nil {
		t.Fatal(err)
	}
	// The key and its hash are those that x/mod computes for itself.
	v, err := note.NewVerifier(s.VerifierKey())
	if err != nil || v.KeyHash() != s.KeyHash() || v.Name() != s.Name() {
		t.Fatalf("%v: %x, %x", err, v.KeyHash(), s.KeyHash())
	}
	verifiers, err := checkpoint.Verifiers(s.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	got, err := checkpoint.Open(signed, verifiers)
	if err != nil || got != c {
		t.Fatalf("%+v %v", got, err)
	}
	for i := range signed {
		changed := []byte(string(signed))
		changed[i] ^= 1
		if got, err := checkpoint.Open(changed, verifiers); err == nil && got != c {
			t.Fatalf("byte %d changed: %+v passes", i, got)
		}
	}
	if _, err := checkpoint.Open(make([]byte, checkpoint.MaxSize+1), verifiers); err == nil {
		t.Error("a giant was read")
	}
	other, err := checkpoint.NewSigner("example.com/log", ed25519.NewKeyFromSeed([]byte("fedcba9876543210fedcba9876543210")))
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := other.Checkpoint(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := checkpoint.Open(foreign, verifiers); err == nil {
		t.Error("another key's signature passes")
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	const root = "AQIDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	if c, err := checkpoint.Parse("o\n5\n" + root + "\nextension\n"); err != nil || c.Size != 5 {
		t.Errorf("%+v %v", c, err)
	}
	for _, text := range []string{"", "o\n5\n", "\n5\n" + root + "\n", "o\n05\n" + root + "\n", "o\n-5\n" + root + "\n", "o\n+5\n" + root + "\n",
		"o\n99999999999999999999\n" + root + "\n", "o\n5\nAQID\n", "o\n5\n" + root, "o\n5\n" + strings.TrimSuffix(root, "=") + "\n"} {
		if c, err := checkpoint.Parse(text); err == nil {
			t.Errorf("%q was read as %+v", text, c)
		}
	}
	for _, name := range []string{"", "a b", "a+b", "a\nb"} {
		if _, err := checkpoint.NewSigner(name, testKey); err == nil {
			t.Errorf("key name %q", name)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := checkpoint.NewSigner("a", key); err == nil {
		t.Error("an ECDSA key was taken")
	}
	if _, err := checkpoint.Verifiers("nonsense"); err == nil {
		t.Error("a nonsense key was read")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("o\n5\nAQIDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := checkpoint.Parse(text)
		if err == nil && !strings.HasPrefix(text, c.Text()) {
			t.Fatalf("%q is not how %+v is written", text, c)
		}
	})
}

package keys

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

var testPlace = []byte("secrets/default/db")

func TestSealOpens(t *testing.T) {
	t.Parallel()
	s := testKeyring(t, 1).Resources()
	for _, size := range []int{0, 1, 15, 16, 17, 4096, 1 << 20} {
		plaintext := bytes.Repeat([]byte{7}, size)
		sealed, err := s.Seal(plaintext, testPlace)
		if err != nil {
			t.Fatal(err)
		}
		if len(sealed) != size+Overhead {
			t.Errorf("%d bytes sealed have %d, want %d", size, len(sealed), size+Overhead)
		}
		got, err := s.Open(sealed, testPlace)
		if err != nil || !bytes.Equal(got, plaintext) {
			t.Errorf("%d bytes do not open: %v", size, err)
		}
		if size >= 15 && bytes.Contains(sealed, plaintext) {
			t.Error("the plaintext shows")
		}
	}
	a, errA := s.Seal([]byte("same"), testPlace)
	b, errB := s.Seal([]byte("same"), testPlace)
	if errA != nil || errB != nil || bytes.Equal(a, b) {
		t.Error("one value sealed twice is the same")
	}
}

// TestSealFormatIsFrozen opens a value sealed by the first version of the
// format: every later version must.
func TestSealFormatIsFrozen(t *testing.T) {
	t.Parallel()
	sealed, err := hex.DecodeString(frozenSealed)
	if err != nil {
		t.Fatal(err)
	}
	got, err := testKeyring(t, 1).Resources().Open(sealed, testPlace)
	if err != nil || string(got) != "frozen" {
		t.Errorf("opens as %q, %v", got, err)
	}
}

const frozenSealed = "01ad8f32308f71686a4616ee8fe4f87d47e2c2b1d8fd671df90cfd4366d61aab648cb2b72970ad78294da76c4b9158292348d029039067bd4c"

// TestEveryBitCounts flips every bit of a sealed value and cuts it at every
// length.
func TestEveryBitCounts(t *testing.T) {
	t.Parallel()
	// Two roots, so that a changed root id may hit the other one's path too.
	s := testKeyring(t, 1, 2).Rows()
	sealed, err := s.Seal([]byte("forty-two bytes or so of a secret value..."), testPlace)
	if err != nil {
		t.Fatal(err)
	}
	for i := range sealed {
		for bit := range 8 {
			bad := bytes.Clone(sealed)
			bad[i] ^= 1 << bit
			got, err := s.Open(bad, testPlace)
			want := ErrSealed
			if i >= 1 && i < sealHeader {
				want = ErrUnknownRoot
			}
			if got != nil || !errors.Is(err, want) {
				t.Fatalf("byte %d bit %d changed: %q, %v, want %v", i, bit, got, err, want)
			}
		}
	}
	for n := range sealed {
		if got, err := s.Open(sealed[:n], testPlace); got != nil || !errors.Is(err, ErrSealed) {
			t.Fatalf("cut at %d: %q, %v", n, got, err)
		}
	}
	if _, err := s.Open(append(bytes.Clone(sealed), 0), testPlace); !errors.Is(err, ErrSealed) {
		t.Errorf("one byte appended: %v", err)
	}
	other := testRoot(t, 2)
	bad := bytes.Clone(sealed)
	copy(bad[1:], other.id[:])
	if _, err := s.Open(bad, testPlace); !errors.Is(err, ErrSealed) {
		t.Errorf("id of another known root: %v", err)
	}
}

func TestSealIsBoundToPlaceAndUse(t *testing.T) {
	t.Parallel()
	ring := testKeyring(t, 1)
	sealers := map[string]*Sealer{"resources": ring.Resources(), "rows": ring.Rows(), "vault": ring.vault}
	for name, s := range sealers {
		sealed, err := s.Seal([]byte("x"), testPlace)
		if err != nil {
			t.Fatal(err)
		}
		for _, place := range []string{"", "secrets/default/db2", "secrets/default/d", "secrets/default/db\x00"} {
			if _, err := s.Open(sealed, []byte(place)); !errors.Is(err, ErrSealed) {
				t.Errorf("%s: opens at %q: %v", name, place, err)
			}
		}
		for otherName, other := range sealers {
			if _, err := other.Open(sealed, testPlace); (err == nil) != (other == s) {
				t.Errorf("sealed for %s, opened for %s: %v", name, otherName, err)
			}
		}
	}
}

func TestSealRefuses(t *testing.T) {
	t.Parallel()
	s := testKeyring(t, 1).Rows()
	if _, err := s.Seal([]byte("x"), nil); !errors.Is(err, ErrSealInput) {
		t.Errorf("without a place: %v", err)
	}
	if _, err := s.Seal(make([]byte, MaxPlaintext+1), testPlace); !errors.Is(err, ErrSealInput) {
		t.Errorf("oversized: %v", err)
	}
	oversized := make([]byte, MaxPlaintext+Overhead+1)
	oversized[0] = sealVersion
	if _, err := s.Open(oversized, testPlace); !errors.Is(err, ErrSealed) {
		t.Errorf("open oversized: %v", err)
	}
}

func TestRootsRotate(t *testing.T) {
	t.Parallel()
	old, both, next := testKeyring(t, 1), testKeyring(t, 2, 1), testKeyring(t, 2)
	sealed, err := old.Rows().Seal([]byte("x"), testPlace)
	if err != nil {
		t.Fatal(err)
	}
	if old.Rows().Stale(sealed) || !both.Rows().Stale(sealed) {
		t.Error("stale is wrong for the old root")
	}
	if got, err := both.Rows().Open(sealed, testPlace); err != nil || string(got) != "x" {
		t.Errorf("the second root does not open: %v", err)
	}
	_, err = next.Rows().Open(sealed, testPlace)
	if !errors.Is(err, ErrUnknownRoot) || !strings.Contains(err.Error(), old.RootID()) {
		t.Errorf("without the old root: %v", err)
	}
	if fault.KindOf(err) != fault.Internal || fault.Public(err) != "internal error" {
		t.Errorf("kind %v, public text %q", fault.KindOf(err), fault.Public(err))
	}
	again, err := both.Rows().Seal([]byte("x"), testPlace)
	if err != nil {
		t.Fatal(err)
	}
	if both.Rows().Stale(again) || !old.Rows().Stale(again) {
		t.Error("stale is wrong for the new root")
	}
	if _, err := next.Rows().Open(again, testPlace); err != nil {
		t.Errorf("the new root alone does not open: %v", err)
	}
	for _, junk := range [][]byte{nil, {1}, make([]byte, Overhead)} {
		if both.Rows().Stale(junk) {
			t.Errorf("%x is stale", junk)
		}
		if id, err := SealedRootID(junk); id != "" || !errors.Is(err, ErrSealed) {
			t.Errorf("root id of %x: %q, %v", junk, id, err)
		}
	}
	if id, err := SealedRootID(sealed); err != nil || id != old.RootID() {
		t.Errorf("root id %q, %v", id, err)
	}
}

func FuzzOpen(f *testing.F) {
	// A fixed value: fuzzing runs in several processes, which must agree on it.
	s := testKeyring(f, 1, 2).Resources()
	sealed, err := hex.DecodeString(frozenSealed)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed, testPlace)
	f.Add(sealed[:Overhead], testPlace)
	f.Add([]byte{1}, []byte{})
	f.Fuzz(func(t *testing.T, data, place []byte) {
		got, err := s.Open(data, place)
		if err == nil && !(bytes.Equal(data, sealed) && bytes.Equal(place, testPlace)) {
			t.Errorf("a forgery opened as %q", got)
		}
		if err != nil && (got != nil || !errors.Is(err, ErrSealed) && !errors.Is(err, ErrUnknownRoot)) {
			t.Errorf("%q, %v", got, err)
		}
		_ = s.Stale(data)
	})
}

// BenchmarkSeal compares with AES-GCM under one fixed key, which is what the
// derived key of each message costs over.
func BenchmarkSeal(b *testing.B) {
	s := testKeyring(b, 1).Resources()
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		b.Fatal(err)
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		b.Fatal(err)
	}
	plaintext := make([]byte, 1024)
	_, _ = rand.Read(plaintext)
	sealed, err := s.Seal(plaintext, testPlace)
	if err != nil {
		b.Fatal(err)
	}
	plain := gcm.Seal(nil, nil, plaintext, testPlace)
	for name, op := range map[string]func() error{
		"seal":     func() error { _, err := s.Seal(plaintext, testPlace); return err },
		"open":     func() error { _, err := s.Open(sealed, testPlace); return err },
		"gcm seal": func() error { gcm.Seal(nil, nil, plaintext, testPlace); return nil },
		"gcm open": func() error { _, err := gcm.Open(nil, nil, plain, testPlace); return err },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(plaintext)))
			b.ReportAllocs()
			for b.Loop() {
				if err := op(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

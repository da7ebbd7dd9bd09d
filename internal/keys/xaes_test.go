package keys

import (
	"bytes"
	"crypto/sha3"
	"encoding/hex"
	"testing"
)

// TestXAESVectors holds the vectors of the C2SP specification.
func TestXAESVectors(t *testing.T) {
	t.Parallel()
	cases := []struct {
		key  byte
		aad  string
		want string
	}{
		{0x01, "", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"},
		{0x03, "c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"},
	}
	nonce, plaintext := []byte("ABCDEFGHIJKLMNOPQRSTUVWX"), []byte("XAES-256-GCM")
	for _, tc := range cases {
		x, err := newXAES(bytes.Repeat([]byte{tc.key}, xaesKeySize))
		if err != nil {
			t.Fatal(err)
		}
		got, err := x.seal(nil, nonce, plaintext, []byte(tc.aad))
		if err != nil {
			t.Fatal(err)
		}
		if hex.EncodeToString(got) != tc.want {
			t.Errorf("key %#x: %x, want %s", tc.key, got, tc.want)
		}
		back, err := x.open(nonce, got, []byte(tc.aad))
		if err != nil || !bytes.Equal(back, plaintext) {
			t.Errorf("key %#x: opens as %q, %v", tc.key, back, err)
		}
	}
	for _, size := range []int{0, 16, 24, 33} {
		if _, err := newXAES(make([]byte, size)); err == nil {
			t.Errorf("took a key of %d bytes", size)
		}
	}
}

// TestXAESAccumulated runs the specification's 10,000 random cases, of all
// lengths to 255 and both values of the CMAC carry.
func TestXAESAccumulated(t *testing.T) {
	t.Parallel()
	source, sum := sha3.NewSHAKE128(), sha3.NewSHAKE128()
	read := func(n int) []byte {
		out := make([]byte, n)
		_, _ = source.Read(out)
		return out
	}
	for range 10_000 {
		x, err := newXAES(read(xaesKeySize))
		if err != nil {
			t.Fatal(err)
		}
		nonce := read(xaesNonceSize)
		plaintext := read(int(read(1)[0]))
		aad := read(int(read(1)[0]))
		sealed, err := x.seal(nil, nonce, plaintext, aad)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = sum.Write(sealed)
		back, err := x.open(nonce, sealed, aad)
		if err != nil || !bytes.Equal(back, plaintext) {
			t.Fatalf("opens as %x, %v", back, err)
		}
	}
	got := make([]byte, 32)
	_, _ = sum.Read(got)
	const want = "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939"
	if hex.EncodeToString(got) != want {
		t.Errorf("accumulated %x, want %s", got, want)
	}
}

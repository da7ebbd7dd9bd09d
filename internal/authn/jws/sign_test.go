package jws

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"io"
	"testing"
)

// brokenSigner is a key whose device misbehaves.
type brokenSigner struct {
	public crypto.PublicKey
	out    []byte
	err    error
}

func (b brokenSigner) Public() crypto.PublicKey { return b.public }

func (b brokenSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return b.out, b.err
}

func TestSignerRefuses(t *testing.T) {
	t.Parallel()
	private := newP256(t)
	for name, id := range map[string]string{"empty": "", "quote": `a"b`, "backslash": `a\b`, "control": "a\nb", "not ASCII": "é"} {
		if _, err := NewSigner(id, private); err == nil {
			t.Errorf("id %s: accepted", name)
		}
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewSigner("k", p384); err == nil {
		t.Error("a P-384 key: accepted")
	}
	unplugged := errors.New("unplugged")
	for name, device := range map[string]brokenSigner{
		"error":          {private.Public(), nil, unplugged},
		"empty":          {private.Public(), nil, nil},
		"no DER":         {private.Public(), []byte("nonsense"), nil},
		"negative":       {private.Public(), []byte{0x30, 6, 2, 1, 0xff, 2, 1, 1}, nil},
		"trailing bytes": {private.Public(), []byte{0x30, 6, 2, 1, 1, 2, 1, 1, 0}, nil},
	} {
		signer, err := NewSigner("k", device)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := signer.Sign([]byte("{}")); err == nil {
			t.Errorf("%s: a token was made", name)
		} else if device.err != nil && !errors.Is(err, device.err) {
			t.Errorf("%s: cause lost: %v", name, err)
		}
	}
}

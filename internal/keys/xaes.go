package keys

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
)

const (
	xaesKeySize   = 32
	xaesNonceSize = 24
	xaesTagSize   = 16
	gcmNonceSize  = 12
)

// xaes is XAES-256-GCM (C2SP, XAES-256-GCM): AES-256-GCM under a key derived
// for each message from its 192-bit nonce. Random nonces of that length cannot
// collide in practice, however many messages one key seals, where the 96-bit
// nonce of plain GCM limits a key to 2^32. The derivation is the counter-mode
// KDF of SP 800-108r1 with CMAC, three AES blocks.
//
// A value is immutable and safe for concurrent use.
type xaes struct {
	block cipher.Block
	// k1 is the CMAC subkey for whole blocks (SP 800-38B, section 6.1).
	k1 [aes.BlockSize]byte
}

func newXAES(key []byte) (*xaes, error) {
	if len(key) != xaesKeySize {
		return nil, fmt.Errorf("key has %d bytes, want %d", len(key), xaesKeySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	x := &xaes{block: block}
	block.Encrypt(x.k1[:], x.k1[:])
	hi, lo := binary.BigEndian.Uint64(x.k1[:8]), binary.BigEndian.Uint64(x.k1[8:])
	// Doubling in GF(2^128), without a branch on the secret top bit.
	carry := hi >> 63
	binary.BigEndian.PutUint64(x.k1[:8], hi<<1|lo>>63)
	binary.BigEndian.PutUint64(x.k1[8:], lo<<1^(0x87&-carry))
	return x, nil
}

// message returns the AEAD for messages whose nonce starts with prefix.
func (x *xaes) message(prefix []byte) (cipher.AEAD, error) {
	var key [2 * aes.BlockSize]byte
	for i := range 2 {
		half := key[i*aes.BlockSize : (i+1)*aes.BlockSize]
		half[1] = byte(i + 1)
		half[2] = 'X'
		copy(half[4:], prefix)
		for j := range half {
			half[j] ^= x.k1[j]
		}
		x.block.Encrypt(half, half)
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// seal appends the ciphertext and its tag to dst.
func (x *xaes) seal(dst, nonce, plaintext, aad []byte) ([]byte, error) {
	aead, err := x.message(nonce[:xaesNonceSize-gcmNonceSize])
	if err != nil {
		return nil, err
	}
	return aead.Seal(dst, nonce[xaesNonceSize-gcmNonceSize:], plaintext, aad), nil
}

// open returns the plaintext of an authentic ciphertext.
func (x *xaes) open(nonce, ciphertext, aad []byte) ([]byte, error) {
	aead, err := x.message(nonce[:xaesNonceSize-gcmNonceSize])
	if err != nil {
		return nil, err
	}
	return aead.Open(nil, nonce[xaesNonceSize-gcmNonceSize:], ciphertext, aad)
}

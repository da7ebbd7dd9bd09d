package jws

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"math/big"
)

// Verify checks the signature with key and returns the payload, now vouched
// for by the holder of the key. The token must name the key's id, if it names
// one, and the key's algorithm.
func (u Unverified) Verify(key *Key) ([]byte, error) {
	if u.alg != key.alg || u.kid != "" && u.kid != key.id {
		return nil, ErrAlgorithm
	}
	if !key.verify(u.signed, u.signature) {
		return nil, ErrSignature
	}
	return u.payload, nil
}

func (k *Key) verify(signed string, signature []byte) bool {
	switch public := k.public.(type) {
	case *ecdsa.PublicKey:
		// RFC 7518 §3.4: R and S, each as long as the curve's order.
		size := orderBytes(k.scheme)
		if len(signature) != 2*size {
			return false
		}
		r := new(big.Int).SetBytes(signature[:size])
		s := new(big.Int).SetBytes(signature[size:])
		return ecdsa.Verify(public, digest(k.scheme.hash, signed), r, s)
	case *rsa.PublicKey:
		if len(signature) != public.Size() {
			return false
		}
		sum := digest(k.scheme.hash, signed)
		if k.scheme.family == pkcs1Family {
			return rsa.VerifyPKCS1v15(public, k.scheme.hash, sum, signature) == nil
		}
		// RFC 7518 §3.5: the salt is as long as the hash.
		return rsa.VerifyPSS(public, k.scheme.hash, sum, signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
	case ed25519.PublicKey:
		return ed25519.Verify(public, []byte(signed), signature)
	default:
		return false
	}
}

func orderBytes(s scheme) int { return (s.curve.Params().BitSize + 7) / 8 }

func digest(h crypto.Hash, text string) []byte {
	switch h {
	case crypto.SHA384:
		sum := sha512.Sum384([]byte(text))
		return sum[:]
	case crypto.SHA512:
		sum := sha512.Sum512([]byte(text))
		return sum[:]
	default:
		sum := sha256.Sum256([]byte(text))
		return sum[:]
	}
}

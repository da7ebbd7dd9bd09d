package jws

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
)

// Algorithm is a signature algorithm by its JOSE name (RFC 7518 §3.1).
type Algorithm string

// The algorithms that a [Key] can have. All are asymmetric.
const (
	ES256 Algorithm = "ES256"
	ES384 Algorithm = "ES384"
	ES512 Algorithm = "ES512"
	RS256 Algorithm = "RS256"
	RS384 Algorithm = "RS384"
	RS512 Algorithm = "RS512"
	PS256 Algorithm = "PS256"
	PS384 Algorithm = "PS384"
	PS512 Algorithm = "PS512"
	EdDSA Algorithm = "EdDSA"
)

// family is what an algorithm signs with.
type family uint8

const (
	ecdsaFamily family = iota + 1
	pkcs1Family
	pssFamily
	ed25519Family
)

// scheme is everything that an algorithm's name stands for.
type scheme struct {
	family family
	hash   crypto.Hash
	curve  elliptic.Curve
}

var schemes = map[Algorithm]scheme{
	ES256: {ecdsaFamily, crypto.SHA256, elliptic.P256()},
	ES384: {ecdsaFamily, crypto.SHA384, elliptic.P384()},
	ES512: {ecdsaFamily, crypto.SHA512, elliptic.P521()},
	RS256: {pkcs1Family, crypto.SHA256, nil},
	RS384: {pkcs1Family, crypto.SHA384, nil},
	RS512: {pkcs1Family, crypto.SHA512, nil},
	PS256: {pssFamily, crypto.SHA256, nil},
	PS384: {pssFamily, crypto.SHA384, nil},
	PS512: {pssFamily, crypto.SHA512, nil},
	EdDSA: {ed25519Family, 0, nil},
}

// Bounds on what a key may be.
const (
	minRSABits = 2048
	maxRSABits = 8192
	maxKeyID   = 256
)

// Key is a public key that verifies tokens of one algorithm. It is immutable
// and safe for concurrent use.
type Key struct {
	id     string
	alg    Algorithm
	scheme scheme
	public crypto.PublicKey
}

// NewKey returns the key that verifies tokens whose header names id and alg.
// It refuses an empty id, an algorithm that does not fit the key and a key too
// weak to trust.
func NewKey(id string, alg Algorithm, public crypto.PublicKey) (*Key, error) {
	if id == "" || len(id) > maxKeyID {
		return nil, fmt.Errorf("key id must have 1 to %d bytes", maxKeyID)
	}
	s, known := schemes[alg]
	if !known {
		return nil, fmt.Errorf("algorithm %.20q is not one that a key can have", alg)
	}
	if err := s.fits(public); err != nil {
		return nil, fmt.Errorf("key for %s: %w", alg, err)
	}
	return &Key{id: id, alg: alg, scheme: s, public: public}, nil
}

// ID returns the key id (kid).
func (k *Key) ID() string { return k.id }

// Algorithm returns the only algorithm that the key verifies.
func (k *Key) Algorithm() Algorithm { return k.alg }

// Public returns the public key, which the caller must not modify.
func (k *Key) Public() crypto.PublicKey { return k.public }

// Equal reports whether both keys verify the same tokens.
func (k *Key) Equal(other *Key) bool {
	if k.id != other.id || k.alg != other.alg {
		return false
	}
	public, comparable := k.public.(interface{ Equal(crypto.PublicKey) bool })
	return comparable && public.Equal(other.public)
}

// KeyID derives a key id from a public key as Kubernetes does for service
// account keys: base64url of the SHA-256 of its PKIX form. Equal keys have
// equal ids everywhere, and nobody chooses one.
func KeyID(public crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", fmt.Errorf("derive key id: %w", err)
	}
	sum := sha256.Sum256(der)
	return base64.RawURLEncoding.EncodeToString(sum[:]), nil
}

// AlgorithmFor returns the algorithm that we use a key with when nothing else
// says: that of its curve, or RS256.
func AlgorithmFor(public crypto.PublicKey) (Algorithm, error) {
	for _, alg := range []Algorithm{ES256, ES384, ES512, RS256, EdDSA} {
		if schemes[alg].fits(public) == nil {
			return alg, nil
		}
	}
	return "", fmt.Errorf("no algorithm for a key of type %T", public)
}

func (s scheme) fits(public crypto.PublicKey) error {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		if s.family != ecdsaFamily || key.Curve != s.curve {
			return errors.New("does not fit an elliptic curve key of this curve")
		}
		// ECDH refuses points that are not on the curve.
		if _, err := key.ECDH(); err != nil {
			return errors.New("the point is not on the curve")
		}
		return nil
	case *rsa.PublicKey:
		if s.family != pkcs1Family && s.family != pssFamily {
			return errors.New("does not fit an RSA key")
		}
		return strongRSA(key)
	case ed25519.PublicKey:
		if s.family != ed25519Family || len(key) != ed25519.PublicKeySize {
			return errors.New("does not fit an Ed25519 key")
		}
		return nil
	default:
		return fmt.Errorf("unsupported key type %T", public)
	}
}

func strongRSA(key *rsa.PublicKey) error {
	bits := key.N.BitLen()
	switch {
	case bits < minRSABits || bits > maxRSABits:
		return fmt.Errorf("RSA modulus has %d bits, allowed are %d to %d", bits, minRSABits, maxRSABits)
	case key.E < 3 || key.E%2 == 0:
		return fmt.Errorf("RSA exponent %d is not allowed", key.E)
	case hasROCA(key.N):
		return errors.New("RSA modulus carries the ROCA fingerprint (CVE-2017-15361)")
	}
	return nil
}

// rocaPrimes are the primes up to 167, for which a modulus made by the faulty
// generator of CVE-2017-15361 always lies in the group generated by 65537.
var rocaPrimes = []int64{
	3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79,
	83, 89, 97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
}

// hasROCA reports whether a modulus has the fingerprint of that generator. A
// sound modulus has it with a probability below 2^-27.
func hasROCA(n *big.Int) bool {
	for _, p := range rocaPrimes {
		residue := new(big.Int).Mod(n, big.NewInt(p)).Int64()
		inGroup := false
		for power, i := int64(1), int64(0); i < p; i++ {
			if power == residue {
				inGroup = true
				break
			}
			power = power * 65537 % p
		}
		if !inGroup {
			return false
		}
	}
	return true
}

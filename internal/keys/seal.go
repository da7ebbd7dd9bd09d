package keys

import (
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// A sealed value is
//
//	version (1 byte, 1) | root id (10) | nonce (24) | ciphertext | tag (16)
//
// under XAES-256-GCM with the key of one use of that root. Version and root id
// select the key, so that changing them changes the key and the tag fails.
const (
	sealVersion = 1
	sealHeader  = 1 + rootIDSize
	// Overhead is how much longer a sealed value is than its plaintext, in bytes.
	Overhead = sealHeader + xaesNonceSize + xaesTagSize
	// MaxPlaintext is the longest value that can be sealed, in bytes.
	MaxPlaintext = 16 << 20
)

// Errors of [Sealer]. All are of kind Internal: whose sealed value does not
// open learns nothing from us but that.
var (
	// ErrSealed is a sealed value that is damaged, was sealed for another
	// place or use, or is no sealed value at all.
	ErrSealed = fault.New(fault.Internal, "sealed value is damaged or was sealed for another place")
	// ErrUnknownRoot is a sealed value whose root key is not in the keyring.
	ErrUnknownRoot = fault.New(fault.Internal, "value is sealed under a root key that this process does not hold")
	// ErrSealInput is a plaintext over [MaxPlaintext] or an empty place.
	ErrSealInput = fault.New(fault.Internal, "value cannot be sealed")
)

// Keyring holds the roots in use: values are sealed under the first and open
// under any, so that a root can be replaced while values of both exist. It is
// immutable and safe for concurrent use.
type Keyring struct {
	ids                    []string
	resources, rows, vault *Sealer
}

// NewKeyring makes a keyring of at least one root, the sealing one first.
func NewKeyring(roots ...Root) (*Keyring, error) {
	if len(roots) == 0 || len(roots) > maxRoots {
		return nil, fmt.Errorf("keyring of %d root keys, want 1 to %d", len(roots), maxRoots)
	}
	k := &Keyring{}
	for i, r := range roots {
		if r.key.Len() != rootSize {
			return nil, errors.New("keyring with an empty root key")
		}
		for _, earlier := range roots[:i] {
			if earlier.id == r.id {
				return nil, fmt.Errorf("keyring repeats root key %s", r.ID())
			}
		}
		k.ids = append(k.ids, r.ID())
	}
	for use, sealer := range map[string]**Sealer{
		"seal resources": &k.resources,
		"seal rows":      &k.rows,
		"seal keys":      &k.vault,
	} {
		var err error
		if *sealer, err = newSealer(use, roots); err != nil {
			return nil, err
		}
	}
	return k, nil
}

// RootID returns the id of the root that seals.
func (k *Keyring) RootID() string { return k.ids[0] }

// RootIDs returns the ids of all roots, the sealing one first.
func (k *Keyring) RootIDs() []string { return append([]string(nil), k.ids...) }

// Resources returns the sealer for resources of the API kept in etcd.
func (k *Keyring) Resources() *Sealer { return k.resources }

// Rows returns the sealer for values kept in the SQL store.
func (k *Keyring) Rows() *Sealer { return k.rows }

// Sealer seals values for one use. What one use sealed does not open under
// another. It is immutable and safe for concurrent use.
type Sealer struct{ roots []sealingRoot }

type sealingRoot struct {
	id   [rootIDSize]byte
	aead *xaes
}

func newSealer(use string, roots []Root) (*Sealer, error) {
	s := &Sealer{}
	for _, r := range roots {
		aead, err := newXAES(derive(r.key, use, xaesKeySize))
		if err != nil {
			return nil, fmt.Errorf("derive sealing key: %w", err)
		}
		s.roots = append(s.roots, sealingRoot{id: r.id, aead: aead})
	}
	return s, nil
}

// Seal encrypts plaintext under the first root. place names where the value
// will be kept (a path, a table with its row key); it is not stored, and Open
// needs the same. It must not be empty: a value without a place could be moved.
func (s *Sealer) Seal(plaintext, place []byte) ([]byte, error) {
	if len(place) == 0 {
		return nil, fmt.Errorf("%w: no place given", ErrSealInput)
	}
	if len(plaintext) > MaxPlaintext {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrSealInput, len(plaintext), MaxPlaintext)
	}
	first := s.roots[0]
	out := make([]byte, sealHeader+xaesNonceSize, len(plaintext)+Overhead)
	out[0] = sealVersion
	copy(out[1:], first.id[:])
	nonce := out[sealHeader:]
	// Read never fails: the program ends if the system has no randomness.
	_, _ = rand.Read(nonce)
	out, err := first.aead.seal(out, nonce, plaintext, place)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return out, nil
}

// Open returns the plaintext of a value sealed for the same use and place
// under any root of the keyring, else [ErrSealed] or [ErrUnknownRoot].
func (s *Sealer) Open(sealed, place []byte) ([]byte, error) {
	id, err := sealedRoot(sealed)
	if err != nil {
		return nil, err
	}
	for _, r := range s.roots {
		if r.id != id {
			continue
		}
		nonce, ciphertext := sealed[sealHeader:sealHeader+xaesNonceSize], sealed[sealHeader+xaesNonceSize:]
		plaintext, err := r.aead.open(nonce, ciphertext, place)
		if err != nil {
			return nil, ErrSealed
		}
		return plaintext, nil
	}
	return nil, fmt.Errorf("%w: root key %s", ErrUnknownRoot, idEncoding.EncodeToString(id[:]))
}

// Stale reports whether sealed should be sealed anew: it is well-formed, but
// not under the root that seals now.
func (s *Sealer) Stale(sealed []byte) bool {
	id, err := sealedRoot(sealed)
	return err == nil && id != s.roots[0].id
}

// SealedRootID returns the id of the root that sealed a value, without opening
// it: whoever wrote the value chose it.
func SealedRootID(sealed []byte) (string, error) {
	id, err := sealedRoot(sealed)
	if err != nil {
		return "", err
	}
	return idEncoding.EncodeToString(id[:]), nil
}

func sealedRoot(sealed []byte) (id [rootIDSize]byte, err error) {
	if len(sealed) < Overhead || len(sealed) > MaxPlaintext+Overhead || sealed[0] != sealVersion {
		return id, ErrSealed
	}
	copy(id[:], sealed[1:sealHeader])
	return id, nil
}

package keys

import (
	"crypto"
	"errors"
	"io"
	"time"
)

// Verifier is the public side of one key of a purpose. It is immutable.
type Verifier[P Purpose] struct {
	_           [0]P // keeps purposes from converting into each other
	id          string
	algorithm   Algorithm
	public      crypto.PublicKey
	certificate []byte
	signFrom    time.Time
	retireAfter time.Time
}

// KeyID returns the SHA-256 of the public key in base64url, usable as a JOSE
// key id.
func (v *Verifier[P]) KeyID() string { return v.id }

// Algorithm returns what the key signs with.
func (v *Verifier[P]) Algorithm() Algorithm { return v.algorithm }

// Public returns an *ecdsa.PublicKey on P-256 or an ed25519.PublicKey, as
// Algorithm says. The caller must not modify it.
func (v *Verifier[P]) Public() crypto.PublicKey { return v.public }

// Certificate returns the DER certificate of an authority's key, nil for other
// purposes. The caller must not modify it.
func (v *Verifier[P]) Certificate() []byte { return v.certificate }

// SignFrom returns when the key signs first; it verifies before that already.
func (v *Verifier[P]) SignFrom() time.Time { return v.signFrom }

// RetireAfter returns when the key stops verifying, zero if that is not known
// yet because no successor exists.
func (v *Verifier[P]) RetireAfter() time.Time { return v.retireAfter }

// Signer is one private key of a purpose. It is a [crypto.Signer] whose key
// cannot be taken out, and safe for concurrent use.
type Signer[P Purpose] struct {
	Verifier[P]
	// private is behind a function, so that no printer reaches it.
	private func() crypto.Signer
}

// Sign implements [crypto.Signer]: ES256 keys take a SHA-256 digest and return
// an ASN.1 signature, Ed25519 keys take the message with crypto.Hash(0).
func (s *Signer[P]) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts == nil {
		return nil, errors.New("sign: no options")
	}
	if s.algorithm == ES256 && (opts.HashFunc() != crypto.SHA256 || len(digest) != crypto.SHA256.Size()) {
		return nil, errors.New("sign: an ES256 key signs SHA-256 digests only")
	}
	if s.algorithm == Ed25519 && opts.HashFunc() != 0 {
		return nil, errors.New("sign: an Ed25519 key signs whole messages only")
	}
	return s.private().Sign(rand, digest, opts)
}

// Set is the state of a ring at one revision. It is immutable.
type Set[P Purpose] struct {
	revision int64
	signers  []*Signer[P] // oldest first
	replaced chan struct{}
}

func newSet[P Purpose](r *ring, revision int64) *Set[P] {
	s := &Set[P]{revision: revision, replaced: make(chan struct{})}
	for _, k := range r.keys {
		s.signers = append(s.signers, newSigner[P](r.spec, k))
	}
	return s
}

func newSigner[P Purpose](spec spec, k key) *Signer[P] {
	private := k.private
	return &Signer[P]{
		Verifier: Verifier[P]{
			id: k.id, algorithm: spec.algorithm, public: private.Public(),
			certificate: k.certificate, signFrom: k.signFrom, retireAfter: k.retireAfter,
		},
		private: func() crypto.Signer { return private },
	}
}

// Revision returns the store revision of the ring; it differs whenever the
// keys do.
func (s *Set[P]) Revision() int64 { return s.revision }

// Replaced is closed when the ring has a newer set, so that what was cached
// under this one can be dropped.
func (s *Set[P]) Replaced() <-chan struct{} { return s.replaced }

// Signer returns the key that signs at the given time. There always is one: a
// clock that is behind the first key uses that.
func (s *Set[P]) Signer(now time.Time) *Signer[P] {
	for i := len(s.signers) - 1; i > 0; i-- {
		if !s.signers[i].signFrom.After(now) {
			return s.signers[i]
		}
	}
	return s.signers[0]
}

// Verifiers returns the keys whose signatures count at the given time, oldest
// first, those that do not sign yet included.
func (s *Set[P]) Verifiers(now time.Time) []*Verifier[P] {
	out := make([]*Verifier[P], 0, len(s.signers))
	for _, k := range s.signers {
		if k.verifies(now) {
			out = append(out, &k.Verifier)
		}
	}
	return out
}

// Verifier returns the key of that id, if its signatures count at the given
// time. It does not allocate.
func (s *Set[P]) Verifier(now time.Time, keyID string) (*Verifier[P], bool) {
	for _, k := range s.signers {
		if k.id == keyID && k.verifies(now) {
			return &k.Verifier, true
		}
	}
	return nil, false
}

// next returns the first moment after now at which another key signs or one
// stops verifying, zero if there is none.
func (s *Set[P]) next(now time.Time) time.Time {
	var next time.Time
	for _, k := range s.signers {
		for _, t := range []time.Time{k.signFrom, k.retireAfter} {
			if t.After(now) && (next.IsZero() || t.Before(next)) {
				next = t
			}
		}
	}
	return next
}

func (v *Verifier[P]) verifies(now time.Time) bool {
	return v.retireAfter.IsZero() || now.Before(v.retireAfter)
}

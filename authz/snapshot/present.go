package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/gatehouse-dev/gatehouse/authz"
)

// Fingerprint stands for an object that exists and that credentials are bound
// to. It is a digest, so that whoever holds policy can tell whether an object
// that it was told about is still there, and cannot list the others.
type Fingerprint [16]byte

// FingerprintOf returns the fingerprint of an object for one site; that for
// another site differs. The last part should be one that cannot be guessed,
// such as a UID.
func FingerprintOf(site string, parts ...string) Fingerprint {
	h := sha256.New()
	h.Write([]byte("gatehouse object of a credential\x00"))
	var n [4]byte
	for _, s := range append([]string{site}, parts...) {
		h.Write(binary.BigEndian.AppendUint32(n[:0], uint32(len(s))))
		h.Write([]byte(s))
	}
	return Fingerprint(h.Sum(nil))
}

func compare(a, b Fingerprint) int { return bytes.Compare(a[:], b[:]) }

// encodeBody writes how many fingerprints there are, these in order, and the
// policy.
func encodeBody(c *authz.Content, present []Fingerprint) ([]byte, error) {
	policy, err := encode(c)
	if err != nil {
		return nil, err
	}
	present = slices.Clone(present)
	slices.SortFunc(present, compare)
	present = slices.Compact(present)
	body := make([]byte, 0, binary.MaxVarintLen64+len(present)*len(Fingerprint{})+len(policy))
	body = binary.AppendUvarint(body, uint64(len(present)))
	for _, f := range present {
		body = append(body, f[:]...)
	}
	return append(body, policy...), nil
}

func decodeBody(body []byte, compile Compile) (authz.Content, []Fingerprint, error) {
	const size = len(Fingerprint{})
	n, k := binary.Uvarint(body)
	if k <= 0 || n > uint64(len(body)-k)/uint64(size) {
		return authz.Content{}, nil, errMalformed
	}
	body = body[k:]
	present := make([]Fingerprint, n)
	for i := range present {
		present[i] = Fingerprint(body[i*size:])
		if i > 0 && compare(present[i-1], present[i]) >= 0 {
			return authz.Content{}, nil, errMalformed // it could not be searched
		}
	}
	c, err := decode(body[int(n)*size:], compile)
	return c, present, err
}

// InForce is the policy that a [Follower] holds. It is immutable.
type InForce struct {
	Header   Header
	Snapshot *authz.Snapshot
	present  []Fingerprint
}

// Present reports whether the object exists, as far as the policy knows.
func (p *InForce) Present(f Fingerprint) bool {
	_, found := slices.BinarySearchFunc(p.present, f, compare)
	return found
}

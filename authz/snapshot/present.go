package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

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

// Issuer is one whose tokens can be verified where policy is decided.
type Issuer struct {
	// URL is the iss claim.
	URL string
	// KeySet is its public keys, a JSON Web Key set (RFC 7517 §5). This package
	// does not read it.
	KeySet string
}

// Credentials is what a decision point needs beside policy, to tell which
// credentials are good.
type Credentials struct {
	// Present are the objects that credentials can be bound to.
	Present []Fingerprint
	// Issuers are those of tokens, in any order, at most [MaxIssuers].
	Issuers []Issuer
}

// Bounds of what a frame says of issuers; a key set is of bytes.
const (
	MaxIssuers = 16
	maxURL     = 4 << 10
	maxKeySet  = 64 << 10
)

// encodeBody writes how many fingerprints there are, these in order, the
// issuers in the same way, and the policy.
func encodeBody(c *authz.Content, creds Credentials) ([]byte, error) {
	policy, err := encode(c)
	if err != nil {
		return nil, err
	}
	issuers := slices.SortedFunc(slices.Values(creds.Issuers), func(a, b Issuer) int { return strings.Compare(a.URL, b.URL) })
	if len(issuers) > MaxIssuers {
		return nil, fmt.Errorf("%d issuers of tokens, at most %d are shipped", len(issuers), MaxIssuers)
	}
	present := slices.Clone(creds.Present)
	slices.SortFunc(present, compare)
	present = slices.Compact(present)
	body := make([]byte, 0, binary.MaxVarintLen64+len(present)*len(Fingerprint{})+len(policy))
	body = binary.AppendUvarint(body, uint64(len(present)))
	for _, f := range present {
		body = append(body, f[:]...)
	}
	body = binary.AppendUvarint(body, uint64(len(issuers)))
	for i, issuer := range issuers {
		if i > 0 && issuers[i-1].URL == issuer.URL || issuer.URL == "" || len(issuer.URL) > maxURL || len(issuer.KeySet) > maxKeySet {
			return nil, fmt.Errorf("issuer %.100q of tokens: it is there twice, has no URL, or its keys are too many", issuer.URL)
		}
		for _, s := range [...]string{issuer.URL, issuer.KeySet} {
			body = append(binary.AppendUvarint(body, uint64(len(s))), s...)
		}
	}
	return append(body, policy...), nil
}

func decodeBody(body []byte, compile Compile) (authz.Content, Credentials, error) {
	const size = len(Fingerprint{})
	var creds Credentials
	n, k := binary.Uvarint(body)
	if k <= 0 || n > uint64(len(body)-k)/uint64(size) {
		return authz.Content{}, creds, errMalformed
	}
	body = body[k:]
	creds.Present = make([]Fingerprint, n)
	for i := range creds.Present {
		creds.Present[i] = Fingerprint(body[i*size:])
		if i > 0 && compare(creds.Present[i-1], creds.Present[i]) >= 0 {
			return authz.Content{}, Credentials{}, errMalformed // it could not be searched
		}
	}
	d := &decoder{b: body[int(n)*size:]}
	issuers := d.number()
	if issuers > MaxIssuers {
		d.fail(errMalformed)
	}
	for i := 0; d.err == nil && i < int(issuers); i++ {
		next := Issuer{d.piece(maxURL), d.piece(maxKeySet)}
		if next.URL == "" || i > 0 && creds.Issuers[i-1].URL >= next.URL {
			d.fail(errMalformed)
		}
		creds.Issuers = append(creds.Issuers, next)
	}
	if d.err != nil {
		return authz.Content{}, Credentials{}, d.err
	}
	c, err := decode(d.b, compile)
	return c, creds, err
}

// piece reads a text that no later one refers to.
func (d *decoder) piece(limit int) string {
	n := d.count()
	if n > limit {
		d.fail(errMalformed)
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

// InForce is the policy that a [Follower] holds. It is immutable.
type InForce struct {
	Header   Header
	Snapshot *authz.Snapshot
	// Issuers are those whose tokens can be verified, in the order of URLs. Two
	// frames with equal credentials may share the list.
	Issuers []Issuer
	present []Fingerprint
}

// Present reports whether the object exists, as far as the policy knows.
func (p *InForce) Present(f Fingerprint) bool {
	_, found := slices.BinarySearchFunc(p.present, f, compare)
	return found
}

package keys

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

const (
	payloadVersion = 1
	// maxKeys bounds a ring: the signer, its successor, and those that verify
	// what they signed earlier.
	maxKeys = 16
	// maxCertificate bounds the certificate of one authority key, in bytes.
	maxCertificate = 16 << 10
)

// ring is the content of one stored ring, oldest key first.
type ring struct {
	spec spec
	site string
	keys []key
}

// key is one private key of a ring.
type key struct {
	id          string
	private     crypto.Signer
	certificate []byte
	// signFrom is when the key becomes the signer; from creation until then it
	// only verifies, so that every verifier knows it before its first use.
	signFrom time.Time
	// retireAfter is when nothing it signed can be valid any more. It is zero
	// on the newest key and on no other.
	retireAfter time.Time
}

// ringPayload is the stored form, sealed. A change of meaning needs a new
// version; unknown fields are refused.
type ringPayload struct {
	Version int          `json:"version"`
	Purpose string       `json:"purpose"`
	Site    string       `json:"site,omitempty"`
	Keys    []keyPayload `json:"keys"`
}

type keyPayload struct {
	ID          string    `json:"id"`
	Algorithm   Algorithm `json:"algorithm"`
	PKCS8       []byte    `json:"pkcs8"`
	Certificate []byte    `json:"certificate,omitempty"`
	SignFrom    time.Time `json:"signFrom"`
	RetireAfter time.Time `json:"retireAfter,omitzero"`
}

// newKey generates a private key that signs from the given time.
func newKey(algorithm Algorithm, signFrom time.Time) (key, error) {
	var private crypto.Signer
	var err error
	switch algorithm {
	case ES256:
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case Ed25519:
		_, private, err = ed25519.GenerateKey(rand.Reader)
	default:
		err = fmt.Errorf("unknown algorithm %q", algorithm)
	}
	if err != nil {
		return key{}, fmt.Errorf("generate key: %w", err)
	}
	id, err := keyID(private.Public())
	if err != nil {
		return key{}, fmt.Errorf("generate key: %w", err)
	}
	return key{id: id, private: private, signFrom: stored(signFrom)}, nil
}

// keyID is the SHA-256 of the public key (SubjectPublicKeyInfo), as the key
// ids of Kubernetes issuers are.
func keyID(public crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(der)
	return base64.RawURLEncoding.EncodeToString(sum[:]), nil
}

// stored is t as it survives storing: UTC and whole seconds.
func stored(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

func (r *ring) encode() ([]byte, error) {
	payload := ringPayload{Version: payloadVersion, Purpose: r.spec.name, Site: r.site}
	for _, k := range r.keys {
		der, err := x509.MarshalPKCS8PrivateKey(k.private)
		if err != nil {
			return nil, fmt.Errorf("encode key: %w", err)
		}
		payload.Keys = append(payload.Keys, keyPayload{
			ID: k.id, Algorithm: r.spec.algorithm, PKCS8: der, Certificate: k.certificate,
			SignFrom: k.signFrom, RetireAfter: k.retireAfter,
		})
	}
	return json.Marshal(payload)
}

// decodeRing reads a ring of the given purpose and site, and refuses one that
// breaks any rule of the format. Errors do not quote the input.
func decodeRing(want spec, site string, data []byte) (*ring, error) {
	var payload ringPayload
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&payload); err != nil {
		return nil, errors.New("ring is not in a known format")
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("ring has trailing data")
	}
	switch {
	case payload.Version != payloadVersion:
		return nil, fmt.Errorf("ring has version %d, this program knows %d", payload.Version, payloadVersion)
	case payload.Purpose != want.name || payload.Site != site:
		return nil, errors.New("ring is for another purpose or site")
	case len(payload.Keys) == 0 || len(payload.Keys) > maxKeys:
		return nil, fmt.Errorf("ring has %d keys, want 1 to %d", len(payload.Keys), maxKeys)
	}
	r := &ring{spec: want, site: site}
	for i, p := range payload.Keys {
		k, err := p.decode(want)
		if err != nil {
			return nil, fmt.Errorf("key %d of ring: %w", i, err)
		}
		newest := i == len(payload.Keys)-1
		if newest != k.retireAfter.IsZero() {
			return nil, fmt.Errorf("key %d of ring: only the newest has no end", i)
		}
		if i > 0 && !k.signFrom.After(r.keys[i-1].signFrom) {
			return nil, fmt.Errorf("key %d of ring: signs no later than the one before", i)
		}
		for _, earlier := range r.keys {
			if earlier.id == k.id {
				return nil, fmt.Errorf("key %d of ring: is there twice", i)
			}
		}
		r.keys = append(r.keys, k)
	}
	return r, nil
}

func (p keyPayload) decode(want spec) (key, error) {
	private, err := parsePrivate(p.PKCS8, want.algorithm)
	if err != nil || p.Algorithm != want.algorithm {
		return key{}, fmt.Errorf("is not an %s key", want.algorithm)
	}
	id, err := keyID(private.Public())
	if err != nil || id != p.ID {
		return key{}, errors.New("does not fit its id")
	}
	if p.SignFrom.IsZero() || p.SignFrom != stored(p.SignFrom) || p.RetireAfter != stored(p.RetireAfter) {
		return key{}, errors.New("has no whole times")
	}
	if len(p.Certificate) > maxCertificate || want.authority != (len(p.Certificate) > 0) {
		return key{}, errors.New("has a certificate that does not fit its purpose")
	}
	return key{id: id, private: private, certificate: p.Certificate, signFrom: p.SignFrom, retireAfter: p.RetireAfter}, nil
}

func parsePrivate(der []byte, algorithm Algorithm) (crypto.Signer, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	// The parser lets some spellings and trailing bytes pass; ours is one.
	if own, err := x509.MarshalPKCS8PrivateKey(parsed); err != nil || !bytes.Equal(own, der) {
		return nil, errors.New("not as it was written")
	}
	switch private := parsed.(type) {
	case *ecdsa.PrivateKey:
		if algorithm == ES256 && private.Curve == elliptic.P256() {
			return private, nil
		}
	case ed25519.PrivateKey:
		if algorithm == Ed25519 {
			return private, nil
		}
	}
	return nil, errors.New("wrong kind of key")
}

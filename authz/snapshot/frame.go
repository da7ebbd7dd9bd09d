package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse-dev/gatehouse/authz"
)

const (
	// magic names the format and its version, and keeps its signatures apart
	// from all others.
	magic = "gatehouse policy snapshot 3\n"
	// MaxFrame bounds a frame, in bytes: about four million bindings.
	MaxFrame     = 256 << 20
	maxHeader    = 4 << 10
	maxSignature = 16 << 10
)

// Header is what a frame says of its policy.
type Header struct {
	// Site and Namespace are the questions that the policy answers; see
	// [authz.Restriction].
	Site      string `json:"site"`
	Namespace string `json:"namespace,omitempty"`
	// Object is the one object that the policy answers about, as
	// RESOURCE.GROUP/NAME; empty where it is not restricted to one.
	Object string `json:"object,omitempty"`
	// Sequence orders the frames for one site: a follower never goes back. It
	// must rise over restarts of the signing side and over all its replicas.
	Sequence uint64 `json:"sequence"`
	// Issued and Ends are when the frame was signed and until when its policy
	// may decide.
	Issued time.Time `json:"issued"`
	Ends   time.Time `json:"ends"`
	// Conditions is the version of the environment of the conditions.
	Conditions string `json:"conditions"`
	// Key names the signing key.
	Key string `json:"key"`
	// Digest is the SHA-256 of the body, in hexadecimal. A frame without a body
	// renews the policy that has this digest.
	Digest string `json:"digest"`
}

// Signer signs frames with the key it names.
type Signer interface {
	KeyID() string
	Sign(message []byte) (signature []byte, err error)
}

// Verifier checks signatures. It trusts keys for this one purpose only.
type Verifier interface {
	Verify(keyID string, message, signature []byte) error
}

// Seal returns a full frame with the policy and what verifies credentials. Of h, Key and Digest are filled in; the header that was signed
// is returned.
func Seal(c *authz.Content, creds Credentials, h Header, signer Signer) ([]byte, Header, error) {
	body, err := encodeBody(c, creds)
	if err != nil {
		return nil, h, fmt.Errorf("encode policy: %w", err)
	}
	h.Digest = digest(body)
	frame, h, err := seal(h, body, signer)
	return frame, h, err
}

// Renew returns a frame that renews the policy with h.Digest, as h says.
func Renew(h Header, signer Signer) ([]byte, error) {
	frame, _, err := seal(h, nil, signer)
	return frame, err
}

// Parts takes a full frame apart into what is signed and the policy, so that
// they can be kept apart: the head of a renewal before the body of the frame
// that it renews is a full frame too. It believes nothing and proves nothing.
func Parts(frame []byte) (h Header, head, body []byte, err error) {
	h, _, _, body, err = split(frame)
	return h, frame[:len(frame)-len(body)], body, err
}

func digest(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

func seal(h Header, body []byte, signer Signer) ([]byte, Header, error) {
	h.Key = signer.KeyID()
	header, err := json.Marshal(h)
	if err != nil {
		return nil, h, fmt.Errorf("encode header: %w", err)
	}
	message := binary.BigEndian.AppendUint32([]byte(magic), uint32(len(header)))
	message = append(message, header...)
	signature, err := signer.Sign(message)
	if err != nil {
		return nil, h, fmt.Errorf("sign policy snapshot: %w", err)
	}
	frame := make([]byte, 0, len(message)+2+len(signature)+len(body))
	frame = append(frame, message...)
	frame = binary.BigEndian.AppendUint16(frame, uint16(len(signature)))
	frame = append(append(frame, signature...), body...)
	if len(header) > maxHeader || len(signature) > maxSignature || len(frame) > MaxFrame {
		return nil, h, errors.New("seal policy snapshot: it is too large")
	}
	return frame, h, nil
}

var errFrame = errors.New("not a frame of policy")

// split takes a frame apart without believing any of it.
func split(frame []byte) (h Header, message, signature, body []byte, err error) {
	rest, ok := bytes.CutPrefix(frame, []byte(magic))
	if !ok || len(frame) > MaxFrame || len(rest) < 4 {
		return h, nil, nil, nil, errFrame
	}
	n := binary.BigEndian.Uint32(rest)
	rest = rest[4:]
	if n > maxHeader || int(n)+2 > len(rest) {
		return h, nil, nil, nil, errFrame
	}
	header := rest[:n]
	message = frame[:len(magic)+4+int(n)]
	rest = rest[n:]
	k := int(binary.BigEndian.Uint16(rest))
	rest = rest[2:]
	if k > maxSignature || k > len(rest) {
		return h, nil, nil, nil, errFrame
	}
	strict := json.NewDecoder(bytes.NewReader(header))
	strict.DisallowUnknownFields()
	if err := strict.Decode(&h); err != nil || strict.InputOffset() != int64(len(header)) {
		return h, nil, nil, nil, errFrame
	}
	return h, message, rest[:k], rest[k:], nil
}

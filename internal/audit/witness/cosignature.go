package witness

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"

	"github.com/gatehouse-dev/gatehouse/internal/audit/checkpoint"
)

// algCosignature is the signature type of timestamped Ed25519 cosignatures
// (C2SP signed-note, "Signature types").
const algCosignature = 4

// signatureSize is a timestamp and an Ed25519 signature.
const signatureSize = 8 + ed25519.SignatureSize

// Verifier is the public key of a witness. It is a note.Verifier.
type Verifier struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

var _ note.Verifier = (*Verifier)(nil)

// ParseVerifier reads a witness's key in the signed-note format,
// "name+hash+key".
func ParseVerifier(vkey string) (*Verifier, error) {
	bad := func(why string) (*Verifier, error) {
		return nil, fmt.Errorf("witness key %.200q: %s", vkey, why)
	}
	parts := strings.SplitN(strings.TrimSpace(vkey), "+", 3)
	if len(parts) != 3 || !validName(parts[0]) || len(parts[1]) != 8 {
		return bad("is not name+hash+key")
	}
	hash, err := strconv.ParseUint(parts[1], 16, 32)
	if err != nil {
		return bad("is not name+hash+key")
	}
	key, err := base64.StdEncoding.Strict().DecodeString(parts[2])
	if err != nil || len(key) != 1+ed25519.PublicKeySize {
		return bad("the key is not base64 of 33 bytes")
	}
	if key[0] != algCosignature {
		return bad("is not a key for cosignatures (type 4)")
	}
	v := newVerifier(parts[0], key[1:])
	if v.hash != uint32(hash) {
		return bad("the hash is not that of the name and the key")
	}
	return v, nil
}

func newVerifier(name string, pub ed25519.PublicKey) *Verifier {
	h := sha256.New()
	h.Write([]byte(name + "\n"))
	h.Write([]byte{algCosignature})
	h.Write(pub)
	return &Verifier{name: name, hash: binary.BigEndian.Uint32(h.Sum(nil)), key: pub}
}

func validName(name string) bool {
	return name != "" && utf8.ValidString(name) && !strings.ContainsRune(name, '+') && strings.IndexFunc(name, unicode.IsSpace) < 0
}

// Name implements note.Verifier.
func (v *Verifier) Name() string { return v.name }

// KeyHash implements note.Verifier.
func (v *Verifier) KeyHash() uint32 { return v.hash }

// String returns the key in the signed-note format.
func (v *Verifier) String() string {
	return fmt.Sprintf("%s+%08x+%s", v.name, v.hash, base64.StdEncoding.EncodeToString(append([]byte{algCosignature}, v.key...)))
}

// Verify implements note.Verifier.
func (v *Verifier) Verify(msg, sig []byte) bool {
	if len(sig) != signatureSize {
		return false
	}
	at := binary.BigEndian.Uint64(sig)
	return at <= math.MaxInt64 && ed25519.Verify(v.key, signedText(at, msg), sig[8:])
}

// signedText is what a cosignature signs (C2SP tlog-cosignature, "Signed
// message").
func signedText(at uint64, msg []byte) []byte {
	return fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", at, msg)
}

// Signer makes cosignatures. It is a note.Signer.
type Signer struct {
	*Verifier
	key crypto.Signer
	now func() time.Time
}

var _ note.Signer = (*Signer)(nil)

// NewSigner returns a signer under a name, which should be a URL without its
// scheme. The key must be Ed25519.
func NewSigner(name string, key crypto.Signer, now func() time.Time) (*Signer, error) {
	if !validName(name) {
		return nil, fmt.Errorf("witness name %q is not valid", name)
	}
	pub, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("witness key is %T, not Ed25519", key.Public())
	}
	return &Signer{newVerifier(name, pub), key, now}, nil
}

// Sign implements note.Signer.
func (s *Signer) Sign(msg []byte) ([]byte, error) {
	at := s.now().Unix()
	if at < 0 {
		return nil, errors.New("the clock stands before 1970")
	}
	sig, err := s.key.Sign(rand.Reader, signedText(uint64(at), msg), crypto.Hash(0))
	if err != nil {
		return nil, err
	}
	return append(binary.BigEndian.AppendUint64(nil, uint64(at)), sig...), nil
}

// Cosigned is a checkpoint that a witness has signed.
type Cosigned struct {
	checkpoint.Checkpoint
	// Note is the checkpoint with the signatures that verified, the log's and
	// the witness's.
	Note []byte
	// At is when the witness signed.
	At time.Time
}

// Open verifies a checkpoint that both the log and the witness must have
// signed.
func Open(signed []byte, log note.Verifiers, by *Verifier) (Cosigned, error) {
	cp, err := checkpoint.Open(signed, log)
	if err != nil {
		return Cosigned{}, err
	}
	n, err := note.Open(signed, note.VerifierList(by))
	if err != nil {
		return Cosigned{}, fmt.Errorf("not signed by witness %s: %w", by.name, err)
	}
	raw, err := base64.StdEncoding.DecodeString(n.Sigs[0].Base64)
	if err != nil || len(raw) != 4+signatureSize { // verified a moment ago
		return Cosigned{}, fmt.Errorf("witness %s: malformed cosignature", by.name)
	}
	at := binary.BigEndian.Uint64(raw[4:])
	return Cosigned{Checkpoint: cp, Note: signed, At: time.Unix(int64(at), 0).UTC()}, nil
}

// signatureLines returns the lines of signatures made over a note's text, as
// they stand in a signed note.
func signatureLines(n *note.Note, signers ...note.Signer) ([]byte, error) {
	signed, err := note.Sign(&note.Note{Text: n.Text}, signers...)
	if err != nil {
		return nil, err
	}
	return signed[len(n.Text)+1:], nil
}

// Package checkpoint signs and reads the heads of logs: C2SP tlog-checkpoint,
// which is a signed note.
//
// It owns: the three lines of a checkpoint, and Ed25519 note keys made from a
// crypto.Signer, so that the private key can stay where it is kept. It refuses:
// knowing which checkpoint is the right one.
//
// Start at [NewSigner] and [Open].
package checkpoint

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/gatehouse-dev/gatehouse/internal/audit/merkle"
)

// MaxSize bounds a checkpoint with all its signatures.
const MaxSize = 16 << 10

// Checkpoint is the head of a log.
type Checkpoint struct {
	Origin string
	Size   uint64
	Root   merkle.Hash
}

// Text returns the note's text, ending in a newline.
func (c Checkpoint) Text() string {
	return c.Origin + "\n" + strconv.FormatUint(c.Size, 10) + "\n" + base64.StdEncoding.EncodeToString(c.Root[:]) + "\n"
}

// Parse reads a note's text. Extension lines are permitted and ignored.
func Parse(text string) (Checkpoint, error) {
	var c Checkpoint
	lines := strings.SplitN(text, "\n", 4)
	if len(lines) < 4 || lines[0] == "" {
		return c, errors.New("checkpoint has fewer than three lines")
	}
	c.Origin = lines[0]
	size, err := strconv.ParseUint(lines[1], 10, 63)
	if err != nil || strconv.FormatUint(size, 10) != lines[1] {
		return c, fmt.Errorf("checkpoint size %q is not a number", lines[1])
	}
	c.Size = size
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != len(c.Root) {
		return c, errors.New("checkpoint root is not a SHA-256 hash")
	}
	copy(c.Root[:], root)
	return c, nil
}

// Signer signs checkpoints under one name.
type Signer struct {
	name string
	hash uint32
	key  crypto.Signer
	pub  ed25519.PublicKey
}

// algEd25519 is the note algorithm for plain Ed25519 (C2SP signed-note).
const algEd25519 = 1

// NewSigner returns a signer for an Ed25519 key. name is the key's name, for a
// log its origin: no spaces and no plus sign.
func NewSigner(name string, key crypto.Signer) (*Signer, error) {
	if name == "" || strings.ContainsAny(name, " +\n\t") {
		return nil, fmt.Errorf("key name %q is not valid", name)
	}
	pub, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("checkpoint key is %T, not Ed25519", key.Public())
	}
	h := sha256.New()
	h.Write([]byte(name + "\n"))
	h.Write([]byte{algEd25519})
	h.Write(pub)
	return &Signer{name: name, hash: binary.BigEndian.Uint32(h.Sum(nil)), key: key, pub: pub}, nil
}

// Name implements note.Signer.
func (s *Signer) Name() string { return s.name }

// KeyHash implements note.Signer.
func (s *Signer) KeyHash() uint32 { return s.hash }

// Sign implements note.Signer.
func (s *Signer) Sign(msg []byte) ([]byte, error) {
	return s.key.Sign(rand.Reader, msg, crypto.Hash(0))
}

// VerifierKey returns the public key in the note format, "name+hash+key".
func (s *Signer) VerifierKey() string {
	vkey, err := note.NewEd25519VerifierKey(s.name, s.pub)
	if err != nil {
		// NewSigner checked the only thing that can be wrong, the length.
		panic("checkpoint: " + err.Error())
	}
	return vkey
}

// Checkpoint returns c as a signed note.
func (s *Signer) Checkpoint(c Checkpoint) ([]byte, error) {
	return note.Sign(&note.Note{Text: c.Text()}, s)
}

// Verifiers reads public keys in the note format.
func Verifiers(vkeys ...string) (note.Verifiers, error) {
	list := make([]note.Verifier, 0, len(vkeys))
	for _, k := range vkeys {
		v, err := note.NewVerifier(strings.TrimSpace(k))
		if err != nil {
			return nil, fmt.Errorf("verifier key %q: %w", k, err)
		}
		list = append(list, v)
	}
	return note.VerifierList(list...), nil
}

// Open verifies a signed checkpoint: at least one of the verifiers must have
// signed it, and none of their signatures may be wrong.
func Open(signed []byte, verifiers note.Verifiers) (Checkpoint, error) {
	if len(signed) > MaxSize {
		return Checkpoint{}, fmt.Errorf("checkpoint of %d bytes, at most %d", len(signed), MaxSize)
	}
	n, err := note.Open(signed, verifiers)
	if err != nil {
		return Checkpoint{}, err
	}
	return Parse(n.Text)
}

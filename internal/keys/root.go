package keys

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/gatehouse-dev/gatehouse/internal/secret"
)

const (
	// rootSize is the length of a root key in bytes.
	rootSize = 32
	// rootIDSize is the length of a root key id in bytes: short enough to
	// repeat in every sealed value, long enough that two roots never share one.
	rootIDSize = 10
	// maxRoots bounds a keyring: the sealing root and those being rotated out.
	maxRoots = 8

	rootFormat = "gatehouse-root-key-v1"
	// maxRootFile bounds a root key file: maxRoots lines and some room.
	maxRootFile = 1024
)

// idEncoding is how a root key id is written. All 10 bytes fill 16 characters
// exactly, so that each id has one spelling.
var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Root is one root key. It encrypts nothing itself: every use has its own key
// derived from it. The zero Root is not a key, and [NewKeyring] refuses it.
type Root struct {
	id  [rootIDSize]byte
	key secret.Bytes
}

// NewRoot makes a root of 32 bytes that a caller got from a key provider. The
// bytes must be uniformly random.
func NewRoot(key secret.Bytes) (Root, error) {
	if key.Len() != rootSize {
		return Root{}, fmt.Errorf("root key has %d bytes, want %d", key.Len(), rootSize)
	}
	if subtle.ConstantTimeCompare(key.Reveal(), make([]byte, rootSize)) == 1 {
		return Root{}, errors.New("root key is all zero")
	}
	root := Root{key: key}
	copy(root.id[:], derive(key, "id", rootIDSize))
	return root, nil
}

// GenerateRoot makes a new random root.
func GenerateRoot() (Root, error) {
	key := make([]byte, rootSize)
	// Read never fails: the program ends if the system has no randomness.
	_, _ = rand.Read(key)
	return NewRoot(secret.NewBytes(key))
}

// ID returns the name of the root, 16 characters derived one-way from the key.
// It is not secret.
func (r Root) ID() string { return idEncoding.EncodeToString(r.id[:]) }

// derive returns the key of one labelled use of a root key (HKDF-SHA256,
// RFC 5869). The root is uniform, and so needs no salt.
func derive(key secret.Bytes, use string, size int) []byte {
	out, err := hkdf.Key(sha256.New, key.Reveal(), nil, "gatehouse root key v1 "+use, size)
	if err != nil {
		// Only an output beyond 255 hashes fails.
		panic("keys: derive: " + err.Error())
	}
	return out
}

// formatRoots renders the root key file: one line a root, the sealing one
// first. The id serves as checksum too, because it is derived from the key.
func formatRoots(roots []Root) []byte {
	var out bytes.Buffer
	for _, r := range roots {
		fmt.Fprintf(&out, "%s %s %s\n", rootFormat, r.ID(), base64.StdEncoding.EncodeToString(r.key.Reveal()))
	}
	return out.Bytes()
}

// parseRoots reads what formatRoots writes and nothing else. Its errors never
// quote the input, which may hold a key.
func parseRoots(data []byte) ([]Root, error) {
	if len(data) == 0 {
		return nil, errors.New("is empty")
	}
	if len(data) > maxRootFile {
		return nil, fmt.Errorf("is longer than %d bytes", maxRootFile)
	}
	body, ok := strings.CutSuffix(string(data), "\n")
	if !ok {
		return nil, errors.New("is cut short: the last line has no end")
	}
	lines := strings.Split(body, "\n")
	if len(lines) > maxRoots {
		return nil, fmt.Errorf("holds more than %d keys", maxRoots)
	}
	roots := make([]Root, 0, len(lines))
	for i, line := range lines {
		root, err := parseRoot(line)
		if err != nil {
			return nil, fmt.Errorf("line %d %w", i+1, err)
		}
		for _, earlier := range roots {
			if earlier.id == root.id {
				return nil, fmt.Errorf("line %d repeats key %s", i+1, root.ID())
			}
		}
		roots = append(roots, root)
	}
	return roots, nil
}

func parseRoot(line string) (Root, error) {
	fields := strings.Split(line, " ")
	switch {
	case !strings.HasPrefix(fields[0], "gatehouse-root-key-"):
		return Root{}, errors.New("is not a root key")
	case fields[0] != rootFormat:
		return Root{}, fmt.Errorf("has a version that this program does not know, only %s", rootFormat)
	case len(fields) != 3:
		return Root{}, errors.New("does not have three fields")
	}
	key, err := base64.StdEncoding.Strict().DecodeString(fields[2])
	// The decoder skips line ends; only one spelling of a key is right.
	if err != nil || len(fields[2]) != base64.StdEncoding.EncodedLen(rootSize) {
		return Root{}, errors.New("has a damaged key")
	}
	root, err := NewRoot(secret.NewBytes(key))
	if err != nil {
		return Root{}, errors.New("has a damaged key")
	}
	if root.ID() != fields[1] {
		return Root{}, errors.New("has a key that does not fit its id: one of both is damaged")
	}
	return root, nil
}

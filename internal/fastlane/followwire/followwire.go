// Package followwire is what a local decision point and the doors of its site
// say to each other about the stream of policy: both sides of it compile
// against these types. Frames of policy are those of package authz/snapshot.
//
// A follower posts a [Request] to the door snapshot and reads, until one side
// ends it, messages in the form of [snapshot.ReadFrame]: key sets (see
// [ParseKeys]) and frames. It posts an [Ack] to snapshot/ack whenever it
// decides by another frame.
package followwire

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// HeaderMode is the header of an answer that opens the stream: the mode of the
// site. When the mode changes, the stream ends.
const HeaderMode = "Gatehouse-Site-Mode"

// Request opens the stream.
type Request struct {
	// Follower is the name of the follower, for people: usually that of its
	// host.
	Follower string `json:"follower"`
	// Sequence and Digest are of the frame that it holds, if any.
	Sequence uint64 `json:"sequence,omitempty"`
	Digest   string `json:"digest,omitempty"`
}

// Ack says what a follower decides by.
type Ack struct {
	Follower string `json:"follower"`
	Sequence uint64 `json:"sequence"`
}

// Key verifies frames. Public is an Ed25519 key.
type Key struct {
	ID     string `json:"id"`
	Public []byte `json:"key"`
}

type keySet struct {
	Keys []Key `json:"keys"`
}

const (
	// MaxName bounds the name of a follower, in bytes.
	MaxName = 253
	// MaxDigest is the length of a digest, SHA-256 in hexadecimal.
	MaxDigest = 64
	maxKeys   = 64
	keysMagic = "gatehouse policy keys 1\n"
)

// CheckName refuses a name that is empty, too long or would not print.
func CheckName(name string) error {
	if name == "" || len(name) > MaxName || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("follower: must be 1 to %d printable ASCII characters", MaxName)
	}
	return nil
}

// AppendKeys appends a message with the keys that verify frames from now on,
// and no others.
func AppendKeys(b []byte, keys []Key) ([]byte, error) {
	text, err := json.Marshal(keySet{keys})
	if err != nil {
		return nil, fmt.Errorf("encode keys of policy: %w", err)
	}
	return append(append(b, keysMagic...), text...), nil
}

// ParseKeys reads a message with keys; is is false when it is not one.
func ParseKeys(message []byte) (keys map[string]ed25519.PublicKey, is bool, err error) {
	text, is := bytes.CutPrefix(message, []byte(keysMagic))
	if !is {
		return nil, false, nil
	}
	var set keySet
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, true, fmt.Errorf("decode keys of policy: %w", err)
	}
	if len(set.Keys) == 0 || len(set.Keys) > maxKeys {
		return nil, true, errors.New("decode keys of policy: there must be 1 to 64")
	}
	keys = make(map[string]ed25519.PublicKey, len(set.Keys))
	for _, k := range set.Keys {
		if k.ID == "" || len(k.Public) != ed25519.PublicKeySize || keys[k.ID] != nil {
			return nil, true, errors.New("decode keys of policy: a key is malformed")
		}
		keys[k.ID] = k.Public
	}
	return keys, true, nil
}

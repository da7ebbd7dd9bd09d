// Package accesskey makes and checks the opaque secrets of doors that speak
// protocols without tokens of their own: a Keystone password, a salt-api
// login, an import token.
//
// It owns: the form of a key, what is stored of it, the comparison, the keys
// that are known on this replica, the sessions that a door opens for the holder
// of a key, and the notes of when each was last used. It refuses: to store or
// show the secret after it was made, keys chosen by people (every secret has
// 256 random bits, which is why a plain hash protects it), keys in URLs, and to
// decide what the owner of a key may do.
//
// Start at [New] and [Record.Check]; a door starts at [Sessions].
package accesskey

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/secret"
)

// A key is Prefix, an id that names it in public, "_", and the secret.
const (
	// Prefix begins every key, so that scanners for leaked secrets know it.
	Prefix = "ghk_"

	idLength     = 16 // 80 bits
	secretLength = 52 // 256 bits and four spare
	keyLength    = len(Prefix) + idLength + 1 + secretLength
)

var encoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// MaxLifetime bounds how long a key can be good for.
const MaxLifetime = 366 * 24 * time.Hour

// Record is what is stored of a key. It contains nothing that opens a door.
type Record struct {
	// ID names the key: in records as "KEY=" + ID.
	ID string
	// Hash is the only trace of the secret.
	Hash [sha256.Size]byte
	// User, UID and Groups are who the key speaks for.
	User, UID string
	Groups    []string
	// Extra is what else was said of the user, by keys of others than ourselves.
	Extra map[string][]string
	// Audience is the one door that accepts the key.
	Audience string
	// Namespace is the project that the key belongs to.
	Namespace string
	// OpenedBy is the id of the credential that a session was opened with; the
	// session ends with it. Empty for a key that is no session.
	OpenedBy string
	// Origin is the line of credentials that the key was made with; see package
	// origin. The key ends with a ban on any of them.
	Origin []string
	// Created, NotAfter: the life of the key. It always ends.
	Created, NotAfter time.Time
	// Revoked is set once the key was taken back.
	Revoked bool
}

// CredentialID returns the id under which uses of the key are recorded and can
// be banned.
func (r Record) CredentialID() string { return CredentialPrefix + r.ID }

// CredentialPrefix begins the credential id of a key.
const CredentialPrefix = "KEY="

// Why a key does not open.
var (
	ErrForm     = errors.New("not an access key")
	ErrSecret   = errors.New("wrong secret")
	ErrExpired  = errors.New("access key has expired")
	ErrRevoked  = errors.New("access key was revoked")
	ErrAudience = errors.New("access key is for another door")
)

// Request says what a new key is for.
type Request struct {
	User, UID string
	Groups    []string
	Extra     map[string][]string
	Audience  string
	Namespace string
	// OpenedBy is set for sessions.
	OpenedBy string
	Origin   []string
	Lifetime time.Duration
}

// New makes a key. The secret exists in the returned value and nowhere else.
func New(r Request, now time.Time) (secret.String, Record, error) {
	switch {
	case r.User == "" || r.Audience == "" || r.Namespace == "":
		return secret.String{}, Record{}, errors.New("access key: user, audience and namespace are required")
	case r.Lifetime <= 0 || r.Lifetime > MaxLifetime:
		return secret.String{}, Record{}, fmt.Errorf("access key: lifetime must be positive and at most %v", MaxLifetime)
	}
	var random [10 + 32]byte
	// crypto/rand ends the process rather than return an error.
	_, _ = rand.Read(random[:])
	id := encoding.EncodeToString(random[:10])
	key := encoding.EncodeToString(random[10:])
	record := Record{
		ID: id, Hash: hash(id, key), User: r.User, UID: r.UID, Groups: r.Groups, Extra: r.Extra,
		Audience: r.Audience, Namespace: r.Namespace, OpenedBy: r.OpenedBy, Origin: r.Origin, Created: now, NotAfter: now.Add(r.Lifetime),
	}
	return secret.NewString(Prefix + id + "_" + key), record, nil
}

// hash binds the secret to its id, so that a stored hash is of no use under
// another record.
func hash(id, key string) [sha256.Size]byte {
	return sha256.Sum256([]byte("gatehouse access key\x00" + id + "\x00" + key))
}

// Is reports whether a text has the form of a key, which costs no secret time.
func Is(text string) bool {
	if len(text) != keyLength || !strings.HasPrefix(text, Prefix) || text[len(Prefix)+idLength] != '_' {
		return false
	}
	for i, c := range []byte(text[len(Prefix):]) {
		if i != idLength && (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return false
		}
	}
	return true
}

// ID returns the public id of a key.
func ID(text string) (string, error) {
	if !Is(text) {
		return "", ErrForm
	}
	return text[len(Prefix) : len(Prefix)+idLength], nil
}

// Check reports whether text is the key of this record and opens the given
// door now. The secret is compared first and in constant time: whoever does
// not have it learns nothing about the key.
func (r Record) Check(text, audience string, now time.Time) error {
	id, err := ID(text)
	if err != nil {
		return err
	}
	sum := hash(id, text[keyLength-secretLength:])
	if subtle.ConstantTimeCompare(sum[:], r.Hash[:])&subtle.ConstantTimeCompare([]byte(id), []byte(r.ID)) != 1 {
		return ErrSecret
	}
	switch {
	case r.Revoked:
		return ErrRevoked
	case !now.Before(r.NotAfter):
		return ErrExpired
	case audience != r.Audience:
		return ErrAudience
	}
	return nil
}

// InURL reports whether a URL carries a key anywhere. Adapters refuse such a
// request and the key counts as leaked: URLs end up in logs of others. It is
// asked for every request, so a URL without a query and without escapes costs
// one search.
func InURL(u *url.URL) bool {
	if strings.Contains(u.Path, Prefix) || strings.Contains(u.Fragment, Prefix) {
		return true
	}
	if u.RawPath != "" && contains(u.RawPath) || u.RawQuery != "" && contains(u.RawQuery) {
		return true
	}
	return u.User != nil && contains(u.User.String())
}

// contains also looks behind one escape: whoever reads a log does.
func contains(part string) bool {
	if strings.Contains(part, Prefix) {
		return true
	}
	unescaped, err := url.QueryUnescape(part)
	return err == nil && strings.Contains(unescaped, Prefix)
}

// CutFrom replaces the secrets of keys in a text that others will read; the
// public id of each stays.
func CutFrom(text, with string) string {
	for from := 0; ; {
		at := strings.Index(text[from:], Prefix)
		if at < 0 {
			return text
		}
		at += from
		if len(text)-at < keyLength || !Is(text[at:at+keyLength]) {
			from = at + len(Prefix)
			continue
		}
		text = text[:at+keyLength-secretLength] + with + text[at+keyLength:]
		from = at + keyLength - secretLength + len(with)
	}
}

// Uses collects when keys were last used, so that a use costs no write. It is
// safe for concurrent use.
type Uses struct {
	// mu guards last.
	mu   sync.Mutex
	last map[string]time.Time
}

// Touch notes a use of a key that exists; the number of keys bounds the notes.
func (u *Uses) Touch(id string, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.last == nil {
		u.last = map[string]time.Time{}
	}
	if now.After(u.last[id]) {
		u.last[id] = now
	}
}

// Drain returns the uses since the last call, for the owner to store.
func (u *Uses) Drain() map[string]time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	out := u.last
	u.last = nil
	return out
}

// FormatHash and ParseHash are the stored form of a hash.
func FormatHash(h [sha256.Size]byte) string { return hex.EncodeToString(h[:]) }

// ParseHash reads what FormatHash wrote.
func ParseHash(text string) (h [sha256.Size]byte, ok bool) {
	n, err := hex.Decode(h[:], []byte(text[:min(len(text), 2*len(h))]))
	return h, err == nil && n == len(h) && len(text) == 2*len(h)
}

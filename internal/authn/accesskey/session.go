package accesskey

import (
	"context"
	"errors"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/secret"
)

// Store keeps the records of sessions. Create returns once the record is
// stored for all replicas; Delete of one that is not there is no error.
type Store interface {
	Create(ctx context.Context, r Record) error
	Delete(ctx context.Context, r Record) error
}

// Holder is whom a session is opened for: an identity that authentication
// verified.
type Holder struct {
	User, UID string
	Groups    []string
	// Extra is what else was said of the holder; see Record.
	Extra map[string][]string
	// CredentialID is what the holder signed in with, Origin what that was made
	// with, and NotAfter when it ends; the zero time is never.
	CredentialID string
	Origin       []string
	NotAfter     time.Time
}

// Sessions are the tokens that a door hands out at its login: an X-Auth-Token,
// a salt-api token. They live in the store of all keys, so that a session ends
// with the credential it was opened with, and a ban on either ends it within a
// second on every replica. It is safe for concurrent use.
type Sessions struct {
	// Audience is the door; a session opens no other one.
	Audience string
	// Longest caps every session. 0 means 12 hours.
	Longest time.Duration
	Store   Store
	Memory  *Memory
	Now     func() time.Time
}

const (
	longestSession = 12 * time.Hour
	// settle is how long the opening of a session waits until it is known here.
	settle = time.Second
)

var errNoCredential = errors.New("open session: the credential has no id, so that nothing could end the session with it")

// Open opens a session in a namespace and returns the token. It lasts for the
// least of lifetime, the cap, and what is left of the credential.
func (s Sessions) Open(ctx context.Context, h Holder, namespace string, lifetime time.Duration) (secret.String, Record, error) {
	if h.CredentialID == "" {
		return secret.String{}, Record{}, errNoCredential
	}
	now := s.Now()
	longest := s.Longest
	if longest <= 0 {
		longest = longestSession
	}
	lifetime = min(lifetime, longest)
	if !h.NotAfter.IsZero() {
		lifetime = min(lifetime, h.NotAfter.Sub(now))
	}
	text, record, err := New(Request{
		User: h.User, UID: h.UID, Groups: h.Groups, Extra: h.Extra, Audience: s.Audience, Namespace: namespace,
		OpenedBy: h.CredentialID, Origin: h.Origin, Lifetime: lifetime,
	}, now)
	if err != nil {
		return secret.String{}, Record{}, err
	}
	if err := s.Store.Create(ctx, record); err != nil {
		return secret.String{}, Record{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	s.Memory.Wait(ctx, record.ID)
	return text, record, nil
}

// Close ends the session of a token, which must be one of this door. A token
// that is no session any more is closed already.
func (s Sessions) Close(ctx context.Context, token string) error {
	id, err := ID(token)
	if err != nil {
		return err
	}
	record, found, err := s.Memory.AccessKey(ctx, id)
	if err != nil || !found {
		return err
	}
	if err := record.Check(token, s.Audience, s.Now()); err != nil {
		return err
	}
	if record.OpenedBy == "" {
		return ErrForm
	}
	return s.Store.Delete(ctx, record)
}

package authn

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/authn/origin"
)

// Ban ends credentials from outside. Exactly one of Credential, User, Group,
// IssuerKey and Site is set.
type Ban struct {
	// Name is that of the ban itself; it stands in the record of what it
	// refused.
	Name string
	// Credential is a credential id: "JTI=…", "X509SHA256=…", "KEY=…". What was
	// made with it ends too.
	Credential string
	// User and Group are names of the control plane.
	User, Group string
	// IssuerKey is the id of a key: every token that it signed ends, and what
	// was made with one.
	IssuerKey string
	// Site is a connected site: tokens that are bound to it, or to an object of
	// it, end.
	Site string
	// KeepsMade leaves alone what was made with the credential, or with one that
	// the key signed.
	KeepsMade bool
	// Until is when the ban ends; the zero time is never.
	Until time.Time
}

// Bans is the list that every credential passes last, on every use. It is safe
// for concurrent use and costs nothing while it is empty.
type Bans struct {
	current atomic.Pointer[banTable]
}

type banTable struct {
	credentials, users, groups, keys, sites map[string]Ban
	// madeWith and madeUnder are those of credentials and keys that reach what
	// was made.
	madeWith, madeUnder map[string]Ban
}

// NewBans returns an empty list.
func NewBans() *Bans {
	b := &Bans{}
	b.current.Store(&banTable{})
	return b
}

// Replace sets the whole list. A ban that names nothing or several things is
// refused, and then the list stays as it was.
func (b *Bans) Replace(bans []Ban) error {
	next := &banTable{
		credentials: map[string]Ban{}, users: map[string]Ban{}, groups: map[string]Ban{}, keys: map[string]Ban{}, sites: map[string]Ban{},
		madeWith: map[string]Ban{}, madeUnder: map[string]Ban{},
	}
	for _, ban := range bans {
		set := 0
		for _, entry := range []struct {
			value       string
			table, made map[string]Ban
		}{{ban.Credential, next.credentials, next.madeWith}, {ban.User, next.users, nil}, {ban.Group, next.groups, nil}, {ban.IssuerKey, next.keys, next.madeUnder}, {ban.Site, next.sites, nil}} {
			if entry.value == "" {
				continue
			}
			set++
			keep(entry.table, entry.value, ban)
			if entry.made != nil && !ban.KeepsMade {
				keep(entry.made, entry.value, ban)
			}
		}
		if set != 1 {
			return fmt.Errorf("ban %q: exactly one of credential, user, group, issuer key and site must be set", ban.Name)
		}
	}
	b.current.Store(next)
	return nil
}

// keep enters a ban: of two on one thing the one that lasts longer counts.
func keep(table map[string]Ban, value string, ban Ban) {
	if other, twice := table[value]; !twice || outlasts(ban, other) {
		table[value] = ban
	}
}

func outlasts(a, b Ban) bool {
	if a.Until.IsZero() || b.Until.IsZero() {
		return a.Until.IsZero()
	}
	return a.Until.After(b.Until)
}

// refuse returns an error if a ban in force names the identity.
func (b *Bans) refuse(id Identity, now time.Time) error {
	table := b.current.Load()
	if len(table.users) > 0 {
		if ban, ok := table.users[id.Name()]; ok && ban.inForce(now) {
			return ban.refusal("user")
		}
	}
	if len(table.groups) > 0 {
		for _, group := range id.Groups() {
			if ban, ok := table.groups[group]; ok && ban.inForce(now) {
				return ban.refusal("group")
			}
		}
	}
	if len(table.keys) > 0 {
		if ban, ok := table.keys[id.IssuerKey()]; ok && ban.inForce(now) {
			return ban.refusal("issuer key")
		}
	}
	if len(table.sites) > 0 && id.v.shared != nil && id.v.shared.site != nil {
		if ban, ok := table.sites[id.v.shared.site.name]; ok && ban.inForce(now) {
			return ban.refusal("site")
		}
	}
	if len(table.credentials) > 0 {
		if err := b.refuseCredential(table, id.CredentialID(), now); err != nil {
			return err
		}
	}
	return refuseOrigin(table, id.Origin(), now)
}

// refuseOrigin returns an error if a ban in force names a credential of a line,
// or the key that signed one.
func refuseOrigin(table *banTable, line []string, now time.Time) error {
	if len(table.madeWith)+len(table.madeUnder) == 0 {
		return nil
	}
	for _, text := range line {
		e := origin.Parse(text)
		if ban, ok := table.madeWith[e.ID]; ok && ban.inForce(now) {
			return ban.refusal("credential " + e.ID + ", with which this one was made,")
		}
		if ban, ok := table.madeUnder[e.IssuerKey]; ok && ban.inForce(now) {
			return ban.refusal("issuer key of credential " + e.ID + ", with which this one was made,")
		}
	}
	return nil
}

// KeyBanned reports whether a ban in force ends what a key signed.
func (b *Bans) KeyBanned(id string, now time.Time) bool {
	ban, ok := b.current.Load().keys[id]
	return ok && ban.inForce(now)
}

// AnyKey reports whether a ban may name a key.
func (b *Bans) AnyKey() bool { return len(b.current.Load().keys) > 0 }

func (b *Bans) refuseCredential(table *banTable, credential string, now time.Time) error {
	if ban, ok := table.credentials[credential]; ok && ban.inForce(now) {
		return ban.refusal("credential")
	}
	return nil
}

func (b Ban) inForce(now time.Time) bool { return b.Until.IsZero() || now.Before(b.Until) }

func (b Ban) refusal(what string) error {
	return refuse(Banned, "%s is banned by %q", what, b.Name)
}

package authn

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/authn/accesskey"
)

// AccessKeys finds access keys and notes their use. It is asked on every use
// and must answer from memory.
type AccessKeys interface {
	AccessKey(ctx context.Context, id string) (record accesskey.Record, found bool, err error)
	// Used is told of every accepted use; it must not block.
	Used(id string, now time.Time)
}

func isAccessKey(token string) bool { return accesskey.Is(token) }

// newAccessKeys returns the source of access keys. One hash proves a key, so
// that none needs to be remembered and a revoked one ends at once.
func (c *Chain) newAccessKeys(keys AccessKeys) *source {
	src := &source{method: AccessKey, name: "access-key"}
	src.verify = func(ctx context.Context, token string, want []string, now time.Time) (*verified, error) {
		id, err := accesskey.ID(token)
		if err != nil {
			return nil, refuseBecause(Malformed, "access key", err)
		}
		record, found, err := keys.AccessKey(ctx, id)
		if err != nil {
			return nil, err
		}
		if !found {
			return nil, refuse(UnknownKey, "access key %q does not exist", id)
		}
		if err := record.Check(token, record.Audience, now); err != nil {
			return nil, refuseBecause(accessKeyReason(err), "access key "+id, err)
		}
		if len(intersect([]string{record.Audience}, want)) == 0 {
			return nil, refuseBecause(WrongAudience, "access key "+id, accesskey.ErrAudience)
		}
		who, err := keyAccount(record)
		if err != nil {
			return nil, refuseBecause(ReservedName, "access key "+id, err)
		}
		if err := c.checkKeyAccount(ctx, who, now); err != nil {
			return nil, err
		}
		if err := c.checkOpener(ctx, keys, record, now); err != nil {
			return nil, err
		}
		keys.Used(id, now)
		return &verified{who: who, src: src, shared: &sharedClaims{audiences: []string{record.Audience}}, expires: record.NotAfter.Unix(), once: true}, nil
	}
	return src
}

// checkKeyAccount ends a key of a service account with the account.
func (c *Chain) checkKeyAccount(ctx context.Context, who *account, now time.Time) error {
	if who.serviceAccount == "" {
		return nil
	}
	key := ObjectKey{ServiceAccountObject, who.namespace, who.serviceAccount}
	state, found, err := c.objects.Object(ctx, key)
	if err == nil && found && state.UID != who.uid {
		state, found, err = c.confirmObject(ctx, key, state)
	}
	switch {
	case err != nil:
		return err
	case !found || !state.Deleted.IsZero() && !now.Before(state.Deleted) || state.UID != who.uid:
		return refuse(Ended, "access key: service account %s/%s has been deleted", who.namespace, who.serviceAccount)
	}
	return nil
}

// maxOpeners bounds how many sessions can have been opened with one another.
const maxOpeners = 4

// checkOpener ends a session with the credential that it was opened with: with
// a key that was revoked, deleted or banned, and with any credential that is
// banned.
func (c *Chain) checkOpener(ctx context.Context, keys AccessKeys, record accesskey.Record, now time.Time) error {
	for range maxOpeners {
		if record.OpenedBy == "" {
			return nil
		}
		table := c.bans.current.Load()
		if err := c.bans.refuseCredential(table, record.OpenedBy, now); err != nil {
			return err
		}
		id, isKey := strings.CutPrefix(record.OpenedBy, accesskey.CredentialPrefix)
		if !isKey {
			return nil
		}
		opener, found, err := keys.AccessKey(ctx, id)
		switch {
		case err != nil:
			return err
		case !found || opener.Revoked || !now.Before(opener.NotAfter):
			return refuse(Ended, "session: the access key %q that it was opened with has ended", id)
		}
		if err := refuseOrigin(table, opener.Origin, now); err != nil {
			return err
		}
		record = opener
	}
	return refuse(Malformed, "session: opened through too many others")
}

// CheckKeySubject reports why no key can speak for a record's subject, or nil.
func CheckKeySubject(record accesskey.Record) error {
	_, err := keyAccount(record)
	return err
}

// KeyGroups returns those of a caller's groups that a key can carry.
func KeyGroups(groups []string) []string {
	var out []string
	for _, group := range groups {
		if group != "" && !isReserved(group) {
			out = append(out, group)
		}
	}
	return out
}

func accessKeyReason(err error) Reason {
	switch {
	case errors.Is(err, accesskey.ErrExpired):
		return Expired
	case errors.Is(err, accesskey.ErrRevoked):
		return Ended
	default:
		return UnknownKey
	}
}

// keyAccount reads who a key speaks for. A key can speak for a service
// account, whose groups follow from its name, or for a person; it never gives
// one of the other names that our own policy has a meaning for.
func keyAccount(record accesskey.Record) (*account, error) {
	a := account{name: record.User, uid: record.UID, groups: record.Groups, credential: record.CredentialID(), origin: record.Origin,
		extra: map[string][]string{ExtraKeyNamespace: {record.Namespace}}}
	if rest, ok := strings.CutPrefix(record.User, serviceAccountUser); ok {
		namespace, name, ok := strings.Cut(rest, ":")
		if !ok || namespace == "" || name == "" || strings.Contains(name, ":") {
			return nil, errReserved
		}
		a.namespace, a.serviceAccount = namespace, name
		a.groups = []string{groupServiceAccounts, groupServiceAccountsOf + namespace}
		return newAccount(a)
	}
	if err := allowedForeign(a.name, a.uid, a.groups, record.Extra); err != nil {
		return nil, err
	}
	maps.Copy(a.extra, record.Extra)
	return newAccount(a)
}

// KeyExtra returns that part of a caller's extra that a key can carry: what an
// identity provider said, and nothing that the control plane or a platform says
// itself of a credential.
func KeyExtra(extra map[string][]string) map[string][]string {
	var out map[string][]string
	for key, values := range extra {
		if len(values) == 0 || allowedExtra(map[string][]string{key: values}) != nil {
			continue
		}
		if out == nil {
			out = map[string][]string{}
		}
		out[key] = slices.Clone(values)
	}
	return out
}

// KeyHolder returns whom a key speaks for as long as it is good, or the
// refusal that its holder would get. It proves nothing about a caller: it is
// for questions about keys.
func (c *Chain) KeyHolder(ctx context.Context, record accesskey.Record) (Identity, error) {
	now := c.now()
	switch {
	case c.accessKeys == nil:
		return Identity{}, refuse(UnknownIssuer, "access keys are not accepted")
	case record.Revoked:
		return Identity{}, refuseBecause(Ended, "access key "+record.ID, accesskey.ErrRevoked)
	case !now.Before(record.NotAfter):
		return Identity{}, refuseBecause(Expired, "access key "+record.ID, accesskey.ErrExpired)
	}
	who, err := keyAccount(record)
	if err != nil {
		return Identity{}, refuseBecause(ReservedName, "access key "+record.ID, err)
	}
	if err := c.checkKeyAccount(ctx, who, now); err != nil {
		return Identity{}, err
	}
	id := Identity{v: &verified{who: who, src: c.accessKeys, expires: record.NotAfter.Unix(), once: true}}
	return id, c.bans.refuse(id, now)
}

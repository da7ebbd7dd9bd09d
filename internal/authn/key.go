package authn

import (
	"context"
	"errors"
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
		keys.Used(id, now)
		return &verified{who: who, src: src, shared: &sharedClaims{audiences: []string{record.Audience}}, expires: record.NotAfter.Unix(), once: true}, nil
	}
	return src
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
	a := account{name: record.User, uid: record.UID, groups: record.Groups, credential: "KEY=" + record.ID}
	if rest, ok := strings.CutPrefix(record.User, serviceAccountUser); ok {
		namespace, name, ok := strings.Cut(rest, ":")
		if !ok || namespace == "" || name == "" || strings.Contains(name, ":") {
			return nil, errReserved
		}
		a.namespace, a.serviceAccount = namespace, name
		a.groups = []string{groupServiceAccounts, groupServiceAccountsOf + namespace}
		return newAccount(a)
	}
	if err := allowedForeign(a.name, a.uid, a.groups, nil); err != nil {
		return nil, err
	}
	return newAccount(a)
}

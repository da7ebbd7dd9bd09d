package sql

import (
	"encoding/base64"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// A continue token is base64url(version || digest || namespace || 0 || name):
// the query it belongs to and the last key that was looked at. It is opaque to
// clients but not authenticated, because a forged one gains nothing: it can
// only start the caller's own query, which is authorised and filtered like any
// other, at another key.
const (
	continueVersion = 1
	maxContinue     = (1+16+maxNamespace+1+maxName)*4/3 + 4
)

func encodeContinue(q *query, last Key) string {
	buf := make([]byte, 0, 1+16+len(last.Namespace)+1+len(last.Name))
	buf = append(buf, continueVersion)
	buf = append(buf, q.digest[:]...)
	buf = append(buf, last.Namespace...)
	buf = append(buf, 0)
	buf = append(buf, last.Name...)
	return base64.RawURLEncoding.EncodeToString(buf)
}

func parseContinue(token string, q *query) (Key, error) {
	refuse := fault.New(fault.Invalid, "continue: the token is not valid; list again without it")
	if len(token) > maxContinue {
		return Key{}, refuse
	}
	buf, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(buf) < 1+16+1 || buf[0] != continueVersion {
		return Key{}, refuse
	}
	if [16]byte(buf[1:17]) != q.digest {
		return Key{}, fault.New(fault.Invalid, "continue: the token belongs to another list; repeat namespace and selectors unchanged")
	}
	rest := buf[17:]
	for i, c := range rest {
		if c != 0 {
			continue
		}
		key := Key{Namespace: string(rest[:i]), Name: string(rest[i+1:])}
		switch {
		case text("continue", key.Namespace, maxNamespace) != nil, text("continue", key.Name, maxName) != nil, key.Name == "",
			q.namespace != "" && key.Namespace != q.namespace:
			return Key{}, refuse
		}
		// The decoder skips line breaks; a token has one spelling only.
		if encodeContinue(q, key) != token {
			return Key{}, refuse
		}
		return key, nil
	}
	return Key{}, refuse
}

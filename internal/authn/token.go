package authn

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/authn/jws"
	"github.com/gatehouse-dev/gatehouse/internal/authn/strictjson"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// refused is a token that was refused a moment ago.
type refused struct {
	err error
	// asked, if not nil, are the audiences that the refusal is limited to.
	asked []string
	at    uint32
}

func (r *refused) stamp() uint32 { return r.at }

// VerifyToken proves a bearer token and returns who it speaks for. want lists
// the audiences that the caller acts for, the control plane's own when empty;
// the token must be good for at least one, and Identity.Audiences says for
// which.
//
// An error is of kind Unauthenticated when the token was refused ([ReasonOf]
// tells why), and of another kind when nothing can be said about it: Exhausted
// or Unavailable under load or without a dependency, Invalid for too many
// audiences.
func (c *Chain) VerifyToken(ctx context.Context, token string, want []string) (Identity, error) {
	switch {
	case len(want) == 0:
		want = c.audiences
	case len(want) > maxWanted:
		return Identity{}, fault.Newf(fault.Invalid, "at most %d audiences can be asked for", maxWanted)
	}
	if token == "" {
		return Identity{}, refuse(Malformed, "empty token")
	}
	if len(token) > jws.MaxBytes {
		return Identity{}, refuse(Malformed, "token has %d bytes, at most %d are read", len(token), jws.MaxBytes)
	}
	now := c.now()
	key := c.hash.digest(token)
	if v, ok := c.verified.get(key, uint32(now.Unix())); ok && !v.src.retired.Load() && v.answers(want) {
		return c.admit(ctx, key, v, want, now)
	}
	if r, ok := c.refused.get(key, uint32(now.Unix())); ok && (r.asked == nil || slices.Equal(r.asked, want)) {
		return Identity{}, r.err
	}
	v, err := c.verify(ctx, key, token, want, now)
	if err != nil {
		c.rememberRefusal(key, err, want, now)
		return Identity{}, err
	}
	return c.admit(ctx, key, v, want, now)
}

// verify finds the one source a token can be from and asks it.
func (c *Chain) verify(ctx context.Context, key digest, token string, want []string, now time.Time) (*verified, error) {
	src, err := c.route(token)
	if err != nil {
		return nil, err
	}
	if src == nil {
		return c.verifyOpaque(ctx, key, token, want, now)
	}
	v, err := src.verify(ctx, token, want, now)
	if err != nil {
		return nil, err
	}
	c.remember(key, v, now)
	return v, nil
}

func (c *Chain) remember(key digest, v *verified, now time.Time) {
	v.at = uint32(now.Unix())
	if !v.once {
		c.verified.put(key, v)
	}
}

// route chooses by what a token looks like, before anything is verified: a
// wrong choice only means a refusal. It returns nil for a token without a form
// of its own, which is for providers of opaque tokens.
func (c *Chain) route(token string) (*source, error) {
	switch {
	case isBootstrapToken(token):
		if c.bootstrap == nil {
			return nil, refuse(UnknownIssuer, "bootstrap tokens are not accepted")
		}
		return c.bootstrap, nil
	case isAccessKey(token):
		if c.accessKeys == nil {
			return nil, refuse(UnknownIssuer, "access keys are not accepted")
		}
		return c.accessKeys, nil
	}
	parts, err := jws.Split(token)
	if err != nil {
		if c.providers.Load().hasOpaque() {
			return nil, nil
		}
		return nil, refuseBecause(Malformed, "no token of a known form", err)
	}
	payload, err := jws.Decode(parts.Payload)
	if err != nil {
		return nil, refuseBecause(Malformed, "token payload", err)
	}
	claims, err := strictjson.Parse(payload)
	if err != nil {
		return nil, refuseBecause(Malformed, "token payload", err)
	}
	issuer := claims.Get("iss")
	if issuer.Kind != strictjson.String || issuer.Text == "" {
		return nil, refuse(UnknownIssuer, "token names no issuer")
	}
	if src := c.own[issuer.Text]; src != nil {
		return src, nil
	}
	if src := c.providers.Load().byIssuer[issuer.Text]; src != nil {
		return src, nil
	}
	return nil, refuse(UnknownIssuer, "token issuer %.200q is not trusted", issuer.Text)
}

// admit asks everything that can have changed since the token was verified.
func (c *Chain) admit(ctx context.Context, key digest, v *verified, want []string, now time.Time) (Identity, error) {
	if v.expires != 0 && now.Add(-c.leeway).After(time.Unix(v.expires, 0)) && v.src.method == ServiceAccountToken {
		return Identity{}, c.ended(key, refuse(Expired, "service account token has expired"))
	}
	if v.expires != 0 && now.Unix() >= v.expires && v.src.method != ServiceAccountToken {
		return Identity{}, c.ended(key, refuse(Expired, "token has expired"))
	}
	if v.src.check != nil {
		if err := v.src.check(ctx, v, now); err != nil {
			c.rememberRefusal(key, err, want, now)
			return Identity{}, c.ended(key, err)
		}
	}
	id := Identity{v: v}
	have := c.audiences
	if !v.src.anyAudience {
		have = v.shared.audiences
	}
	if id.audiences = intersect(have, want); len(id.audiences) == 0 {
		return Identity{}, refuse(WrongAudience, "token audiences %.300q is invalid for the target audiences %.300q", have, want)
	}
	if err := c.bans.refuse(id, now); err != nil {
		return Identity{}, err
	}
	return id, nil
}

// ended forgets a token that no longer holds.
func (c *Chain) ended(key digest, err error) error {
	if fault.KindOf(err) == fault.Unauthenticated {
		c.verified.drop(key)
	}
	return err
}

// rememberRefusal spares the work of refusing the same token again for a
// second. Only refusals that cost something are kept, and none that the next
// request could see differently for another reason than time.
func (c *Chain) rememberRefusal(key digest, err error, want []string, now time.Time) {
	switch ReasonOf(err) {
	case BadSignature, Ended:
		c.refused.put(key, &refused{err: err, at: uint32(now.Unix())})
	case Refused:
		// A provider may say otherwise when asked for other audiences.
		c.refused.put(key, &refused{err: err, asked: cloneAll(want), at: uint32(now.Unix())})
	}
}

// answers reports whether what is remembered says anything about these
// audiences. A provider was asked for certain ones and may have left out
// others for which the token is good as well.
func (v *verified) answers(want []string) bool {
	return v.shared == nil || v.shared.asked == nil || slices.Equal(v.shared.asked, want)
}

// cloneAll copies texts that may be parts of a longer one, such as the body in
// which a token stands, so that what is remembered does not hold all of it.
func cloneAll(list []string) []string {
	var out []string
	for _, s := range list {
		out = append(out, strings.Clone(s))
	}
	return out
}

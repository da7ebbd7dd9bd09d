package authn

import (
	"context"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/authn/jws"
	"github.com/gatehouse-dev/gatehouse/internal/authn/strictjson"
)

// LegacyIssuer is the iss of the tokens in Secrets, which never expire.
const LegacyIssuer = "kubernetes/serviceaccount"

// Names on the secrets of legacy tokens, as in Kubernetes.
const (
	// LegacySecretType is the type of the secret.
	LegacySecretType = "kubernetes.io/service-account-token"
	// LabelLegacyLastUsed is the day of the last use, in UTC.
	LabelLegacyLastUsed = "kubernetes.io/legacy-token-last-used"
	// LabelLegacyInvalidSince ends the token while it is there.
	LabelLegacyInvalidSince = "kubernetes.io/legacy-token-invalid-since"
	// AnnotationLegacyToken and AnnotationLegacySecret mark the use of such a
	// token in the audit event.
	AnnotationLegacyToken  = "authentication.k8s.io/legacy-token"
	AnnotationLegacySecret = "authentication.k8s.io/legacy-token-manual-secret"
)

// LegacySecret is what matters of a secret that holds a legacy token.
type LegacySecret struct {
	Type string
	// Account and AccountUID are its annotations: without them nobody asked
	// for a token, and none is accepted.
	Account, AccountUID string
	// InvalidSince is the label of that purpose.
	InvalidSince string
	// Deleted is set once it has a deletion timestamp.
	Deleted bool
	// Token is the server's copy.
	Token []byte
}

// LegacySecrets finds the secrets of legacy tokens and notes their use. It is
// asked on every use of a token and must answer from memory.
type LegacySecrets interface {
	LegacySecret(ctx context.Context, namespace, name string) (secret LegacySecret, found bool, err error)
	// Used is told of every accepted use; it must not block. The owner keeps
	// [LabelLegacyLastUsed] from it.
	Used(namespace, name string, now time.Time)
}

// LegacyTokens accepts tokens in Secrets. They are signed by keys of their own,
// which verify nothing else.
type LegacyTokens struct {
	Keys    *KeyRing
	Secrets LegacySecrets
}

// legacyRef is the secret that a legacy token lives in.
type legacyRef struct {
	namespace, secret string
	// token is the digest of the token, to compare with the server's copy.
	token digest
}

// newLegacy returns the source of legacy tokens.
func (c *Chain) newLegacy(tokens LegacyTokens) *source {
	src := &source{method: LegacyToken, name: LegacyIssuer, anyAudience: true}
	src.verify = func(ctx context.Context, token string, _ []string, _ time.Time) (*verified, error) {
		return c.verifyLegacy(ctx, src, tokens, token)
	}
	src.check = func(ctx context.Context, v *verified, now time.Time) error {
		if tokens.Keys.Get(v.key.ID()) != v.key {
			return refuse(Ended, "the key that signed the token was withdrawn")
		}
		return c.checkLegacy(ctx, tokens, v, now)
	}
	return src
}

func (c *Chain) verifyLegacy(ctx context.Context, src *source, tokens LegacyTokens, token string) (*verified, error) {
	unverified, err := jws.Parse(token)
	if err != nil {
		return nil, refuseBecause(Malformed, "legacy token", err)
	}
	key := tokens.Keys.Get(unverified.KeyID())
	if key == nil {
		return nil, refuse(UnknownKey, "legacy token names no key of its issuer")
	}
	v, err := strictjson.Parse(unverified.Claimed())
	if err != nil {
		return nil, refuseBecause(Malformed, "legacy token claims", err)
	}
	const prefix = "kubernetes.io/serviceaccount/"
	r := claimReader{}
	namespace, secret := r.text(v, prefix+"namespace"), r.text(v, prefix+"secret.name")
	name, uid := r.text(v, prefix+"service-account.name"), r.text(v, prefix+"service-account.uid")
	switch {
	case r.bad != "":
		return nil, refuse(Malformed, "legacy token: claim %q is missing or malformed", r.bad)
	case v.Get("iss").Text != LegacyIssuer:
		return nil, refuse(UnknownIssuer, "legacy token of another issuer")
	case v.Get("sub").Text != serviceAccountUser+namespace+":"+name || strings.Contains(namespace+name, ":"):
		return nil, refuse(Malformed, "legacy token: the subject is not the account")
	case v.Get("aud").Kind != strictjson.None || v.Get("exp").Kind != strictjson.None:
		return nil, refuse(Malformed, "legacy token: it has claims that none of ours has")
	}
	if err := c.crypto.enter(ctx); err != nil {
		return nil, err
	}
	_, err = unverified.Verify(key)
	c.crypto.leave()
	if err != nil {
		return nil, refuseBecause(BadSignature, "legacy token", err)
	}
	namespace, name, secret = strings.Clone(namespace), strings.Clone(name), strings.Clone(secret)
	who, err := newAccount(account{
		name: serviceAccountUser + namespace + ":" + name, uid: strings.Clone(uid),
		groups:    []string{groupServiceAccounts, groupServiceAccountsOf + namespace},
		namespace: namespace, serviceAccount: name,
		credential: "SECRET=" + namespace + "/" + secret,
		legacy:     &legacyRef{namespace: namespace, secret: secret, token: c.hash.digest(token)},
	})
	if err != nil {
		return nil, refuseBecause(ReservedName, "legacy token", err)
	}
	return &verified{who: who, src: src, key: key}, nil
}

// checkLegacy asks whether the secret still holds this very token, for this
// very account, and is allowed to.
func (c *Chain) checkLegacy(ctx context.Context, tokens LegacyTokens, v *verified, now time.Time) error {
	ref := v.who.legacy
	secret, found, err := tokens.Secrets.LegacySecret(ctx, ref.namespace, ref.secret)
	switch {
	case err != nil:
		return err
	case !found || secret.Deleted || secret.Type != LegacySecretType:
		return refuse(Ended, "legacy token: its secret has been deleted")
	case secret.Account != v.who.serviceAccount || secret.AccountUID != v.who.uid:
		return refuse(Ended, "legacy token: its secret is not annotated for the account")
	case c.hash.digest(string(secret.Token)) != ref.token:
		return refuse(Ended, "legacy token: it does not match the server's copy")
	case secret.InvalidSince != "":
		return refuse(Ended, "legacy token: secret %s/%s is marked invalid since %.20q", ref.namespace, ref.secret, secret.InvalidSince)
	}
	account, found, err := c.objects.Object(ctx, ObjectKey{ServiceAccountObject, ref.namespace, v.who.serviceAccount})
	switch {
	case err != nil:
		return err
	case !found || !account.Deleted.IsZero():
		return refuse(Ended, "service account %s/%s has been deleted", ref.namespace, v.who.serviceAccount)
	case account.UID != v.who.uid:
		return refuse(Ended, "service account UID (%s) does not match claim (%s)", account.UID, v.who.uid)
	}
	tokens.Secrets.Used(ref.namespace, ref.secret, now)
	return nil
}

// Warnings returns what the holder of the credential should be told, in the
// words of a Warning header, or nil.
func (i Identity) Warnings() []string {
	if i.Method() != LegacyToken {
		return nil
	}
	return []string{"the token of Secret " + i.v.who.legacy.namespace + "/" + i.v.who.legacy.secret +
		" never expires; use a token from the TokenRequest API instead"}
}

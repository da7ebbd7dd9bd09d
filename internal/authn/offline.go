package authn

import (
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/authn/jws"
)

// Offline is what a token of a service account says by itself. Whether its
// account and what it is bound to still exist, and whether it was banned, only
// the control plane knows.
type Offline struct {
	Namespace, Account, AccountUID string
	// ID is the jti; "JTI=" + ID is the credential id.
	ID                          string
	Audiences                   []string
	Expires                     time.Time
	PodName, PodUID, Container  string
	NodeName, NodeUID, Attested string
}

// User returns the user name of the account.
func (o Offline) User() string { return serviceAccountUser + o.Namespace + ":" + o.Account }

// Groups returns the groups that follow from the name.
func (o Offline) Groups() []string {
	return []string{groupServiceAccounts, groupServiceAccountsOf + o.Namespace, groupAuthenticated}
}

// VerifyOffline proves a token with the keys of its issuer alone. Errors are of
// kind Unauthenticated. Audiences are the caller's to compare.
func VerifyOffline(token, issuer string, keys *KeyRing, now time.Time, leeway time.Duration) (Offline, error) {
	unverified, err := jws.Parse(token)
	if err != nil {
		return Offline{}, refuseBecause(Malformed, "service account token", err)
	}
	key := keys.Get(unverified.KeyID())
	if key == nil {
		return Offline{}, refuse(UnknownKey, "token names no key of its issuer")
	}
	payload, err := unverified.Verify(key)
	if err != nil {
		return Offline{}, refuseBecause(BadSignature, "service account token", err)
	}
	c, err := readClaims(payload)
	if err != nil {
		return Offline{}, err
	}
	if c.issuer != issuer {
		return Offline{}, refuse(UnknownIssuer, "token issuer %.200q is not trusted", c.issuer)
	}
	if err := c.timely(now, leeway); err != nil {
		return Offline{}, err
	}
	if err := allowedNames(serviceAccountUser+c.namespace+":"+c.account, nil); err != nil {
		return Offline{}, refuseBecause(ReservedName, "service account token", err)
	}
	out := Offline{
		Namespace: c.namespace, Account: c.account, AccountUID: c.accountUID, ID: c.bound.id, Expires: time.Unix(c.expires, 0),
		PodName: c.bound.podName, PodUID: c.bound.podUID, Container: c.bound.container,
		NodeName: c.nodeName, NodeUID: c.nodeUID, Attested: c.attested,
	}
	for _, audience := range c.audiences {
		out.Audiences = append(out.Audiences, strings.Clone(audience))
	}
	return out, nil
}

package authn

import (
	"context"
	"math"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/authn/jws"
	"github.com/gatehouse-dev/gatehouse/internal/authn/origin"
	"github.com/gatehouse-dev/gatehouse/internal/authn/strictjson"
)

// newServiceAccounts returns the source for the tokens of one issuer.
func (c *Chain) newServiceAccounts(issuer TrustedIssuer) *source {
	src := &source{method: ServiceAccountToken, name: issuer.URL}
	src.verify = func(ctx context.Context, token string, want []string, now time.Time) (*verified, error) {
		return c.verifyServiceAccount(ctx, src, issuer, token, want, now)
	}
	src.check = func(ctx context.Context, v *verified, now time.Time) error {
		if issuer.Keys.Get(v.key.ID()) != v.key {
			return refuse(Ended, "the key that signed the token was withdrawn")
		}
		return c.checkBound(ctx, v, now)
	}
	return src
}

// verifyServiceAccount goes from cheap to dear: whatever can be refused
// without arithmetic on curves is.
func (c *Chain) verifyServiceAccount(ctx context.Context, src *source, issuer TrustedIssuer, token string, want []string, now time.Time) (*verified, error) {
	unverified, err := jws.Parse(token)
	if err != nil {
		return nil, refuseBecause(Malformed, "service account token", err)
	}
	if unverified.KeyID() == "" {
		return nil, refuse(UnknownKey, "service account token names no key")
	}
	key := issuer.Keys.Get(unverified.KeyID())
	if key == nil {
		return nil, refuse(UnknownKey, "service account token names no key of its issuer")
	}
	if key.Algorithm() != unverified.Algorithm() {
		return nil, refuseBecause(UnknownKey, "service account token", jws.ErrAlgorithm)
	}
	claims, err := readClaims(unverified.Claimed())
	if err != nil {
		return nil, err
	}
	if claims.issuer != issuer.URL {
		return nil, refuse(UnknownIssuer, "token issuer %.200q is invalid", claims.issuer)
	}
	if err := claims.timely(now, c.leeway); err != nil {
		return nil, err
	}
	if len(intersect(claims.audiences, want)) == 0 {
		return nil, refuse(WrongAudience, "token audiences %.300q is invalid for the target audiences %.300q", claims.audiences, want)
	}
	if err := c.crypto.enter(ctx); err != nil {
		return nil, err
	}
	_, err = unverified.Verify(key)
	c.crypto.leave()
	if err != nil {
		return nil, refuseBecause(BadSignature, "service account token", err)
	}
	return c.remembered(src, key, claims)
}

// remembered turns claims that the issuer vouched for into what is kept.
func (c *Chain) remembered(src *source, key *jws.Key, claims claims) (*verified, error) {
	who, err := c.accounts.get(joinKey(claims.namespace, claims.account, claims.accountUID), func() (*account, error) {
		namespace, name := strings.Clone(claims.namespace), strings.Clone(claims.account)
		return newAccount(account{
			name:           serviceAccountUser + namespace + ":" + name,
			uid:            strings.Clone(claims.accountUID),
			groups:         []string{groupServiceAccounts, groupServiceAccountsOf + namespace},
			namespace:      namespace,
			serviceAccount: name,
		})
	})
	if err != nil {
		return nil, refuseBecause(ReservedName, "service account token", err)
	}
	parts := append([]string{claims.nodeName, claims.nodeUID, claims.attested, claims.site.key(), itoa(int64(len(claims.origin)))}, claims.origin...)
	parts = append(parts, claims.audiences...)
	shared, err := c.shared.get(joinKey(parts...), func() (*sharedClaims, error) {
		return &sharedClaims{
			nodeName: strings.Clone(claims.nodeName), nodeUID: strings.Clone(claims.nodeUID), attested: strings.Clone(claims.attested),
			audiences: cloneAll(claims.audiences), origin: cloneAll(claims.origin), site: claims.site.clone(),
		}, nil
	})
	if err != nil {
		return nil, err
	}
	return &verified{who: who, src: src, key: key, shared: shared, bound: pack(claims.bound), expires: claims.expires}, nil
}

// claims are those of a service account token, sound in form.
type claims struct {
	issuer    string
	audiences []string
	// expires, notBefore and issuedAt are in Unix seconds; 0 is absent.
	expires, notBefore, issuedAt   int64
	namespace, account, accountUID string
	nodeName, nodeUID              string
	// attested is the API group about which the bearer may ask webhooks.
	attested string
	// origin is the line of credentials that the token was asked for with.
	origin []string
	// site is what of a connected site the token is bound to, or nil.
	site  *boundSite
	bound boundClaims
}

// Names of claims.
const (
	claimKubernetes = "kubernetes.io"
	claimGatehouse  = "gatehouse.dev"
	// claimAttested is the one attestation that Kubernetes knows (KEP-6060).
	claimAttested = ExtraAttestationPrefix + "admissionReviewAPIGroups"
)

// Bounds on claims.
const (
	maxAudiences   = 64
	maxClaim       = 1024
	latestUnixTime = 253402300799 // the year 9999
)

// readClaims reads the payload of a service account token and refuses one that
// contradicts itself.
func readClaims(payload []byte) (claims, error) {
	v, err := strictjson.Parse(payload)
	if err != nil {
		return claims{}, refuseBecause(Malformed, "service account token claims", err)
	}
	r := claimReader{}
	own := r.object(v, claimKubernetes)
	serviceAccount := r.object(own, "serviceaccount")
	pod, secret, node := r.optional(own, "pod"), r.optional(own, "secret"), r.optional(own, "node")
	out := claims{
		issuer:     r.text(v, "iss"),
		audiences:  r.audiences(v),
		expires:    r.time(v, "exp"),
		notBefore:  r.time(v, "nbf"),
		issuedAt:   r.time(v, "iat"),
		namespace:  r.text(own, "namespace"),
		account:    r.text(serviceAccount, "name"),
		accountUID: r.text(serviceAccount, "uid"),
		bound: boundClaims{
			id:        r.maybe(v, "jti"),
			warnAfter: r.time(own, "warnafter"),
		},
	}
	if pod.Kind != strictjson.None {
		out.bound.podName, out.bound.podUID = r.text(pod, "name"), r.text(pod, "uid")
	}
	if secret.Kind != strictjson.None {
		out.bound.secretName, out.bound.secretUID = r.text(secret, "name"), r.text(secret, "uid")
	}
	if node.Kind != strictjson.None {
		// A pod may run on a node that was never registered: no uid then.
		out.nodeName, out.nodeUID = r.text(node, "name"), r.maybe(node, "uid")
	}
	if ours := r.optional(v, claimGatehouse); ours.Kind != strictjson.None {
		if ours.Get("container").Kind != strictjson.None {
			out.bound.container = r.text(ours, "container")
		}
		out.origin, out.site = r.line(ours, "origin"), r.readSite(ours)
	}
	if facts := r.optional(own, "attestations"); facts.Kind != strictjson.None {
		out.attested = r.only(facts, claimAttested)
	}
	switch {
	case r.bad != "":
		return claims{}, refuse(Malformed, "service account token: claim %q is missing or malformed", r.bad)
	case out.expires == 0:
		return claims{}, refuse(Malformed, "service account token: it never expires")
	case r.text(v, "sub") != serviceAccountUser+out.namespace+":"+out.account || strings.Contains(out.namespace+out.account, ":"):
		return claims{}, refuse(Malformed, "service account token: the subject is not the account")
	case out.bound.secretName != "" && (out.bound.podName != "" || out.nodeName != ""),
		out.site != nil && (out.bound.secretName != "" || out.bound.podName != "" || out.nodeName != ""):
		return claims{}, refuse(Malformed, "service account token: it is bound to more than one object")
	case out.bound.container != "" && out.bound.podName == "":
		return claims{}, refuse(Malformed, "service account token: it is bound to a container of no pod")
	}
	return out, nil
}

// timely checks the token's own times as Kubernetes does, each with the leeway.
func (t claims) timely(now time.Time, leeway time.Duration) error {
	switch {
	case now.Add(-leeway).After(time.Unix(t.expires, 0)):
		return refuse(Expired, "service account token has expired")
	case t.notBefore != 0 && now.Add(leeway).Before(time.Unix(t.notBefore, 0)):
		return refuse(NotYetValid, "service account token is not valid yet")
	case t.issuedAt != 0 && now.Add(leeway).Before(time.Unix(t.issuedAt, 0)):
		return refuse(NotYetValid, "service account token is issued in the future")
	}
	return nil
}

// claimReader reads claims of the right type and notes the first that is not.
type claimReader struct{ bad string }

func (r *claimReader) fail(name string) {
	if r.bad == "" {
		r.bad = name
	}
}

func (r *claimReader) object(v strictjson.Value, name string) strictjson.Value {
	m := v.Get(name)
	if m.Kind != strictjson.Object {
		r.fail(name)
	}
	return m
}

func (r *claimReader) optional(v strictjson.Value, name string) strictjson.Value {
	if v.Get(name).Kind == strictjson.None {
		return strictjson.Value{}
	}
	return r.object(v, name)
}

func (r *claimReader) text(v strictjson.Value, name string) string {
	s := r.maybe(v, name)
	if s == "" {
		r.fail(name)
	}
	return s
}

func (r *claimReader) maybe(v strictjson.Value, name string) string {
	m := v.Get(name)
	if m.Kind != strictjson.String && m.Kind != strictjson.None || len(m.Text) > maxClaim {
		r.fail(name)
	}
	return m.Text
}

// line reads a line of credentials.
func (r *claimReader) line(v strictjson.Value, name string) []string {
	m := v.Get(name)
	if m.Kind == strictjson.None {
		return nil
	}
	var out []string
	for _, item := range m.Items {
		if item.Kind != strictjson.String || len(out) == origin.Max {
			r.fail(name)
			return nil
		}
		out = append(out, item.Text)
	}
	if m.Kind != strictjson.Array || len(out) == 0 || !origin.Check(out) {
		r.fail(name)
	}
	return out
}

// only reads an array of one text.
func (r *claimReader) only(v strictjson.Value, name string) string {
	m := v.Get(name)
	if m.Kind != strictjson.Array || len(m.Items) != 1 || m.Items[0].Kind != strictjson.String || m.Items[0].Text == "" || len(m.Items[0].Text) > maxClaim {
		r.fail(name)
		return ""
	}
	return m.Items[0].Text
}

// time reads a NumericDate (RFC 7519 §2): whole seconds, fractions cut off.
func (r *claimReader) time(v strictjson.Value, name string) int64 {
	m := v.Get(name)
	if m.Kind == strictjson.None {
		return 0
	}
	f, ok := m.Float()
	if !ok || f < 0 || f > latestUnixTime {
		r.fail(name)
		return 0
	}
	return int64(math.Trunc(f))
}

func (r *claimReader) audiences(v strictjson.Value) []string {
	m := v.Get("aud")
	var out []string
	switch m.Kind {
	case strictjson.String:
		out = []string{m.Text}
	case strictjson.Array:
		if len(m.Items) > maxAudiences {
			r.fail("aud")
			return nil
		}
		for _, item := range m.Items {
			if item.Kind != strictjson.String {
				r.fail("aud")
			}
			out = append(out, item.Text)
		}
	}
	for _, audience := range out {
		if audience == "" || len(audience) > maxClaim {
			r.fail("aud")
		}
	}
	if len(out) == 0 {
		r.fail("aud")
	}
	return out
}

// checkBound asks whether the account and the objects that the token is bound
// to are still those it was minted for. It allocates only to refuse.
func (c *Chain) checkBound(ctx context.Context, v *verified, now time.Time) error {
	namespace := v.who.namespace
	if err := c.checkAccount(ctx, v.who, now); err != nil {
		return err
	}
	_, rest := nextField(v.bound) // jti
	podName, rest := nextField(rest)
	podUID, rest := nextField(rest)
	secretName, rest := nextField(rest)
	secretUID, _ := nextField(rest)
	if err := c.checkObject(ctx, SecretObject, namespace, secretName, secretUID, now); err != nil {
		return err
	}
	if err := c.checkObject(ctx, PodObject, namespace, podName, podUID, now); err != nil {
		return err
	}
	if v.shared.site != nil {
		return c.checkSite(ctx, v.shared.site, now)
	}
	if podName.raw == "" && v.shared.nodeName != "" {
		// Beside a pod the node is only said; alone it is what binds.
		return c.checkObject(ctx, NodeObject, "", packedField{raw: v.shared.nodeName}, packedField{raw: v.shared.nodeUID}, now)
	}
	return nil
}

func (c *Chain) checkAccount(ctx context.Context, who *account, now time.Time) error {
	namespace, name := who.namespace, who.serviceAccount
	key := ObjectKey{ServiceAccountObject, namespace, name}
	if c.exists != nil {
		there, err := c.exists(ctx, key, who.uid)
		if err == nil && !there {
			err = refuse(Ended, "service account %s/%s with UID %s is not known to exist", namespace, name, who.uid)
		}
		return err
	}
	account, found, err := c.objects.Object(ctx, key)
	if err == nil && found && account.UID != who.uid {
		account, found, err = c.confirmObject(ctx, key, account)
	}
	switch {
	case err != nil:
		return err
	case !found:
		return refuse(Ended, "serviceaccounts %q not found", name)
	case account.UID != who.uid:
		return refuse(Ended, "service account UID (%s) does not match claim (%s)", account.UID, who.uid)
	case c.gone(account, now):
		return refuse(Ended, "service account %s/%s has been deleted", namespace, name)
	}
	return nil
}

func (c *Chain) checkObject(ctx context.Context, kind ObjectKind, namespace string, name, uid packedField, now time.Time) error {
	if name.raw == "" {
		return nil
	}
	key := ObjectKey{kind, namespace, name.raw}
	if name.uuid {
		key.Name = name.String()
	}
	if c.exists != nil {
		there, err := c.exists(ctx, key, uid.String())
		if err == nil && !there {
			err = refuse(Ended, "the %s of the service account token is not known to exist", objectWords[kind])
		}
		return err
	}
	state, found, err := c.objects.Object(ctx, key)
	if err == nil && found && !uid.is(state.UID) {
		state, found, err = c.confirmObject(ctx, key, state)
	}
	switch {
	case err != nil:
		return err
	case !found, c.gone(state, now):
		return refuse(Ended, "service account token has been invalidated")
	case !uid.is(state.UID):
		word := objectWords[kind]
		return refuse(Ended, "%s UID (%s) does not match service account %s ref claim (%s)", word, state.UID, word, uid)
	}
	return nil
}

var objectWords = map[ObjectKind]string{PodObject: "pod", SecretObject: "secret", NodeObject: "node"}

// gone reports whether an object was deleted, as Kubernetes counts it: before
// now by more than the leeway.
func (c *Chain) gone(state ObjectState, now time.Time) bool {
	return !state.Deleted.IsZero() && state.Deleted.Before(now.Add(-c.deletionLeeway))
}

package authorize

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"slices"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"

	federationapi "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz/snapshot"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/access/sitename"
	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/federation"
)

// Centre asks the control plane about a token. An error of kind Unavailable
// says that it gave no answer; after that, and only then, counts what it said
// before.
type Centre interface {
	Token(ctx context.Context, spec *authenticationv1.TokenReviewSpec) (authenticationv1.TokenReviewStatus, error)
}

const (
	// maxTokens bounds how many tokens are remembered, about a kilobyte each.
	maxTokens = 16384
	// forgetAfter is how long a token is remembered that nobody shows.
	forgetAfter = 24 * time.Hour
)

// tokens remembers what the control plane said of tokens, by a keyed digest: no
// token is kept. It is in memory only, because it is proof of nothing to
// whoever can write files. It is safe for concurrent use.
type tokens struct {
	salt [32]byte

	mu    sync.Mutex // guards the rest
	known map[[32]byte]*verdict
	// accounts are the service accounts of tokens, and when the control plane
	// confirmed each last.
	accounts map[accountKey]time.Time
}

type verdict struct {
	status authenticationv1.TokenReviewStatus
	// audiences are those that were asked about, sorted: for others the answer
	// may be another.
	audiences []string
	confirmed time.Time
}

type accountKey struct {
	key authn.ObjectKey
	uid string
}

func newTokens() *tokens {
	t := &tokens{known: map[[32]byte]*verdict{}, accounts: map[accountKey]time.Time{}}
	_, _ = rand.Read(t.salt[:]) // never fails
	return t
}

func (t *tokens) digest(token string) [32]byte {
	h := sha256.New()
	h.Write(t.salt[:])
	h.Write([]byte(token))
	return [32]byte(h.Sum(nil))
}

// confirm notes a good answer that was asked for at a time.
func (t *tokens) confirm(spec *authenticationv1.TokenReviewSpec, status *authenticationv1.TokenReviewStatus, asked time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.known) >= maxTokens {
		t.makeRoom(asked)
	}
	// The audiences may be parts of the text that the token stands in, too.
	audiences := sorted(spec.Audiences)
	for i := range audiences {
		audiences[i] = strings.Clone(audiences[i])
	}
	t.known[t.digest(spec.Token)] = &verdict{*status, audiences, asked}
	if key, ok := accountOf(status); ok {
		t.accounts[key] = asked
	}
}

// makeRoom forgets what is old, and otherwise a part of the rest: a flood of
// tokens that are all good must not take all memory.
func (t *tokens) makeRoom(now time.Time) {
	for k, v := range t.known {
		if now.Sub(v.confirmed) > forgetAfter {
			delete(t.known, k)
		}
	}
	for k := range t.known {
		if len(t.known) < maxTokens*7/8 {
			break
		}
		delete(t.known, k)
	}
	clear(t.accounts)
	for _, v := range t.known {
		if key, ok := accountOf(&v.status); ok && t.accounts[key].Before(v.confirmed) {
			t.accounts[key] = v.confirmed
		}
	}
}

func (t *tokens) forget(token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.known, t.digest(token))
}

func sorted(list []string) []string { return slices.Sorted(slices.Values(list)) }

// recall returns what was said of a token, and when it was asked for.
func (t *tokens) recall(spec *authenticationv1.TokenReviewSpec) (status authenticationv1.TokenReviewStatus, asked time.Time, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	v, ok := t.known[t.digest(spec.Token)]
	if !ok || !slices.Equal(v.audiences, sorted(spec.Audiences)) {
		return authenticationv1.TokenReviewStatus{}, time.Time{}, false
	}
	return *v.status.DeepCopy(), v.confirmed, true
}

func (t *tokens) confirmedAfter(key authn.ObjectKey, uid string, at time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.accounts[accountKey{key, uid}].After(at)
}

// accountOf is the service account of the control plane that a token is of.
func accountOf(status *authenticationv1.TokenReviewStatus) (accountKey, bool) {
	user, ours := strings.CutPrefix(status.User.Username, sitename.Prefix)
	if !ours || !sitename.IsServiceAccount(user) {
		return accountKey{}, false
	}
	namespace, name, _ := strings.Cut(strings.TrimPrefix(user, "system:serviceaccount:"), ":")
	return accountKey{authn.ObjectKey{Kind: authn.ServiceAccountObject, Namespace: namespace, Name: name}, status.User.UID}, true
}

// TokenAtSite verifies the tokens of the control plane's service accounts here,
// by the keys and objects that came with the policy. Of every other token, and
// of one that is no good by what is known here, the control plane has the say
// while it is heard: an account or a key can be newer than the policy. While it
// is not heard, another token that it found good before is good to its end, as
// long as no ban names it; one that was never shown here is not.
func (r reviews) TokenAtSite(ctx context.Context, site *federationapi.Site, spec *authenticationv1.TokenReviewSpec) (authenticationv1.TokenReviewStatus, error) {
	in, err := r.policy()
	if err != nil {
		return authenticationv1.TokenReviewStatus{}, err
	}
	now := r.cfg.Now()
	here, knows, err := r.verify(ctx, in, site.Name, spec)
	switch {
	case err != nil:
		return authenticationv1.TokenReviewStatus{}, err
	case here.Authenticated:
		r.answers.here.Add(1)
		return r.unlessEnded(in, site.Name, here, now)
	case knows == always:
		return here, nil
	}
	known, since, remembered := r.tokens.recall(spec)
	if knows == byPolicy && !since.After(in.Header.Issued) {
		// What is known here is newer than what was said then.
		remembered = false
	}
	if r.cfg.Policy.Connected() || !remembered {
		status, err := r.cfg.Centre.Token(ctx, spec)
		switch {
		case err == nil && status.Authenticated:
			r.tokens.confirm(spec, &status, now)
			r.answers.centre.Add(1)
			return status, nil
		case err == nil:
			r.tokens.forget(spec.Token)
			return status, nil
		case fault.KindOf(err) != fault.Unavailable:
			return authenticationv1.TokenReviewStatus{}, err
		case !remembered && knows == byPolicy:
			return here, nil
		case !remembered:
			// An answer, because a kube-apiserver that gets none tries again
			// for seconds, while its caller waits.
			return authenticationv1.TokenReviewStatus{Error: "the control plane is away, and never spoke of this token here"}, nil
		}
	}
	r.answers.memory.Add(1)
	return r.unlessEnded(in, site.Name, known, now)
}

// unlessEnded asks about the holder of a token what the deny door is asked.
func (r reviews) unlessEnded(in *snapshot.InForce, site string, status authenticationv1.TokenReviewStatus, now time.Time) (authenticationv1.TokenReviewStatus, error) {
	extra := make(map[string]authorizationv1.ExtraValue, len(status.User.Extra))
	plain := make(map[string][]string, len(status.User.Extra))
	for k, v := range status.User.Extra {
		extra[k], plain[k] = authorizationv1.ExtraValue(v), v
	}
	reason, err := federation.EndedBy(&authorizationv1.SubjectAccessReviewSpec{User: status.User.Username, UID: status.User.UID, Extra: extra}, now, r.gone(in))
	if err != nil {
		return authenticationv1.TokenReviewStatus{}, err
	}
	if reason == "" {
		who := access.Subject{Name: status.User.Username, UID: status.User.UID, Groups: status.User.Groups, Extra: plain}
		reason, _ = access.BannedAtSite(in.Snapshot, site, who, now)
	}
	if reason != "" {
		return authenticationv1.TokenReviewStatus{Error: reason}, nil
	}
	return status, nil
}

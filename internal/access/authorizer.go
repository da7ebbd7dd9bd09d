package access

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access/limit"
	"github.com/gatehouse-dev/gatehouse/internal/access/nodegraph"
	"github.com/gatehouse-dev/gatehouse/internal/access/noderule"
	"github.com/gatehouse-dev/gatehouse/internal/access/sitename"
	"github.com/gatehouse-dev/gatehouse/internal/authn/origin"
)

// Config is what an [Authorizer] needs.
type Config struct {
	Policy *Policy
	// Fresh returns an error, of kind Unavailable, while the policy may be
	// older than decisions are allowed to be. Nil means always fresh. It is
	// called for every decision and must not block.
	Fresh func() error
	// Now is the time by which policies and bans begin and end; time.Now if
	// nil.
	Now func() time.Time
	// Nodes answers for the nodes of the control plane what bindings and
	// policies do not; nil gives nodes no rights of their own.
	Nodes *nodegraph.Graph
	// NodeRules let agents change their own node, within what admission sees to;
	// nil lets none.
	NodeRules *noderule.Rules
}

// Authorizer answers questions about rights. It is safe for concurrent use.
type Authorizer struct{ config Config }

// New returns an authorizer over config.Policy.
func New(config Config) (*Authorizer, error) {
	if config.Policy == nil {
		return nil, errors.New("authorizer: a policy is required")
	}
	if config.Fresh == nil {
		config.Fresh = func() error { return nil }
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	return &Authorizer{config}, nil
}

// Ready returns an error of kind Unavailable while decisions are refused.
func (a *Authorizer) Ready() error {
	if err := a.config.Policy.Ready(); err != nil {
		return err
	}
	return a.config.Fresh()
}

// Decide answers whether subject may do what q describes in the control
// plane; what q says of the caller, the site and the time is not read. An error, of kind
// Unavailable, means that nothing was decided: the caller must refuse.
func (a *Authorizer) Decide(_ context.Context, subject Subject, q authz.Request) (Decision, error) {
	if err := a.Ready(); err != nil {
		return Decision{}, err
	}
	q.Time = a.config.Now()
	return a.orNode(decide(a.config.Policy.Snapshot(), &subject, q), &subject, &q), nil
}

// decide is Decide on one state of the policy, for questions that are asked
// together.
func decide(snapshot *authz.Snapshot, subject *Subject, q authz.Request) Decision {
	q.User, q.Groups, q.UID, q.Extra, q.Site = subject.Name, subject.Groups, subject.UID, subject.Extra, ""
	switch {
	case limit.Check(&q) != nil:
		return Decision{ruling: byLength}
	case takesSiteName(&q):
		return Decision{ruling: byReservedName}
	}
	d := ask(snapshot, &q)
	// The engine comes first, because a deny binds superusers too.
	if d.Effect() != authz.Deny && subject.isSuperuser() {
		return Decision{ruling: bySuperuser}
	}
	return Decision{engine: d}
}

// requests holds the questions that are passed to the engine. Conditions are
// called through an interface, so that a question on the stack would move to
// the heap for every decision.
var requests = sync.Pool{New: func() any { return new(authz.Request) }}

// CredentialIDExtra is the key of extra that holds the id of the caller's
// credential.
const CredentialIDExtra = "authentication.kubernetes.io/credential-id"

// ask decides under every credential id that q's extra names: usually one, and
// where there are more a ban of any of them holds.
func ask(snapshot *authz.Snapshot, q *authz.Request) authz.Decision {
	r := requests.Get().(*authz.Request)
	*r = *q
	r.CredentialID, r.Origins = "", originsOf(q.Extra)
	ids := q.Extra[CredentialIDExtra]
	if len(ids) > 0 {
		r.CredentialID, ids = ids[0], ids[1:]
	}
	d := snapshot.Decide(r)
	for _, id := range ids {
		if d.Effect() == authz.Deny {
			break
		}
		r.CredentialID = id
		if other := snapshot.Decide(r); other.Effect() == authz.Deny {
			d = other
		}
	}
	*r = authz.Request{}
	requests.Put(r)
	return d
}

// originsOf returns the credentials with which that of a caller was made.
func originsOf(extra map[string][]string) []string {
	line := extra[origin.Extra]
	if len(line) == 0 {
		return nil
	}
	ids := make([]string, len(line))
	for i, text := range line {
		ids[i] = origin.ID(text)
	}
	return ids
}

// takesSiteName reports whether q asks to impersonate a site. It covers the
// constrained verbs, impersonate:MODE, too.
func takesSiteName(q *authz.Request) bool {
	return q.ResourceRequest && (q.Verb == impersonate || strings.HasPrefix(q.Verb, impersonate+":")) &&
		(q.Resource == "users" || q.Resource == "groups") && sitename.Reserved(q.Name)
}

// Rules returns every rule that subject holds in a namespace, or everywhere
// when namespace is empty, and the grants whose role does not exist. The
// rules of [SuperuserGroup] come first for its members.
func (a *Authorizer) Rules(_ context.Context, subject Subject, namespace string) (rules []authz.Rule, missing []authz.Grant, err error) {
	if err := a.Ready(); err != nil {
		return nil, nil, err
	}
	rules, missing = rulesOf(a.config.Policy.Snapshot(), &subject, namespace)
	return rules, missing, nil
}

// Unresolved returns the grants to subject, in a namespace or everywhere, whose
// role does not exist. It costs next to nothing while no role is missing.
func (a *Authorizer) Unresolved(ctx context.Context, subject Subject, namespace string) ([]authz.Grant, error) {
	if err := a.Ready(); err != nil || a.config.Policy.Snapshot().Counts().Unresolved == 0 {
		return nil, err
	}
	_, missing, err := a.Rules(ctx, subject, namespace)
	return missing, err
}

// Holder is one subject that may do what was asked.
type Holder struct {
	Subject authz.Subject
	// Grant is the binding that says so; zero for [SuperuserGroup].
	Grant authz.Grant
	// ResourceNames is set when the question named no object and the grant
	// holds for objects of these names only.
	ResourceNames []string
}

// WhoCan returns every subject that may do what q describes in the control
// plane, superusers first, once for each grant that says so and otherwise in
// no particular order. Groups are named, not expanded. q's User, Groups and
// Site are not read.
func (a *Authorizer) WhoCan(_ context.Context, q authz.Request) ([]Holder, error) {
	if err := a.Ready(); err != nil {
		return nil, err
	}
	q.User, q.Groups, q.Site = "", nil, ""
	if takesSiteName(&q) {
		return nil, nil
	}
	found := a.config.Policy.Snapshot().WhoCan(&q)
	holders := make([]Holder, 1, found.Len()+1)
	holders[0].Subject = authz.Subject{Kind: authz.Group, Name: SuperuserGroup}
	for i := range found.Len() {
		h := found.At(i)
		holders = append(holders, Holder{Subject: h.Grant.Subject, Grant: h.Grant, ResourceNames: h.ResourceNames})
	}
	return holders, nil
}

func rulesOf(snapshot *authz.Snapshot, subject *Subject, namespace string) (rules []authz.Rule, missing []authz.Grant) {
	if subject.isSuperuser() {
		rules = everything()
	}
	granted, missing := snapshot.RulesFor(&authz.Request{User: subject.Name, Groups: subject.Groups, Namespace: namespace})
	for _, g := range granted {
		rules = append(rules, g.Rule)
	}
	return rules, missing
}

// everything is what a superuser may do, and what it takes to set an
// aggregation rule.
func everything() []authz.Rule {
	all := []string{authz.Wildcard}
	return []authz.Rule{
		{Verbs: all, APIGroups: all, Resources: all},
		{Verbs: all, NonResourceURLs: all},
	}
}

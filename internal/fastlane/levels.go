package fastlane

import (
	"net/http"
	"sync/atomic"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/policy"
)

// Policy says what is recorded of a request; it returns another chain after
// each change.
type Policy interface {
	Chain() *policy.Chain
}

// levels asks the policy about the lane's few kinds of request. They are
// narrowed once for each change of the policy.
type levels struct {
	policy Policy
	held   atomic.Pointer[narrowed]
}

type narrowed struct {
	of                   *policy.Chain
	access, token, posts *policy.Narrow
}

func (l *levels) narrowed() *narrowed {
	chain := l.policy.Chain()
	if n := l.held.Load(); n != nil && n.of == chain {
		return n
	}
	// Two that come here at once make the same.
	n := &narrowed{
		of:     chain,
		access: chain.Narrow(policy.Request{Resource: true, Verb: "create", APIGroup: accessReviews.APIGroup, Plural: accessReviews.Resource}),
		token:  chain.Narrow(policy.Request{Resource: true, Verb: "create", APIGroup: tokenReviews.APIGroup, Plural: tokenReviews.Resource}),
		posts:  chain.Narrow(policy.Request{Verb: "post"}),
	}
	l.held.Store(n)
	return n
}

// level asks what to record of a turn. Rules see the request as the frame would
// show it: reviews as created, doors as posts to their path.
func (t *turn) level() policy.Decision {
	n := t.lane.levels.narrowed()
	at := n.posts
	switch t.to {
	case routeAccessReview:
		at = n.access
	case routeTokenReview:
		at = n.token
	default:
		if t.r.Method != http.MethodPost {
			return n.of.Evaluate(&policy.Request{
				HasUser: t.ev.User.Username != "", User: t.ev.User.Username, Groups: t.ev.User.Groups, Verb: t.ev.Verb, Path: t.r.URL.Path,
			})
		}
	}
	return at.Evaluate(t.ev.User.Username != "", t.ev.User.Username, t.ev.User.Groups, t.r.URL.Path)
}

// apply sets the level of the record, and reports whether there is to be one.
// bodies says whether request and response may be in it; out is the answer.
func (t *turn) apply(d policy.Decision, out []byte) bool {
	if !d.Records(t.ev.Stage) {
		return false
	}
	t.ev.Level = d.Level
	if !t.bodies {
		return true
	}
	if d.Level.Rank() >= audit.LevelRequest.Rank() {
		t.ev.RequestObject = []byte(t.read)
	}
	if d.Level.Rank() >= audit.LevelRequestResponse.Rank() {
		t.ev.ResponseObject = out
	}
	return true
}

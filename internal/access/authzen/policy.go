package authzen

import (
	"context"

	"github.com/gatehouse-dev/gatehouse/internal/access"
)

// Policy answers questions from the policy of the control plane.
type Policy struct{ Access *access.Authorizer }

var _ Decider = Policy{}

// Decide answers one question.
func (p Policy) Decide(ctx context.Context, q *Question) (allowed bool, reason string, err error) {
	d, err := p.Access.Decide(ctx, q.Subject, q.Request)
	return d.Allowed(), d.Reason(), err
}

// SearchSubjects answers a subject search: the subjects of the asked type
// that grants name and that may do it. Each of them is asked again, so that a
// result never fails an evaluation. Members of groups are not known here;
// ask for the type group to find those.
func (p Policy) SearchSubjects(ctx context.Context, s *Search) (Results[Entity], error) {
	q := RequestOf(s.Resource)
	q.Verb = s.Action.Name
	holders, err := p.Access.WhoCan(ctx, q)
	if err != nil {
		return Results[Entity]{}, err
	}
	found := []Entity{}
	asked := map[string]bool{}
	for _, h := range holders {
		e, ok := EntityOf(h.Subject)
		if !ok || e.Type != s.Subject.Type || asked[e.ID] {
			continue
		}
		asked[e.ID] = true
		question, err := Map(&Evaluation{Subject: e, Action: s.Action, Resource: s.Resource, Context: s.Context})
		if err != nil {
			continue // a binding may name what cannot exist
		}
		allowed, _, err := p.Decide(ctx, &question)
		if err != nil {
			return Results[Entity]{}, err
		}
		if allowed {
			found = append(found, e)
		}
	}
	return Paginate(s, found, EntityKey)
}

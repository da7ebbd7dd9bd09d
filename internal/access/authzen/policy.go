package authzen

import (
	"context"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access/question"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// Policy answers questions from the policy of the control plane. Conditions see
// what a question carries as object.resource, object.subject, object.action
// (each with its type or name, id and properties) and object.context.
//
// Searches answer from what policy mentions: the subjects, objects and verbs
// that a rule names. What they return is put to the same decision as an
// evaluation, so that no result fails one.
type Policy struct{ question.Asker }

var _ Decider = Policy{}

// maxCandidates bounds the decisions of one search.
const maxCandidates = 200_000

// Decide answers one question.
func (p Policy) Decide(ctx context.Context, q *Question) (allowed bool, reason string, err error) {
	q.Complete()
	d, err := p.Access.Decide(ctx, q.Subject, q.Request)
	return d.Allowed(), d.Reason(), err
}

// Complete puts into the request what conditions see of the evaluation.
func (q *Question) Complete() {
	if q.Asked != nil {
		q.Request.Object = objectOf(q.Asked)
	}
}

// objectOf is what conditions see of a question; nil when it carries nothing.
func objectOf(e *Evaluation) map[string]any {
	if len(e.Subject.Properties)+len(e.Action.Properties)+len(e.Resource.Properties)+len(e.Context) == 0 {
		return nil
	}
	return map[string]any{
		"subject":  map[string]any{"type": e.Subject.Type, "id": e.Subject.ID, "properties": orEmpty(e.Subject.Properties)},
		"action":   map[string]any{"name": e.Action.Name, "properties": orEmpty(e.Action.Properties)},
		"resource": map[string]any{"type": e.Resource.Type, "id": e.Resource.ID, "properties": orEmpty(e.Resource.Properties)},
		"context":  orEmpty(e.Context),
	}
}

func orEmpty(m map[string]any) map[string]any {
	if m == nil {
		return map[string]any{}
	}
	return m
}

// allows decides one candidate of a search. A candidate that cannot exist is
// not allowed anything.
func (p Policy) allows(ctx context.Context, e *Evaluation) (bool, error) {
	q, err := Map(e)
	if err != nil {
		return false, nil
	}
	allowed, _, err := p.Decide(ctx, &q)
	return allowed, err
}

// SearchSubjects answers a subject search: the subjects of the asked type that
// grants name and that may do it. Of groups the service accounts are known; ask
// for the type group to find the others.
func (p Policy) SearchSubjects(ctx context.Context, s *Search) (Results[Entity], error) {
	q := RequestOf(s.Resource)
	q.Verb = s.Action.Name
	q.Object = objectOf(&s.Evaluation)
	holders, _, err := p.WhoCan(ctx, q)
	if err != nil {
		return Results[Entity]{}, err
	}
	found := []Entity{}
	asked := map[string]bool{}
	var subjects []authz.Subject
	for _, h := range holders {
		if !h.Prefix && h.Domain == "" {
			subjects = append(subjects, h.Subject)
		}
		subjects = append(subjects, h.Members...)
	}
	// A policy for many may say in its condition whom it means.
	for _, name := range p.Users(q.APIGroup, question.Resource(&q)) {
		subjects = append(subjects, authz.Subject{Kind: authz.User, Name: name})
	}
	for _, subject := range subjects {
		e, ok := EntityOf(subject)
		if e.Type == "user" && s.Subject.Type == identity {
			e.Type = identity
		}
		if !ok || e.Type != s.Subject.Type || asked[e.ID] {
			continue
		}
		asked[e.ID] = true
		candidate := s.Evaluation
		candidate.Subject = Entity{Type: e.Type, ID: e.ID, Properties: s.Subject.Properties}
		allowed, err := p.allows(ctx, &candidate)
		if err != nil {
			return Results[Entity]{}, err
		}
		if allowed {
			found = append(found, e)
		}
	}
	return Paginate(s, found, EntityKey)
}

// SearchResources answers a resource search: the objects of the asked type that
// rules name and that the subject may act on, in a namespace only where it may
// not do so everywhere.
func (p Policy) SearchResources(ctx context.Context, s *Search) (Results[Entity], error) {
	q := RequestOf(Entity{Type: s.Resource.Type})
	names := p.Mentioned(q.APIGroup, question.Resource(&q)).Names
	namespaces := p.Asker.Policy.Namespaces()
	if len(names)*(1+len(namespaces)) > maxCandidates {
		return Results[Entity]{}, fault.Newf(fault.Exhausted, "policy names too many objects of type %q to search them", s.Resource.Type)
	}
	found := []Entity{}
	try := func(id string) (bool, error) {
		candidate := s.Evaluation
		candidate.Resource.ID = id
		allowed, err := p.allows(ctx, &candidate)
		if allowed {
			found = append(found, Entity{Type: s.Resource.Type, ID: id})
		}
		return allowed, err
	}
	for _, name := range names {
		everywhere, err := try(ResourceOf(&authz.Request{ResourceRequest: true, Resource: q.Resource, Name: name}).ID)
		if err != nil {
			return Results[Entity]{}, err
		}
		for _, namespace := range namespaces {
			if everywhere {
				break
			}
			if _, err := try(namespace + "/" + name); err != nil {
				return Results[Entity]{}, err
			}
		}
	}
	return Paginate(s, found, EntityKey)
}

// SearchActions answers an action search: the verbs that rules name for the
// resource and that the subject may do.
func (p Policy) SearchActions(ctx context.Context, s *Search) (Results[Action], error) {
	q := RequestOf(s.Resource)
	found := []Action{}
	for _, verb := range p.Mentioned(q.APIGroup, question.Resource(&q)).Verbs {
		candidate := s.Evaluation
		candidate.Action = Action{Name: verb, Properties: s.Action.Properties}
		allowed, err := p.allows(ctx, &candidate)
		if err != nil {
			return Results[Action]{}, err
		}
		if allowed {
			found = append(found, Action{Name: verb})
		}
	}
	return Paginate(s, found, ActionKey)
}

package server

import (
	"context"

	accessapi "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/access/question"
	"github.com/gatehouse-dev/gatehouse/internal/access/rbac"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// questions answers the reviews of access.gatehouse.dev.
type questions struct{ question.Asker }

func aboutWhom(caller resource.Caller, s *accessapi.ReviewSubject) access.Subject {
	if s == nil {
		return subject(caller)
	}
	out := access.Subject{Name: s.User, UID: s.UID, Groups: s.Groups}
	if len(s.Extra) > 0 {
		out.Extra = make(map[string][]string, len(s.Extra))
		for k, v := range s.Extra {
			out.Extra[k] = v
		}
	}
	return out
}

func (q questions) review(ctx context.Context, caller resource.Caller, spec *accessapi.AccessReviewSpec) (accessapi.AccessReviewStatus, error) {
	who := aboutWhom(caller, spec.Subject)
	status := accessapi.AccessReviewStatus{All: true, Answers: make([]accessapi.Answer, len(spec.Questions))}
	for i := range spec.Questions {
		ask := &spec.Questions[i]
		req, _ := access.RequestFrom(ask.ResourceAttributes, ask.NonResourceAttributes)
		d, err := q.Access.Decide(ctx, who, req)
		if err != nil {
			return accessapi.AccessReviewStatus{}, err
		}
		status.Answers[i] = answerOf(d)
		status.All = status.All && d.Allowed()
		status.Any = status.Any || d.Allowed()
	}
	return status, nil
}

func answerOf(d access.Decision) accessapi.Answer {
	return accessapi.Answer{Allowed: d.Allowed(), Denied: d.Denied(), Reason: d.Reason()}
}

func (q questions) whoCan(ctx context.Context, _ resource.Caller, ask *accessapi.Question) (accessapi.WhoCanReviewStatus, error) {
	req, _ := access.RequestFrom(ask.ResourceAttributes, ask.NonResourceAttributes)
	holders, refused, err := q.WhoCan(ctx, req)
	if err != nil {
		return accessapi.WhoCanReviewStatus{}, err
	}
	return accessapi.WhoCanReviewStatus{Holders: holdersOf(holders), Refused: holdersOf(refused)}, nil
}

func holdersOf(list []question.Holder) []accessapi.Holder {
	var out []accessapi.Holder
	for _, h := range list {
		s := subjectOf(h.Subject, h.Prefix)
		if h.Domain != "" {
			s = accessapi.Subject{Kind: accessapi.SubjectServiceAccount, Domain: h.Domain}
		}
		x := accessapi.Holder{Subject: s, ResourceNames: h.ResourceNames, Reason: h.Reason}
		for _, m := range h.Members {
			x.Members = append(x.Members, subjectOf(m, false))
		}
		out = append(out, x)
	}
	return out
}

func subjectOf(s authz.Subject, prefix bool) accessapi.Subject {
	out := accessapi.Subject{Kind: accessapi.SubjectKind(s.Kind), Namespace: s.Namespace, Name: s.Name}
	if prefix {
		out.Name, out.NamePrefix = "", s.Name
	}
	return out
}

func (q questions) explain(ctx context.Context, caller resource.Caller, spec *accessapi.ExplainReviewSpec) (accessapi.ExplainReviewStatus, error) {
	req, _ := access.RequestFrom(spec.Question.ResourceAttributes, spec.Question.NonResourceAttributes)
	e, err := q.Explain(ctx, aboutWhom(caller, spec.Subject), req)
	if err != nil {
		return accessapi.ExplainReviewStatus{}, err
	}
	status := accessapi.ExplainReviewStatus{Answer: answerOf(e.Decision), MissingRoles: e.MissingRoles, DecidedBy: deciderOf(e)}
	for i := range e.Nearest {
		n := &e.Nearest[i]
		near := accessapi.NearRule{Rule: rbac.PolicyRules([]authz.Rule{n.Rule})[0]}
		if n.Policy != nil {
			near.By = accessapi.Decider{Kind: "AccessPolicy", Name: n.Policy.Name}
		} else if n.Grant != nil {
			near.By = *binding(n.Grant)
		}
		for _, lack := range n.Lacks {
			near.Lacks = append(near.Lacks, lack.String())
		}
		status.Nearest = append(status.Nearest, near)
	}
	return status, nil
}

func deciderOf(e question.Explanation) *accessapi.Decider {
	by := &accessapi.Decider{}
	if ban, ok := e.Decision.Ban(); ok {
		by.Kind, by.Name = "Ban", ban.Name
	} else if policy, ok := e.Decision.AccessPolicy(); ok {
		by.Kind, by.Name = "AccessPolicy", policy.Name
	} else if chain := e.Decision.Delegations(); len(chain) > 0 {
		by.Kind, by.Name, by.Subject = "Delegation", chain[0].Name, "User/"+chain[0].Giver.User
	} else if grant, ok := e.Decision.Grant(); ok {
		by = binding(&grant)
	} else if e.Decision.Superuser() {
		by.Kind, by.Name = "Group", access.SuperuserGroup
	} else {
		return nil
	}
	if e.Rule != nil {
		by.Rule = &rbac.PolicyRules([]authz.Rule{*e.Rule})[0]
	}
	return by
}

func binding(g *authz.Grant) *accessapi.Decider {
	who := g.Subject.Name
	if g.Subject.Namespace != "" {
		who = g.Subject.Namespace + "/" + who
	}
	return &accessapi.Decider{
		Kind: g.BindingKind(), Namespace: g.Namespace, Name: g.Name,
		Role: g.RoleKind + "/" + g.RoleName, Subject: string(g.Subject.Kind) + "/" + who,
	}
}

// Package authzen speaks the OpenID AuthZEN Authorization API 1.0 for the
// questions of package access.
//
// It owns the messages, their validation and their meaning in terms of the
// control plane; it refuses to decide ([Decider] does), to serve HTTP and to
// check whether the caller may ask. Start at [ParseEvaluation] and
// [Evaluate].
//
// # Meaning
//
// A subject of type user or identity is a user by name, group a group, and serviceaccount
// a service account NAMESPACE/NAME; properties.groups are its groups. A
// resource's type is RESOURCE[/SUBRESOURCE][.GROUP] and its id
// [NAMESPACE/]NAME, where NAMESPACE/ alone is about no object in particular,
// as a list or a create is. A resource of type path whose id begins with a
// slash is a URL path. The action's name is the verb. Other types than those
// of Kubernetes follow the same form and are granted by policies that name
// them. Properties and context are visible to conditions only.
package authzen

import (
	"context"
	"fmt"
	"strings"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/access/sitename"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// Entity is a subject or a resource.
type Entity struct {
	Type       string         `json:"type"`
	ID         string         `json:"id"`
	Properties map[string]any `json:"properties,omitempty"`
}

// Action is what a subject wants to do.
type Action struct {
	Name       string         `json:"name"`
	Properties map[string]any `json:"properties,omitempty"`
}

// Evaluation is one question (section 6.1 of the specification).
type Evaluation struct {
	Subject  Entity
	Action   Action
	Resource Entity
	Context  map[string]any
}

// Semantic says when a batch may stop (section 7.1.2.1).
type Semantic string

// The semantics.
const (
	ExecuteAll          Semantic = "execute_all"
	DenyOnFirstDeny     Semantic = "deny_on_first_deny"
	PermitOnFirstPermit Semantic = "permit_on_first_permit"
)

// Item is one question of a batch, or what is wrong with it.
type Item struct {
	Evaluation
	Err error
}

// Batch is a request with evaluations (section 7.1).
type Batch struct {
	Items    []Item
	Semantic Semantic
	// Single is true when the request had no evaluations: it is answered as
	// one evaluation is.
	Single bool
}

// Question is an evaluation in the terms of the control plane.
type Question struct {
	Subject access.Subject
	Request authz.Request
	// Asked is the evaluation, for conditions.
	Asked *Evaluation
}

// Decider decides. An error means that nothing was decided.
type Decider interface {
	Decide(ctx context.Context, q *Question) (allowed bool, reason string, err error)
}

// Decision is the answer to one question (section 5.5).
type Decision struct {
	Decision bool     `json:"decision"`
	Context  *Details `json:"context,omitempty"`
}

// Details explain a decision to whoever asked.
type Details struct {
	// ReasonAdmin must not be shown to the subject.
	ReasonAdmin map[string]string `json:"reason_admin,omitempty"`
	Error       *ItemError        `json:"error,omitempty"`
}

// ItemError says what is wrong with one question of a batch.
type ItemError struct {
	Status  int    `json:"status"`
	Message string `json:"message"`
}

// Response answers a batch: Evaluations, or for a single request only the
// embedded decision.
type Response struct {
	*Decision
	Evaluations []Decision `json:"evaluations,omitempty"`
}

// Evaluate answers a batch in order. It stops where the semantic says so, and
// with an error where the decider has one: a batch is answered as a whole or
// not at all. A question that is malformed, or whose subject cannot exist, is
// answered false.
func Evaluate(ctx context.Context, decider Decider, batch Batch) (Response, error) {
	answers := make([]Decision, 0, len(batch.Items))
	for i := range batch.Items {
		answer, err := evaluate(ctx, decider, &batch.Items[i])
		if err != nil {
			return Response{}, err
		}
		if batch.Single {
			return Response{Decision: &answer}, nil
		}
		answers = append(answers, answer)
		if answer.Decision && batch.Semantic == PermitOnFirstPermit || !answer.Decision && batch.Semantic == DenyOnFirstDeny {
			break
		}
	}
	return Response{Evaluations: answers}, nil
}

func evaluate(ctx context.Context, decider Decider, item *Item) (Decision, error) {
	if item.Err != nil {
		return Decision{Context: &Details{Error: &ItemError{Status: 400, Message: fault.Public(item.Err)}}}, nil
	}
	q, err := Map(&item.Evaluation)
	if err != nil {
		return withReason(false, fault.Public(err)), nil
	}
	allowed, reason, err := decider.Decide(ctx, &q)
	if err != nil {
		return Decision{}, fmt.Errorf("decide: %w", err)
	}
	return withReason(allowed, reason), nil
}

func withReason(allowed bool, reason string) Decision {
	d := Decision{Decision: allowed}
	if reason != "" {
		d.Context = &Details{ReasonAdmin: map[string]string{"en": reason}}
	}
	return d
}

// Map translates an evaluation. It fails, with an error of kind Invalid, for
// subjects that are none of the control plane's.
func Map(e *Evaluation) (Question, error) {
	subject, err := SubjectOf(e.Subject)
	if err != nil {
		return Question{}, err
	}
	q := RequestOf(e.Resource)
	q.Verb = e.Action.Name
	return Question{Subject: subject, Request: q, Asked: e}, nil
}

// identity is what gateways call a user (the working group's gateway scenario).
const identity = "identity"

// SubjectOf translates a subject.
func SubjectOf(e Entity) (access.Subject, error) {
	groups, err := groupsOf(e.Properties)
	if err != nil {
		return access.Subject{}, err
	}
	switch e.Type {
	case "user", identity:
		return access.Subject{Name: e.ID, Groups: groups}, nil
	case "group":
		return access.Subject{Groups: append([]string{e.ID}, groups...)}, nil
	case "serviceaccount":
		namespace, name, _ := strings.Cut(e.ID, "/")
		user := "system:serviceaccount:" + namespace + ":" + name
		if !sitename.IsServiceAccount(user) {
			return access.Subject{}, fault.Newf(fault.Invalid, "subject id %q is not NAMESPACE/NAME", e.ID)
		}
		if groups == nil {
			groups = []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"}
		}
		return access.Subject{Name: user, Groups: groups}, nil
	default:
		return access.Subject{}, fault.Newf(fault.Invalid, "subject type %q is not one of user, identity, group, serviceaccount", e.Type)
	}
}

func groupsOf(properties map[string]any) ([]string, error) {
	value, ok := properties["groups"]
	if !ok {
		return nil, nil
	}
	list, ok := value.([]any)
	if !ok {
		return nil, fault.New(fault.Invalid, "subject.properties.groups is not a list of strings")
	}
	groups := make([]string, len(list))
	for i := range list {
		if groups[i], ok = list[i].(string); !ok {
			return nil, fault.New(fault.Invalid, "subject.properties.groups is not a list of strings")
		}
	}
	return groups, nil
}

// RequestOf translates a resource; the verb is left empty.
func RequestOf(e Entity) authz.Request {
	if e.Type == "path" && strings.HasPrefix(e.ID, "/") {
		return authz.Request{Path: e.ID}
	}
	q := authz.Request{ResourceRequest: true}
	q.Resource, q.APIGroup, _ = strings.Cut(e.Type, ".")
	q.Resource, q.Subresource, _ = strings.Cut(q.Resource, "/")
	namespace, name, namespaced := strings.Cut(e.ID, "/")
	if namespaced {
		q.Namespace, q.Name = namespace, name
	} else {
		q.Name = e.ID
	}
	return q
}

// ResourceOf is the reverse of RequestOf.
func ResourceOf(q *authz.Request) Entity {
	if !q.ResourceRequest {
		return Entity{Type: "path", ID: q.Path}
	}
	e := Entity{Type: q.Resource, ID: q.Name}
	if q.Subresource != "" {
		e.Type += "/" + q.Subresource
	}
	if q.APIGroup != "" {
		e.Type += "." + q.APIGroup
	}
	if q.Namespace != "" || strings.Contains(q.Name, "/") {
		e.ID = q.Namespace + "/" + q.Name
	}
	return e
}

// EntityOf is the reverse of SubjectOf for the subject of a grant.
func EntityOf(s authz.Subject) (Entity, bool) {
	switch s.Kind {
	case authz.User:
		return Entity{Type: "user", ID: s.Name}, true
	case authz.Group:
		return Entity{Type: "group", ID: s.Name}, true
	case authz.ServiceAccount:
		return Entity{Type: "serviceaccount", ID: s.Namespace + "/" + s.Name}, true
	default:
		return Entity{}, false
	}
}

// Metadata is the discovery document (section 9), served at
// /.well-known/authzen-configuration.
type Metadata struct {
	PolicyDecisionPoint string `json:"policy_decision_point"`
	Evaluation          string `json:"access_evaluation_endpoint"`
	Evaluations         string `json:"access_evaluations_endpoint"`
	SearchSubject       string `json:"search_subject_endpoint,omitempty"`
	SearchResource      string `json:"search_resource_endpoint,omitempty"`
	SearchAction        string `json:"search_action_endpoint,omitempty"`
}

// The paths of the endpoints.
const (
	EvaluationPath     = "/access/v1/evaluation"
	EvaluationsPath    = "/access/v1/evaluations"
	SearchSubjectPath  = "/access/v1/search/subject"
	SearchResourcePath = "/access/v1/search/resource"
	SearchActionPath   = "/access/v1/search/action"
	MetadataPath       = "/.well-known/authzen-configuration"
)

// MetadataFor returns the discovery document of a server at base, an https
// URL without a path.
func MetadataFor(base string) Metadata {
	base = strings.TrimSuffix(base, "/")
	return Metadata{
		PolicyDecisionPoint: base,
		Evaluation:          base + EvaluationPath,
		Evaluations:         base + EvaluationsPath,
		SearchSubject:       base + SearchSubjectPath,
		SearchResource:      base + SearchResourcePath,
		SearchAction:        base + SearchActionPath,
	}
}

package kubeapi

import (
	"context"
	"net/http"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access/selector"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// Authenticate names the caller of a request. ok is false when the request
// carries no credential; a credential that is refused is an error.
type Authenticate func(r *http.Request) (caller resource.Caller, ok bool, err error)

// Authorizer answers for the frame: may a caller do this, and what may it do.
type Authorizer interface {
	// Decide answers one request. An error means that no answer can be given
	// (the policy is stale), not that the answer is no.
	Decide(ctx context.Context, caller resource.Caller, req *authz.Request) (allowed bool, reason string, err error)
}

// requestAuthenticator adapts Authenticate.
func requestAuthenticator(f Authenticate) authenticator.Request {
	return authenticator.RequestFunc(func(r *http.Request) (*authenticator.Response, bool, error) {
		c, ok, err := f(r)
		if err != nil || !ok {
			return nil, false, err
		}
		if m, ok := r.Context().Value(makerKey{}).(*maker); ok {
			m.made = c.Made
		}
		return &authenticator.Response{User: &user.DefaultInfo{Name: c.Name, UID: c.UID, Groups: c.Groups, Extra: c.Extra}}, true, nil
	})
}

// maker carries, past the library, what only the caller's own credential can
// tell: impersonation puts another caller into the context.
type maker struct{ made func() ([]string, error) }

type makerKey struct{}

// withMaker makes room for what requestAuthenticator finds.
func withMaker(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), makerKey{}, &maker{})))
	})
}

// frameAuthorizer adapts Authorizer.
type frameAuthorizer struct {
	to Authorizer
	// admitted are the resources whose changes pass admission, where conditions
	// on the object are decided; see objectPolicies. Nil is none.
	admitted map[schema.GroupResource]bool
}

var _ authorizer.Authorizer = frameAuthorizer{}

func (f frameAuthorizer) Authorize(ctx context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	u := a.GetUser()
	if u == nil {
		return authorizer.DecisionDeny, "the request names no caller", nil
	}
	if u == user.Info(loopbackUser) {
		return authorizer.DecisionAllow, "the control plane itself", nil
	}
	// What cannot be read of a selector is left out, which asks for more.
	fieldSelector, _ := a.GetFieldSelector()
	labelSelector, _ := a.GetLabelSelector()
	allowed, reason, err := f.to.Decide(ctx, resource.Caller{Name: u.GetName(), UID: u.GetUID(), Groups: u.GetGroups(), Extra: u.GetExtra()}, &authz.Request{
		User: u.GetName(), Groups: u.GetGroups(),
		ResourceRequest: a.IsResourceRequest(), Verb: a.GetVerb(),
		APIGroup: a.GetAPIGroup(), Resource: a.GetResource(), Subresource: a.GetSubresource(),
		Namespace: a.GetNamespace(), Name: a.GetName(), Path: a.GetPath(),
		FieldSelector: selector.Fields(fieldSelector), LabelSelector: selector.Labels(labelSelector),
		ObjectLater: a.IsResourceRequest() && changing[a.GetVerb()] && f.admitted[schema.GroupResource{Group: a.GetAPIGroup(), Resource: a.GetResource()}],
	})
	if err != nil {
		if !a.IsResourceRequest() && a.GetVerb() == "get" && isHealth(a.GetPath()) {
			// Without policy nobody could tell that there is none.
			return authorizer.DecisionAllow, "health is told while no decision can be made", nil
		}
		return authorizer.DecisionNoOpinion, "", statusError(err, resource.Names{}, "")
	}
	if !allowed {
		return authorizer.DecisionNoOpinion, reason, nil
	}
	return authorizer.DecisionAllow, reason, nil
}

// ConditionsAwareAuthorize: conditions are evaluated by our own engine, never
// handed out.
func (f frameAuthorizer) ConditionsAwareAuthorize(ctx context.Context, a authorizer.Attributes) authorizer.ConditionsAwareDecision {
	return authorizer.ConditionsAwareDecisionFromParts(f.Authorize(ctx, a))
}

func (f frameAuthorizer) EvaluateConditions(context.Context, authorizer.ConditionsAwareDecision, authorizer.ConditionsData) (authorizer.Decision, string, error) {
	return authorizer.DecisionDeny, "", authorizer.ErrorConditionEvaluationNotSupported
}

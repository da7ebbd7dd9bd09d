package federation

import (
	"context"
	"errors"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"

	api "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/access/sitename"
	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/federation/clusterfiles"
)

// TokenForSite answers a site about a token. Only the site's own audience
// counts, whatever the review asks for: a token for another place must not
// open this one. The caller is described by the names that may cross over.
//
// A token that is refused is an answer; an error says that none can be given.
func TokenForSite(ctx context.Context, chain *authn.Chain, site *api.Site, spec *authenticationv1.TokenReviewSpec) (authenticationv1.TokenReviewStatus, error) {
	status, _, err := TokenBy(ctx, chain, site.Name, spec)
	return status, err
}

// TokenBy is [TokenForSite] wherever the chain is. refused is why the token
// was refused, if it was.
func TokenBy(ctx context.Context, chain *authn.Chain, site string, spec *authenticationv1.TokenReviewSpec) (status authenticationv1.TokenReviewStatus, refused authn.Reason, err error) {
	audience := clusterfiles.Audience(site)
	id, err := chain.VerifyToken(ctx, spec.Token, []string{audience})
	if err != nil {
		refused = authn.ReasonOf(err)
		status, err = refusedToken(err)
		return status, refused, err
	}
	status, err = tokenStatus(id, audience)
	return status, "", err
}

// tokenStatus describes a caller by the names that may cross over.
func tokenStatus(id authn.Identity, audience string) (authenticationv1.TokenReviewStatus, error) {
	caller, err := sitename.Outgoing(id.Name(), id.Groups())
	if err != nil {
		return authenticationv1.TokenReviewStatus{Error: err.Error()}, nil
	}
	extra := crossing(ExtraOf(id))
	if end := id.NotAfter(); !end.IsZero() {
		if extra == nil {
			extra = map[string]authenticationv1.ExtraValue{}
		}
		extra[ExtraNotAfter] = authenticationv1.ExtraValue{end.UTC().Format(time.RFC3339)}
	}
	return authenticationv1.TokenReviewStatus{
		Authenticated: true,
		Audiences:     []string{audience},
		User: authenticationv1.UserInfo{
			Username: caller.User, UID: id.UID(), Groups: caller.Groups, Extra: extra,
		},
	}, nil
}

// Token answers a review of the control plane itself, for the asked audiences
// or, without any, for its own.
func Token(ctx context.Context, chain *authn.Chain, spec *authenticationv1.TokenReviewSpec) (authenticationv1.TokenReviewStatus, error) {
	id, err := chain.VerifyToken(ctx, spec.Token, spec.Audiences)
	if err != nil {
		return refusedToken(err)
	}
	return authenticationv1.TokenReviewStatus{
		Authenticated: true,
		Audiences:     id.Audiences(),
		User:          authenticationv1.UserInfo{Username: id.Name(), UID: id.UID(), Groups: id.Groups(), Extra: ExtraOf(id)},
	}, nil
}

// ExtraOf is the extra of an identity in the form of the API.
func ExtraOf(id authn.Identity) map[string]authenticationv1.ExtraValue {
	extra := id.Extra()
	if len(extra) == 0 {
		return nil
	}
	out := make(map[string]authenticationv1.ExtraValue, len(extra))
	for k, v := range extra {
		out[k] = v
	}
	return out
}

func refusedToken(err error) (authenticationv1.TokenReviewStatus, error) {
	if fault.KindOf(err) != fault.Unauthenticated {
		return authenticationv1.TokenReviewStatus{}, err
	}
	text := fault.Public(err)
	if refusal, ok := errors.AsType[*authn.Refusal](err); ok {
		// Who may ask about tokens may know why one was refused.
		text = refusal.Error()
	}
	return authenticationv1.TokenReviewStatus{Error: text}, nil
}

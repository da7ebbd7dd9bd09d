package fastlane

import (
	"context"
	"net/http"
	"time"

	kjson "sigs.k8s.io/json"

	federation "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/fastlane/signwire"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/issuer/sitetoken"
)

// SiteTokens signs the service-account tokens of sites.
type SiteTokens interface {
	Sign(ctx context.Context, site, claims string) (sitetoken.Signed, error)
	Keys(ctx context.Context, site string) (sitetoken.KeySet, error)
}

// maxClaimsBody bounds the payload of a token.
const maxClaimsBody = 64 << 10

var errNoSigner = fault.New(fault.Unavailable, "tokens of sites are not signed here")

// signs refuses a site that signs its own tokens: nobody there needs these
// doors, whatever its mode is.
func (t *turn) signs(site *federation.Site) error {
	if site.Spec.ServiceAccountTokens != federation.SiteTokensGatehouse {
		return fault.Newf(fault.Denied, "the service-account tokens of site %q are its own; spec.serviceAccountTokens says who signs them", site.Name)
	}
	if t.lane.SiteTokens == nil {
		return errNoSigner
	}
	return nil
}

// doorSign signs one token. It is an issued credential, so that its record is
// on disk before the answer is sent.
func (t *turn) doorSign(site *federation.Site) int {
	if err := t.signs(site); err != nil {
		return t.fail(err)
	}
	var in signwire.SignRequest
	if strict, err := kjson.UnmarshalStrict([]byte(t.read), &in); err != nil || len(strict) > 0 || in.Claims == "" {
		return t.fail(fault.New(fault.Invalid, `the body must be {"claims": "..."}`))
	}
	out, err := t.lane.SiteTokens.Sign(t.ctx, site.Name, in.Claims)
	if err != nil {
		return t.fail(err)
	}
	t.durability = audit.Durable
	t.ev.Annotate(annotationSubject, out.Subject)
	if out.CredentialID != "" {
		t.ev.Annotate(annotationIssued, out.CredentialID)
	}
	return t.answerObject(http.StatusOK, signwire.SignResponse{Header: out.Header, Signature: out.Signature})
}

// annotationIssued is what the frame writes for tokens of the control plane.
const annotationIssued = "authentication.kubernetes.io/issued-credential-id"

// doorKeys tells a site which keys verify its tokens.
func (t *turn) doorKeys(site *federation.Site) int {
	if err := t.signs(site); err != nil {
		return t.fail(err)
	}
	var in struct{}
	if strict, err := kjson.UnmarshalStrict([]byte(t.read), &in); err != nil || len(strict) > 0 {
		return t.fail(fault.New(fault.Invalid, "the body must be {}"))
	}
	set, err := t.lane.SiteTokens.Keys(t.ctx, site.Name)
	if err != nil {
		return t.fail(err)
	}
	out := signwire.KeysResponse{Issuer: set.Issuer, MaxLifetimeSeconds: int64(set.MaxLifetime / time.Second), At: set.At}
	for _, k := range set.Keys {
		out.Keys = append(out.Keys, signwire.Key{ID: k.ID, Key: k.Public})
	}
	return t.answerObject(http.StatusOK, out)
}

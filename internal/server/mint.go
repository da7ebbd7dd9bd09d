package server

import (
	"context"
	"slices"
	"strings"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// Verbs of the policy on tokens. The first is the one that Kubernetes asks of
// kubelets; here it is asked of everybody.
const (
	verbAudience = "request-serviceaccounts-token-audience"
	verbAttest   = "attest"
)

// mintPolicy says who may have tokens and keys of a service account made, and
// for which audience.
type mintPolicy struct {
	reviews reviews
	// belongs returns the namespace that one of a site belongs to, empty when
	// there is no such site.
	belongs func(ctx context.Context, site, namespace string) (string, error)
}

// check refuses an audience to a caller. The API's own needs nothing beyond
// create on serviceaccounts/token; any other one needs the verb
// request-serviceaccounts-token-audience on a resource of the audience's name
// in the core group, and a rule can be limited to accounts by resourceNames.
func (m mintPolicy) check(ctx context.Context, by resource.Caller, namespace, account, audience string) error {
	if audience == apiAudience {
		return nil
	}
	if strings.HasPrefix(by.Name, "system:node:") && slices.Contains(by.Groups, "system:nodes") {
		// Node restriction holds kubelets to what their pods ask for, and asks
		// for this very verb beyond that.
		return nil
	}
	return m.reviews.need(ctx, by, "have a credential of service account "+namespace+"/"+account+" made for audience \""+audience+"\"", authz.Request{
		ResourceRequest: true, Verb: verbAudience, Resource: audience, Namespace: namespace, Name: account,
	})
}

// bind refuses to bind a token of a namespace's account to a site, or to a pod
// there in a namespace of the site, or to a node. Who asks learns whether there
// is such an object: it must belong to the account's own namespace, or the
// caller must be allowed to get the Site.
func (m mintPolicy) bind(ctx context.Context, by resource.Caller, namespace, site, siteNamespace string) error {
	if siteNamespace != "" {
		if belongs, err := m.belongs(ctx, site, siteNamespace); err != nil || belongs == namespace {
			return err
		}
	}
	return m.reviews.need(ctx, by, "bind a token to site \""+site+"\"", authz.Request{
		ResourceRequest: true, Verb: "get", APIGroup: sites.Group, Resource: sites.Resource, Name: site, ClusterScoped: true,
	})
}

// attest refuses an attestation to a service account: it must hold the verb
// attest itself, whoever asks for the token.
func (m mintPolicy) attest(ctx context.Context, namespace, account, uid, group string) error {
	who := access.Subject{
		Name: "system:serviceaccount:" + namespace + ":" + account, UID: uid,
		Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"},
	}
	for _, name := range slices.Compact([]string{"*", group}) {
		d, err := m.reviews.access.Decide(ctx, who, authz.Request{
			ResourceRequest: true, Verb: verbAttest, APIGroup: "authentication.k8s.io", Resource: "admissionReviewAPIGroups", Name: name,
		})
		if err != nil || d.Allowed() {
			return err
		}
	}
	return fault.Newf(fault.Denied, "service account %s/%s may not attest %q of admissionReviewAPIGroups", namespace, account, group)
}

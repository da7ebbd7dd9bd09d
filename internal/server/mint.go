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
type mintPolicy struct{ reviews reviews }

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

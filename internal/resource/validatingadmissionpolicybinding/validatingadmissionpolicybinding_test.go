package validatingadmissionpolicybinding

import (
	"context"
	"errors"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"

	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

func withParams(policy, name string) *binding {
	b := &binding{}
	b.Spec.PolicyName = policy
	if name != "" {
		b.Spec.ParamRef = &admissionregistrationv1.ParamRef{Name: name}
	}
	return b
}

func TestParametersAreGuarded(t *testing.T) {
	t.Parallel()
	refusal := errors.New("no")
	for name, c := range map[string]struct {
		binding, old *binding
		asked        bool
	}{
		"created without": {withParams("p", ""), nil, false},
		"created with":    {withParams("p", "secret"), nil, true},
		"unchanged":       {withParams("p", "secret"), withParams("p", "secret"), false},
		"other object":    {withParams("p", "secret"), withParams("p", "limit"), true},
		"other policy":    {withParams("p", "secret"), withParams("q", "secret"), true},
		"removed":         {withParams("p", ""), withParams("p", "secret"), false},
	} {
		kind := New(func(_ context.Context, _ resource.Caller, policy string, ref admissionregistrationv1.ParamRef) error {
			if policy != "p" || ref.Name != "secret" {
				t.Errorf("%s: asked about %s for %s", name, ref.Name, policy)
			}
			return refusal
		}).(*resource.Stored)
		var err error
		if c.old == nil {
			err = kind.Check(t.Context(), resource.Caller{}, c.binding, nil)
		} else {
			err = kind.Check(t.Context(), resource.Caller{}, c.binding, c.old)
		}
		if c.asked != errors.Is(err, refusal) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

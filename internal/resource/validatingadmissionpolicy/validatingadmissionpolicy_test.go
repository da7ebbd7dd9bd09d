package validatingadmissionpolicy

import (
	"context"
	"errors"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

func withParams(kind string) *policy {
	p := &policy{}
	if kind != "" {
		p.Spec.ParamKind = &admissionregistrationv1.ParamKind{APIVersion: "v1", Kind: kind}
	}
	return p
}

func TestParametersAreGuarded(t *testing.T) {
	t.Parallel()
	refusal := errors.New("no")
	for name, c := range map[string]struct {
		policy, old *policy
		asked       bool
	}{
		"created without": {withParams(""), nil, false},
		"created with":    {withParams("Secret"), nil, true},
		"unchanged":       {withParams("Secret"), withParams("Secret"), false},
		"added":           {withParams("Secret"), withParams(""), true},
		"changed":         {withParams("Secret"), withParams("ConfigMap"), true},
		"removed":         {withParams(""), withParams("Secret"), false},
	} {
		kind := New(nil, func(_ context.Context, _ resource.Caller, kind admissionregistrationv1.ParamKind) error {
			if kind.Kind != "Secret" {
				t.Errorf("%s: asked about %s", name, kind.Kind)
			}
			return refusal
		}).(*resource.Stored)
		var err error
		if c.old == nil {
			err = kind.Check(t.Context(), resource.Caller{}, c.policy, nil)
		} else {
			err = kind.Check(t.Context(), resource.Caller{}, c.policy, c.old)
		}
		if c.asked != errors.Is(err, refusal) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestExpressionsAreCompiled(t *testing.T) {
	t.Parallel()
	var olds []*policy
	bad := field.Invalid(field.NewPath("spec", "validations").Index(0).Child("expression"), "1 +", "does not compile")
	kind := New(func(_, old *policy) field.ErrorList {
		olds = append(olds, old)
		return field.ErrorList{bad}
	}, nil).(*resource.Stored)
	old := withParams("")
	for _, errs := range []field.ErrorList{kind.Validate(withParams("")), kind.ValidateUpdate(withParams(""), old)} {
		if errs[len(errs)-1] != bad {
			t.Errorf("errors %v", errs)
		}
	}
	if len(olds) != 2 || olds[0] != nil || olds[1] != old {
		t.Errorf("compiled against %v", olds)
	}
}

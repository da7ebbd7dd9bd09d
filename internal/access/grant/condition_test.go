package grant_test

import (
	"testing"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/authz/condition"
	"github.com/gatehouse-dev/gatehouse/internal/access/grant"
)

func TestConditions(t *testing.T) {
	t.Parallel()
	environment, err := condition.New()
	if err != nil {
		t.Fatal(err)
	}
	c := grant.Conditions{Environment: environment}
	for expression, valid := range map[string]bool{
		`request.user == "alice"`: true, `request.nobody == "alice"`: false, `request.user`: false, `request.user == `: false,
	} {
		if err := c.Check(accessv1alpha1.EffectAllow, expression); (err == nil) != valid {
			t.Errorf("%s: %v", expression, err)
		}
		compiled, err := c.Compile(accessv1alpha1.EffectAllow, expression)
		if (err == nil) != valid || (compiled != nil) != valid {
			t.Errorf("%s: %v %v", expression, compiled, err)
		}
	}
	compiled, err := c.Compile(accessv1alpha1.EffectDeny, `request.user == "alice"`)
	if err != nil {
		t.Fatal(err)
	}
	for user, want := range map[string]bool{"alice": true, "bob": false} {
		if ok, err := compiled.Holds(&authz.Request{User: user}); err != nil || ok != want {
			t.Errorf("%s: %v %v", user, ok, err)
		}
	}
	if err := (grant.Conditions{}).Check(accessv1alpha1.EffectAllow, "true"); err == nil {
		t.Error("without an environment a condition was accepted")
	}
}

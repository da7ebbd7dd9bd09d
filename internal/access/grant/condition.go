package grant

import (
	"errors"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/authz/condition"
)

// Conditions compiles conditions in one environment, for the validator and for
// the translator, so that what is accepted is what is evaluated.
type Conditions struct{ Environment *condition.Environment }

// Check is for [Validator].CheckCondition.
func (c Conditions) Check(effect accessv1alpha1.Effect, expression string) error {
	_, err := c.Compile(effect, expression)
	return err
}

// Compile is for [Translator].Compile. The effect does not change what an
// expression means.
func (c Conditions) Compile(_ accessv1alpha1.Effect, expression string) (authz.Condition, error) {
	if c.Environment == nil {
		return nil, errors.New("conditions are not evaluated here")
	}
	compiled, err := c.Environment.Compile(expression)
	if err != nil {
		return nil, err
	}
	return compiled, nil
}

// Follow compiles a condition of policy that was signed elsewhere. One that
// does not compile fails whenever it is asked, as it does where it was signed:
// a deny then denies, an allow grants nothing.
func (c Conditions) Follow(expression string) (authz.Condition, error) {
	return Translator{Compile: c.Compile}.compile(accessv1alpha1.EffectDeny, expression), nil
}

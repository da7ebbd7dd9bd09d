// Package selector reads the selectors that a question carries and translates
// them for the engine.
//
// It owns one rule: what cannot be understood is left out, which asks for more
// and so grants less. Start at [Parse].
package selector

import (
	"errors"
	"fmt"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/gatehouse-dev/gatehouse/authz"
)

// Selectors are the selectors of a list, watch or deletecollection that a
// question is about. They narrow what is asked: a requirement that cannot be
// understood is left out, which asks for more and so grants less.
type Selectors struct {
	Fields fields.Requirements
	Labels labels.Requirements
	// FieldsErr and LabelsErr say why the requirements are not all that was
	// asked.
	FieldsErr, LabelsErr error
}

// Parse reads the selectors of a question.
func Parse(a *authorizationv1.ResourceAttributes) Selectors {
	var s Selectors
	if a == nil {
		return s
	}
	if f := a.FieldSelector; f != nil {
		if f.RawSelector != "" {
			parsed, err := fields.ParseSelector(f.RawSelector)
			if err != nil {
				s.FieldsErr = err
			} else {
				s.Fields = parsed.Requirements()
			}
		}
		if len(f.Requirements) > 0 {
			s.Fields, s.FieldsErr = fieldRequirements(f.Requirements)
		}
	}
	if l := a.LabelSelector; l != nil {
		if l.RawSelector != "" {
			parsed, err := labels.Parse(l.RawSelector)
			if err != nil {
				s.LabelsErr = err
			} else {
				s.Labels, _ = parsed.Requirements()
			}
		}
		if len(l.Requirements) > 0 {
			s.Labels, s.LabelsErr = labelRequirements(l.Requirements)
		}
	}
	return s
}

// Warning says what of the selectors was ignored, in the form of a review's
// evaluationError, and is empty when nothing was.
func (s Selectors) Warning() string {
	var texts []string
	for _, part := range [...]struct {
		name string
		kept int
		err  error
	}{{"fieldSelector", len(s.Fields), s.FieldsErr}, {"labelSelector", len(s.Labels), s.LabelsErr}} {
		switch {
		case part.err == nil:
		case part.kept > 0:
			texts = append(texts, "spec.resourceAttributes."+part.name+" partially ignored due to parse error")
		default:
			texts = append(texts, "spec.resourceAttributes."+part.name+" ignored due to parse error")
		}
	}
	return strings.Join(texts, "; ")
}

// fieldRequirements keeps what a parsed selector can express: one value,
// equal or not equal.
func fieldRequirements(in []metav1.FieldSelectorRequirement) (fields.Requirements, error) {
	var out fields.Requirements
	var errs []error
	for _, r := range in {
		switch {
		case len(r.Values) > 1:
			errs = append(errs, errors.New("fieldSelectors do not yet support multiple values"))
		case r.Operator == metav1.FieldSelectorOpIn && len(r.Values) == 1:
			out = append(out, fields.Requirement{Field: r.Key, Operator: selection.Equals, Value: r.Values[0]})
		case r.Operator == metav1.FieldSelectorOpNotIn && len(r.Values) == 1:
			out = append(out, fields.Requirement{Field: r.Key, Operator: selection.NotEquals, Value: r.Values[0]})
		case r.Operator == metav1.FieldSelectorOpIn, r.Operator == metav1.FieldSelectorOpNotIn:
			errs = append(errs, fmt.Errorf("fieldSelectors %s must have one value", r.Operator))
		case r.Operator == metav1.FieldSelectorOpExists, r.Operator == metav1.FieldSelectorOpDoesNotExist:
			errs = append(errs, fmt.Errorf("fieldSelectors do not yet support %s", r.Operator))
		default:
			errs = append(errs, fmt.Errorf("%q is not a valid field selector operator", r.Operator))
		}
	}
	return out, errors.Join(errs...)
}

var labelOperators = map[metav1.LabelSelectorOperator]selection.Operator{
	metav1.LabelSelectorOpIn:           selection.In,
	metav1.LabelSelectorOpNotIn:        selection.NotIn,
	metav1.LabelSelectorOpExists:       selection.Exists,
	metav1.LabelSelectorOpDoesNotExist: selection.DoesNotExist,
}

func labelRequirements(in []metav1.LabelSelectorRequirement) (labels.Requirements, error) {
	var out labels.Requirements
	var errs []error
	for _, r := range in {
		operator, ok := labelOperators[r.Operator]
		if !ok {
			errs = append(errs, fmt.Errorf("%q is not a valid label selector operator", r.Operator))
			continue
		}
		requirement, err := labels.NewRequirement(r.Key, operator, r.Values)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, *requirement)
	}
	return out, errors.Join(errs...)
}

// Fields translates requirements on fields.
func Fields(in fields.Requirements) []authz.Requirement {
	var out []authz.Requirement
	for _, r := range in {
		if operator, ok := engineOperators[r.Operator]; ok {
			out = append(out, authz.Requirement{Key: r.Field, Operator: operator, Values: []string{r.Value}})
		}
	}
	return out
}

// Labels translates requirements on labels. Comparisons of numbers, which the
// engine does not know, are left out.
func Labels(in labels.Requirements) []authz.Requirement {
	var out []authz.Requirement
	for i := range in {
		if operator, ok := engineOperators[in[i].Operator()]; ok {
			out = append(out, authz.Requirement{Key: in[i].Key(), Operator: operator, Values: in[i].ValuesUnsorted()})
		}
	}
	return out
}

var engineOperators = map[selection.Operator]authz.Operator{
	selection.Equals:       authz.In,
	selection.DoubleEquals: authz.In,
	selection.In:           authz.In,
	selection.NotEquals:    authz.NotIn,
	selection.NotIn:        authz.NotIn,
	selection.Exists:       authz.Exists,
	selection.DoesNotExist: authz.DoesNotExist,
}

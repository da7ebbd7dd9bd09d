package selector_test

import (
	"fmt"
	"slices"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access/selector"
)

func fieldSelector(s authorizationv1.FieldSelectorAttributes) *authorizationv1.ResourceAttributes {
	return &authorizationv1.ResourceAttributes{FieldSelector: &s}
}

func labelSelector(s authorizationv1.LabelSelectorAttributes) *authorizationv1.ResourceAttributes {
	return &authorizationv1.ResourceAttributes{LabelSelector: &s}
}

func fieldRequirement(key, operator string, values ...string) *authorizationv1.ResourceAttributes {
	return fieldSelector(authorizationv1.FieldSelectorAttributes{Requirements: []metav1.FieldSelectorRequirement{
		{Key: key, Operator: metav1.FieldSelectorOperator(operator), Values: values}}})
}

func labelRequirement(key, operator string, values ...string) *authorizationv1.ResourceAttributes {
	return labelSelector(authorizationv1.LabelSelectorAttributes{Requirements: []metav1.LabelSelectorRequirement{
		{Key: key, Operator: metav1.LabelSelectorOperator(operator), Values: values}}})
}

func TestParseSelectors(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name           string
		in             *authorizationv1.ResourceAttributes
		fields, labels string
		warning        string
	}{
		{name: "none", in: &authorizationv1.ResourceAttributes{}},
		{name: "no attributes"},
		{name: "raw field", in: fieldSelector(authorizationv1.FieldSelectorAttributes{RawSelector: "foo=bar,a!=b"}), fields: "[{!= a b} {= foo bar}]"},
		{name: "raw field, bad", in: fieldSelector(authorizationv1.FieldSelectorAttributes{RawSelector: "&foo"}),
			warning: "spec.resourceAttributes.fieldSelector ignored due to parse error"},
		{name: "field requirements", in: fieldSelector(authorizationv1.FieldSelectorAttributes{Requirements: []metav1.FieldSelectorRequirement{
			{Key: "one", Operator: "In", Values: []string{"apple"}}, {Key: "two", Operator: "NotIn", Values: []string{"banana"}}}}),
			fields: "[{= one apple} {!= two banana}]"},
		{name: "two values", in: fieldRequirement("one", "In", "apple", "other"), warning: "spec.resourceAttributes.fieldSelector ignored due to parse error"},
		{name: "In without value", in: fieldRequirement("one", "In"), warning: "spec.resourceAttributes.fieldSelector ignored due to parse error"},
		{name: "NotIn without value", in: fieldRequirement("one", "NotIn"), warning: "spec.resourceAttributes.fieldSelector ignored due to parse error"},
		{name: "Exists", in: fieldRequirement("one", "Exists"), warning: "spec.resourceAttributes.fieldSelector ignored due to parse error"},
		{name: "DoesNotExist", in: fieldRequirement("one", "DoesNotExist"), warning: "spec.resourceAttributes.fieldSelector ignored due to parse error"},
		{name: "unknown", in: fieldRequirement("one", "bad"), warning: "spec.resourceAttributes.fieldSelector ignored due to parse error"},
		{name: "one of two", in: fieldSelector(authorizationv1.FieldSelectorAttributes{Requirements: []metav1.FieldSelectorRequirement{
			{Key: "one", Operator: "In", Values: []string{"apple"}}, {Key: "two", Operator: "Exists"}}}),
			fields: "[{= one apple}]", warning: "spec.resourceAttributes.fieldSelector partially ignored due to parse error"},
		{name: "raw label", in: labelSelector(authorizationv1.LabelSelectorAttributes{RawSelector: "foo=bar,x"}), labels: "[foo=bar x]"},
		{name: "raw label, bad", in: labelSelector(authorizationv1.LabelSelectorAttributes{RawSelector: "&foo"}),
			warning: "spec.resourceAttributes.labelSelector ignored due to parse error"},
		{name: "label requirements", in: labelSelector(authorizationv1.LabelSelectorAttributes{Requirements: []metav1.LabelSelectorRequirement{
			{Key: "a", Operator: "In", Values: []string{"1", "2"}}, {Key: "b", Operator: "NotIn", Values: []string{"3"}},
			{Key: "c", Operator: "Exists"}, {Key: "d", Operator: "DoesNotExist"}}}), labels: "[a in (1,2) b notin (3) c !d]"},
		{name: "label, bad value", in: labelRequirement("a", "In", "not a value!"), warning: "spec.resourceAttributes.labelSelector ignored due to parse error"},
		{name: "label, one of two", in: labelSelector(authorizationv1.LabelSelectorAttributes{Requirements: []metav1.LabelSelectorRequirement{
			{Key: "a", Operator: "Near"}, {Key: "c", Operator: "Exists"}}}), labels: "[c]",
			warning: "spec.resourceAttributes.labelSelector partially ignored due to parse error"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := selector.Parse(tc.in)
			if got := render(s.Fields); got != tc.fields {
				t.Errorf("fields %s, want %s", got, tc.fields)
			}
			var labels []string
			for i := range s.Labels {
				labels = append(labels, s.Labels[i].String())
			}
			if got := render(labels); got != tc.labels {
				t.Errorf("labels %s, want %s", got, tc.labels)
			}
			if s.Warning() != tc.warning {
				t.Errorf("warning %q, want %q", s.Warning(), tc.warning)
			}
		})
	}
}

func render[T any](list []T) string {
	if len(list) == 0 {
		return ""
	}
	return fmt.Sprint(list)
}

// FuzzParseSelectors: whatever a client sends is answered, and a selector
// that was not understood never narrows what is asked.
func FuzzParseSelectors(f *testing.F) {
	f.Add("a=b,c!=d", "a in (b,c),!d")
	f.Add("&&&", "((((")
	f.Fuzz(func(t *testing.T, fieldText, labelText string) {
		s := selector.Parse(&authorizationv1.ResourceAttributes{
			FieldSelector: &authorizationv1.FieldSelectorAttributes{RawSelector: fieldText},
			LabelSelector: &authorizationv1.LabelSelectorAttributes{RawSelector: labelText},
		})
		if s.FieldsErr != nil && len(s.Fields) > 0 || s.LabelsErr != nil && len(s.Labels) > 0 {
			t.Fatalf("%+v", s)
		}
		if (s.Warning() == "") != (s.FieldsErr == nil && s.LabelsErr == nil) {
			t.Fatalf("warning %q", s.Warning())
		}
	})
}

func TestForTheEngine(t *testing.T) {
	t.Parallel()
	s := selector.Parse(&authorizationv1.ResourceAttributes{
		FieldSelector: &authorizationv1.FieldSelectorAttributes{RawSelector: "spec.nodeName=n1,status.phase!=Failed"},
		LabelSelector: &authorizationv1.LabelSelectorAttributes{RawSelector: "a=1,b in (2,3),c!=4,d notin (5),e,!f,g>6"},
	})
	if got, want := fmt.Sprint(selector.Fields(s.Fields)), fmt.Sprint([]authz.Requirement{
		{Key: "spec.nodeName", Operator: authz.In, Values: []string{"n1"}}, {Key: "status.phase", Operator: authz.NotIn, Values: []string{"Failed"}}}); got != want {
		t.Errorf("fields: got %s, want %s", got, want)
	}
	labels := selector.Labels(s.Labels)
	for i := range labels {
		slices.Sort(labels[i].Values)
	}
	if got, want := fmt.Sprint(labels), fmt.Sprint([]authz.Requirement{
		{Key: "a", Operator: authz.In, Values: []string{"1"}}, {Key: "b", Operator: authz.In, Values: []string{"2", "3"}},
		{Key: "c", Operator: authz.NotIn, Values: []string{"4"}}, {Key: "d", Operator: authz.NotIn, Values: []string{"5"}},
		{Key: "e", Operator: authz.Exists}, {Key: "f", Operator: authz.DoesNotExist}}); got != want {
		t.Errorf("labels: got %s, want %s", got, want)
	}
}

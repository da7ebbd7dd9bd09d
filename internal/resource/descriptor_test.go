package resource

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var names = Names{GroupVersion: corev1.SchemeGroupVersion, Kind: "ConfigMap", Resource: "configmaps", Singular: "configmap", Namespaced: true}

func minimal() Definition[*corev1.ConfigMap] {
	return Definition[*corev1.ConfigMap]{
		Names:   names,
		New:     func() *corev1.ConfigMap { return &corev1.ConfigMap{} },
		NewList: func() runtime.Object { return &corev1.ConfigMapList{} },
	}
}

// TestMinimalDefinition calls everything that the frame may call on a
// definition that leaves out all it can.
func TestMinimalDefinition(t *testing.T) {
	t.Parallel()
	k := minimal().Kind().(*Stored)
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "settings", Namespace: "payments"}}
	before := cm.DeepCopy()
	k.PrepareCreate(Caller{}, cm)
	k.PrepareUpdate(Caller{}, cm, before)
	k.PrepareDelete(cm)
	if errs := append(k.Validate(cm), k.ValidateUpdate(cm, before)...); len(errs) > 0 {
		t.Errorf("validation: %v", errs)
	}
	if w := k.Warnings(cm, nil); len(w) > 0 {
		t.Errorf("warnings: %v", w)
	}
	if err := k.Check(t.Context(), Caller{}, cm, nil); err != nil {
		t.Errorf("check: %v", err)
	}
	if k.KeepOnDelete(cm) {
		t.Error("the object would stay when deleted")
	}
	if len(k.ValidateName("Settings", false)) == 0 || len(k.ValidateName("settings.1", false)) > 0 {
		t.Error("names are not DNS subdomains")
	}
	if got := k.FieldValues(cm); got["metadata.name"] != "settings" || got["metadata.namespace"] != "payments" || len(got) != 2 {
		t.Errorf("field values %v", got)
	}
	if got := fmt.Sprint(columnNames(k), k.Row(cm)); got != "[Name Age] [settings <unknown>]" {
		t.Errorf("table %s", got)
	}
	if NamesOf(k).Kind != "ConfigMap" {
		t.Errorf("names %v", NamesOf(k))
	}
}

func columnNames(k *Stored) []string {
	var names []string
	for _, c := range k.Columns {
		names = append(names, c.Name)
	}
	return names
}

// TestFullDefinition sees every function reach the frame with its own type.
func TestFullDefinition(t *testing.T) {
	t.Parallel()
	refusal := errors.New("no")
	var calls []string
	called := func(what string) { calls = append(calls, what) }
	d := minimal()
	d.Default = func(*corev1.ConfigMap) { called("default") }
	d.PrepareCreate = func(c Caller, _ *corev1.ConfigMap) { called("create by " + c.Name) }
	d.PrepareUpdate = func(_ Caller, _, old *corev1.ConfigMap) { called("update of " + old.Name) }
	d.PrepareDelete = func(*corev1.ConfigMap) { called("delete") }
	d.Validate = func(*corev1.ConfigMap) field.ErrorList {
		return field.ErrorList{field.Required(field.NewPath("a"), "")}
	}
	d.Check = func(_ context.Context, _ Caller, _, old *corev1.ConfigMap) error {
		called(fmt.Sprintf("check with old %t", old != nil))
		return refusal
	}
	d.Warnings = func(_, old *corev1.ConfigMap) []string { return []string{fmt.Sprint(old == nil)} }
	d.KeepOnDelete = func(*corev1.ConfigMap) bool { return true }
	d.Fields = []Field[*corev1.ConfigMap]{{Path: "data.a", Value: func(cm *corev1.ConfigMap) string { return cm.Data["a"] }}}
	d.Columns = []Column[*corev1.ConfigMap]{{Name: "A", Priority: 1, Value: func(cm *corev1.ConfigMap) any { return cm.Data["a"] }}}
	d.NameLast = true
	d.Subresources = []Subresource[*corev1.ConfigMap]{{
		Name:    "status",
		Prepare: func(_ Caller, _, old *corev1.ConfigMap) { called("status of " + old.Name) },
		Check:   func(context.Context, Caller, *corev1.ConfigMap, *corev1.ConfigMap) error { return refusal },
	}}
	d.Actions = []Action[*corev1.ConfigMap]{{
		Name: "token",
		Do: func(_ context.Context, _ Caller, cm *corev1.ConfigMap, in runtime.Object, _ bool) (runtime.Object, error) {
			called("action on " + cm.Name)
			return in, nil
		},
	}}
	k := d.Kind().(*Stored)

	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "x"}, Data: map[string]string{"a": "1"}}
	k.Default(cm)
	k.PrepareCreate(Caller{Name: "jane"}, cm)
	k.PrepareUpdate(Caller{}, cm, cm)
	k.PrepareDelete(cm)
	for _, old := range []runtime.Object{nil, cm} {
		if err := k.Check(t.Context(), Caller{}, cm, old); !errors.Is(err, refusal) {
			t.Errorf("check: %v", err)
		}
	}
	if k.Warnings(cm, nil)[0] != "true" || k.Warnings(cm, cm)[0] != "false" {
		t.Error("warnings do not see the old object")
	}
	if len(k.Validate(cm)) != 1 || len(k.ValidateUpdate(cm, cm)) != 1 {
		t.Error("an update is not validated like a new object")
	}
	if !k.KeepOnDelete(cm) {
		t.Error("KeepOnDelete is not asked")
	}
	sub := k.Subresources[0]
	sub.Prepare(Caller{}, cm, cm)
	if errs := sub.Validate(cm, cm); len(errs) > 0 {
		t.Errorf("subresource: %v", errs)
	}
	if err := sub.Check(t.Context(), Caller{}, cm, cm); !errors.Is(err, refusal) {
		t.Errorf("subresource check: %v", err)
	}
	if out, err := k.Actions[0].Do(t.Context(), Caller{}, cm, cm, false); out != cm || err != nil {
		t.Errorf("action: %v, %v", out, err)
	}
	want := "[default create by jane update of x delete check with old false check with old true status of x action on x]"
	if got := fmt.Sprint(calls); got != want {
		t.Errorf("calls %s\nwant  %s", got, want)
	}
	if got := fmt.Sprint(columnNames(k), k.Row(cm)); got != "[A Name] [1 x]" || k.Columns[1].Priority != 1 {
		t.Errorf("table %s", got)
	}
	if k.FieldValues(cm)["data.a"] != "1" || k.FieldPaths[0] != "data.a" {
		t.Errorf("fields %v %v", k.FieldPaths, k.FieldValues(cm))
	}
}

func TestReview(t *testing.T) {
	t.Parallel()
	k := Review[*corev1.ConfigMap]{
		Names: names,
		New:   func() *corev1.ConfigMap { return &corev1.ConfigMap{} },
		Answer: func(_ context.Context, c Caller, cm *corev1.ConfigMap) error {
			cm.Name = c.Name
			return nil
		},
	}.Kind().(*Answered)
	cm := k.New().(*corev1.ConfigMap)
	if err := k.Answer(t.Context(), Caller{Name: "jane"}, cm); err != nil || cm.Name != "jane" {
		t.Errorf("%v, %v", cm, err)
	}
}

func TestTimes(t *testing.T) {
	t.Parallel()
	if got := Since(metav1.NewTime(time.Now().Add(-3 * time.Hour))); got != "3h" {
		t.Errorf("Since = %s", got)
	}
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600)))}}
	if got := CreatedAt[*corev1.ConfigMap]().Value(cm); got != "2026-01-02T02:04:05Z" {
		t.Errorf("CreatedAt = %v", got)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][3]bool{ // subdomain, label, path segment
		"a": {true, true, true}, "a.b": {true, false, true}, "system:a": {false, false, true},
		"A": {false, false, true}, "a/b": {false, false, false}, "a%b": {false, false, false},
		".": {false, false, false}, "..": {false, false, false},
	} {
		for i, check := range []func(string, bool) []string{DNSSubdomain, DNSLabel, PathSegment} {
			if got := len(check(name, false)) == 0; got != want[i] {
				t.Errorf("check %d of %q: %t", i, name, got)
			}
		}
	}
}

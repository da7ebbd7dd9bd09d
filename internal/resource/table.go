package resource

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
)

// Age is the AGE column: how long ago the object was created, as kubectl
// writes durations.
func Age[T Object]() Column[T] {
	return Column[T]{
		Name:        "Age",
		Description: "Time since the object was created.",
		Value:       func(obj T) any { return Since(obj.GetCreationTimestamp()) },
	}
}

// Since renders the time that has passed since t, "<unknown>" for the zero
// time.
func Since(t metav1.Time) string {
	if t.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(time.Since(t.Time))
}

// table adds NAME, and appends AGE for a kind that names no columns.
func table[T Object](columns []Column[T], nameLast bool) ([]metav1.TableColumnDefinition, func(runtime.Object) []any) {
	if len(columns) == 0 {
		columns = []Column[T]{Age[T]()}
	}
	name := metav1.TableColumnDefinition{
		Name: "Name", Type: "string", Format: "name",
		Description: "Name is unique among the objects of a kind in its namespace.",
	}
	defs := make([]metav1.TableColumnDefinition, 0, len(columns)+1)
	if !nameLast {
		defs = append(defs, name)
	}
	for _, c := range columns {
		typ := c.Type
		if typ == "" {
			typ = "string"
		}
		defs = append(defs, metav1.TableColumnDefinition{Name: c.Name, Type: typ, Description: c.Description, Priority: c.Priority})
	}
	if nameLast {
		name.Priority = 1
		defs = append(defs, name)
	}
	return defs, func(obj runtime.Object) []any {
		t := obj.(T)
		row := make([]any, 0, len(columns)+1)
		if !nameLast {
			row = append(row, t.GetName())
		}
		for _, c := range columns {
			row = append(row, c.Value(t))
		}
		if nameLast {
			row = append(row, t.GetName())
		}
		return row
	}
}

// CreatedAt is the CREATED AT column that upstream shows for kinds without
// columns of their own in its printer.
func CreatedAt[T Object]() Column[T] {
	return Column[T]{
		Name:        "Created At",
		Type:        "date",
		Description: "When the object was created.",
		Value: func(obj T) any {
			return obj.GetCreationTimestamp().UTC().Format(time.RFC3339)
		},
	}
}

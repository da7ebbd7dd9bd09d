package resource_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// New describes leases.
func New() resource.Kind {
	return resource.Definition[*coordinationv1.Lease]{
		Names: resource.Names{
			GroupVersion: coordinationv1.SchemeGroupVersion,
			Kind:         "Lease",
			Resource:     "leases",
			Singular:     "lease",
			Namespaced:   true,
		},
		New:      func() *coordinationv1.Lease { return &coordinationv1.Lease{} },
		NewList:  func() runtime.Object { return &coordinationv1.LeaseList{} },
		Validate: validate,
	}.Kind()
}

func validate(l *coordinationv1.Lease) field.ErrorList {
	if s := l.Spec.LeaseDurationSeconds; s != nil && *s <= 0 {
		path := field.NewPath("spec", "leaseDurationSeconds")
		return field.ErrorList{field.Invalid(path, *s, "must be greater than 0")}
	}
	return nil
}

func ExampleDefinition() {
	kind := New().(*resource.Stored)
	lease := &coordinationv1.Lease{}
	lease.Name = "leader"
	lease.Spec.LeaseDurationSeconds = new(int32)
	fmt.Println(kind.Row(lease))
	fmt.Println(kind.Validate(lease).ToAggregate())
	// Output:
	// [leader <unknown>]
	// spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0
}

// TestHowto keeps the example of the how-to compiling: it is this file's.
func TestHowto(t *testing.T) {
	t.Parallel()
	own, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	howto, err := os.ReadFile("../../docs/howto/add-a-resource.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(howto), "```go\n")
	code, _, end := strings.Cut(rest, "```")
	if !ok || !end {
		t.Fatal("the how-to has no example in Go")
	}
	if !strings.Contains(string(own), code) {
		t.Errorf("the example of the how-to is not in example_test.go:\n%s", code)
	}
}

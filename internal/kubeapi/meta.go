package kubeapi

import (
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// accessor is safe because every served kind is a resource.Object.
func accessor(obj runtime.Object) metav1.Object { return obj.(resource.Object) }

// pathOf turns "status.conditions" into a field path.
func pathOf(dotted string) fieldpath.Path {
	var parts []any
	for p := range strings.SplitSeq(dotted, ".") {
		parts = append(parts, p)
	}
	return fieldpath.MakePathOrDie(parts...)
}

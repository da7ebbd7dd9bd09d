package all

import (
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/randfill"

	kind "github.com/gatehouse-dev/gatehouse/internal/resource"
)

// TestRandomObjects takes objects with every field set at random, or left out,
// through everything that their kinds do with them: nothing may panic, and the
// promises of Definition hold for bad objects as they do for good ones.
func TestRandomObjects(t *testing.T) {
	t.Parallel()
	for _, k := range List(deps()) {
		t.Run(kind.NamesOf(k).Kind, func(t *testing.T) {
			t.Parallel()
			for seed := range int64(150) {
				fill := randfill.NewWithSeed(seed).NilChance(0.3).NumElements(0, 3).MaxDepth(14).Funcs(
					func(q *resource.Quantity, c randfill.Continue) {
						*q = *resource.NewMilliQuantity(c.Int63n(4000)-500, resource.DecimalSI)
					},
					func(m *metav1.FieldsV1, c randfill.Continue) {},
					func(o *runtime.RawExtension, c randfill.Continue) { o.Raw = []byte(c.String(40)) },
					func(v *intstr.IntOrString, c randfill.Continue) {
						*v = intstr.FromInt32(c.Int31n(70000))
						if c.Bool() {
							*v = intstr.FromString(c.String(10))
						}
					},
				)
				switch k := k.(type) {
				case *kind.Answered:
					obj := k.New()
					fill.Fill(obj)
					_ = k.Answer(t.Context(), caller, obj)
				case *kind.Stored:
					obj, old := k.New(), k.New()
					fill.Fill(obj)
					fill.Fill(old)
					exercise(t, k, obj, old)
				}
				if t.Failed() {
					t.Fatalf("with seed %d", seed)
				}
			}
		})
	}
}

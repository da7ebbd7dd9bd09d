package amount

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func TestNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[corev1.ResourceName]struct{ native, extended, overcommit, container bool }{
		"cpu":                        {true, false, true, true},
		"memory":                     {true, false, true, true},
		"ephemeral-storage":          {true, false, true, true},
		"hugepages-2Mi":              {true, false, false, true},
		"pods":                       {true, false, true, false},
		"storage":                    {true, false, true, false},
		"kubernetes.io/thing":        {true, false, true, true},
		"example.com/gpu":            {false, true, false, true},
		"requests.example.com/gpu":   {false, false, false, false},
		"example.com/not a resource": {false, false, false, false},
	} {
		if got := Native(name); got != want.native {
			t.Errorf("Native(%s) = %t", name, got)
		}
		if got := Extended(name); got != want.extended {
			t.Errorf("Extended(%s) = %t", name, got)
		}
		if got := Overcommit(name); got != want.overcommit {
			t.Errorf("Overcommit(%s) = %t", name, got)
		}
		if errs := ValidateContainerName(field.NewPath("x"), name); want.container != (len(errs) == 0) {
			t.Errorf("ValidateContainerName(%s) = %v", name, errs)
		}
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   corev1.ResourceName
		amount string
		good   bool
	}{
		{"cpu", "0", true}, {"cpu", "250m", true}, {"cpu", "-1m", false},
		{"pods", "3", true}, {"pods", "2500m", false}, {"example.com/gpu", "1", true}, {"example.com/gpu", "0.5", false},
	} {
		if errs := Validate(field.NewPath("x"), c.name, resource.MustParse(c.amount)); c.good != (len(errs) == 0) {
			t.Errorf("%s of %s: %v", c.amount, c.name, errs)
		}
	}
}

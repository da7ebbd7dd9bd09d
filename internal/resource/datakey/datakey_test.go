package datakey

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

func TestValidate(t *testing.T) {
	t.Parallel()
	for key, good := range map[string]bool{
		"a": true, "A_b-c.d": true, ".hidden": true, "...": false, strings.Repeat("a", 253): true,
		"": false, ".": false, "..": false, "..a": false, "a/b": false, "a b": false, "ä": false, strings.Repeat("a", 254): false,
	} {
		size, errs := Validate(field.NewPath("data"), map[string]string{key: "four"})
		if good != (len(errs) == 0) {
			t.Errorf("%q: %v", key, errs)
		}
		if size != 4 {
			t.Errorf("size %d", size)
		}
	}
}

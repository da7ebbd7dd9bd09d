package signername

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

func TestValidate(t *testing.T) {
	t.Parallel()
	label := strings.Repeat("a", 63)
	domain := label + "." + label + "." + label + "." + strings.Repeat("a", 61) // 253
	for name, good := range map[string]bool{
		"example.com/signer":         true,
		"kubernetes.io/kube-a.b.c":   true,
		domain + "/x":                true,
		"":                           false,
		"signer":                     false,
		"example.com/":               false,
		"/signer":                    false,
		"example/signer":             false,
		"example.com/a/b":            false,
		"Example.com/signer":         false,
		"example.com/Signer":         false,
		"example..com/signer":        false,
		"example.com/a..b":           false,
		"a" + domain + "/x":          false,
		label + "a.example.com/sign": false,
		"example.com/" + strings.Repeat(label+".", 8) + "a": true,  // 525 in all
		"example.com/" + strings.Repeat(label+".", 9) + "a": false, // 589, above 571
	} {
		if errs := Validate(field.NewPath("signerName"), name); good != (len(errs) == 0) {
			t.Errorf("%q: %v", name, errs)
		}
	}
}

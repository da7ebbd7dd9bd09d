// Package signername checks the names of certificate signers, which requests
// and pod volumes share. Start with [Validate].
package signername

import (
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxPath leaves room for a namespace, a dot and an object name.
const maxPath = validation.DNS1123LabelMaxLength + 1 + validation.DNS1123SubdomainMaxLength

// Validate checks a name of the form DOMAIN/PATH: a domain of two labels or
// more, and a path of dot-separated parts.
func Validate(path *field.Path, name string) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	domain, rest, ok := strings.Cut(name, "/")
	if !ok || strings.Contains(rest, "/") {
		return field.ErrorList{field.Invalid(path, name, "must be a domain and a path, such as 'example.com/signer-name'")}
	}

	var errs field.ErrorList
	if len(domain) > validation.DNS1123SubdomainMaxLength {
		errs = append(errs, field.TooLong(path, "", validation.DNS1123SubdomainMaxLength))
	}
	labels := strings.Split(domain, ".")
	errs = append(errs, validateParts(path, domain, labels, validation.IsDNS1123Label)...)
	if len(labels) < 2 {
		errs = append(errs, field.Invalid(path, domain, "the domain must have at least two labels"))
	}
	errs = append(errs, validateParts(path, rest, strings.Split(rest, "."), validation.IsDNS1123Subdomain)...)
	if longest := validation.DNS1123SubdomainMaxLength + 1 + maxPath; len(name) > longest {
		errs = append(errs, field.TooLong(path, "", longest))
	}
	return errs
}

// validateParts reports the first bad part only: the rest would say the same.
func validateParts(path *field.Path, whole string, parts []string, check func(string) []string) field.ErrorList {
	for _, part := range parts {
		var errs field.ErrorList
		for _, msg := range check(part) {
			errs = append(errs, field.Invalid(path, whole, "part '"+part+"': "+msg))
		}
		if len(errs) > 0 {
			return errs
		}
	}
	return nil
}

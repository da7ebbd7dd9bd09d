// Package datakey checks what config maps and secrets have in common: the
// grammar of their keys and the size of their contents. Start with [Validate].
package datakey

import (
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// MaxSize bounds the values of one object together, in bytes.
const MaxSize = 1 << 20

// Validate checks the keys of data and returns the size of its values.
func Validate[V string | []byte](path *field.Path, data map[string]V) (size int, errs field.ErrorList) {
	for key, value := range data {
		for _, msg := range validation.IsConfigMapKey(key) {
			errs = append(errs, field.Invalid(path.Key(key), key, msg))
		}
		size += len(value)
	}
	return size, errs
}

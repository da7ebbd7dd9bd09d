// Package secret describes secrets: sealed under the root key before they
// reach the store, and checked as strictly as upstream. No error text of this
// package repeats a value of a secret. Start with [New].
package secret

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// New describes secrets.
func New() resource.Kind {
	return resource.Definition[*corev1.Secret]{
		Names: resource.Names{
			GroupVersion: corev1.SchemeGroupVersion,
			Kind:         "Secret",
			Resource:     "secrets",
			Singular:     "secret",
			Namespaced:   true,
		},
		New:     func() *corev1.Secret { return &corev1.Secret{} },
		NewList: func() runtime.Object { return &corev1.SecretList{} },
		Default: setDefaults,
		PrepareUpdate: func(_ resource.Caller, s, old *corev1.Secret) {
			// A PUT that names no type means the stored one.
			if s.Type == "" {
				s.Type = old.Type
			}
		},
		Validate:            validate,
		ValidateUpdate:      validateUpdate,
		UnconditionalUpdate: true,
		Sealed:              true,
		Fields: []resource.Field[*corev1.Secret]{
			{Path: "type", Value: func(s *corev1.Secret) string { return string(s.Type) }},
		},
		Columns: []resource.Column[*corev1.Secret]{
			{
				Name: "Type", Description: "What the secret is for.",
				Value: func(s *corev1.Secret) any { return string(s.Type) },
			},
			{
				Name: "Data", Description: "The number of keys.",
				Value: func(s *corev1.Secret) any { return int64(len(s.Data)) },
			},
			resource.Age[*corev1.Secret](),
		},
	}.Kind()
}

// setDefaults also folds stringData, which is write-only, into data.
func setDefaults(s *corev1.Secret) {
	if s.Type == "" {
		s.Type = corev1.SecretTypeOpaque
	}
	if len(s.StringData) == 0 {
		return
	}
	data := make(map[string][]byte, len(s.Data)+len(s.StringData))
	maps.Copy(data, s.Data)
	for key, value := range s.StringData {
		data[key] = []byte(value)
	}
	s.Data, s.StringData = data, nil
}

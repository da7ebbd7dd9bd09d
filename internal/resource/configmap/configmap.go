// Package configmap describes config maps, as strictly as upstream: keys are
// file names, all values together stay within 1 MiB, and an immutable map
// stays as it is. Start with [New].
package configmap

import (
	"bytes"
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/gatehouse-dev/gatehouse/internal/resource"
	"github.com/gatehouse-dev/gatehouse/internal/resource/datakey"
)

// New describes config maps.
func New() resource.Kind {
	return resource.Definition[*corev1.ConfigMap]{
		Names: resource.Names{
			GroupVersion: corev1.SchemeGroupVersion,
			Kind:         "ConfigMap",
			Resource:     "configmaps",
			Singular:     "configmap",
			ShortNames:   []string{"cm"},
			Namespaced:   true,
		},
		New:                 func() *corev1.ConfigMap { return &corev1.ConfigMap{} },
		NewList:             func() runtime.Object { return &corev1.ConfigMapList{} },
		Validate:            validate,
		ValidateUpdate:      validateUpdate,
		UnconditionalUpdate: true,
		Columns: []resource.Column[*corev1.ConfigMap]{
			{
				Name: "Data", Description: "The number of keys.",
				Value: func(cm *corev1.ConfigMap) any { return int64(len(cm.Data) + len(cm.BinaryData)) },
			},
			resource.Age[*corev1.ConfigMap](),
		},
	}.Kind()
}

func validate(cm *corev1.ConfigMap) field.ErrorList {
	data, binary := field.NewPath("data"), field.NewPath("binaryData")
	size, errs := datakey.Validate(data, cm.Data)
	binarySize, binaryErrs := datakey.Validate(binary, cm.BinaryData)
	errs = append(errs, binaryErrs...)
	for key := range cm.Data {
		if _, both := cm.BinaryData[key]; both {
			errs = append(errs, field.Invalid(data.Key(key), key, "is also a key of binaryData"))
		}
	}
	if size+binarySize > datakey.MaxSize {
		// The empty path says that the object as a whole is too long.
		errs = append(errs, field.TooLong(field.NewPath(""), "", datakey.MaxSize))
	}
	return errs
}

func validateUpdate(cm, old *corev1.ConfigMap) field.ErrorList {
	errs := validate(cm)
	if old.Immutable == nil || !*old.Immutable {
		return errs
	}
	const frozen = "cannot be changed once `immutable` is set"
	if cm.Immutable == nil || !*cm.Immutable {
		errs = append(errs, field.Forbidden(field.NewPath("immutable"), frozen))
	}
	if !maps.Equal(cm.Data, old.Data) {
		errs = append(errs, field.Forbidden(field.NewPath("data"), frozen))
	}
	if !maps.EqualFunc(cm.BinaryData, old.BinaryData, bytes.Equal) {
		errs = append(errs, field.Forbidden(field.NewPath("binaryData"), frozen))
	}
	return errs
}

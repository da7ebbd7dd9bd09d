package pod

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var (
	// What of itself a pod can read: from the environment, and from files.
	envFields = []string{
		"metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
		"status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
	}
	fileFields = []string{
		"metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid",
	}
	resourceFields = []string{
		"limits.cpu", "limits.ephemeral-storage", "limits.memory",
		"requests.cpu", "requests.ephemeral-storage", "requests.memory",
	}
	// divisors are the units in which each kind of resource can be read.
	cpuDivisors    = []string{"1", "1m"}
	memoryDivisors = []string{"0", "1", "1E", "1Ei", "1G", "1Gi", "1K", "1Ki", "1M", "1Mi", "1P", "1Pi", "1T", "1Ti", "1k"}
)

func validateEnv(at *field.Path, c *corev1.Container, volumes map[string]*corev1.VolumeSource) field.ErrorList {
	var errs field.ErrorList
	for i := range c.Env {
		at := at.Child("env").Index(i)
		errs = append(errs, named(at.Child("name"), c.Env[i].Name, validation.IsRelaxedEnvVarName)...)
		if from := c.Env[i].ValueFrom; from != nil {
			errs = append(errs, validateValueFrom(at.Child("valueFrom"), from, c.Env[i].Value, volumes)...)
		}
	}
	for i, from := range c.EnvFrom {
		at := at.Child("envFrom").Index(i)
		errs = append(errs, optional(at.Child("prefix"), from.Prefix, validation.IsRelaxedEnvVarName)...)
		sources := 0
		if ref := from.ConfigMapRef; ref != nil {
			sources++
			errs = append(errs, named(at.Child("configMapRef", "name"), ref.Name, asName(apivalidation.NameIsDNSSubdomain))...)
		}
		if ref := from.SecretRef; ref != nil {
			sources++
			errs = append(errs, named(at.Child("secretRef", "name"), ref.Name, asName(apivalidation.NameIsDNSSubdomain))...)
		}
		if sources != 1 {
			errs = append(errs, field.Invalid(at, "", "must have either configMapRef or secretRef"))
		}
	}
	return errs
}

func validateValueFrom(at *field.Path, from *corev1.EnvVarSource, value string, volumes map[string]*corev1.VolumeSource) field.ErrorList {
	var errs field.ErrorList
	sources := 0
	if ref := from.FieldRef; ref != nil {
		sources++
		errs = append(errs, validateFieldRef(at.Child("fieldRef"), ref, envFields)...)
	}
	if ref := from.ResourceFieldRef; ref != nil {
		sources++
		errs = append(errs, validateResourceFieldRef(at.Child("resourceFieldRef"), ref)...)
	}
	if ref := from.ConfigMapKeyRef; ref != nil {
		sources++
		errs = append(errs, validateKeyRef(at.Child("configMapKeyRef"), ref.Name, ref.Key)...)
	}
	if ref := from.SecretKeyRef; ref != nil {
		sources++
		errs = append(errs, validateKeyRef(at.Child("secretKeyRef"), ref.Name, ref.Key)...)
	}
	if ref := from.FileKeyRef; ref != nil {
		sources++
		errs = append(errs, validateFileKeyRef(at.Child("fileKeyRef"), ref, volumes)...)
	}
	switch {
	case sources != 1:
		errs = append(errs, field.Invalid(at, "", "must have exactly one source"))
	case value != "":
		errs = append(errs, field.Invalid(at, "", "cannot be set together with value"))
	}
	return errs
}

func validateKeyRef(at *field.Path, name, key string) field.ErrorList {
	errs := named(at.Child("name"), name, asName(apivalidation.NameIsDNSSubdomain))
	return append(errs, named(at.Child("key"), key, validation.IsConfigMapKey)...)
}

func validateFileKeyRef(at *field.Path, ref *corev1.FileKeySelector, volumes map[string]*corev1.VolumeSource) field.ErrorList {
	errs := named(at.Child("key"), ref.Key, validation.IsRelaxedEnvVarName)
	if ref.Path == "" {
		errs = append(errs, field.Required(at.Child("path"), ""))
	}
	errs = append(errs, noBacksteps(at.Child("path"), ref.Path)...)
	if ref.VolumeName == "" {
		return append(errs, field.Required(at.Child("volumeName"), ""))
	}
	switch v, ok := volumes[ref.VolumeName]; {
	case !ok:
		errs = append(errs, field.NotFound(at.Child("volumeName"), ref.VolumeName))
	case v.EmptyDir == nil:
		errs = append(errs, field.Invalid(at.Child("volumeName"), ref.VolumeName, "must be an emptyDir volume"))
	}
	return errs
}

// validateFieldRef checks a reference to a field of the pod itself; labels and
// annotations can be read one by one.
func validateFieldRef(at *field.Path, ref *corev1.ObjectFieldSelector, known []string) field.ErrorList {
	switch {
	case ref.APIVersion == "":
		return field.ErrorList{field.Required(at.Child("apiVersion"), "")}
	case ref.APIVersion != "v1":
		return field.ErrorList{field.Invalid(at.Child("apiVersion"), ref.APIVersion, "must be v1")}
	case ref.FieldPath == "":
		return field.ErrorList{field.Required(at.Child("fieldPath"), "")}
	}
	at = at.Child("fieldPath")
	path, key, ok := strings.Cut(strings.TrimSuffix(ref.FieldPath, "']"), "['")
	if ok && strings.HasSuffix(ref.FieldPath, "']") {
		switch path {
		case "metadata.annotations":
			return messages(at, ref.FieldPath, validation.IsQualifiedName(strings.ToLower(key)))
		case "metadata.labels":
			return messages(at, ref.FieldPath, validation.IsQualifiedName(key))
		}
		return field.ErrorList{field.Invalid(at, ref.FieldPath, "only labels and annotations have keys")}
	}
	if !slices.Contains(known, ref.FieldPath) {
		return field.ErrorList{field.NotSupported(at, ref.FieldPath, known)}
	}
	return nil
}

func validateResourceFieldRef(at *field.Path, ref *corev1.ResourceFieldSelector) field.ErrorList {
	pages := strings.HasPrefix(ref.Resource, "limits.hugepages-") || strings.HasPrefix(ref.Resource, "requests.hugepages-")
	switch {
	case ref.Resource == "":
		return field.ErrorList{field.Required(at.Child("resource"), "")}
	case !pages && !slices.Contains(resourceFields, ref.Resource):
		return field.ErrorList{field.NotSupported(at.Child("resource"), ref.Resource, resourceFields)}
	}
	if ref.Divisor.IsZero() {
		return nil
	}
	divisors := memoryDivisors
	if strings.HasSuffix(ref.Resource, ".cpu") {
		divisors = cpuDivisors
	}
	if !slices.Contains(divisors, ref.Divisor.String()) {
		return field.ErrorList{field.NotSupported(at.Child("divisor"), ref.Divisor.String(), divisors)}
	}
	return nil
}

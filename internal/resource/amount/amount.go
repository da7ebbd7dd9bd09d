// Package amount checks amounts of computing resources, which nodes offer and
// pods ask for: the grammar of their names, and which of them come whole.
// Start with [Validate] and [ValidateContainerName].
package amount

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Validate checks one amount: not negative, and whole where it counts things.
func Validate(path *field.Path, name corev1.ResourceName, amount resource.Quantity) field.ErrorList {
	var errs field.ErrorList
	if amount.Sign() < 0 {
		errs = append(errs, field.Invalid(path, amount.String(), "must not be negative"))
	}
	if counted(name) && amount.MilliValue()%1000 != 0 {
		errs = append(errs, field.Invalid(path, amount.String(), "must be an integer"))
	}
	return errs
}

// counted reports whether a resource consists of things.
func counted(name corev1.ResourceName) bool {
	switch name {
	case corev1.ResourcePods, corev1.ResourceServices, corev1.ResourceReplicationControllers, corev1.ResourceQuotas,
		corev1.ResourceSecrets, corev1.ResourceConfigMaps, corev1.ResourcePersistentVolumeClaims,
		corev1.ResourceServicesNodePorts, corev1.ResourceServicesLoadBalancers:
		return true
	}
	return Extended(name)
}

// Native reports whether Kubernetes itself defines a resource.
func Native(name corev1.ResourceName) bool {
	return !strings.Contains(string(name), "/") || strings.Contains(string(name), corev1.ResourceDefaultNamespacePrefix)
}

// Extended reports whether a resource is one that a device plugin or an
// administrator defines.
func Extended(name corev1.ResourceName) bool {
	if Native(name) || strings.HasPrefix(string(name), corev1.DefaultResourceRequestsPrefix) {
		return false
	}
	// Quotas write it with the prefix, which must leave it a valid name.
	return len(validation.IsQualifiedName(corev1.DefaultResourceRequestsPrefix+string(name))) == 0
}

// HugePages reports whether a resource is memory in pages of one size.
func HugePages(name corev1.ResourceName) bool {
	return strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
}

// Overcommit reports whether a limit may be above the request.
func Overcommit(name corev1.ResourceName) bool {
	return Native(name) && !HugePages(name)
}

// ValidateContainerName checks the name of a resource that a container asks
// for.
func ValidateContainerName(path *field.Path, name corev1.ResourceName) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range validation.IsQualifiedName(string(name)) {
		errs = append(errs, field.Invalid(path, name, msg))
	}
	if len(errs) > 0 {
		return errs
	}
	switch {
	case !strings.Contains(string(name), "/"):
		switch name {
		case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage:
			return nil
		}
		if HugePages(name) {
			return nil
		}
		return field.ErrorList{field.Invalid(path, name, "must be a standard resource for containers")}
	case !Native(name) && !Extended(name):
		return field.ErrorList{field.Invalid(path, name, "does not follow the naming of extended resources")}
	}
	return nil
}

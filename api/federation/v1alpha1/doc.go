// Package v1alpha1 holds the wire types of federation.gatehouse.dev: the
// platforms that are connected to the control plane.
//
// The package owns the shape of these types and nothing else; validation and
// defaults are in internal/resource/site. Start with [Site].
//
// +k8s:deepcopy-gen=package
// +k8s:openapi-gen=true
// +k8s:openapi-model-package=dev.gatehouse.federation.v1alpha1
// +groupName=federation.gatehouse.dev
package v1alpha1

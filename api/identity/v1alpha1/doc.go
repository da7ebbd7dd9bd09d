// Package v1alpha1 holds the wire types of identity.gatehouse.dev: who beside
// the control plane itself may say who a caller is, and the opaque secrets of
// doors that speak other protocols.
//
// The package owns the shape of these types and nothing else; validation is in
// internal/resource/identityprovider and internal/resource/accesskey. Start
// with [IdentityProvider] and [AccessKey].
//
// +k8s:deepcopy-gen=package
// +k8s:openapi-gen=true
// +k8s:openapi-model-package=dev.gatehouse.identity.v1alpha1
// +groupName=identity.gatehouse.dev
package v1alpha1

// Package v1alpha1 holds the wire types of access.gatehouse.dev: what grants,
// denies and bans beyond RBAC, and the handing on of authority.
//
// The package owns the shape of these types and nothing else; validation is in
// internal/access/grant. Start with [AccessPolicy].
//
// +k8s:deepcopy-gen=package
// +k8s:openapi-gen=true
// +k8s:openapi-model-package=dev.gatehouse.access.v1alpha1
// +groupName=access.gatehouse.dev
package v1alpha1

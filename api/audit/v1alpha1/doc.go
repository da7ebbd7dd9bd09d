// Package v1alpha1 holds the wire types of audit.gatehouse.dev: what is recorded
// beyond the static policy, and where the record is passed on to.
//
// The package owns the shape of these types and nothing else; validation is in
// internal/resource/auditpolicy and internal/resource/auditsink, what they mean
// in internal/audit/declared. Start with [AuditSink].
//
// +k8s:deepcopy-gen=package
// +k8s:openapi-gen=true
// +k8s:openapi-model-package=dev.gatehouse.audit.v1alpha1
// +groupName=audit.gatehouse.dev
package v1alpha1

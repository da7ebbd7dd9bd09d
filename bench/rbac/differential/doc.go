// Package differential holds the proof that authz means what Kubernetes RBAC
// means: a million random questions over random policy, put to both.
package differential

// Package kubeapi is the Kubernetes API frame: it turns descriptors of package
// resource into storage, routes, discovery, OpenAPI and tables with
// k8s.io/apiserver, and it keeps that library's idioms to itself. No other
// package imports it except through the types exported here.
//
// The package decides nothing. Callers are named by the authenticator it is
// given, requests are allowed by the authorizer it is given, events go to the
// audit backend it is given.
//
// Start with [New]; follow a kind through scheme.go (its types), store.go (its
// storage) and strategy.go (its rules).
package kubeapi

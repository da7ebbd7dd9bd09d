// Package resource describes the kinds that the control plane serves.
//
// A kind is a value: a [Definition] says what the kind is called, how it is
// defaulted, validated and shown, and which subresources it has. The frame
// (internal/kubeapi) turns each one into storage, discovery, OpenAPI, tables
// and routes. A further kind costs one folder here and one line in
// internal/resource/all.
//
// The package knows neither HTTP nor etcd, and it makes no decision about
// callers: a definition that must (an escalation check, say) takes a function
// from whoever owns the rule.
//
// Start with [Definition] (stored kinds), [Review] (kinds that are only
// created and answer at once) and [Column].
package resource

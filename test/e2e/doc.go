// Package e2e holds stories with real programs: a stock kubectl drives the
// control plane, a stock kube-apiserver asks it, and it is killed, damaged and
// fed bad input. Nothing here reaches into the product's packages; what a test
// knows, a user can know.
//
// The programs come from package harness. The stories that only use the API run
// in namespaces of their own on one control plane ([shared]); those that stop
// or break it start their own ([start]). Where a stock kube-apiserver must
// behave the same, the story runs on it, too.
package e2e

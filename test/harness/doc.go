// Package harness starts real programs for the end-to-end tests and the
// benches: the control plane of this repository, a stock etcd with a stock
// kube-apiserver, and kubectl.
//
// It builds what it runs ([BuildGatehouse], [Upstream]), gives each program a
// folder and a free loopback port, waits for it with a deadline, keeps what it
// prints, and ends it by its process id; a program also ends when the test
// process dies. It uses the standard library only and takes no part in what a
// test asserts.
//
// Start at [StartGatehouse], [StartCluster] and [Kubectl].
package harness

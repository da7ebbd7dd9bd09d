// Package differential compares what our kinds accept with what the code of
// Kubernetes accepts, on objects made from the test data of each kind by
// changing one value at a time. It is a test only.
package differential

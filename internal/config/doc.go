// Package config reads the one configuration file, strictly, and turns it into
// a [Config] that has been validated as a whole.
//
// Unknown and duplicate keys are faults. Every fault is found and named by its
// field, not only the first. What `gatehouse check` accepts, `gatehouse serve`
// starts with.
//
// Start with [Load]. The reference of the file format is [File].
package config

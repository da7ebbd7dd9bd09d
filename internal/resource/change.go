package resource

import (
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Operation is what a [Change] does.
type Operation string

// The operations, named as in admission reviews.
const (
	Create  Operation = "CREATE"
	Update  Operation = "UPDATE"
	Delete  Operation = "DELETE"
	Connect Operation = "CONNECT"
)

// Change is a request to change something that authorization allowed, as
// admission sees it: with the object.
type Change struct {
	Caller    Caller
	Operation Operation
	// Verb is the request's, as authorization was asked about it.
	Verb                         string
	Resource                     schema.GroupResource
	Subresource, Namespace, Name string
	// Object is what is written, nil on deletion; Old is what was stored, nil
	// on creation. Neither may be changed or kept.
	Object, Old runtime.Object
	DryRun      bool
}

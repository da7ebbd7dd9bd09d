package resource

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Object is what every served type is: a pointer to an API struct.
type Object interface {
	runtime.Object
	metav1.Object
}

// Caller is who makes a request, as authentication (and impersonation)
// established it.
type Caller struct {
	Name   string
	UID    string
	Groups []string
	Extra  map[string][]string
	// Made returns the line of credentials that is behind what this caller has
	// made (see internal/authn/origin): that of the credential of the request
	// itself, whoever it acts as. Nil has none. Use [Caller.Origin].
	Made func() ([]string, error)
}

// Origin returns the line of credentials that a credential carries which this
// caller has made. An error, of package fault, says that none can be made.
func (c Caller) Origin() ([]string, error) {
	if c.Made == nil {
		return nil, nil
	}
	return c.Made()
}

// Names is what a kind is called.
type Names struct {
	// GroupVersion in which the kind is served and stored.
	GroupVersion schema.GroupVersion
	// Kind in CamelCase, for example ConfigMap.
	Kind string
	// Resource is the plural in the URL, for example configmaps.
	Resource string
	// Singular is the name kubectl accepts beside the plural, for example
	// configmap.
	Singular string
	// ShortNames are kubectl's abbreviations, for example cm.
	ShortNames []string
	// Categories are the groups of kinds the kind answers to; "all" makes
	// `kubectl get all` list it.
	Categories []string
	// Namespaced is false for cluster-scoped kinds.
	Namespaced bool
}

// Definition describes a stored kind. Only Names, New and NewList are
// required; every nil function means "nothing special". Functions must be safe
// for concurrent use, must not keep the objects they are given, and must not
// change an object unless they are documented to.
type Definition[T Object] struct {
	Names

	// New returns an empty object, NewList an empty list of them.
	New     func() T
	NewList func() runtime.Object

	// Default fills in the fields that a client may leave out. It runs after
	// each decoding, also of stored objects, and must be idempotent.
	Default func(obj T)

	// PrepareCreate and PrepareUpdate drop what the caller may not set (the
	// status, say) before validation; they may change obj, never old.
	PrepareCreate func(caller Caller, obj T)
	PrepareUpdate func(caller Caller, obj, old T)

	// Issue makes what only the server can make of a new object, after
	// PrepareCreate and before validation. reveal, if not nil, is given the
	// answer to a creation that was stored, and puts in what is shown once and
	// kept nowhere; it is not called for dry runs. Issue may be called several
	// times for one creation, the last one counts.
	Issue func(ctx context.Context, caller Caller, obj T) (reveal func(ctx context.Context, answer T))

	// ValidateName returns what is wrong with a name, or nothing; nil means a
	// DNS-1123 subdomain. prefix is true for metadata.generateName.
	ValidateName func(name string, prefix bool) []string

	// Validate checks a new object, ValidateUpdate a change to an old one.
	// Metadata is checked by the frame. When ValidateUpdate is nil, Validate
	// is applied to the new object.
	Validate       func(obj T) field.ErrorList
	ValidateUpdate func(obj, old T) field.ErrorList

	// Warnings returns short hints for the caller, shown as Warning headers.
	// old is the zero T on creation.
	Warnings func(obj, old T) []string

	// Check refuses a change by what it says rather than by its verb: the
	// escalation checks of roles and bindings, for example. It runs after
	// validation and before the object is stored; old is the zero T on
	// creation. It returns an error of package fault.
	Check func(ctx context.Context, caller Caller, obj, old T) error

	// CheckDelete refuses a deletion by what is deleted. It runs before the
	// object is removed, or marked, and returns an error of package fault.
	CheckDelete func(ctx context.Context, caller Caller, obj T) error

	// CreateOnUpdate lets PUT create an object; UnconditionalUpdate lets an
	// update without resourceVersion overwrite whatever is stored.
	CreateOnUpdate      bool
	UnconditionalUpdate bool

	// KeepOnDelete reports whether a deleted object has to wait, marked with
	// a deletion timestamp, for somebody to finish the deletion (a namespace
	// that has to be emptied). It is asked in addition to
	// metadata.finalizers. PrepareDelete may change the object that waits.
	KeepOnDelete  func(obj T) bool
	PrepareDelete func(obj T)

	// TTL is how long an object is kept after its last write; 0 is forever.
	TTL time.Duration

	// Sealed kinds are encrypted under the root key before they reach etcd.
	Sealed bool

	// Fields are the field selectors beside metadata.name and
	// metadata.namespace.
	Fields []Field[T]

	// Columns are what `kubectl get` shows after NAME. NameLast shows NAME
	// only with -o wide, as the last column.
	Columns  []Column[T]
	NameLast bool

	// Subresources are parts of the object with routes of their own.
	Subresources []Subresource[T]

	// Actions are subresources that answer a request instead of being stored.
	Actions []Action[T]
}

// Field is one field selector.
type Field[T Object] struct {
	// Path as the client writes it, for example spec.nodeName.
	Path  string
	Value func(obj T) string
}

// Column is one column of the table that `kubectl get` prints.
type Column[T Object] struct {
	Name        string
	Type        string // "string" when empty; else integer, number, boolean, date
	Description string
	// Priority 0 shows the column always, 1 only with -o wide.
	Priority int32
	Value    func(obj T) any
}

// Subresource is a part of an object that is read and written through a route
// of its own, with permissions of its own: status, approval, finalize.
type Subresource[T Object] struct {
	// Name in the URL, for example status.
	Name string
	// Prepare carries over into obj, from old, everything that this route
	// must not change.
	Prepare func(caller Caller, obj, old T)
	// Validate checks what the route may change.
	Validate func(obj, old T) field.ErrorList
	// Check refuses a change like [Definition.Check]; old is never zero.
	Check func(ctx context.Context, caller Caller, obj, old T) error
	// Fields are the field paths that the main route leaves to this one,
	// Ignored those that this route leaves to others. The owner lists of
	// server-side apply leave them out on the respective route.
	Fields  []string
	Ignored []string
}

// Action is a subresource that answers a posted object: a token for a service
// account.
type Action[T Object] struct {
	// Name in the URL, for example token.
	Name string
	// GroupVersionKind of the posted object and of the answer.
	GroupVersionKind schema.GroupVersionKind
	// New returns an empty posted object.
	New func() runtime.Object
	// KeepUID leaves the posted object its uid, for a Do that compares it.
	KeepUID bool
	// Do answers. obj is the stored object; in is the posted one and may be
	// filled in and returned. It returns an error of package fault or an
	// apimachinery status error.
	Do func(ctx context.Context, caller Caller, obj T, in runtime.Object, dryRun bool) (runtime.Object, error)
}

// Review describes a kind that is created, answered and forgotten.
type Review[T Object] struct {
	Names

	New func() T
	// Answer validates the review and fills in its status. It returns an
	// error of package fault or an apimachinery status error.
	Answer func(ctx context.Context, caller Caller, review T) error
}

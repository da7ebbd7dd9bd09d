package resource

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Kind is a definition or review with its Go type erased, ready for the
// frame. Get one from [Definition.Kind] or [Review.Kind].
type Kind interface {
	kind() Names
}

// NamesOf returns what a kind is called.
func NamesOf(k Kind) Names { return k.kind() }

// Stored is a [Definition] with its type erased. No function is nil.
type Stored struct {
	Names
	New     func() runtime.Object
	NewList func() runtime.Object

	// Default is nil when the kind has no defaults.
	Default       func(obj runtime.Object)
	PrepareCreate func(caller Caller, obj runtime.Object)
	PrepareUpdate func(caller Caller, obj, old runtime.Object)
	// Issue is nil when creation makes nothing.
	Issue          func(ctx context.Context, caller Caller, obj runtime.Object) (reveal func(ctx context.Context, answer runtime.Object))
	ValidateName   func(name string, prefix bool) []string
	Validate       func(obj runtime.Object) field.ErrorList
	ValidateUpdate func(obj, old runtime.Object) field.ErrorList
	// Warnings and Check take a nil old on creation.
	Warnings func(obj, old runtime.Object) []string
	Check    func(ctx context.Context, caller Caller, obj, old runtime.Object) error
	// CheckDelete refuses a deletion.
	CheckDelete func(ctx context.Context, caller Caller, obj runtime.Object) error

	CreateOnUpdate      bool
	UnconditionalUpdate bool
	// Keeps is false when KeepOnDelete never holds.
	Keeps         bool
	KeepOnDelete  func(obj runtime.Object) bool
	PrepareDelete func(obj runtime.Object)
	TTL           time.Duration
	Sealed        bool

	// FieldPaths lists the selectable fields; FieldValues computes them.
	FieldPaths   []string
	FieldValues  func(obj runtime.Object) fields.Set
	Columns      []metav1.TableColumnDefinition
	Row          func(obj runtime.Object) []any
	Subresources []StoredSubresource
	Actions      []StoredAction
}

// StoredSubresource is a [Subresource] with its type erased.
type StoredSubresource struct {
	Name     string
	Prepare  func(caller Caller, obj, old runtime.Object)
	Validate func(obj, old runtime.Object) field.ErrorList
	Check    func(ctx context.Context, caller Caller, obj, old runtime.Object) error
	Fields   []string
	Ignored  []string
}

// StoredAction is an [Action] with its type erased.
type StoredAction struct {
	Name             string
	GroupVersionKind schema.GroupVersionKind
	New              func() runtime.Object
	KeepUID          bool
	Do               func(ctx context.Context, caller Caller, obj, in runtime.Object, dryRun bool) (runtime.Object, error)
}

// Answered is a [Review] with its type erased.
type Answered struct {
	Names
	New    func() runtime.Object
	Answer func(ctx context.Context, caller Caller, review runtime.Object) error
}

func (s *Stored) kind() Names   { return s.Names }
func (a *Answered) kind() Names { return a.Names }

// Kind erases the type of a review.
func (r Review[T]) Kind() Kind {
	return &Answered{
		Names: r.Names,
		New:   func() runtime.Object { return r.New() },
		Answer: func(ctx context.Context, caller Caller, review runtime.Object) error {
			return r.Answer(ctx, caller, review.(T))
		},
	}
}

// Kind erases the type of a definition and fills in what it left out.
func (d Definition[T]) Kind() Kind {
	s := &Stored{
		Names:               d.Names,
		New:                 func() runtime.Object { return d.New() },
		NewList:             d.NewList,
		PrepareCreate:       func(Caller, runtime.Object) {},
		PrepareUpdate:       func(Caller, runtime.Object, runtime.Object) {},
		ValidateName:        d.ValidateName,
		Validate:            func(runtime.Object) field.ErrorList { return nil },
		Warnings:            func(runtime.Object, runtime.Object) []string { return nil },
		Check:               func(context.Context, Caller, runtime.Object, runtime.Object) error { return nil },
		CheckDelete:         func(context.Context, Caller, runtime.Object) error { return nil },
		CreateOnUpdate:      d.CreateOnUpdate,
		UnconditionalUpdate: d.UnconditionalUpdate,
		Keeps:               d.KeepOnDelete != nil,
		KeepOnDelete:        func(runtime.Object) bool { return false },
		PrepareDelete:       func(runtime.Object) {},
		TTL:                 d.TTL,
		Sealed:              d.Sealed,
	}
	if s.ValidateName == nil {
		s.ValidateName = DNSSubdomain
	}
	if d.Default != nil {
		s.Default = func(obj runtime.Object) { d.Default(obj.(T)) }
	}
	if d.PrepareCreate != nil {
		s.PrepareCreate = func(c Caller, obj runtime.Object) { d.PrepareCreate(c, obj.(T)) }
	}
	if d.PrepareUpdate != nil {
		s.PrepareUpdate = func(c Caller, obj, old runtime.Object) { d.PrepareUpdate(c, obj.(T), old.(T)) }
	}
	if d.Validate != nil {
		s.Validate = func(obj runtime.Object) field.ErrorList { return d.Validate(obj.(T)) }
	}
	if d.Issue != nil {
		s.Issue = func(ctx context.Context, c Caller, obj runtime.Object) func(context.Context, runtime.Object) {
			reveal := d.Issue(ctx, c, obj.(T))
			if reveal == nil {
				return nil
			}
			return func(ctx context.Context, answer runtime.Object) { reveal(ctx, answer.(T)) }
		}
	}
	s.ValidateUpdate = func(obj, _ runtime.Object) field.ErrorList { return s.Validate(obj) }
	if d.ValidateUpdate != nil {
		s.ValidateUpdate = func(obj, old runtime.Object) field.ErrorList { return d.ValidateUpdate(obj.(T), old.(T)) }
	}
	if d.Warnings != nil {
		s.Warnings = func(obj, old runtime.Object) []string { return d.Warnings(obj.(T), orZero[T](old)) }
	}
	if d.Check != nil {
		s.Check = func(ctx context.Context, c Caller, obj, old runtime.Object) error {
			return d.Check(ctx, c, obj.(T), orZero[T](old))
		}
	}
	if d.CheckDelete != nil {
		s.CheckDelete = func(ctx context.Context, c Caller, obj runtime.Object) error { return d.CheckDelete(ctx, c, obj.(T)) }
	}
	if d.KeepOnDelete != nil {
		s.KeepOnDelete = func(obj runtime.Object) bool { return d.KeepOnDelete(obj.(T)) }
	}
	if d.PrepareDelete != nil {
		s.PrepareDelete = func(obj runtime.Object) { d.PrepareDelete(obj.(T)) }
	}
	for _, f := range d.Fields {
		s.FieldPaths = append(s.FieldPaths, f.Path)
	}
	s.FieldValues = func(obj runtime.Object) fields.Set {
		t := obj.(T)
		set := make(fields.Set, len(d.Fields)+2)
		set["metadata.name"] = t.GetName()
		if d.Namespaced {
			set["metadata.namespace"] = t.GetNamespace()
		}
		for _, f := range d.Fields {
			set[f.Path] = f.Value(t)
		}
		return set
	}
	s.Columns, s.Row = table(d.Columns, d.NameLast)
	for _, sub := range d.Subresources {
		es := StoredSubresource{
			Name:     sub.Name,
			Prepare:  func(c Caller, obj, old runtime.Object) { sub.Prepare(c, obj.(T), old.(T)) },
			Validate: func(runtime.Object, runtime.Object) field.ErrorList { return nil },
			Check:    func(context.Context, Caller, runtime.Object, runtime.Object) error { return nil },
			Fields:   sub.Fields,
			Ignored:  sub.Ignored,
		}
		if sub.Validate != nil {
			es.Validate = func(obj, old runtime.Object) field.ErrorList { return sub.Validate(obj.(T), old.(T)) }
		}
		if sub.Check != nil {
			es.Check = func(ctx context.Context, c Caller, obj, old runtime.Object) error {
				return sub.Check(ctx, c, obj.(T), old.(T))
			}
		}
		s.Subresources = append(s.Subresources, es)
	}
	for _, a := range d.Actions {
		s.Actions = append(s.Actions, StoredAction{
			Name: a.Name, GroupVersionKind: a.GroupVersionKind, New: a.New, KeepUID: a.KeepUID,
			Do: func(ctx context.Context, c Caller, obj, in runtime.Object, dryRun bool) (runtime.Object, error) {
				return a.Do(ctx, c, obj.(T), in, dryRun)
			},
		})
	}
	return s
}

func orZero[T Object](obj runtime.Object) T {
	if obj == nil {
		var zero T
		return zero
	}
	return obj.(T)
}

// Package limit holds the lengths up to which a question is decided, the same
// at every door, so that no layer behind or in front of one has to guess what
// another makes of a longer name.
//
// It owns the numbers and the refusal's words. It refuses to shorten: a question
// with anything longer is not decided at all. Doors answer 400 with a Warning
// header, but for the deny door of a site: there an error would mean that
// nothing is denied, so it denies. Start at [Check].
package limit

import (
	"errors"
	"fmt"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// The limits. Kubernetes has none of its own; names of objects end at 253
// bytes, and kube-apiserver caches no decision about more than 10,000.
const (
	// Attribute is the length in bytes of a user, UID, group, verb, API group,
	// resource, namespace, name or path.
	Attribute = 8 << 10
	// Groups is how many groups a caller may have.
	Groups = 2000
	// Extra is the length in bytes of all keys and values of extra together.
	Extra = 32 << 10
	// Selector is the length in bytes of one selector, as text or as all its
	// keys and values together.
	Selector = 8 << 10
)

// Error says which attribute is too long.
type Error struct {
	Attribute string
	Size, Max int
	unit      string
}

func (e *Error) Error() string {
	return fmt.Sprintf("request attribute too long: %s has %d %s, at most %d are allowed", e.Attribute, e.Size, e.unit, e.Max)
}

// TooLong is the refusal of an attribute of size bytes, of kind Invalid and
// with an [Error] inside; nil if it is within the limit.
func TooLong(attribute string, size, limit int) error {
	if size <= limit {
		return nil
	}
	return refusal(&Error{attribute, size, limit, "bytes"})
}

func refusal(e *Error) error { return fault.Wrap(fault.Invalid, e.Error(), e) }

// Of returns what err says of an attribute that is too long; ok is false when
// it says something else.
func Of(err error) (e *Error, ok bool) { return e, errors.As(err, &e) }

// Check returns the refusal of a question with an attribute that is too long,
// or nil. It does not allocate for a question that has none.
func Check(q *authz.Request) error {
	if len(q.Groups) > Groups {
		return refusal(&Error{"groups", len(q.Groups), Groups, "entries"})
	}
	for _, g := range q.Groups {
		if len(g) > Attribute {
			return TooLong("groups", len(g), Attribute)
		}
	}
	if max(len(q.User), len(q.UID), len(q.Verb), len(q.APIGroup), len(q.Resource), len(q.Subresource), len(q.Namespace), len(q.Name), len(q.Path)) > Attribute {
		return attribute(q)
	}
	if n := extra(q.Extra); n > Extra {
		return TooLong("extra", n, Extra)
	}
	if n := selector(q.LabelSelector); n > Selector {
		return TooLong("labelSelector", n, Selector)
	}
	return TooLong("fieldSelector", selector(q.FieldSelector), Selector)
}

// attribute names the first attribute that is too long.
func attribute(q *authz.Request) error {
	for _, a := range []struct{ name, value string }{
		{"user", q.User}, {"uid", q.UID}, {"verb", q.Verb}, {"group", q.APIGroup}, {"resource", q.Resource},
		{"subresource", q.Subresource}, {"namespace", q.Namespace}, {"name", q.Name}, {"path", q.Path},
	} {
		if err := TooLong(a.name, len(a.value), Attribute); err != nil {
			return err
		}
	}
	return nil
}

func extra(m map[string][]string) int {
	n := 0
	for k, values := range m {
		n += len(k)
		for _, v := range values {
			n += len(v)
		}
	}
	return n
}

func selector(list []authz.Requirement) int {
	n := 0
	for i := range list {
		n += len(list[i].Key)
		for _, v := range list[i].Values {
			n += len(v)
		}
	}
	return n
}

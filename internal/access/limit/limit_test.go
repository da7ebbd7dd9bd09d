package limit

import (
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	text := func(n int) string { return strings.Repeat("x", n) }
	for _, tc := range []struct {
		name string
		max  int
		set  func(q *authz.Request, n int)
	}{
		{"user", Attribute, func(q *authz.Request, n int) { q.User = text(n) }},
		{"uid", Attribute, func(q *authz.Request, n int) { q.UID = text(n) }},
		{"groups", Attribute, func(q *authz.Request, n int) { q.Groups = []string{"a", text(n)} }},
		{"groups", Groups, func(q *authz.Request, n int) { q.Groups = make([]string, n) }},
		{"verb", Attribute, func(q *authz.Request, n int) { q.Verb = text(n) }},
		{"group", Attribute, func(q *authz.Request, n int) { q.APIGroup = text(n) }},
		{"resource", Attribute, func(q *authz.Request, n int) { q.Resource = text(n) }},
		{"subresource", Attribute, func(q *authz.Request, n int) { q.Subresource = text(n) }},
		{"namespace", Attribute, func(q *authz.Request, n int) { q.Namespace = text(n) }},
		{"name", Attribute, func(q *authz.Request, n int) { q.Name = text(n) }},
		{"path", Attribute, func(q *authz.Request, n int) { q.Path = text(n) }},
		{"extra", Extra, func(q *authz.Request, n int) {
			q.Extra = map[string][]string{"k": {text(100)}, "key": {text(n - 204), text(100)}}
		}},
		{"labelSelector", Selector, func(q *authz.Request, n int) {
			q.LabelSelector = []authz.Requirement{{Key: "k", Values: []string{text(n - 11), text(10)}}}
		}},
		{"fieldSelector", Selector, func(q *authz.Request, n int) { q.FieldSelector = []authz.Requirement{{Key: text(n)}} }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var q authz.Request
			tc.set(&q, tc.max)
			if err := Check(&q); err != nil {
				t.Errorf("at the limit: %v", err)
			}
			tc.set(&q, tc.max+1)
			err := Check(&q)
			e, ok := Of(err)
			if !ok || fault.KindOf(err) != fault.Invalid || e.Attribute != tc.name || e.Max != tc.max || e.Size != tc.max+1 ||
				!strings.HasPrefix(fault.Public(err), "request attribute too long: "+tc.name+" has ") {
				t.Errorf("beyond it: %v", err)
			}
		})
	}
}

func TestCheckDoesNotAllocate(t *testing.T) {
	q := authz.Request{User: "u", Groups: []string{"a", "b"}, Extra: map[string][]string{"k": {"v"}}, Name: "n"}
	if n := testing.AllocsPerRun(100, func() { _ = Check(&q) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

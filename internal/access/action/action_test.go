package action_test

import (
	"fmt"
	"testing"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access/action"
)

var (
	verbs     = []string{"get", "list", "*"}
	groups    = []string{"", "apps", "*"}
	resources = []string{"pods", "pods/log", "jobs/log", "*/log", "*"}
	names     = []string{"", "a", "b"}
	urls      = []string{"/a", "/a/*", "/a/b", "/a/b*", "/*", "*"}
)

func every() (out []action.Action) {
	for _, v := range verbs {
		for _, u := range urls {
			out = append(out, action.Action{Verb: v, URL: u})
		}
		for _, g := range groups {
			for _, r := range resources {
				for _, n := range names {
					out = append(out, action.Action{Verb: v, Group: g, Resource: r, Name: n})
				}
			}
		}
	}
	return out
}

// single returns the requests that the universe of this test knows.
func single() (out []authz.Request) {
	for _, v := range []string{"get", "list", "watch"} {
		for _, u := range []string{"/a", "/a/", "/a/b", "/a/bc", "/a/c", "/x"} {
			out = append(out, authz.Request{Verb: v, Path: u})
		}
		for _, g := range []string{"", "apps", "batch"} {
			for _, r := range [][2]string{{"pods", ""}, {"pods", "log"}, {"jobs", "log"}, {"jobs", ""}, {"jobs", "exec"}} {
				for _, n := range []string{"", "a", "b", "c"} {
					out = append(out, authz.Request{ResourceRequest: true, Verb: v, APIGroup: g, Resource: r[0], Subresource: r[1], Name: n})
				}
			}
		}
	}
	return out
}

// The arithmetic agrees with what the rules allow, request by request.
func TestMeetAndIncludes(t *testing.T) {
	t.Parallel()
	all, requests := every(), single()
	allowed := make([][]bool, len(all))
	for i, a := range all {
		rule := a.Rule()
		allowed[i] = make([]bool, len(requests))
		for j := range requests {
			allowed[i][j] = rule.Allows(&requests[j])
		}
	}
	for i, a := range all {
		for j, b := range all {
			m, ok := action.Meet(a, b)
			meets := m.Rule()
			subset := true
			for k := range requests {
				both := allowed[i][k] && allowed[j][k]
				if got := ok && meets.Allows(&requests[k]); got != both {
					t.Fatalf("%+v and %+v meet in %+v %v: %+v is in both: %v", a, b, m, ok, requests[k], both)
				}
				subset = subset && (allowed[i][k] || !allowed[j][k])
			}
			if a.Includes(b) && !subset {
				t.Fatalf("%+v does not include %+v", a, b)
			}
		}
	}
}

func TestOf(t *testing.T) {
	t.Parallel()
	rules := []authz.Rule{
		{Verbs: []string{"get", "list"}, APIGroups: []string{""}, Resources: []string{"pods", "secrets"}, ResourceNames: []string{"a"}},
		{Verbs: []string{"get"}, NonResourceURLs: []string{"/metrics"}},
	}
	list, ok := action.Of(rules)
	if !ok || len(list) != 5 {
		t.Fatalf("%v %v", list, ok)
	}
	if got := fmt.Sprint(action.Rules(list)); got != "[{[get] [] [] [] [/metrics]} {[get list] [] [pods] [a] []} {[get list] [] [secrets] [a] []}]" {
		t.Error(got)
	}
	wide := authz.Rule{Verbs: make([]string, 300), APIGroups: []string{""}, Resources: make([]string, 300)}
	if list, ok := action.Of([]authz.Rule{wide}); ok || len(list) != action.Limit {
		t.Errorf("%d %v", len(list), ok)
	}
}

package authz

import (
	"reflect"
	"strings"
	"testing"
)

// rules parses "verbs groups resources [names] ; url verbs /a,/b": lists by
// comma, - for the empty word.
func rules(text string) []Rule {
	var out []Rule
	for _, part := range strings.Split(text, ";") {
		f := strings.Fields(part)
		if len(f) == 0 {
			continue
		}
		list := func(s string) []string { return strings.Split(strings.ReplaceAll(s, "-", ""), ",") }
		if f[0] == "url" {
			out = append(out, Rule{Verbs: list(f[1]), NonResourceURLs: list(f[2])})
			continue
		}
		r := Rule{Verbs: list(f[0]), APIGroups: list(f[1]), Resources: list(f[2])}
		if len(f) > 3 {
			r.ResourceNames = list(f[3])
		}
		out = append(out, r)
	}
	return out
}

func TestCovers(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ owner, asked, missing string }{
		{"get v1 builds", "get v1 builds", ""},
		{"get v1 */scale", "get v1 foo/scale", ""},
		{"get v1 */scale", "get v1 foo/status", "get v1 foo/status"},
		{"get v1 */scale", "get v1 */scale,foo", "get v1 foo"},
		{"get v1 foo", "get v1 foo/scale", "get v1 foo/scale"},
		{"get v1 */b/c", "get v1 a/b/c", ""},
		{"delete v1 deployments; delete v1 builds; update v1 builds,deployments", "delete,update v1 builds,deployments", ""},
		{"delete g1 a; delete g1 b; update g1 a,b; delete g2 a; delete g2 b; update g2 a,b", "delete,update g1,g2 a,b", ""},
		{"delete,update g1,g2 a,b", "delete g1 a; delete g1 b; update g1 a,b; delete g2 a; delete g2 b; update g2 a,b", ""},
		{"delete,update v1 builds,deployments; delete v1 pods", "delete,update v1 builds,deployments,pods", "update v1 pods"},
		{"get * roles", "get g1,g2 roles", ""},
		{"get dummy roles", "get * roles", "get * roles"},
		{"get * roles", "get * roles", ""},
		{"* v1 roles", "watch,list v1 roles", ""},
		{"get,list,watch,create,update,delete,exec v1 roles", "* v1 roles", "* v1 roles"},
		{"* v1 roles", "* v1 roles", ""},
		{"get v1 *", "get v1 resourcegroup:deployments", ""},
		{"get v1 roles,resourcegroup:deployments", "get v1 *", "get v1 *"},
		{"get v1 *", "get v1 *", ""},
		{"get v1 pods", "get v1 pods foo,bar", ""},
		{"get v1 pods foo,bar", "get v1 pods", "get v1 pods"},
		{"get v1 pods foo,bar", "get v1 pods bar,baz", "get v1 pods baz"},
		{"url * /apis", "url * /apis", ""},
		{"url * *", "url * /apis,/apis/v1,/", ""},
		{"url * /apis/*", "url get /apis,/apis/v1", "url get /apis"},
		{"url * /apis/*", "url get /apis/v1/foo,/apis/v1", ""},
		{"get v1 builds; url get /apis", "get v1 builds; url get /apis", ""},
		{"get v1 builds", "get v1 builds; url get /apis", "url get /apis"},
		{"", "", ""},
		{"", "get v1 pods", "get v1 pods"},
	} {
		ok, missing := Covers(rules(tc.owner), rules(tc.asked))
		if want := rules(tc.missing); ok != (len(want) == 0) || !reflect.DeepEqual(missing, want) {
			t.Errorf("owner %q asked %q: %v, missing %v, want %q", tc.owner, tc.asked, ok, missing, tc.missing)
		}
	}
}

// TestCoversMixedRules holds the two places where the halves of a rule touch.
func TestCoversMixedRules(t *testing.T) {
	t.Parallel()
	both := []Rule{{Verbs: []string{"get"}, APIGroups: []string{"v1"}, Resources: []string{"builds"}, NonResourceURLs: []string{"/apis"}}}
	if ok, missing := Covers(both, both); !ok {
		t.Errorf("a rule does not cover itself: %v", missing)
	}
	named := []Rule{both[0]}
	named[0].ResourceNames = []string{"a"}
	if ok, _ := Covers(named, rules("url get /apis")); ok {
		t.Error("a rule limited to names covers a URL")
	}
}

func TestURLMatches(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		owner, path string
		want        bool
	}{
		{"*", "", true}, {"*", "/", true}, {"*", "/api", true},
		{"/*", "", false}, {"/*", "/", true}, {"/*", "/foo", true},
		{"/api", "/api", true}, {"/apis", "/api", false},
		{"/api/v1", "/api", false}, {"/api/v1", "/api/v1", true},
		{"/api/*", "/api/v1", true}, {"/api/*", "/api", false},
		{"/api/*/*", "/api/v1", false}, {"/*/v1/*", "/api/v1", false},
	} {
		if got := urlMatches(tc.owner, tc.path); got != tc.want {
			t.Errorf("urlMatches(%q, %q) = %v", tc.owner, tc.path, got)
		}
	}
}

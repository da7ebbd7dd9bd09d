package caller

import (
	"maps"
	"net/http"
	"slices"
	"testing"
)

// TestUpstreamHeaderCases has the cases of k8s.io/apiserver v0.36.3,
// pkg/authentication/request/headerrequest, as far as they are about what one
// set of headers says; names of headers are fixed here. Left out: several
// configured names for one header ("user first match", "groups all matches",
// "uid first match", two prefixes), none configured, and the cases of
// TestRequestHeaderVerifier, which are in internal/authn (TestVerifyForwarded).
// Different on purpose: of two X-Remote-User upstream takes the first; here it
// names nobody.
func TestUpstreamHeaderCases(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		headers   map[string][]string
		user, uid string
		groups    []string
		extra     map[string][]string
	}{
		"no user header":   {headers: map[string][]string{"X-Remote-Group": {"users"}}, groups: []string{"users"}},
		"empty user":       {headers: map[string][]string{"X-Remote-User": {""}}},
		"user match":       {headers: map[string][]string{"X-Remote-User": {"Bob"}}, user: "Bob"},
		"user exact match": {headers: map[string][]string{"Prefixed-X-Remote-User-With-Suffix": {"Bob"}, "X-Remote-User-With-Suffix": {"Bob"}}},
		"user first match, one header": {
			headers: map[string][]string{"X-Remote-User": {"First header, first value", "First header, second value"}}},
		"user case-insensitive":   {headers: map[string][]string{"x-REMOTE-user": {"Bob"}}, user: "Bob"},
		"groups none":             {headers: map[string][]string{"X-Remote-User": {"Bob"}}, user: "Bob"},
		"groups all matches":      {headers: map[string][]string{"X-Remote-User": {"Bob"}, "X-Remote-Group": {"one-a", "one-b"}}, user: "Bob", groups: []string{"one-a", "one-b"}},
		"groups case-insensitive": {headers: map[string][]string{"X-REMOTE-User": {"Bob"}, "X-REMOTE-Group": {"Users"}}, user: "Bob", groups: []string{"Users"}},
		"uid of another name":     {headers: map[string][]string{"X-Remote-User": {"Bob"}, "X-Remote-Uid-1": {"8f5ea9d1"}}, user: "Bob"},
		"uid":                     {headers: map[string][]string{"X-Remote-User": {"Bob"}, "X-Remote-UID": {"8f5ea9d1"}}, user: "Bob", uid: "8f5ea9d1"},
		"extra prefix matches case-insensitive with unrelated headers": {
			headers: map[string][]string{"X-Group-Remote": {"snorlax"}, "X-Remote-User": {"Bob"}, "X-Remote-extra-key1": {"alfa", "bravo"},
				"X-REMOTE-Extra-Key2": {"charlie", "delta"}, "X-Remote-Extra-": {"india", "juliet"}},
			user: "Bob", extra: map[string][]string{"key1": {"alfa", "bravo"}, "key2": {"charlie", "delta"}, "": {"india", "juliet"}}},
		"escaped extra keys": {
			headers: map[string][]string{
				"X-Remote-User":                                            {"Bob"},
				"X-Remote-Extra-Alpha":                                     {"alphabetical"},
				"X-Remote-Extra-Alph4num3r1c":                              {"alphanumeric"},
				"X-Remote-Extra-Percent%20encoded":                         {"percent encoded"},
				"X-Remote-Extra-Almost%zzpercent%xxencoded":                {"not quite percent encoded"},
				"X-Remote-Extra-Example.com%2fpercent%2520encoded":         {"url with double percent encoding"},
				"X-Remote-Extra-Example.com%2F%E4%BB%8A%E6%97%A5%E3%81%AF": {"url with unicode"},
				"X-Remote-Extra-Abc123!#$+.-_*\\^`~|'":                     {"header key legal characters"},
			},
			user: "Bob", extra: map[string][]string{
				"alpha": {"alphabetical"}, "alph4num3r1c": {"alphanumeric"}, "percent encoded": {"percent encoded"},
				"almost%zzpercent%xxencoded": {"not quite percent encoded"}, "example.com/percent%20encoded": {"url with double percent encoding"},
				"example.com/今日は": {"url with unicode"}, "abc123!#$+.-_*\\^`~|'": {"header key legal characters"},
			}},
	} {
		h := http.Header{}
		for key, values := range tc.headers {
			for _, value := range values {
				h.Add(key, value)
			}
		}
		got := read(h)
		if got.Name != tc.user || got.UID != tc.uid || !slices.Equal(got.Groups, tc.groups) || !maps.EqualFunc(got.Extra, tc.extra, slices.Equal) {
			t.Errorf("%s: got %+v", name, got)
		}
		dropForwarded(h)
		if again := read(h); again.Name != "" || again.UID != "" || again.Groups != nil || again.Extra != nil {
			t.Errorf("%s: %v are still there", name, h)
		}
	}
}

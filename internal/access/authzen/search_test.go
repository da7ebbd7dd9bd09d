package authzen_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/access/authzen"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

func TestParseSearch(t *testing.T) {
	t.Parallel()
	const subject, action, resource = `"subject":{"type":"user","id":"alice"}`, `"action":{"name":"get"}`, `"resource":{"type":"pods","id":"ns/web"}`
	for _, tc := range []struct {
		name  string
		parse func([]byte) (authzen.Search, error)
		body  string
		want  string
		err   string
	}{
		{"subjects", authzen.ParseSubjectSearch, `{"subject":{"type":"user"},` + action + `,` + resource + `}`, "user  get pods ns/web 1000", ""},
		{"subjects, an id is ignored", authzen.ParseSubjectSearch, `{` + subject + `,` + action + `,` + resource + `}`, "user  get pods ns/web 1000", ""},
		{"resources", authzen.ParseResourceSearch, `{` + subject + `,` + action + `,"resource":{"type":"pods"},"page":{"limit":7}}`, "user alice get pods  7", ""},
		{"actions", authzen.ParseActionSearch, `{` + subject + `,` + resource + `,"page":{"token":"","limit":100000}}`, "user alice  pods ns/web 1000", ""},
		{"actions, one is ignored", authzen.ParseActionSearch, `{` + subject + `,` + action + `,` + resource + `}`, "user alice  pods ns/web 1000", ""},
		{"no type", authzen.ParseSubjectSearch, `{"subject":{},` + action + `,` + resource + `}`, "", "subject.type: is required"},
		{"no action", authzen.ParseResourceSearch, `{` + subject + `,"resource":{"type":"pods"}}`, "", "action: is required"},
		{"no resource", authzen.ParseActionSearch, `{` + subject + `}`, "", "resource: is required"},
		{"no subject id", authzen.ParseActionSearch, `{"subject":{"type":"user"},` + resource + `}`, "", "subject.id: is required"},
		{"a limit of nothing", authzen.ParseActionSearch, `{` + subject + `,` + resource + `,"page":{"limit":0}}`, "user alice  pods ns/web 0", ""},
		{"a limit below nothing", authzen.ParseActionSearch, `{` + subject + `,` + resource + `,"page":{"limit":-1}}`, "", "page.limit: must not be negative"},
		{"a limit that is a fraction", authzen.ParseActionSearch, `{` + subject + `,` + resource + `,"page":{"limit":1.5}}`, "", "page.limit: is not of the expected type, but a JSON number 1.5"},
		{"more about the page", authzen.ParseActionSearch, `{` + subject + `,` + resource + `,"page":{"limit":2,"properties":{"sort":"asc"},"other":1}}`, "user alice  pods ns/web 2", ""},
		{"a limit that is no number", authzen.ParseActionSearch, `{` + subject + `,` + resource + `,"page":{"limit":"7"}}`, "", "page.limit: is not of the expected type, but a JSON string"},
		{"a token that is too long", authzen.ParseActionSearch, `{` + subject + `,` + resource + `,"page":{"token":"` + strings.Repeat("x", 257) + `"}}`, "", "page.token: longer than 256 bytes"},
		{"no JSON", authzen.ParseActionSearch, `{`, "", "the request is not valid JSON"},
	} {
		s, err := tc.parse([]byte(tc.body))
		if tc.err != "" {
			if fault.KindOf(err) != fault.Invalid || fault.Public(err) != tc.err {
				t.Errorf("%s: %v", tc.name, err)
			}
			continue
		}
		got := fmt.Sprint(s.Subject.Type, " ", s.Subject.ID, " ", s.Action.Name, " ", s.Resource.Type, " ", s.Resource.ID, " ", s.Page.Limit)
		if err != nil || got != tc.want {
			t.Errorf("%s: got %q %v, want %q", tc.name, got, err, tc.want)
		}
	}
}

func TestPaginate(t *testing.T) {
	t.Parallel()
	search := func(limit int, token string) *authzen.Search {
		s := &authzen.Search{Page: authzen.PageRequest{Limit: limit, Token: token}}
		s.Subject.Type, s.Action.Name, s.Resource.Type, s.Resource.ID = "user", "get", "pods", "ns/web"
		return s
	}
	users := func(n int) []authzen.Entity {
		var all []authzen.Entity
		for i := range n {
			all = append(all, authzen.Entity{Type: "user", ID: fmt.Sprintf("u%02d", (i*7)%n)}, authzen.Entity{Type: "user", ID: fmt.Sprintf("u%02d", i)})
		}
		return all
	}
	var got []string
	token, pages := "", 0
	for {
		page, err := authzen.Paginate(search(4, token), users(10), authzen.EntityKey)
		if err != nil {
			t.Fatal(err)
		}
		if page.Page.Total != 10 || page.Page.Count != len(page.Results) {
			t.Errorf("page %+v with %d results", page.Page, len(page.Results))
		}
		for _, e := range page.Results {
			got = append(got, e.ID)
		}
		pages++
		if token = page.Page.NextToken; token == "" {
			break
		}
	}
	if want := []string{"u00", "u01", "u02", "u03", "u04", "u05", "u06", "u07", "u08", "u09"}; !slices.Equal(got, want) || pages != 3 {
		t.Errorf("%d pages of %v", pages, got)
	}

	first, err := authzen.Paginate(search(4, ""), users(10), authzen.EntityKey)
	if err != nil {
		t.Fatal(err)
	}
	// Something new before the page's end does not repeat what was shown.
	grown := append(users(10), authzen.Entity{Type: "user", ID: "a-new-one"})
	next, err := authzen.Paginate(search(4, first.Page.NextToken), grown, authzen.EntityKey)
	if err != nil || next.Results[0].ID != "u04" {
		t.Errorf("%+v %v", next, err)
	}
	if _, err := authzen.Paginate(search(4, first.Page.NextToken), users(3), authzen.EntityKey); fault.KindOf(err) != fault.Conflict {
		t.Errorf("the last result is gone: %v", err)
	}
	other, contextual, proper := search(4, first.Page.NextToken), search(4, first.Page.NextToken), search(4, first.Page.NextToken)
	other.Action.Name = "delete"
	contextual.Context = map[string]any{"time": "now"}
	proper.Resource.Properties = map[string]any{"owner": "ada"}
	for name, s := range map[string]*authzen.Search{"another search": other, "another context": contextual, "other properties": proper, "another limit": search(5, first.Page.NextToken), "no token": search(4, "!"), "a short token": search(4, "AAAA")} {
		if _, err := authzen.Paginate(s, users(10), authzen.EntityKey); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Nothing wanted is a count, and a place to go on from.
	none, err := authzen.Paginate(search(0, ""), users(3), authzen.EntityKey)
	if err != nil || len(none.Results) != 0 || none.Page.Total != 3 || none.Page.NextToken == "" {
		t.Errorf("a page of nothing: %+v %v", none, err)
	}
	if again, err := authzen.Paginate(search(0, none.Page.NextToken), users(3), authzen.EntityKey); err != nil || again.Page != none.Page {
		t.Errorf("a second page of nothing: %+v %v", again, err)
	}
	empty, err := authzen.Paginate(search(4, ""), nil, authzen.ActionKey)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := json.Marshal(empty); err != nil || string(text) != `{"page":{"next_token":"","count":0,"total":0},"results":[]}` {
		t.Errorf("nothing found: %s %v", text, err)
	}
}

// Names that only a condition spells out are found, and put to it.
func TestSearchByConditions(t *testing.T) {
	t.Parallel()
	owners := allow("owners", `request.name in {"101": "ann", '102': 'bob'} && {"101": "ann", "102": "bob"}[request.name] == request.user`, nil, "view", "record")
	owners.Spec.Subjects = []accessv1alpha1.Subject{{Kind: accessv1alpha1.SubjectUser, NamePrefix: "a"}, {Kind: accessv1alpha1.SubjectUser, NamePrefix: "b"}}
	p := withPolicies(t, []*accessv1alpha1.AccessPolicy{owners})
	s, err := authzen.ParseResourceSearch([]byte(`{"subject":{"type":"user","id":"bob"},"action":{"name":"view"},"resource":{"type":"record"}}`))
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.SearchResources(t.Context(), &s)
	if err != nil || entityIDs(got.Results) != "102" {
		t.Errorf("%s %v", entityIDs(got.Results), err)
	}
	s, err = authzen.ParseSubjectSearch([]byte(`{"subject":{"type":"user"},"action":{"name":"view"},"resource":{"type":"record","id":"101"}}`))
	if err != nil {
		t.Fatal(err)
	}
	got, err = p.SearchSubjects(t.Context(), &s)
	if err != nil || entityIDs(got.Results) != "ann" {
		t.Errorf("%s %v", entityIDs(got.Results), err)
	}
}

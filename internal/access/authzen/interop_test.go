package authzen_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz/condition"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/access/authzen"
	"github.com/gatehouse-dev/gatehouse/internal/access/grant"
	"github.com/gatehouse-dev/gatehouse/internal/access/question"
)

// withPolicies answers from access policies alone, through the real engine.
func withPolicies(t *testing.T, policies []*accessv1alpha1.AccessPolicy) authzen.Policy {
	t.Helper()
	environment, err := condition.New()
	if err != nil {
		t.Fatal(err)
	}
	p := access.NewPolicy()
	g := p.WithGrants(grant.Conditions{Environment: environment}.Compile)
	p.Roles.Replace(nil)
	p.ClusterRoles.Replace(nil)
	p.RoleBindings.Replace(nil)
	p.ClusterRoleBindings.Replace(nil)
	p.Sites.Replace(nil)
	g.Bans.Replace(nil)
	g.Delegations.Replace(nil)
	g.Accounts.Replace(nil)
	g.Namespaces.Replace([]*corev1.Namespace{{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, {ObjectMeta: metav1.ObjectMeta{Name: "other"}}})
	g.AccessPolicies.Replace(policies)
	a, err := access.New(access.Config{Policy: p})
	if err != nil {
		t.Fatal(err)
	}
	list := question.NewPolicies()
	list.Replace(policies)
	return authzen.Policy{Asker: question.Asker{Access: a, Policy: p, Policies: list}}
}

func allow(name, condition string, users []string, verbs, resource string, names ...string) *accessv1alpha1.AccessPolicy {
	p := &accessv1alpha1.AccessPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: accessv1alpha1.AccessPolicySpec{
		Effect: accessv1alpha1.EffectAllow, Sites: []string{"gatehouse"}, Condition: condition,
		Rules: []rbacv1.PolicyRule{{Verbs: strings.Split(verbs, ","), APIGroups: []string{""}, Resources: []string{resource}, ResourceNames: names}},
	}}
	for _, u := range users {
		p.Spec.Subjects = append(p.Spec.Subjects, accessv1alpha1.Subject{Kind: accessv1alpha1.SubjectUser, Name: u})
	}
	return p
}

func readJSON(t *testing.T, name string, into any) {
	t.Helper()
	data, err := os.ReadFile("testdata/interop/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatal(err)
	}
}

// The todo application as access policies: who owns a todo stands in the
// question, and a condition compares it.
func TestTodoByPolicies(t *testing.T) {
	t.Parallel()
	var cases struct {
		Evaluation []struct {
			Request  json.RawMessage
			Expected bool
		}
		Evaluations []struct {
			Request  json.RawMessage
			Expected []struct{ Decision bool }
		}
	}
	readJSON(t, "todo-decisions-1_0-02.json", &cases)
	emails := []string{"rick@the-citadel.com", "morty@the-citadel.com", "summer@the-smiths.com", "beth@the-smiths.com", "jerry@the-smiths.com"}
	// The ids differ in one digit of the UUID; the cases themselves say which
	// there are.
	ids := map[string]bool{}
	for _, c := range cases.Evaluation {
		var r struct{ Subject struct{ ID string } }
		if err := json.Unmarshal(c.Request, &r); err != nil {
			t.Fatal(err)
		}
		ids[r.Subject.ID] = true
	}
	var users []string
	for id := range ids {
		users = append(users, id)
	}
	slices.SortFunc(users, func(a, b string) int { return strings.Compare(decoded(t, a), decoded(t, b)) })
	if len(users) != len(emails) {
		t.Fatalf("%d users", len(users))
	}
	policies := []*accessv1alpha1.AccessPolicy{
		allow("read-users", "", users, "can_read_user", "user"),
		allow("read-todos", "", users, "can_read_todos", "todo"),
		allow("create-todos", "", users[:3], "can_create_todo", "todo"),
		allow("delete-any", "", users[:1], "can_delete_todo", "todo"),
		allow("update-any", "", users[:1], "can_update_todo", "todo"),
	}
	for i := range 3 {
		policies = append(policies, allow(fmt.Sprintf("own-%d", i), fmt.Sprintf("object.resource.properties.ownerID == %q", emails[i]),
			users[i:i+1], "can_update_todo,can_delete_todo", "todo"))
	}
	p := withPolicies(t, policies)
	if len(cases.Evaluation) < 40 || len(cases.Evaluations) < 3 {
		t.Fatal("too few cases")
	}
	for i, c := range cases.Evaluation {
		b, err := authzen.ParseBatch(c.Request)
		if err != nil {
			t.Fatalf("case %d: %v", i, err)
		}
		got, err := authzen.Evaluate(t.Context(), p, b)
		if err != nil || got.Decision.Decision != c.Expected {
			t.Errorf("case %d: %+v %v, want %v\n%s", i, got.Decision, err, c.Expected, c.Request)
		}
	}
	for i, c := range cases.Evaluations {
		b, err := authzen.ParseBatch(c.Request)
		if err != nil {
			t.Fatalf("batch %d: %v", i, err)
		}
		got, err := authzen.Evaluate(t.Context(), p, b)
		if err != nil || len(got.Evaluations) != len(c.Expected) {
			t.Fatalf("batch %d: %+v %v", i, got, err)
		}
		for j := range c.Expected {
			if got.Evaluations[j].Decision != c.Expected[j].Decision {
				t.Errorf("batch %d, question %d: %+v", i, j, got.Evaluations[j])
			}
		}
	}
}

// The gateway scenario: subjects are identities, resources are routes, actions
// are methods. Everybody reads; editors and the administrator change.
func TestGateways(t *testing.T) {
	t.Parallel()
	users := []string{"rick", "morty", "summer", "beth", "jerry"}
	p := withPolicies(t, []*accessv1alpha1.AccessPolicy{
		allow("read", "", users, "GET", "route", "users/{userId}", "todos"),
		allow("create", "", users[:3], "POST", "route", "todos"),
		allow("change", "", users[:3], "PUT,DELETE", "route", "todos/{todoId}"),
	})
	for i, user := range users {
		for route, want := range map[string]bool{
			"GET /users/{userId}": true, "GET /todos": true, "POST /todos": i < 3, "PUT /todos/{todoId}": i < 3, "DELETE /todos/{todoId}": i < 3,
			"DELETE /todos": false, "GET /users": false,
		} {
			method, id, _ := strings.Cut(route, " ")
			b, err := authzen.ParseBatch(fmt.Appendf(nil, `{"subject":{"type":"identity","id":%q},"action":{"name":%q},"resource":{"type":"route","id":%q}}`, user, method, id))
			if err != nil {
				t.Fatal(err)
			}
			got, err := authzen.Evaluate(t.Context(), p, b)
			if err != nil || got.Decision.Decision != want {
				t.Errorf("%s %s: %+v %v", user, route, got.Decision, err)
			}
		}
	}
}

// records is the search scenario, and its rules in the words of the scenario.
type records struct {
	users []struct{ ID, Role, Department string }
	list  []struct {
		ID                int
		Department, Owner string
	}
}

func (r *records) may(user int, action string, record int) bool {
	u, x := r.users[user], r.list[record]
	manager, owns := u.Role == "manager", x.Owner == u.ID
	switch action {
	case "view":
		return manager || owns || x.Department == u.Department
	case "edit":
		return owns || manager && x.Department == u.Department
	case "delete":
		return owns
	}
	return false
}

func (r *records) id(i int) string { return fmt.Sprint(r.list[i].ID) }

// policies writes the scenario as access policies.
func (r *records) policies() []*accessv1alpha1.AccessPolicy {
	var out []*accessv1alpha1.AccessPolicy
	for u, user := range r.users {
		if user.Role == "manager" {
			out = append(out, allow(user.ID+"-all", "", []string{user.ID}, "view", "record"))
		}
		for _, action := range []string{"view", "edit", "delete"} {
			var names []string
			for i := range r.list {
				if r.may(u, action, i) {
					names = append(names, r.id(i))
				}
			}
			if len(names) > 0 && (action != "view" || user.Role != "manager") {
				out = append(out, allow(user.ID+"-"+action, "", []string{user.ID}, action, "record", names...))
			}
		}
	}
	return out
}

func TestSearchScenario(t *testing.T) {
	t.Parallel()
	var r records
	readJSON(t, "search-users.json", &r.users)
	readJSON(t, "search-records.json", &r.list)
	p := withPolicies(t, r.policies())

	// Subjects: the published results.
	var cases struct {
		Evaluation []struct {
			Request  json.RawMessage
			Expected struct{ Results []authzen.Entity }
		}
	}
	readJSON(t, "search-subject-results.json", &cases)
	if len(cases.Evaluation) < 40 {
		t.Fatal("too few cases")
	}
	for i, c := range cases.Evaluation {
		s, err := authzen.ParseSubjectSearch(c.Request)
		if err != nil {
			t.Fatalf("case %d: %v", i, err)
		}
		got, err := p.SearchSubjects(t.Context(), &s)
		if err != nil || entityIDs(got.Results) != entityIDs(c.Expected.Results) {
			t.Errorf("case %d: got %s %v, want %s\n%s", i, entityIDs(got.Results), err, entityIDs(c.Expected.Results), c.Request)
		}
	}

	// Resources and actions: what follows from the rules.
	for u, user := range r.users {
		for _, action := range []string{"view", "edit", "delete", "burn"} {
			s, err := authzen.ParseResourceSearch(fmt.Appendf(nil, `{"subject":{"type":"user","id":%q},"action":{"name":%q},"resource":{"type":"record"}}`, user.ID, action))
			if err != nil {
				t.Fatal(err)
			}
			var want []authzen.Entity
			for i := range r.list {
				if r.may(u, action, i) {
					want = append(want, authzen.Entity{ID: r.id(i)})
				}
			}
			got, err := p.SearchResources(t.Context(), &s)
			if err != nil || entityIDs(got.Results) != entityIDs(want) {
				t.Errorf("%s of %s: got %s %v, want %s", action, user.ID, entityIDs(got.Results), err, entityIDs(want))
			}
		}
		for i := range r.list {
			s, err := authzen.ParseActionSearch(fmt.Appendf(nil, `{"subject":{"type":"user","id":%q},"resource":{"type":"record","id":%q}}`, user.ID, r.id(i)))
			if err != nil {
				t.Fatal(err)
			}
			var want, names []string
			for _, action := range []string{"delete", "edit", "view"} {
				if r.may(u, action, i) {
					want = append(want, action)
				}
			}
			got, err := p.SearchActions(t.Context(), &s)
			for _, a := range got.Results {
				names = append(names, a.Name)
			}
			if err != nil || !slices.Equal(names, want) {
				t.Errorf("actions of %s on %s: got %v %v, want %v", user.ID, r.id(i), names, err, want)
			}
		}
	}
}

// A grant inside a namespace is found there, one for everywhere once.
func TestSearchResourcesInNamespaces(t *testing.T) {
	t.Parallel()
	inside := allow("inside", "", []string{"ada"}, "get", "pods", "web")
	inside.Spec.Namespaces = &accessv1alpha1.NamespaceScope{Names: []string{"other"}}
	p := withPolicies(t, []*accessv1alpha1.AccessPolicy{inside, allow("all", "", []string{"bob"}, "get", "pods")})
	for user, want := range map[string]string{"ada": "other/web", "bob": "web", "eve": ""} {
		s, err := authzen.ParseResourceSearch(fmt.Appendf(nil, `{"subject":{"type":"user","id":%q},"action":{"name":"get"},"resource":{"type":"pods"}}`, user))
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.SearchResources(t.Context(), &s)
		if err != nil || entityIDs(got.Results) != want {
			t.Errorf("%s: %s %v", user, entityIDs(got.Results), err)
		}
	}
}

// decoded is the text behind an id, whose digit tells the users apart.
func decoded(t *testing.T, id string) string {
	t.Helper()
	text, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(id, "="))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func entityIDs(list []authzen.Entity) string {
	var out []string
	for _, e := range list {
		out = append(out, e.ID)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

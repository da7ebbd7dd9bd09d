package snapshot

import (
	"testing"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/authz/condition"
)

// TestConditionsTravel ships an expression and evaluates it on the other side.
func TestConditionsTravel(t *testing.T) {
	t.Parallel()
	env, err := condition.New()
	if err != nil {
		t.Fatal(err)
	}
	c, err := env.Compile(`request.name.startsWith("team-") && request.time < timestamp("2031-01-01T00:00:00Z")`)
	if err != nil {
		t.Fatal(err)
	}
	content := authz.Content{Policies: []authz.Policy{{Name: "p", Effect: authz.Allow, Sites: []string{"s1"}, Condition: c,
		Subjects: []authz.PolicySubject{{Subject: authz.Subject{Kind: authz.User, Name: "u"}}},
		Rules:    []authz.Rule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}}}}}
	h := header("s1", "", 1)
	h.Conditions = condition.Version
	frame, _, err := Seal(&content, Credentials{}, h, newKey(1))
	if err != nil {
		t.Fatal(err)
	}
	r := rules("s1", "")
	r.Conditions = condition.Version
	r.Compile = func(text string) (authz.Condition, error) { return env.Compile(text) }
	f := NewFollower(r)
	if _, err := f.Accept(frame, noon); err != nil {
		t.Fatal(err)
	}
	held, err := f.Current(noon)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"team-a": true, "other": false} {
		q := &authz.Request{User: "u", Verb: "get", Resource: "pods", Name: name, Namespace: "n", ResourceRequest: true, Site: "s1", Time: noon}
		if got := held.Snapshot.Decide(q).Allowed(); got != want {
			t.Errorf("%s: allowed %v, want %v", name, got, want)
		}
	}
}

package authorize

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/access/authzen"
	"github.com/gatehouse-dev/gatehouse/internal/authn"
)

// draw makes policy and questions of few names, so that they meet.
type draw struct{ *rand.Rand }

func (d draw) pick(from ...string) string { return from[d.IntN(len(from))] }

func (d draw) some(from ...string) (out []string) {
	for range 1 + d.IntN(2) {
		out = append(out, d.pick(from...))
	}
	return out
}

var robotUser = "gatehouse:system:serviceaccount:lab:robot"

func (d draw) subjects() (out []authz.PolicySubject) {
	for range 1 + d.IntN(2) {
		s := authz.PolicySubject{Subject: authz.Subject{Kind: authz.User, Name: d.pick("ada", "bea", "system:node:n1")}, SitesOwn: d.IntN(4) == 0}
		switch d.IntN(4) {
		case 0:
			s.Kind, s.Name = authz.Group, d.pick("staff", "system:authenticated")
		case 1:
			s.Kind, s.Name, s.Namespace = authz.ServiceAccount, "robot", d.pick("lab", "den")
		}
		out = append(out, s)
	}
	return out
}

func (d draw) rules() []authz.Rule {
	r := authz.Rule{Verbs: d.some("get", "list", "*", "*"), APIGroups: d.some("", "apps", "*"), Resources: d.some("pods", "secrets", "*", "*")}
	if d.IntN(5) == 0 {
		r = authz.Rule{Verbs: []string{"get"}, NonResourceURLs: d.some("/healthz", "/api*")}
	}
	return []authz.Rule{r}
}

func (d draw) fill(t *authz.Tx) {
	for _, site := range []string{"blue", "red"} {
		t.PutSite(authz.Site{Name: site, SharedRBAC: d.IntN(3) > 0})
		t.PutNamespace(site, "lab", map[string]string{"tier": d.pick("x", "y")})
	}
	for i := range 5 {
		t.PutRole(authz.Role{Namespace: d.pick("", "", "lab"), Name: fmt.Sprint("r", i), Rules: d.rules(), Bootstrap: i == 0})
		b := authz.Binding{Namespace: d.pick("", "lab"), Name: fmt.Sprint("b", i), RoleKind: d.pick("Role", "ClusterRole"), RoleName: fmt.Sprint("r", d.IntN(6))}
		for _, s := range d.subjects() {
			b.Subjects = append(b.Subjects, s.Subject)
		}
		t.PutBinding(b)
	}
	sites := func() []string { return d.some("*", "blue", "red", authz.ControlPlane) }
	for i := range 6 {
		p := authz.Policy{Name: fmt.Sprint("p", i), Effect: authz.Effect(1 + d.IntN(2)), Subjects: d.subjects(), Sites: sites(), Rules: d.rules()}
		switch d.IntN(8) {
		case 0:
			p.NotAfter = noon.Add(time.Duration(d.IntN(3)) * time.Minute)
		case 1:
			p.NotBefore = noon.Add(time.Duration(d.IntN(3)) * time.Minute)
		case 2:
			p.Namespaces = d.some("lab", "d*")
		case 3:
			p.NamespaceLabels = []authz.Requirement{{Key: "tier", Operator: authz.In, Values: []string{"x"}}}
		case 4:
			p.LabelSelector = []authz.Requirement{{Key: "team", Operator: authz.In, Values: []string{"a"}}}
		case 5, 6:
			text := d.pick(`request.verb == "get"`, `"staff" in request.groups`, `request.credentialID != "JTI=1"`, `request.site == "blue"`, `request.namespace.startsWith("l")`,
				`request.time < timestamp("2030-01-01T12:01:30Z")`, `request.extra["team"][0] == "a"`, `object.context.urgent == true`, `request.name in ["a", "b"]`)
			condition, err := conditions().Compile("", text)
			if err != nil {
				panic(err)
			}
			p.Condition = condition
		}
		t.PutPolicy(p)
	}
	for i := range d.IntN(4) {
		// Givers of names that hold something now and then, one behind the other.
		x := authz.Delegation{Name: fmt.Sprint("d", i), ID: "1", Giver: authz.Giver{User: d.pick("ada", "bea", "system:serviceaccount:lab:robot"), UID: "uid-1", Groups: d.some("staff", "system:authenticated")},
			To: authz.Subject{Kind: authz.User, Name: d.pick("ada", "bea", "cy")}, Rules: d.rules(), Sites: sites(), NotAfter: noon.Add(time.Duration(1+d.IntN(3)) * time.Minute), MayDelegate: true}
		switch d.IntN(4) {
		case 0:
			x.To = authz.Subject{Kind: authz.ServiceAccount, Namespace: "lab", Name: "robot"}
		case 1:
			x.Roles = d.some("r1", "r2")
		case 2:
			x.Namespaces = d.some("lab", "d*")
		case 3:
			x.Parent, x.ParentID = fmt.Sprint("d", d.IntN(3)), "1"
		}
		t.PutDelegation(x)
	}
	if d.IntN(3) == 0 {
		ban := authz.Ban{Name: "ban", Subjects: d.subjects(), CredentialIDs: d.some("JTI=1", "JTI=2"), Sites: sites(), Reason: "lost"}
		if d.IntN(2) == 0 {
			ban.NotAfter = noon.Add(time.Minute)
		}
		t.PutBan(ban)
	}
}

func (d draw) question() *authorizationv1.SubjectAccessReviewSpec {
	s := &authorizationv1.SubjectAccessReviewSpec{
		User:   d.pick("ada", "bea", "cy", "", "system:node:n1", robotUser, "gatehouse:system:serviceaccount:den:robot", "system:serviceaccount:lab:robot", "gatehouse:evil"),
		Groups: d.some("staff", "system:authenticated", "system:masters", "gatehouse:system:serviceaccounts", "gatehouse:system:serviceaccounts:lab"),
		UID:    d.pick("", "uid-1", "uid-2"),
	}
	if d.IntN(3) == 0 {
		s.Extra = map[string]authorizationv1.ExtraValue{access.CredentialIDExtra: d.some("JTI=1", "JTI=3")}
	}
	if d.IntN(6) == 0 {
		if s.Extra == nil {
			s.Extra = map[string]authorizationv1.ExtraValue{}
		}
		s.Extra["authentication.gatehouse.dev/not-after"] = []string{d.pick("2029-12-31T00:00:00Z", "2030-01-02T00:00:00Z", "nonsense")}
	}
	switch d.IntN(10) {
	case 0:
		s.NonResourceAttributes = &authorizationv1.NonResourceAttributes{Verb: "get", Path: d.pick("/healthz", "/apis", strings.Repeat("/x", 5000))}
	case 1: // neither, or both
		if d.IntN(2) == 0 {
			s.NonResourceAttributes = &authorizationv1.NonResourceAttributes{Verb: "get", Path: "/healthz"}
			s.ResourceAttributes = &authorizationv1.ResourceAttributes{Verb: "get", Resource: "pods"}
		}
	default:
		s.ResourceAttributes = &authorizationv1.ResourceAttributes{Verb: d.pick("get", "list"), Group: d.pick("", "apps"), Resource: d.pick("pods", "secrets"),
			Namespace: d.pick("", "lab", "den"), Name: d.pick("", "a"), Subresource: d.pick("", "", "log")}
		if d.IntN(4) == 0 {
			s.ResourceAttributes.LabelSelector = &authorizationv1.LabelSelectorAttributes{RawSelector: d.pick("team=a", "team=b", "team in (")}
		}
	}
	return s
}

// TestSameAnswersAsTheCentre puts random questions to both doors of both.
func TestSameAnswersAsTheCentre(t *testing.T) {
	t.Parallel()
	var denied, allowed, nothing int
	for seed := range uint64(80) {
		d := draw{rand.New(rand.NewPCG(seed, 21))}
		w := newWorld(t, d.pick("blue", "red"))
		w.engine.Update(d.fill)
		if d.IntN(4) > 0 {
			w.index.Put(authn.ObjectKey{Kind: authn.ServiceAccountObject, Namespace: "lab", Name: "robot"}, authn.ObjectState{UID: "uid-1"})
		}
		w.ship()
		for i := range 200 {
			if i%50 == 49 {
				w.pass(time.Minute) // bans, policies and delegations end
			}
			spec, denials := d.question(), d.IntN(2) == 0
			want, wantErr := w.answer(w.cfg.Site, denials, spec, w.clock())
			got, err := w.ask(denials, spec)
			if fmt.Sprint(err) != fmt.Sprint(wantErr) || got != want {
				t.Fatalf("seed %d, denials %v, %.1000s:\ncentre %+v %v\nhere   %+v %v", seed, denials, spec, want, wantErr, got, err)
			}
			switch {
			case got.Denied:
				denied++
			case got.Allowed:
				allowed++
			default:
				nothing++
			}
		}
	}
	if min(denied, nothing) < 1000 || allowed < 200 {
		t.Errorf("%d denied, %d allowed, %d nothing: the questions say little", denied, allowed, nothing)
	}
}

// TestSameAnswersOverAuthZEN puts random evaluations, of resources, paths and
// types that Kubernetes does not know, and holds the answers against what policy
// says of the site.
func TestSameAnswersOverAuthZEN(t *testing.T) {
	t.Parallel()
	var yes, no int
	for seed := range uint64(40) {
		d := draw{rand.New(rand.NewPCG(seed, 22))}
		w := newWorld(t, d.pick("blue", "red"))
		w.engine.Update(d.fill)
		w.engine.Update(func(tx *authz.Tx) {
			for _, effect := range []authz.Effect{authz.Allow, authz.Deny} {
				tx.PutPolicy(authz.Policy{Name: fmt.Sprint("other-", effect), Effect: effect, Sites: []string{"*"}, Subjects: d.subjects(),
					Rules: []authz.Rule{{Verbs: d.some("open", "close"), APIGroups: []string{"doors.example"}, Resources: []string{"gate"}, ResourceNames: d.some("north", "south")}}})
			}
		})
		w.ship()
		local := w.Local()
		for range 100 {
			kind, id := d.pick("pods", "secrets", "pods.apps"), d.pick("", "lab/a", "den/", "a", "lab/")
			verb := d.pick("get", "list", "open")
			switch d.IntN(4) {
			case 0:
				kind, id = "gate.doors.example", d.pick("north", "south", "lab/north")
			case 1:
				kind, id, verb = "path", d.pick("/healthz", "/apis"), "get"
			}
			body, err := json.Marshal(map[string]any{
				"subject":  map[string]any{"type": d.pick("user", "user", "group"), "id": d.pick("ada", "bea", "cy", "staff", robotUser, "system:node:n1"), "properties": map[string]any{"groups": d.some("staff", "system:authenticated", "system:masters")}},
				"action":   map[string]any{"name": verb},
				"resource": map[string]any{"type": kind, "id": id},
				"context":  map[string]any{"urgent": d.IntN(2) == 0},
			})
			if err != nil {
				t.Fatal(err)
			}
			evaluation, err := authzen.ParseEvaluation(body)
			if err != nil {
				t.Fatal(err)
			}
			batch := authzen.Batch{Single: true, Items: []authzen.Item{{Evaluation: evaluation}}}
			want, err := authzen.Evaluate(t.Context(), atCentre{w}, batch)
			if err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(want)
			if err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequest("POST", "/access/v1/evaluation", bytes.NewReader(body))
			r.Header.Set("Content-Type", "application/json")
			out := httptest.NewRecorder()
			local.ServeHTTP(out, r)
			if out.Code != http.StatusOK || out.Body.String() != string(text) {
				t.Fatalf("seed %d, %s:\ncentre %s\nhere   %d %s", seed, body, text, out.Code, out.Body)
			}
			if want.Decision.Decision {
				yes++
			} else {
				no++
			}
		}
	}
	if yes < 100 || no < 1000 {
		t.Errorf("%d yes, %d no: the questions say little", yes, no)
	}
}

// atCentre decides by the whole policy.
type atCentre struct{ *world }

func (c atCentre) Decide(_ context.Context, q *authzen.Question) (bool, string, error) {
	q.Complete()
	r := q.Request
	r.User, r.UID, r.Groups, r.Extra = q.Subject.Name, q.Subject.UID, q.Subject.Groups, q.Subject.Extra
	r.Site, r.Time = c.cfg.Site, c.clock()
	d := access.DecideAtSite(c.engine.Snapshot(), &r)
	return d.Allowed(), d.Reason(), nil
}

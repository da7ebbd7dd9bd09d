package authorize

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unsafe"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"

	federationapi "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

func allowAda(t *authz.Tx) {
	t.PutSite(authz.Site{Name: "blue"})
	t.PutPolicy(authz.Policy{Name: "ada-reads", Effect: authz.Allow, Sites: []string{"blue"},
		Subjects: []authz.PolicySubject{{Subject: authz.Subject{Kind: authz.User, Name: "ada"}}},
		Rules:    []authz.Rule{{Verbs: []string{"get"}, APIGroups: []string{"*"}, Resources: []string{"*"}}}})
}

func question(user string) *authorizationv1.SubjectAccessReviewSpec {
	return &authorizationv1.SubjectAccessReviewSpec{User: user, ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "get", Resource: "pods", Namespace: "lab"}}
}

// TestAfterTheEnd: no policy, no decision, at any door.
func TestAfterTheEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "blue")
	w.engine.Update(allowAda)
	refused := func(when string) {
		t.Helper()
		for _, denials := range []bool{true, false} {
			if s, err := w.ask(denials, question("ada")); fault.KindOf(err) != fault.Unavailable || s.Allowed || s.Denied {
				t.Errorf("%s: %+v %v", when, s, err)
			}
		}
		if _, err := w.review("t"); fault.KindOf(err) != fault.Unavailable {
			t.Errorf("%s, a token: %v", when, err)
		}
		if w.Point.Ready() == nil {
			t.Errorf("%s: ready", when)
		}
	}
	refused("before the first policy")
	w.ship()
	w.connect(false)
	w.pass(24*time.Hour - time.Second)
	if s, err := w.ask(false, question("ada")); err != nil || !s.Allowed || w.Point.Ready() != nil {
		t.Errorf("just before the end: %+v %v %v", s, err, w.Point.Ready())
	}
	w.pass(time.Second)
	refused("at the end")
	w.connect(true)
	w.ship()
	if s, err := w.ask(false, question("ada")); err != nil || !s.Allowed {
		t.Errorf("renewed: %+v %v", s, err)
	}
}

func good(user, uid string, extra map[string]authenticationv1.ExtraValue) authenticationv1.TokenReviewStatus {
	return authenticationv1.TokenReviewStatus{Authenticated: true, Audiences: []string{"gatehouse:site:blue"},
		User: authenticationv1.UserInfo{Username: user, UID: uid, Groups: []string{"system:authenticated"}, Extra: extra}}
}

func spec(token string, audiences ...string) *authenticationv1.TokenReviewSpec {
	return &authenticationv1.TokenReviewSpec{Token: token, Audiences: audiences}
}

// TestNoTokenIsKept: what is remembered shares no memory with the review.
func TestNoTokenIsKept(t *testing.T) {
	t.Parallel()
	body := strings.Clone("the-token gatehouse:site:blue")
	known := newTokens()
	said := good(robotUser, "uid-1", nil)
	known.confirm(spec(body[:9], body[10:]), &said, noon)
	for _, v := range known.known {
		if len(v.audiences) != 1 || v.audiences[0] != body[10:] || unsafe.StringData(v.audiences[0]) == unsafe.StringData(body[10:]) {
			t.Errorf("%q keep the body of the review", v.audiences)
		}
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "blue")
	robot := authn.ObjectKey{Kind: authn.ServiceAccountObject, Namespace: "lab", Name: "robot"}
	w.index.Put(robot, authn.ObjectState{UID: "uid-1"})
	w.engine.Update(func(tx *authz.Tx) { tx.PutSite(authz.Site{Name: "blue"}) })
	w.ship()
	credential := func(id string) map[string]authenticationv1.ExtraValue {
		return map[string]authenticationv1.ExtraValue{access.CredentialIDExtra: {id}}
	}
	ends := map[string]authenticationv1.ExtraValue{"authentication.gatehouse.dev/not-after": {noon.Add(time.Hour).Format(time.RFC3339)}}
	w.says = map[string]authenticationv1.TokenReviewStatus{
		"one": good(robotUser, "uid-1", credential("JTI=1")), "two": good(robotUser, "uid-1", credential("JTI=2")),
		"ends": good("ada", "", ends), "new": good("gatehouse:system:serviceaccount:lab:new", "uid-9", nil), "bad": {Error: "no"},
	}
	check := func(when, token string, want bool) {
		t.Helper()
		s, err := w.review(token)
		if err != nil || s.Authenticated != want || !want && s.Error == "" {
			t.Errorf("%s, token %q: %+v %v", when, token, s, err)
		}
	}
	for _, token := range []string{"one", "two", "ends", "new"} {
		check("heard", token, true)
	}
	check("heard", "bad", false)

	// An account that the control plane vouched for after the policy was signed
	// is new, not gone.
	if s, err := w.ask(true, &authorizationv1.SubjectAccessReviewSpec{User: "gatehouse:system:serviceaccount:lab:new", UID: "uid-9"}); err != nil || !s.Denied {
		t.Errorf("vouched for at the time of the policy: %+v %v", s, err)
	}
	w.pass(time.Second)
	check("heard again", "new", true)
	if s, err := w.ask(true, &authorizationv1.SubjectAccessReviewSpec{User: "gatehouse:system:serviceaccount:lab:new", UID: "uid-9"}); err != nil || s.Denied {
		t.Errorf("vouched for after the policy: %+v %v", s, err)
	}

	// The control plane leaves.
	w.away(unavailable)
	check("while it hangs", "one", true)
	w.connect(false)
	asked := w.asked
	for _, token := range []string{"one", "two", "ends", "new"} {
		check("away", token, true)
	}
	if w.asked != asked {
		t.Error("a control plane that is away is asked about tokens that are known")
	}
	check("away", "never shown", false)
	check("away", "bad", false)
	site, _ := w.sites.Get("blue")
	if s, err := (reviews{w.Point}).TokenAtSite(t.Context(), site, spec("one", "vault")); err != nil || s.Authenticated || s.Error == "" {
		t.Errorf("what was said is no answer about another audience: %+v %v", s, err)
	}

	// What policy knows counts for tokens that were good before.
	w.engine.Update(func(tx *authz.Tx) {
		tx.PutBan(authz.Ban{Name: "lost", CredentialIDs: []string{"JTI=1"}, Sites: []string{"blue"}})
	})
	w.ship()
	check("banned", "one", false)
	check("the other of the account", "two", true)
	w.index.Delete(robot)
	w.ship()
	check("without its account", "two", false)
	w.pass(2 * time.Hour)
	check("after its end", "ends", false)

	// The control plane's word replaces what was remembered.
	w.away(nil)
	w.connect(true)
	w.says["new"] = authenticationv1.TokenReviewStatus{Error: "revoked"}
	check("revoked", "new", false)
	w.away(unavailable)
	check("revoked, and away", "new", false)
	// A refusal of the site is no absence.
	w.away(fault.New(fault.Denied, "not connected"))
	if _, err := w.review("two"); fault.KindOf(err) != fault.Denied {
		t.Errorf("a refused site: %v", err)
	}
}

func TestTokensAreForgotten(t *testing.T) {
	t.Parallel()
	m := newTokens()
	for i := range maxTokens + 100 {
		s := good("ada", "", nil)
		m.confirm(spec(fmt.Sprint("t", i)), &s, noon.Add(time.Duration(i)))
	}
	if len(m.known) > maxTokens {
		t.Errorf("%d tokens are remembered", len(m.known))
	}
	s := good("ada", "", nil)
	for i := len(m.known); i < maxTokens; i++ {
		m.confirm(spec(fmt.Sprint("u", i)), &s, noon)
	}
	m.confirm(spec("newest"), &s, noon.Add(25*time.Hour))
	if _, _, ok := m.recall(spec("newest")); !ok || len(m.known) != 1 {
		t.Errorf("%d tokens are remembered a day later", len(m.known))
	}
}

func TestAuthZEN(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "blue")
	w.engine.Update(allowAda)
	local := w.Local()
	ask := func(method, path, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("X-Request-ID", "mine")
		out := httptest.NewRecorder()
		local.ServeHTTP(out, r)
		return out
	}
	const one = `{"subject":{"type":"user","id":"ada"},"action":{"name":"get"},"resource":{"type":"pods","id":"lab/a"}}`
	if got := ask("POST", "/access/v1/evaluation", one); got.Code != 503 {
		t.Errorf("without policy: %d %s", got.Code, got.Body)
	}
	if got := ask("GET", "/readyz", ""); got.Code != 503 || !strings.Contains(got.Body.String(), "no policy") {
		t.Errorf("readyz: %d %s", got.Code, got.Body)
	}
	w.ship()
	w.takeEvents()
	got := ask("POST", "/access/v1/evaluation", one)
	if got.Code != 200 || !strings.Contains(got.Body.String(), `"decision":true`) || got.Header().Get("X-Request-ID") != "mine" {
		t.Errorf("%d %s", got.Code, got.Body)
	}
	events := w.takeEvents()
	if len(events) != 1 || events[0].AuditID != got.Header().Get("Audit-Id") || events[0].Annotations[annotationAnswer] != "true" ||
		events[0].Annotations[AnnotationPoint] != "edge-1" || events[0].Annotations[AnnotationPolicy] != "1" {
		t.Errorf("record: %+v", events)
	}
	for _, tc := range []struct {
		method, path, body string
		code               int
		want               string
	}{
		{"POST", "/access/v1/evaluations", `{"subject":{"type":"user","id":"ada"},"action":{"name":"get"},"evaluations":[{"resource":{"type":"pods","id":"lab/a"}},{"resource":{"type":"path","id":"/healthz"}}]}`, 200,
			`{"evaluations":[{"decision":true`},
		{"POST", "/access/v1/evaluation", strings.Replace(one, "ada", "system:site:blue", 1), 200, `"decision":false`},
		{"POST", "/access/v1/evaluation", `{`, 400, ""},
		{"POST", "/access/v1/evaluation", strings.Repeat("x", maxQuestions+1), 413, ""},
		{"GET", "/access/v1/evaluation", "", 405, ""},
		{"POST", "/access/v1/search/subject", one, 404, ""},
		{"GET", "/.well-known/authzen-configuration", "", 200, `{"policy_decision_point":"https://127.0.0.1:7444","access_evaluation_endpoint":"https://127.0.0.1:7444/access/v1/evaluation","access_evaluations_endpoint":"https://127.0.0.1:7444/access/v1/evaluations"}`},
		{"GET", "/readyz", "", 200, "ok"},
		{"GET", "/livez", "", 200, "ok"},
		{"GET", "/metrics", "", 200, "gatehouse_edge_policy_sequence 1"},
	} {
		if got := ask(tc.method, tc.path, tc.body); got.Code != tc.code || !strings.Contains(got.Body.String(), tc.want) {
			t.Errorf("%s %s: %d %.300s", tc.method, tc.path, got.Code, got.Body)
		}
	}
	// What cannot be recorded is not answered.
	w.mu.Lock()
	w.broken = unavailable
	w.mu.Unlock()
	if got := ask("POST", "/access/v1/evaluation", one); got.Code != 503 || strings.Contains(got.Body.String(), "decision") {
		t.Errorf("unrecorded: %d %s", got.Code, got.Body)
	}
	// Over HTTPS nobody asks without the client certificate; probes do.
	for path, code := range map[string]int{"/readyz": 503, "/livez": 200, "/metrics": 401, "/access/v1/evaluation": 401, "/sites/blue/authorize": 503, "/apis/authorization.k8s.io/v1/subjectaccessreviews": 401} {
		r := httptest.NewRequest("GET", path, nil)
		out := httptest.NewRecorder()
		if w.Handler().ServeHTTP(out, r); out.Code != code {
			t.Errorf("%s without a certificate: %d, want %d", path, out.Code, code)
		}
	}
	var _ http.Handler = local
}

// BenchmarkDecide is one decision at a door, without its way there.
func BenchmarkDecide(b *testing.B) {
	w := newWorld(b, "blue")
	w.engine.Update(func(tx *authz.Tx) {
		allowAda(tx)
		for i := range 10_000 {
			tx.PutPolicy(authz.Policy{Name: fmt.Sprint("p", i), Effect: authz.Effect(1 + i%2), Sites: []string{"blue"},
				Subjects: []authz.PolicySubject{{Subject: authz.Subject{Kind: authz.User, Name: fmt.Sprint("user-", i)}}},
				Rules:    []authz.Rule{{Verbs: []string{"get"}, APIGroups: []string{"*"}, Resources: []string{"*"}}}})
		}
	})
	w.ship()
	spec := question("ada")
	b.ReportAllocs()
	for b.Loop() {
		if s, err := w.ask(false, spec); err != nil || !s.Allowed {
			b.Fatal(s, err)
		}
	}
}

// The control plane's mode of the site counts, when it is less than ours.
func TestDenyOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "blue")
	for denyOnly, want := range map[bool]federationapi.SiteMode{false: federationapi.SiteFull, true: federationapi.SiteDeny} {
		w.denyOnly.Store(denyOnly)
		if site, ok := w.sites.Get("blue"); !ok || site.Spec.Mode != want {
			t.Errorf("%v: mode %s", denyOnly, site.Spec.Mode)
		}
	}
	if w.sites.known.Load().Spec.Mode != federationapi.SiteFull {
		t.Error("the site that is known was changed")
	}
}

// TestHandedOn: what decided here is on record here, with both names.
func TestHandedOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "blue")
	w.engine.Update(func(tx *authz.Tx) {
		allowAda(tx)
		tx.PutDelegation(authz.Delegation{Name: "one-hour", ID: "1", Giver: authz.Giver{User: "ada"}, To: authz.Subject{Kind: authz.User, Name: "bea"},
			Rules: []authz.Rule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}}, Sites: []string{"blue"}, NotAfter: noon.Add(time.Hour)})
	})
	w.ship()
	ask := func(user string) (bool, map[string]string) {
		t.Helper()
		site, _ := w.sites.Get("blue")
		e := &audit.Event{}
		s, err := reviews{w.Point}.AccessAtSite(audit.WithNotes(t.Context(), e), site, false, question(user))
		if err != nil {
			t.Fatal(err)
		}
		return s.Allowed, e.Annotations
	}
	if ok, notes := ask("bea"); !ok || notes[AnnotationOnBehalf] != "ada" || notes[AnnotationChain] != `[{"delegation":"one-hour","from":"ada","to":"bea"}]` {
		t.Errorf("the receiver: %v %v", ok, notes)
	}
	if ok, notes := ask("ada"); !ok || notes[AnnotationOnBehalf] != "" || notes[AnnotationDecider] != "AccessPolicy/ada-reads" {
		t.Errorf("the giver: %v %v", ok, notes)
	}
	// The giver loses it, and with it the receiver.
	w.engine.Update(func(tx *authz.Tx) { tx.DeletePolicy("ada-reads") })
	w.ship()
	if ok, notes := ask("bea"); ok || len(notes) > 0 {
		t.Errorf("after the giver lost it: %v %v", ok, notes)
	}
}

// TestTooLong: the same refusal as at the control plane.
func TestTooLong(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "blue")
	w.engine.Update(allowAda)
	w.ship()
	spec := question("ada")
	spec.ResourceAttributes = nil
	spec.NonResourceAttributes = &authorizationv1.NonResourceAttributes{Verb: "get", Path: strings.Repeat("/x", 5000)}
	for _, denials := range []bool{true, false} {
		if s, err := w.ask(denials, spec); fault.KindOf(err) != fault.Invalid || s.Allowed {
			t.Errorf("%+v %v", s, err)
		}
	}
}

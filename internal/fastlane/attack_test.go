package fastlane_test

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
)

// TestDoorsRefuse attacks every door over both versions of HTTP. Each attack
// is refused with the status that it deserves, leaves one record, and asks the
// policy nothing.
func TestDoorsRefuse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	robot := w.token(apiAudience)
	forSite := w.token("gatehouse:site:one")
	bearer := func(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }
	doors := []string{"authenticate", "authorize", "authorize/deny", "audit"}

	type attack struct {
		name string
		cert *tls.Certificate
		call
		code int
		says string // in the record's reason or message
	}
	attacks := []attack{
		{name: "an unknown door", cert: w.siteOne, call: call{path: "/sites/one/cellar"}, code: 404},
		{name: "no door", cert: w.siteOne, call: call{path: "/sites/one"}, code: 404},
		{name: "an empty door", cert: w.siteOne, call: call{path: "/sites/one/"}, code: 404},
		{name: "no site", cert: w.siteOne, call: call{path: "/sites/"}, code: 403, says: "another site"},
		{name: "dots to another site", cert: w.siteOne, call: call{path: "/sites/one/../two/authorize"}, code: 404},
		{name: "dots from another site", cert: w.siteOne, call: call{path: "/sites/two/../one/authorize"}, code: 403, says: "another site"},
		{name: "encoded dots", cert: w.siteOne, call: call{path: "/sites/one/%2e%2e/two/authorize"}, code: 404},
		{name: "an encoded slash", cert: w.siteOne, call: call{path: "/sites/one%2fauthorize"}, code: 404},
		{name: "an encoded slash in the door", cert: w.siteOne, call: call{path: "/sites/one/authorize%2Fdeny"}, code: 404},
		{name: "a doubled slash", cert: w.siteOne, call: call{path: "/sites//one/authorize"}, code: 403, says: "another site"},
		{name: "another case", cert: w.siteOne, call: call{path: "/sites/ONE/authorize"}, code: 403, says: "another site"},
		{name: "a site in mode Observe authenticates", cert: w.siteTwo, call: call{path: "/sites/two/authenticate"}, code: 403, says: "mode Observe"},
		{name: "a site in mode Observe asks", cert: w.siteTwo, call: call{path: "/sites/two/authorize"}, code: 403, says: "mode Observe"},
		{name: "a site in mode Observe asks to deny", cert: w.siteTwo, call: call{path: "/sites/two/authorize/deny"}, code: 403, says: "mode Observe"},
	}
	for _, d := range doors {
		path := "/sites/one/" + d
		at := func(change call) call {
			if change.path == "" {
				change.path = path
			}
			return change
		}
		attacks = append(attacks,
			attack{name: "no credential", call: at(call{}), code: 401, says: "no credential"},
			attack{name: "a user", cert: w.nobody, call: at(call{}), code: 401},
			attack{name: "an administrator", cert: w.admin, call: at(call{}), code: 401},
			attack{name: "a token", call: at(call{header: bearer(robot)}), code: 401},
			attack{name: "a token for the site", call: at(call{header: bearer(forSite)}), code: 401},
			attack{name: "a token beside the certificate", cert: w.siteOne, call: at(call{header: bearer(robot)}), code: 401, says: "a token came with"},
			attack{name: "an empty Authorization header", cert: w.siteOne, call: at(call{header: http.Header{"Authorization": {""}}}), code: 401, says: "a token came with"},
			attack{name: "a foreign site CA", cert: w.siteForeign, call: at(call{}), code: 401},
			attack{name: "a certificate that is not listed", cert: w.siteUnlisted, call: at(call{}), code: 403, says: "not listed"},
			attack{name: "another site", cert: w.siteTwo, call: at(call{}), code: 403, says: "another site"},
			attack{name: "impersonation of a user", cert: w.siteOne, call: at(call{header: http.Header{"Impersonate-User": {"admin"}}}), code: 403, says: "cannot impersonate"},
			attack{name: "impersonation of a group", cert: w.siteOne, call: at(call{header: http.Header{"Impersonate-Group": {"system:masters"}}}), code: 403, says: "cannot impersonate"},
			attack{name: "impersonation by extra", cert: w.siteOne, call: at(call{header: http.Header{"Impersonate-Extra-Scopes": {"x"}}}), code: 403, says: "cannot impersonate"},
			attack{name: "GET", cert: w.siteOne, call: at(call{method: "GET"}), code: 405},
			attack{name: "PUT", cert: w.siteOne, call: at(call{method: "PUT"}), code: 405},
			attack{name: "an invented method", cert: w.siteOne, call: at(call{method: "POSTED"}), code: 405},
			attack{name: "a method in lower case", cert: w.siteOne, call: at(call{method: "post"}), code: 405},
			attack{name: "a trailing slash", cert: w.siteOne, call: call{path: path + "/"}, code: 404},
			attack{name: "an encoded letter", cert: w.siteOne, call: call{path: strings.Replace(path, "one/a", "one/%61", 1)}, code: 404},
			attack{name: "protobuf", cert: w.siteOne, call: at(call{header: http.Header{"Content-Type": {"application/vnd.kubernetes.protobuf"}}}), code: 415},
			attack{name: "no media type", cert: w.siteOne, call: at(call{header: http.Header{"Content-Type": nil}}), code: 415},
			attack{name: "two media types", cert: w.siteOne, call: at(call{header: http.Header{"Content-Type": {"application/json", "text/plain"}}}), code: 415},
			attack{name: "compression", cert: w.siteOne, call: at(call{header: http.Header{"Content-Encoding": {"gzip"}}}), code: 415},
			attack{name: "no body", cert: w.siteOne, call: at(call{}), code: 400},
			attack{name: "no JSON", cert: w.siteOne, call: at(call{body: "kind: EventList"}), code: 400},
			attack{name: "a list", cert: w.siteOne, call: at(call{body: "[]"}), code: 400},
			attack{name: "null", cert: w.siteOne, call: at(call{body: "null"}), code: 400},
			attack{name: "another kind", cert: w.siteOne, call: at(call{body: `{"kind":"Secret","apiVersion":"v1"}`}), code: 400},
			attack{name: "invalid UTF-8", cert: w.siteOne, call: at(call{body: "{\"kind\":\"\xff\xfe\"}"}), code: 400},
			attack{name: "something after the object", cert: w.siteOne, call: at(call{body: good(d) + good(d)}), code: 400},
			attack{name: "a field twice", cert: w.siteOne, call: at(call{body: strings.Replace(good(d), "{", `{"kind":"Pod",`, 1)}), code: 400},
			attack{name: "deep nesting", cert: w.siteOne, call: at(call{body: strings.Repeat(`{"spec":`, 7000)}), code: 400},
			attack{name: "nested beyond any reader", cert: w.siteOne, call: at(call{body: `{"x":` + strings.Repeat("[", 30000) + strings.Repeat("]", 30000) + "}"}), code: 400},
		)
		if d != "audit" {
			attacks = append(attacks,
				attack{name: "an unknown field", cert: w.siteOne, call: at(call{body: strings.Replace(good(d), "{", `{"owner":"me",`, 1)}), code: 400},
				attack{name: "a body over the limit", cert: w.siteOne, call: at(call{body: strings.Repeat(" ", 64<<10) + good(d)}), code: 413},
				attack{name: "a body over the limit, in chunks", cert: w.siteOne, call: at(call{body: strings.Repeat(" ", 64<<10) + good(d), chunked: true}), code: 413},
			)
		}
	}
	for _, http1 := range []bool{false, true} {
		clients := map[*tls.Certificate]*http.Client{}
		for _, a := range attacks {
			name := fmt.Sprintf("http1=%t %s %s", http1, a.path, a.name)
			c, ok := clients[a.cert]
			if !ok {
				c = w.client(a.cert, http1)
				clients[a.cert] = c
			}
			got := w.do(c, a.call)
			if got.code != a.code {
				t.Errorf("%s: %d %s, want %d", name, got.code, got.body, a.code)
			}
			status := decode[metav1.Status](t, got.body)
			if a.method != http.MethodHead && (status.Kind != "Status" || int(status.Code) != a.code || status.Message == "") {
				t.Errorf("%s: answered %s", name, got.body)
			}
			if a.code == 401 && status.Message != "Unauthorized" {
				t.Errorf("%s: a stranger learns %q", name, status.Message)
			}
			events, kept := w.record.take()
			if len(events) != 1 {
				t.Fatalf("%s: %d records", name, len(events))
			}
			ev := events[0]
			said := ev.Annotations[audit.AnnotationReason] + "|" + ev.ResponseStatus.Message
			if int(ev.ResponseStatus.Code) != a.code || !strings.Contains(said, a.says) || kept[0] != audit.Durable {
				t.Errorf("%s: recorded %+v %v, want %q", name, ev, kept[0], a.says)
			}
			if got.header.Get("Audit-Id") != ev.AuditID {
				t.Errorf("%s: answered with audit id %q, recorded %q", name, got.header.Get("Audit-Id"), ev.AuditID)
			}
			if (ev.User.Username == "") != (a.code == 401) {
				t.Errorf("%s: recorded as by %q", name, ev.User.Username)
			}
			for _, secret := range []string{robot, forSite} {
				if out, _ := ev.MarshalJSON(); strings.Contains(string(out), secret) {
					t.Errorf("%s: the record has the token", name)
				}
			}
		}
	}
	if w.answers.asked != 0 {
		t.Errorf("refused requests asked the policy %d times", w.answers.asked)
	}
	if left := w.frame.take(); len(left) != 0 {
		t.Errorf("%d requests to doors reached the frame", len(left))
	}
}

// good is a body that a door takes.
func good(door string) string {
	switch door {
	case "authenticate":
		return tokenReview("x")
	case "audit":
		return `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[]}`
	}
	return sar("alice", "get", "pods")
}

// TestOneSitesTokenOpensOneSite: the door of a site takes tokens of the site's
// own audience, whatever the review asks for, and tells of the caller only
// what may cross over.
func TestOneSitesTokenOpensOneSite(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.client(w.siteOne, false)
	for name, token := range map[string]string{
		"the API's":      w.token(apiAudience),
		"another site's": w.token("gatehouse:site:two"),
		"a prefix":       w.token("gatehouse:site:on"),
		"a longer one":   w.token("gatehouse:site:one2"),
		"another case":   w.token("gatehouse:site:ONE"),
		"garbage":        "x.y.z",
		"empty":          "",
	} {
		for _, asked := range [][]string{nil, {apiAudience}, {"gatehouse:site:two"}, {"gatehouse:site:one"}} {
			got := w.do(c, call{path: "/sites/one/authenticate", body: tokenReview(token, asked...)})
			status := decode[authenticationv1.TokenReview](t, got.body).Status
			if got.code != 200 || status.Authenticated || status.User.Username != "" || status.Error == "" {
				t.Errorf("%s, asked for %v: %d %s", name, asked, got.code, got.body)
			}
			ev := w.one()
			out, _ := ev.MarshalJSON()
			if len(token) > 5 && strings.Contains(string(out), token) || strings.Contains(got.body, "token\":") {
				t.Errorf("%s: the token is in the record or the answer", name)
			}
		}
	}
	token := w.token("gatehouse:site:one", apiAudience)
	for _, asked := range [][]string{nil, {apiAudience}, {"somewhere"}} {
		got := w.do(c, call{path: "/sites/one/authenticate", body: tokenReview(token, asked...)})
		status := decode[authenticationv1.TokenReview](t, got.body).Status
		if got.code != 200 || !status.Authenticated || !slices.Equal(status.Audiences, []string{"gatehouse:site:one"}) {
			t.Fatalf("asked for %v: %d %s", asked, got.code, got.body)
		}
		if status.User.Username != "gatehouse:system:serviceaccount:lab:robot" {
			t.Errorf("the site learns of %q", status.User.Username)
		}
		want := []string{"gatehouse:system:serviceaccounts", "gatehouse:system:serviceaccounts:lab", "system:authenticated"}
		if !slices.Equal(sorted(status.User.Groups), want) {
			t.Errorf("the site learns of groups %q", status.User.Groups)
		}
		// Where a pod of the control plane runs is no fact about the site.
		for k := range status.User.Extra {
			if strings.Contains(k, "pod") || strings.Contains(k, "node") {
				t.Errorf("the site learns of %v", status.User.Extra)
			}
		}
		if len(status.User.Extra["authentication.kubernetes.io/credential-id"]) != 1 {
			t.Errorf("the site cannot name the credential: %v", status.User.Extra)
		}
		ev := w.one()
		if ev.Annotations["review.gatehouse.dev/subject"] != status.User.Username || ev.User.Username != "system:site:one" {
			t.Errorf("recorded %+v", ev)
		}
	}
}

// TestNamesDoNotCross: what a site says about callers cannot borrow names of
// the control plane, and the deny door never grants.
func TestNamesDoNotCross(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.client(w.siteOne, false)
	for name, q := range map[string]struct {
		body    string
		allowed bool
	}{
		"a user of the control plane":   {sar("alice", "get", "pods"), true},
		"the prefixed robot":            {sar("gatehouse:system:serviceaccount:lab:robot", "get", "pods"), true},
		"the site's own robot":          {sar("system:serviceaccount:lab:robot", "get", "pods"), false},
		"an administrator by group":     {sar("mallory", "get", "pods", "system:masters"), false},
		"an administrator by prefix":    {sar("mallory", "get", "pods", "gatehouse:system:masters"), false},
		"the control plane's own name":  {sar("system:apiserver", "get", "pods", "system:masters"), false},
		"a site's name":                 {sar("system:site:one", "get", "pods", "system:sites"), false},
		"a doubled prefix":              {sar("gatehouse:gatehouse:system:serviceaccount:lab:robot", "get", "pods"), false},
		"nobody":                        {sar("", "get", "pods"), false},
		"somebody without the right":    {sar("alice", "delete", "pods"), false},
		"the administrator's user name": {sar("admin", "get", "pods"), false},
	} {
		got := decode[authorizationv1.SubjectAccessReview](t, w.do(c, call{path: "/sites/one/authorize", body: q.body}).body).Status
		if got.Allowed != q.allowed || got.Denied {
			t.Errorf("%s: %+v, want allowed=%t", name, got, q.allowed)
		}
		if ev := w.one(); ev.User.Username != "system:site:one" || ev.Annotations["review.gatehouse.dev/answer"] == "" {
			t.Errorf("%s: recorded %+v", name, ev)
		}
		got = decode[authorizationv1.SubjectAccessReview](t, w.do(c, call{path: "/sites/one/authorize/deny", body: q.body}).body).Status
		if got.Allowed || got.Denied || got.Reason != "" {
			t.Errorf("%s: the deny door says %+v", name, got)
		}
		if events, _ := w.record.take(); len(events) != 0 {
			t.Errorf("%s: no opinion of the deny door left %d records; they are counted", name, len(events))
		}
	}
}

// TestReviewsRefuse attacks the two reviews of the control plane.
func TestReviewsRefuse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, r := range []struct{ path, body string }{{sarPath, sar("alice", "get", "pods")}, {tokenPath, tokenReview("x.y.z")}} {
		for name, a := range map[string]struct {
			cert   *tls.Certificate
			header http.Header
			code   int
		}{
			"no credential":                {nil, nil, 401},
			"a user without rights":        {w.nobody, nil, 403},
			"a site":                       {w.siteOne, nil, 401},
			"a foreign certificate":        {w.siteForeign, nil, 401},
			"garbage":                      {nil, http.Header{"Authorization": {"Bearer x.y.z"}}, 401},
			"garbage beside a certificate": {w.admin, http.Header{"Authorization": {"Bearer x.y.z"}}, 401},
			"basic authentication":         {w.admin, http.Header{"Authorization": {"Basic YTpi"}}, 401},
			"two headers":                  {w.admin, http.Header{"Authorization": {"Bearer a", "Bearer b"}}, 401},
			"a site's token":               {nil, http.Header{"Authorization": {"Bearer " + w.token("gatehouse:site:one")}}, 401},
			"a token without rights":       {nil, http.Header{"Authorization": {"Bearer " + w.token(apiAudience)}}, 403},
		} {
			got := w.do(w.client(a.cert, false), call{path: r.path, body: r.body, header: a.header})
			if got.code != a.code {
				t.Errorf("%s, %s: %d %s, want %d", r.path, name, got.code, got.body, a.code)
			}
			events, kept := w.record.take()
			if len(events) != 1 || kept[0] != audit.Durable || int(events[0].ResponseStatus.Code) != a.code {
				t.Errorf("%s, %s: recorded %+v %v", r.path, name, events, kept)
			}
			if (events[0].Decision() == "forbid") != (a.code == 403) {
				t.Errorf("%s, %s: decision %q", r.path, name, events[0].Decision())
			}
		}
	}
	if w.answers.asked != 0 || len(w.frame.take()) != 0 {
		t.Error("a refused review went on")
	}
}

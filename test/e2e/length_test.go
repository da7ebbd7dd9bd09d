package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// The same name of 9 KB meets the same refusal at every door.
func TestLengthLimits(t *testing.T) {
	t.Parallel()
	g := shared(t)
	k := as(t, g)
	name := strings.Repeat("n", 9<<10)
	dir, _ := connect(t, g, "long", "--mode", "full")
	admin, site := adminClient(t, g), asSite(t, g, dir)
	sar := func(attributes, more string) string {
		return fmt.Sprintf(`{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{"user":"x",%s"resourceAttributes":{"verb":"get","resource":"configmaps","namespace":"default"%s}}}`, more, attributes)
	}
	named := sar(fmt.Sprintf(`,"name":%q`, name), "")
	selector := strings.Repeat("a,", 5<<10) + "a"
	for _, tc := range []struct {
		what             string
		c                client
		method, path     string
		header           http.Header
		body             string
		attribute        string
		answeredAsDenied bool
	}{
		{what: "SAR, fast lane", c: admin, method: "POST", path: "/apis/authorization.k8s.io/v1/subjectaccessreviews", body: named, attribute: "name"},
		{what: "SAR, frame", c: admin, method: "POST", path: "/apis/authorization.k8s.io/v1/subjectaccessreviews?pretty=true", body: named, attribute: "name"},
		{what: "SAR of oneself", c: admin, method: "POST", path: "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
			body: fmt.Sprintf(`{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectAccessReview","spec":{"resourceAttributes":{"verb":"get","resource":"configmaps","name":%q}}}`, name), attribute: "name"},
		{what: "SAR, groups", c: admin, method: "POST", path: "/apis/authorization.k8s.io/v1/subjectaccessreviews", body: sar("", fmt.Sprintf(`"groups":["a",%q],`, name)), attribute: "groups"},
		{what: "SAR, extra", c: admin, method: "POST", path: "/apis/authorization.k8s.io/v1/subjectaccessreviews", body: sar("", fmt.Sprintf(`"extra":{"k":[%q,%q,%q,%q]},`, name, name, name, name)), attribute: "extra"},
		{what: "SAR, selector", c: admin, method: "POST", path: "/apis/authorization.k8s.io/v1/subjectaccessreviews",
			body: sar(fmt.Sprintf(`,"labelSelector":{"requirements":[{"key":"team","operator":"In","values":["v"%s]}]}`, strings.Repeat(`,"`+name[:60]+`"`, 150)), ""), attribute: "labelSelector"},
		{what: "webhook", c: site, method: "POST", path: "/sites/long/authorize", body: named, attribute: "name"},
		{what: "webhook, deny", c: site, method: "POST", path: "/sites/long/authorize/deny", body: named, attribute: "name", answeredAsDenied: true},
		{what: "AuthZEN", c: admin, method: "POST", path: "/access/v1/evaluation",
			body: fmt.Sprintf(`{"subject":{"type":"user","id":"x"},"action":{"name":"get"},"resource":{"type":"configmaps","id":%q}}`, name), attribute: "resource.id"},
		{what: "URL", c: admin, method: "GET", path: "/api/v1/namespaces/default/configmaps/" + name, attribute: "name"},
		{what: "URL of no resource", c: admin, method: "GET", path: "/" + name, attribute: "path"},
		{what: "selector in a URL", c: admin, method: "GET", path: "/api/v1/configmaps?labelSelector=" + selector, attribute: "labelSelector"},
		{what: "impersonation", c: admin, method: "GET", path: "/api/v1/configmaps", header: http.Header{"Impersonate-User": {name}}, attribute: "Impersonate-User"},
	} {
		t.Run(tc.what, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), tc.method, tc.c.base+tc.path, strings.NewReader(tc.body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header = http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json"}}
			for key, v := range tc.header {
				req.Header[key] = v
			}
			resp, err := tc.c.http.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			says := "request attribute too long: " + tc.attribute + " has "
			code := http.StatusBadRequest
			if tc.answeredAsDenied {
				code = http.StatusOK
				if !strings.Contains(string(body), `"denied":true`) {
					t.Errorf("not denied: %s", body)
				}
			}
			if warning := resp.Header.Get("Warning"); resp.StatusCode != code || !strings.HasPrefix(warning, `299 - "`+says) || !strings.Contains(string(body), says) {
				t.Errorf("%d, Warning %q: %.300s", resp.StatusCode, warning, body)
			}
		})
	}
	// Who is nobody learns nothing of it, and kubectl shows the words.
	if code, _ := bareClient(t, g).send(http.MethodGet, "/api/v1/namespaces/default/configmaps/"+name, nil, nil); code != http.StatusUnauthorized {
		t.Errorf("without a credential: %d", code)
	}
	k.fails(1, []string{"request attribute too long: name has 9216 bytes, at most 8192 are allowed"}, "get", "configmap", name)
}

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// A tokenReply is the answer to a TokenRequest.
type tokenReply struct {
	Metadata struct{ Name, Namespace, UID, CreationTimestamp string }
	Status   struct{ Token string }
}

// tokenUser is what a TokenReview says of a token; nobody is "".
func (c client) tokenUser(token string) (username string, extra map[string][]string) {
	c.t.Helper()
	var review struct {
		Status struct {
			Authenticated bool
			User          struct {
				Username string
				Extra    map[string][]string
			}
		}
	}
	body := fmt.Sprintf(`{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{"token":%q}}`, token)
	code, answer := c.send(http.MethodPost, "/apis/authentication.k8s.io/v1/tokenreviews", nil, []byte(body))
	if err := json.Unmarshal(answer, &review); code != http.StatusCreated || err != nil {
		c.t.Fatalf("token review: %d %s %v", code, answer, err)
	}
	if !review.Status.Authenticated {
		return "", nil
	}
	// Beside what Kubernetes says of a token stands what only we say.
	maps.DeleteFunc(review.Status.User.Extra, func(key string, _ []string) bool {
		return key == "authentication.kubernetes.io/credential-id" || strings.HasPrefix(key, "authentication.gatehouse.dev/")
	})
	return review.Status.User.Username, review.Status.User.Extra
}

// TestTokenRequests has the cases of test/integration/auth/svcaccttoken_test.go
// of Kubernetes v1.36.3, asked of a stock kube-apiserver and of Gatehouse in the
// same words. Elsewhere are: a backdated token and extended expiry
// (internal/issuer, TestExpiryCap; internal/authn, TestClaimsRefused), requests
// cut to the server's longest expiry (TestTokenOfOneContainer). Left out are
// the two cases in which a feature gate is off.
func TestTokenRequests(t *testing.T) {
	onEither(t, func(t *testing.T, server hasKubectl) {
		k, admin := as(t, server), adminClient(t, server)
		k.namespace("svcacct")
		do := func(method, path, body string) []byte {
			t.Helper()
			code, answer := admin.send(method, path, nil, []byte(body))
			if code/100 != 2 {
				t.Fatalf("%s %s: %d %s", method, path, code, answer)
			}
			return answer
		}
		uidOf := func(answer []byte) string {
			var object struct{ Metadata struct{ UID string } }
			if err := json.Unmarshal(answer, &object); err != nil || object.Metadata.UID == "" {
				t.Fatalf("%s: %v", answer, err)
			}
			return object.Metadata.UID
		}
		const core = "/api/v1/namespaces/svcacct"
		uid := map[string]string{}
		account := func(name string) {
			uid[name] = uidOf(do(http.MethodPost, core+"/serviceaccounts", `{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"`+name+`"}}`))
		}
		pod := func(name, account, node string) {
			uid[name] = uidOf(do(http.MethodPost, core+"/pods", fmt.Sprintf(
				`{"apiVersion":"v1","kind":"Pod","metadata":{"name":%q},"spec":{"serviceAccountName":%q,"nodeName":%q,"automountServiceAccountToken":false,"containers":[{"name":"c","image":"i"}]}}`, name, account, node)))
		}
		secret := func(name string) {
			uid[name] = uidOf(do(http.MethodPost, core+"/secrets", `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"`+name+`"}}`))
		}
		node := func(name string) {
			uid[name] = uidOf(do(http.MethodPost, "/api/v1/nodes", `{"apiVersion":"v1","kind":"Node","metadata":{"name":"`+name+`"}}`))
		}
		ask := func(account, metadata, spec string) (int, string, tokenReply) {
			t.Helper()
			code, answer := admin.send(http.MethodPost, core+"/serviceaccounts/"+account+"/token", nil,
				[]byte(`{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","metadata":{`+metadata+`},"spec":{`+spec+`}}`))
			var reply tokenReply
			if code == http.StatusCreated {
				if err := json.Unmarshal(answer, &reply); err != nil {
					t.Fatalf("%s: %v", answer, err)
				}
			}
			return code, string(answer), reply
		}
		refused := func(account, metadata, spec string, code int, says string) {
			t.Helper()
			if got, answer, _ := ask(account, metadata, spec); got != code || !strings.Contains(answer, says) {
				t.Errorf("token of %s for %s %s: %d %s, want %d with %q", account, metadata, spec, got, answer, code, says)
			}
		}
		made := func(account, metadata, spec string) tokenReply {
			t.Helper()
			code, answer, reply := ask(account, metadata, spec)
			if code != http.StatusCreated {
				t.Fatalf("token of %s for %s %s: %d %s", account, metadata, spec, code, answer)
			}
			return reply
		}
		bound := func(kind, name, uid string) string {
			return fmt.Sprintf(`"boundObjectRef":{"apiVersion":"v1","kind":%q,"name":%q,"uid":%q}`, kind, name, uid)
		}

		refused("robot", "", "", 404, `serviceaccounts \"robot\" not found`)
		account("robot")
		refused("robot", `"name":"other"`, "", 422, "must match the service account name")
		refused("robot", `"namespace":"other"`, "", 400, "does not match the namespace")
		refused("robot", `"uid":"wrong"`, "", 409, "the UID in the token request (wrong) does not match the UID of the service account ("+uid["robot"]+")")
		made("robot", `"uid":"`+uid["robot"]+`"`, "")
		plain := made("robot", "", "")
		if m := plain.Metadata; m.Name != "robot" || m.Namespace != "svcacct" || m.UID != uid["robot"] || m.CreationTimestamp == "" {
			t.Errorf("metadata %+v", m)
		}
		if withAudience := claims(t, made("robot", "", `"audiences":["not-the-api"]`).Status.Token); fmt.Sprint(withAudience["aud"]) != "[not-the-api]" {
			t.Errorf("audiences %v", withAudience["aud"])
		}
		foreign := made("robot", "", `"audiences":["not-the-api"]`).Status.Token
		if name, _ := admin.tokenUser(foreign); name != "" {
			t.Errorf("a token for another audience is %q's", name)
		}
		refused("robot", "", `"expirationSeconds":599`, 422, "may not specify a duration less than 10 minutes")

		node("svcacct-node")
		wanted := map[string]struct {
			kind, name string
			claims     []string // further members of kubernetes.io
			extra      map[string]string
		}{
			"pod":                       {"Pod", "pod", []string{"pod"}, map[string]string{"pod-name": "pod", "pod-uid": "pod"}},
			"pod on a node never known": {"Pod", "lost", []string{"node", "pod"}, map[string]string{"pod-name": "lost", "pod-uid": "lost", "node-name": "svcacct-lost"}},
			"pod on a node":             {"Pod", "placed", []string{"node", "pod"}, map[string]string{"pod-name": "placed", "pod-uid": "placed", "node-name": "svcacct-node", "node-uid": "svcacct-node"}},
			"node":                      {"Node", "svcacct-node", []string{"node"}, map[string]string{"node-name": "svcacct-node", "node-uid": "svcacct-node"}},
			"secret":                    {"Secret", "secret", []string{"secret"}, nil},
		}
		for _, tc := range wanted {
			if tc.kind != "Node" {
				refused("robot", "", bound(tc.kind, tc.name, ""), 404, "not found")
			}
		}
		refused("robot", "", bound("Node", "gone", ""), 404, "not found")
		refused("robot", "", bound("ConfigMap", "x", ""), 400, "cannot bind token to object of type /v1, Kind=ConfigMap")
		account("other")
		pod("pod", "robot", "")
		pod("lost", "robot", "svcacct-lost")
		pod("placed", "robot", "svcacct-node")
		pod("foreign", "other", "")
		secret("secret")
		refused("robot", "", bound("Pod", "foreign", ""), 400, "pod running with different serviceaccount name")
		tokens := map[string]string{"unbound": plain.Status.Token}
		for what, tc := range wanted {
			refused("robot", "", bound(tc.kind, tc.name, "wrong"), 409, "does not match the UID in record")
			made("robot", "", bound(tc.kind, tc.name, uid[tc.name]))
			token := made("robot", "", bound(tc.kind, tc.name, "")).Status.Token
			tokens[what] = token
			body := claims(t, token)
			own, _ := body["kubernetes.io"].(map[string]any)
			got := slices.Sorted(maps.Keys(own))
			if want := slices.Sorted(slices.Values(append([]string{"namespace", "serviceaccount"}, tc.claims...))); !slices.Equal(got, want) || body["sub"] != "system:serviceaccount:svcacct:robot" {
				t.Errorf("%s: claims %v, want %q", what, body, want)
			}
			name, extra := admin.tokenUser(token)
			want := map[string][]string{}
			for key, value := range tc.extra {
				if strings.HasSuffix(key, "-uid") {
					value = uid[value]
				}
				want["authentication.kubernetes.io/"+key] = []string{value}
			}
			if name != "system:serviceaccount:svcacct:robot" || !maps.EqualFunc(extra, want, slices.Equal) {
				t.Errorf("%s: reviewed as %q %q, want %q", what, name, extra, want)
			}
		}
		if name, extra := admin.tokenUser(plain.Status.Token); name != "system:serviceaccount:svcacct:robot" || len(extra) > 0 {
			t.Errorf("unbound: reviewed as %q %q", name, extra)
		}

		// Every token ends with what it is bound to, and an object of the same
		// name does not revive it.
		for _, path := range []string{core + "/pods/pod", core + "/pods/lost", core + "/pods/placed", core + "/secrets/secret", "/api/v1/nodes/svcacct-node"} {
			do(http.MethodDelete, path, `{"apiVersion":"v1","kind":"DeleteOptions","gracePeriodSeconds":0}`)
		}
		ended := func(what string) {
			eventually(t, commandWithin, "the token bound to a "+what+" is refused", func() bool {
				name, _ := admin.tokenUser(tokens[what])
				return name == ""
			})
		}
		for what := range wanted {
			ended(what)
		}
		node("svcacct-node")
		pod("pod", "robot", "")
		pod("lost", "robot", "svcacct-lost")
		pod("placed", "robot", "svcacct-node")
		secret("secret")
		for what := range wanted {
			if name, _ := admin.tokenUser(tokens[what]); name != "" {
				t.Errorf("the token bound to the %s before is %q's", what, name)
			}
		}
		do(http.MethodDelete, core+"/serviceaccounts/robot", "")
		ended("unbound")
		account("robot")
		if name, _ := admin.tokenUser(tokens["unbound"]); name != "" {
			t.Errorf("a token of the account before is %q's", name)
		}

		for path, kind := range map[string]string{"/.well-known/openid-configuration": "application/json", "/openid/v1/jwks": "application/jwk-set+json"} {
			response, err := admin.http.Get(admin.base + path)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			if h := response.Header; response.StatusCode != http.StatusOK || h.Get("Content-Type") != kind || h.Get("Cache-Control") != "public, max-age=3600" {
				t.Errorf("%s: %d %q %q", path, response.StatusCode, h.Get("Content-Type"), h.Get("Cache-Control"))
			}
		}
		do(http.MethodDelete, "/api/v1/nodes/svcacct-node", "")
	})
}

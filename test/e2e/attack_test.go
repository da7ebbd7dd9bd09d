package e2e

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// asSite is a client that shows a site's certificate to the control plane.
func asSite(t *testing.T, server hasKubectl, dir string) client {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "site.crt"), filepath.Join(dir, "site.key"))
	if err != nil {
		t.Fatal(err)
	}
	return bareClient(t, server, pair)
}

// A review is the answer of a door.
type review struct {
	Kind   string
	Status struct {
		Allowed, Denied bool
		Authenticated   bool
		Audiences       []string
		User            struct {
			Username string
			Groups   []string
		}
	}
}

// ask posts a review and returns the answer; the code is 0 when it was answered.
func (c client) ask(path, body string) (review, int) {
	c.t.Helper()
	code, answer := c.send(http.MethodPost, path, nil, []byte(body))
	if code != http.StatusOK && code != http.StatusCreated {
		return review{}, code
	}
	var r review
	if err := json.Unmarshal(answer, &r); err != nil {
		c.t.Fatalf("POST %s: %v: %s", path, err, answer)
	}
	return r, 0
}

// question is a site's SubjectAccessReview.
func question(user, verb, resource, namespace string, groups ...string) string {
	quoted, _ := json.Marshal(groups) // strings always encode
	return fmt.Sprintf(`{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{"user":%q,"groups":%s,"resourceAttributes":{"verb":%q,"resource":%q,"namespace":%q,"version":"v1"}}}`,
		user, quoted, verb, resource, namespace)
}

func tokenReview(token string, audiences ...string) string {
	quoted, _ := json.Marshal(audiences)
	return fmt.Sprintf(`{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{"token":%q,"audiences":%s}}`, token, quoted)
}

// A site may use its own doors and nothing else, whatever it claims.
func TestSiteStaysInItsPlace(t *testing.T) {
	t.Parallel()
	g := shared(t)
	k := as(t, g)
	left, _ := connect(t, g, "left", "--mode", "full", "--rbac", "shared")
	right, _ := connect(t, g, "right", "--mode", "full")
	site, other := asSite(t, g, left), asSite(t, g, right)
	admin := adminClient(t, g)
	k.namespace("attacked")
	k.run("create", "serviceaccount", "robot", "-n", "attacked")
	k.run("create", "rolebinding", "robot", "-n", "attacked", "--clusterrole=view", "--serviceaccount=attacked:robot")
	k.run("create", "clusterrolebinding", "attacked-root", "--clusterrole=cluster-admin", "--user=root-of-left", "--group=roots")

	const robot = "gatehouse:system:serviceaccount:attacked:robot"
	eventually(t, commandWithin, "the door answers what policy gives", func() bool {
		r, code := site.ask("/sites/left/authorize", question(robot, "list", "configmaps", "attacked"))
		return code == 0 && r.Status.Allowed
	})

	t.Run("other doors", func(t *testing.T) {
		for name, try := range map[string]func() int{
			"a site at another's door": func() int {
				_, code := other.ask("/sites/left/authorize", question(robot, "list", "configmaps", "attacked"))
				return code
			},
			"a site reviews tokens of another": func() int {
				_, code := site.ask("/sites/right/authenticate", tokenReview("x"))
				return code
			},
			"a site reports for another": func() int {
				code, _ := site.send("POST", "/sites/right/audit", nil, []byte(`{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[]}`))
				return code
			},
			"a site uses the API":   func() int { code, _ := site.send("GET", "/api/v1/namespaces", nil, nil); return code },
			"a site reviews access": func() int { _, code := site.ask(sar1, question("ada", "get", "pods", "x")); return code },
			"a site reviews access as another": func() int {
				code, _ := site.send("POST", sar1, http.Header{"Impersonate-User": {"admin"}}, []byte(question("ada", "get", "pods", "x")))
				return code
			},
			"an administrator at a site's door": func() int {
				_, code := admin.ask("/sites/left/authorize", question(robot, "list", "configmaps", "attacked"))
				return code
			},
			"an administrator passes for a site": func() int {
				code, _ := admin.send("POST", "/sites/left/authorize", http.Header{"Impersonate-User": {"system:site:left"}, "Impersonate-Group": {"system:sites"}}, []byte(question(robot, "list", "configmaps", "attacked")))
				return code
			},
			"a door that is not there": func() int { code, _ := site.send("POST", "/sites/left/exec", nil, []byte("{}")); return code },
		} {
			if code := try(); code != http.StatusForbidden && code != http.StatusUnauthorized && code != http.StatusNotFound {
				t.Errorf("%s: answered %d", name, code)
			}
		}
		k.fails(1, []string{"orbidden"}, "get", "namespaces", "--as=system:site:left")
		k.fails(1, []string{"orbidden"}, "get", "namespaces", "--as=ada", "--as-group=system:sites")
	})

	t.Run("names", func(t *testing.T) {
		for name, body := range map[string]string{
			"the cluster's own account of that name": question("system:serviceaccount:attacked:robot", "list", "configmaps", "attacked", "system:serviceaccounts", "system:serviceaccounts:attacked"),
			"a group of administrators":              question("eve", "list", "secrets", "attacked", "system:masters"),
			"the control plane itself":               question("system:apiserver", "list", "secrets", "attacked", "system:masters"),
			"a node":                                 question("system:node:n1", "get", "secrets", "attacked", "system:nodes"),
			"the prefix on a group of the system":    question("eve", "list", "secrets", "attacked", "gatehouse:system:masters"),
			"another site":                           question("system:site:right", "list", "configmaps", "attacked", "system:sites"),
			"the prefix twice":                       question("gatehouse:"+robot, "list", "configmaps", "attacked"),
			"everyone who is authenticated":          question("eve", "list", "secrets", "attacked", "system:authenticated"),
		} {
			if r, code := site.ask("/sites/left/authorize", body); r.Status.Allowed {
				t.Errorf("%s: allowed (%d)", name, code)
			}
		}
		// Where RBAC is not shared it grants nothing.
		if r, _ := other.ask("/sites/right/authorize", question(robot, "list", "configmaps", "attacked")); r.Status.Allowed {
			t.Error("RBAC grants at a site that does not share it")
		}
		// One door only refuses, the other only allows.
		if r, _ := site.ask("/sites/left/authorize/deny", question(robot, "list", "configmaps", "attacked")); r.Status.Allowed {
			t.Error("the door that denies allows")
		}
		if r, _ := site.ask("/sites/left/authorize", question("nobody", "list", "configmaps", "attacked")); r.Status.Denied || r.Status.Allowed {
			t.Errorf("the door that allows has an opinion on nobody: %+v", r)
		}
	})

	t.Run("tokens", func(t *testing.T) {
		token := func(args ...string) string {
			return strings.TrimSpace(k.run(append([]string{"create", "token", "robot", "-n", "attacked"}, args...)...))
		}
		own := token("--audience=gatehouse:site:left")
		r, code := site.ask("/sites/left/authenticate", tokenReview(own, "gatehouse:site:left"))
		if code != 0 || !r.Status.Authenticated || r.Status.User.Username != robot {
			t.Fatalf("its own token: %d %+v", code, r)
		}
		for _, group := range r.Status.User.Groups {
			if strings.HasPrefix(group, "system:") && group != "system:authenticated" {
				t.Errorf("the site is told of group %s", group)
			}
		}
		for name, body := range map[string]string{
			"for the control plane":               tokenReview(token()),
			"for another site":                    tokenReview(token("--audience=gatehouse:site:right")),
			"for another site, which it asks for": tokenReview(token("--audience=gatehouse:site:right"), "gatehouse:site:right"),
			"for anything, which it asks for":     tokenReview(token("--audience=https://stock.example"), "https://stock.example"),
			"garbage":                             tokenReview("a.b.c"),
			"its own, with another signature":     tokenReview(own[:len(own)-6] + "AAAAAA"),
			"its own, without a signature":        tokenReview(own[:strings.LastIndex(own, ".")+1]),
			"over the limit":                      tokenReview(strings.Repeat("x", 200_000)),
		} {
			if r, _ := site.ask("/sites/left/authenticate", body); r.Status.Authenticated {
				t.Errorf("a token %s is accepted", name)
			}
		}
		// Whatever the review asks for, the token is good for this site only.
		if r, _ := site.ask("/sites/left/authenticate", tokenReview(own, "https://elsewhere.example")); len(r.Status.Audiences) > 1 || r.Status.Authenticated && r.Status.Audiences[0] != "gatehouse:site:left" {
			t.Errorf("audiences %v", r.Status.Audiences)
		}
		// A token shown to a site opens nothing at the control plane.
		withToken(t, g, own).fails(1, []string{unauthorized}, "get", "namespaces")
	})

	t.Run("bodies", func(t *testing.T) {
		for name, c := range map[string]struct {
			path, body string
			header     http.Header
			code       int
		}{
			"empty":              {"/sites/left/authorize", "", nil, 400},
			"truncated":          {"/sites/left/authorize", `{"apiVersion":"authorization.k8s.io/v1","kin`, nil, 400},
			"wrong kind":         {"/sites/left/authorize", tokenReview("x"), nil, 400},
			"wrong version":      {"/sites/left/authorize", strings.Replace(question("a", "get", "pods", "x"), "/v1\"", "/v9\"", 1), nil, 400},
			"wrong type":         {"/sites/left/authorize", `{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":[]}`, nil, 400},
			"wrong media type":   {"/sites/left/authorize", question("a", "get", "pods", "x"), mediaType("text/html"), 415},
			"over the limit":     {"/sites/left/authorize", question(strings.Repeat("x", 4<<20), "get", "pods", "x"), nil, 413},
			"not a token review": {"/sites/left/authenticate", question("a", "get", "pods", "x"), nil, 400},
			"not events":         {"/sites/left/audit", question("a", "get", "pods", "x"), nil, 400},
			"truncated events":   {"/sites/left/audit", `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[{`, nil, 400},
		} {
			code, answer := site.send("POST", c.path, c.header, []byte(c.body))
			var s status
			if err := json.Unmarshal(answer, &s); code != c.code || err != nil || s.Kind != "Status" || s.Code != code {
				t.Errorf("%s: answered %d, want a Status of %d: %.300s", name, code, c.code, answer)
			}
		}
		for _, method := range []string{"GET", "PUT", "DELETE", "PATCH"} {
			if code, answer := site.send(method, "/sites/left/authorize", nil, nil); code != http.StatusMethodNotAllowed {
				t.Errorf("%s: answered %d: %.200s", method, code, answer)
			}
		}
	})

	t.Run("end", func(t *testing.T) {
		// A certificate that was replaced, and a site that is gone, open nothing.
		ended, _ := connect(t, g, "brief", "--mode", "deny")
		was := asSite(t, g, ended)
		path, body := "/sites/brief/authorize/deny", question("a", "get", "pods", "x")
		eventually(t, commandWithin, "the door opens", func() bool {
			_, code := was.ask(path, body)
			return code == 0
		})
		renewed, _ := connect(t, g, "brief", "--mode", "deny", "--replace-credential")
		now := asSite(t, g, renewed)
		promptly(t, effectWithin, "the replaced certificate opens nothing", func() bool {
			_, code := was.ask(path, body)
			return code == http.StatusForbidden || code == http.StatusUnauthorized
		})
		if _, code := now.ask(path, body); code != 0 {
			t.Errorf("the new certificate: %d", code)
		}
		k.run("delete", "site", "brief")
		promptly(t, effectWithin, "a deleted site's certificate opens nothing", func() bool {
			_, code := now.ask(path, body)
			return code == http.StatusForbidden || code == http.StatusUnauthorized || code == http.StatusNotFound
		})
	})
}

// listeners are the unix sockets that something listens on, with their inode.
func listeners(t *testing.T) map[string]string {
	t.Helper()
	table, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for line := range strings.Lines(string(table)) {
		// Num RefCount Protocol Flags Type St Inode Path; flag 00010000 is a
		// listening socket.
		if f := strings.Fields(line); len(f) == 8 && f[3] == "00010000" {
			found[f[7]] = f[6]
		}
	}
	return found
}

// The control plane opens no socket that another user of the machine could
// reach, but its one listener.
func TestNoSocketWithoutAFile(t *testing.T) {
	g := start(t)
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", g.PID()))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v: %q", err, files)
	}
	own := map[string]bool{}
	for _, file := range files {
		if to, err := os.Readlink(file); err == nil { // one may be closed by now
			own[to] = true
		}
	}
	all := listeners(t)
	ours := 0
	for socket, inode := range all {
		if !own["socket:["+inode+"]"] {
			continue
		}
		// Abstract sockets have no file, so nothing says who may connect.
		if ours++; strings.HasPrefix(socket, "@") {
			t.Errorf("abstract socket %s: any user can connect to it", socket)
		}
	}
	if ours == 0 {
		t.Errorf("none of %d sockets is the control plane's: the search proves nothing", len(all))
	}
}

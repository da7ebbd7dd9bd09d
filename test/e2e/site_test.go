package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/test/harness"
)

// connect registers a cluster and returns the folder with its files and the
// flags that its kube-apiserver needs.
func connect(t *testing.T, g *harness.Gatehouse, name string, args ...string) (dir string, flags []string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), name)
	ctx, cancel := context.WithTimeout(t.Context(), commandWithin)
	defer cancel()
	got, err := harness.RunGatehouse(ctx, append([]string{
		"site", "connect", "kubernetes", name, "--out", dir, "--kubeconfig", g.Kubeconfig,
		"--cluster-audience", "https://stock.example",
	}, args...)...)
	if err != nil || got.Code != 0 {
		t.Fatalf("site connect: %v %v", err, got)
	}
	text, err := os.ReadFile(filepath.Join(dir, "kube-apiserver.flags"))
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != got.Stdout {
		t.Errorf("the flags printed differ from those written:\n%s\n%s", got.Stdout, text)
	}
	if info, err := os.Stat(filepath.Join(dir, "site.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the site's key: %v %v", info, err)
	}
	return dir, strings.Fields(string(text))
}

// The main story: a stock cluster lets the control plane say who its callers
// are and what they may do.
func TestConnectedCluster(t *testing.T) {
	t.Parallel()
	g := shared(t)
	_, flags := connect(t, g, "prod", "--mode", "full", "--rbac", "shared")
	cluster := startCluster(t, flags...)

	here, there := as(t, g), as(t, cluster)
	here.namespace("lab")
	here.run("create", "serviceaccount", "robot", "-n", "lab")
	there.namespace("lab")
	there.run("create", "configmap", "plans", "-n", "lab", "--from-literal=k=v")

	// The robot of the control plane signs in to the cluster, under a name that
	// cannot be mistaken for one of the cluster's own.
	token := strings.TrimSpace(here.run("create", "token", "robot", "-n", "lab", "--audience", "gatehouse:site:prod"))
	robot := withToken(t, cluster, token)
	robot.shows([]string{"gatehouse:system:serviceaccount:lab:robot", "system:authenticated"}, "auth", "whoami")
	if out := robot.run("auth", "whoami", "-o", "jsonpath={.status.userInfo.groups}"); strings.Contains(out, `"system:serviceaccounts`) || strings.Contains(out, "system:masters") {
		t.Errorf("groups that are the cluster's own: %s", out)
	}
	// It may do nothing there.
	robot.fails(1, []string{"Forbidden", `User "gatehouse:system:serviceaccount:lab:robot" cannot list resource "configmaps"`}, "get", "configmaps", "-n", "lab")

	// A binding in the control plane counts in the cluster, within a second.
	c := tokenClient(t, cluster, token)
	here.run("create", "rolebinding", "robot-reads", "-n", "lab", "--clusterrole=view", "--serviceaccount=lab:robot")
	took := promptly(t, effectWithin, "the grant counts in the cluster", func() bool {
		return c.lists("lab") == http.StatusOK
	})
	t.Logf("allowed %v after kubectl created the binding", took.Round(time.Millisecond))
	robot.shows([]string{"plans"}, "get", "configmaps", "-n", "lab")
	// Nowhere else, and nothing more.
	robot.fails(1, []string{"Forbidden"}, "get", "configmaps", "-n", "default")
	robot.fails(1, []string{"Forbidden"}, "get", "secrets", "-n", "lab")
	robot.fails(1, []string{"Forbidden"}, "delete", "configmap", "plans", "-n", "lab")

	// Taken back, it ends within a second as well.
	here.run("delete", "rolebinding", "robot-reads", "-n", "lab")
	promptly(t, effectWithin, "the grant ends in the cluster", func() bool {
		return c.lists("lab") == http.StatusForbidden
	})

	// The cluster's own rules go on to work beside.
	there.run("create", "rolebinding", "own", "-n", "lab", "--clusterrole=cluster-admin", "--user=olga")
	there.shows([]string{"plans"}, "get", "configmaps", "-n", "lab", "--as=olga")

	// What somebody may do there can be handed on, for there.
	delegatesAtSite(t, g, cluster, "prod", func(e event, giver, receiver string) bool {
		return strings.HasPrefix(e.RequestURI, "/sites/prod/authorize") && strings.Contains(e.raw, "gatehouse:"+receiver) &&
			e.Annotations["audit.gatehouse.dev/on-behalf-of"] == giver &&
			e.Annotations["audit.gatehouse.dev/delegation-chain"] == fmt.Sprintf(`[{"delegation":"at-prod","from":%q,"to":%q}]`, giver, receiver)
	})

	// The record holds the decision with its reason, and the cluster's event.
	eventually(t, commandWithin, "the cluster's event arrives in the record", func() bool {
		events := record(t, g)
		return events.has(func(e event) bool {
			return e.RequestURI == "/api/v1/namespaces/lab/configmaps" && e.User.Username == "gatehouse:system:serviceaccount:lab:robot" && e.ResponseStatus.Code == 200
		}) && events.has(func(e event) bool {
			text := e.annotations()
			return strings.HasPrefix(e.RequestURI, "/sites/prod/authorize") && strings.Contains(text, "allow") && strings.Contains(text, "robot-reads")
		})
	})
	for _, e := range record(t, g) {
		if strings.Contains(e.raw, strings.Split(token, ".")[2]) {
			t.Fatalf("the record holds a token: %s", e.raw)
		}
	}
}

// A tokenClient asks a server with a bearer token.
type bearer struct {
	client
	header http.Header
}

func tokenClient(t *testing.T, server hasKubectl, token string) bearer {
	t.Helper()
	return bearer{bareClient(t, server), http.Header{"Authorization": {"Bearer " + token}}}
}

func (b bearer) lists(namespace string) int {
	b.t.Helper()
	code, _ := b.send(http.MethodGet, "/api/v1/namespaces/"+namespace+"/configmaps", b.header, nil)
	return code
}

// An event is what the tests read of the record.
type event struct {
	raw                  string
	AuditID, Stage, Verb string
	RequestURI           string
	User                 struct{ Username string }
	ResponseStatus       struct{ Code int }
	Annotations          map[string]string
	RequestObject        json.RawMessage
	ResponseObject       json.RawMessage

	RequestReceivedTimestamp time.Time
}

// field is a member of the request's body that is a string.
func (e event) field(t *testing.T, name string) string {
	t.Helper()
	var body map[string]any
	if err := json.Unmarshal(e.RequestObject, &body); err != nil {
		t.Fatalf("%v: %s", err, e.raw)
	}
	text, _ := body[name].(string)
	return text
}

// annotations joins what the event says about the decision.
func (e event) annotations() string {
	text, _ := json.Marshal(e.Annotations) // a map of strings always encodes
	return string(text)
}

type events []event

func (all events) has(match func(event) bool) bool {
	for _, e := range all {
		if match(e) {
			return true
		}
	}
	return false
}

// record reads the newest events of a control plane, running or not.
func record(t *testing.T, g *harness.Gatehouse, filters ...string) events {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandWithin)
	defer cancel()
	got, err := harness.RunGatehouse(ctx, append([]string{
		"audit", "query", "--data-dir", g.DataDir, "--output", "json", "--limit", "0", "--since", "10m",
	}, filters...)...)
	if err != nil || got.Code > 1 {
		t.Fatalf("audit query: %v %v", err, got)
	}
	var all events
	for line := range strings.Lines(got.Stdout) {
		e := event{raw: line}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("audit query: %v: %s", err, line)
		}
		all = append(all, e)
	}
	return all
}

package e2e

import (
	"strings"
	"testing"
)

// Whoever may write events can say what they like in them, except who they are.
func TestEventAuthors(t *testing.T) {
	t.Parallel()
	k := as(t, shared(t))
	k.namespace("authors")
	k.run("create", "rolebinding", "ed", "-n", "authors", "--clusterrole=edit", "--user=ed")
	eventually(t, commandWithin, "ed may create events", func() bool {
		return k.exec("", "auth", "can-i", "create", "events", "-n", "authors", "--as=ed").Code == 0
	})
	k.feed(`
apiVersion: v1
kind: Event
metadata: {name: web.1, namespace: authors, annotations: {audit.gatehouse.dev/author: "system:kube-scheduler"}}
involvedObject: {kind: Pod, namespace: authors, name: web}
reason: Scheduled
message: trust me
source: {component: default-scheduler}
type: Normal
`, "create", "-f", "-", "--as=ed")
	const author, updater = `jsonpath={.metadata.annotations.audit\.gatehouse\.dev/author}`, `jsonpath={.metadata.annotations.audit\.gatehouse\.dev/updated-by}`
	get := func(what string) string { return k.run("get", "event", "web.1", "-n", "authors", "-o", what) }
	if got := get(author); got != "ed" {
		t.Errorf("the author is %q", got)
	}
	k.run("annotate", "event", "web.1", "-n", "authors", "--overwrite", "audit.gatehouse.dev/author=nobody", "audit.gatehouse.dev/updated-by=nobody")
	if a, u := get(author), get(updater); a != "ed" || u != "gatehouse-admin" {
		t.Errorf("after a change: author %q, changed by %q", a, u)
	}
	k.shows([]string{"trust me"}, "get", "events", "-n", "authors")
}

// A role on one name opens a watch of that object, and no list.
func TestWatchOfOneSecret(t *testing.T) {
	t.Parallel()
	k := as(t, shared(t))
	k.namespace("one-secret")
	for _, name := range []string{"x", "y"} {
		k.run("create", "secret", "generic", name, "-n", "one-secret", "--from-literal=k=1")
	}
	k.run("create", "role", "reader", "-n", "one-secret", "--verb=get,list,watch", "--resource=secrets", "--resource-name=x")
	k.run("create", "rolebinding", "reader", "-n", "one-secret", "--role=reader", "--user=rea")
	eventually(t, commandWithin, "the role counts", func() bool {
		return k.exec("", "get", "secret", "x", "-n", "one-secret", "--as=rea").Code == 0
	})
	w, err := k.k.Start("get", "secret", "x", "-n", "one-secret", "-w", "--as=rea", "-o", "jsonpath={.metadata.name}={.data.k}{'\\n'}")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Kill)
	if _, err := w.WaitLine(t.Context(), "x=MQ=="); err != nil {
		t.Fatal(err)
	}
	k.run("patch", "secret", "x", "-n", "one-secret", "--type=merge", "-p", `{"stringData":{"k":"2"}}`)
	if _, err := w.WaitLine(t.Context(), "x=Mg=="); err != nil {
		t.Fatal(err)
	}
	k.fails(1, []string{forbidden}, "get", "secrets", "-n", "one-secret", "--as=rea")
	k.fails(1, []string{forbidden}, "get", "secret", "y", "-n", "one-secret", "--as=rea")
	k.fails(1, []string{forbidden}, "get", "secrets", "-n", "one-secret", "-w", "--as=rea")
	w.Kill()
	if strings.Contains(w.Log(), "y=") {
		t.Error("the watch shows another secret")
	}
}

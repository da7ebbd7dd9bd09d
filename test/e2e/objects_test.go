package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// onBoth runs a story on the control plane and on a stock kube-apiserver, so
// that what it expects is what kubectl users know.
func onBoth(t *testing.T, story func(t *testing.T, k kube)) {
	t.Helper()
	t.Parallel()
	t.Run("gatehouse", func(t *testing.T) {
		t.Parallel()
		story(t, as(t, shared(t)))
	})
	t.Run("stock", func(t *testing.T) {
		t.Parallel()
		story(t, as(t, stock(t)))
	})
}

func TestKubectlReads(t *testing.T) {
	onBoth(t, func(t *testing.T, k kube) {
		k.shows([]string{"configmaps", "cm", "ConfigMap", "serviceaccounts", "certificatesigningrequests", "rolebindings", "validatingadmissionpolicies", "leases", "selfsubjectaccessreviews"}, "api-resources")
		k.shows([]string{"rbac.authorization.k8s.io/v1", "admissionregistration.k8s.io/v1", "v1"}, "api-versions")
		k.shows([]string{"configmaps"}, "api-resources", "--api-group=", "--verbs=list,watch,create,patch,deletecollection", "--namespaced", "-o", "name")
		version := k.run("version")
		if !regexp.MustCompile(`(?m)^Server Version: v1\.\d+\.\d+`).MatchString(version) {
			t.Errorf("kubectl version: %s", version)
		}
		k.namespace("reads")
		k.run("create", "configmap", "colours", "-n", "reads", "--from-literal=sky=blue")
		table := k.run("get", "configmaps", "-n", "reads", "colours")
		if !regexp.MustCompile(`^NAME +DATA +AGE\ncolours +1 +\d+s\n$`).MatchString(table) {
			t.Errorf("table:\n%s", table)
		}
		for kind, want := range map[string]string{
			"namespaces":          `^NAME +STATUS +AGE\n`,
			"serviceaccounts":     `^NAMESPACE +NAME +(SECRETS +)?AGE\n`,
			"clusterroles":        `^NAME +CREATED AT\n`,
			"clusterrolebindings": `^NAME +ROLE +AGE\n`,
			"rolebindings":        `^NAMESPACE +NAME +ROLE +AGE\n`,
		} {
			args := []string{"get", kind}
			if strings.HasPrefix(want, "^NAMESPACE") {
				k.run("create", "serviceaccount", "for-"+kind, "-n", "reads")
				if kind == "rolebindings" {
					k.run("create", "rolebinding", "r", "-n", "reads", "--clusterrole=view", "--user=u")
				}
				args = append(args, "-A")
			}
			if got := k.run(args...); !regexp.MustCompile(want).MatchString(got) {
				t.Errorf("kubectl %s: want %s:\n%s", strings.Join(args, " "), want, got)
			}
		}
		k.shows([]string{"Name:         colours", "Namespace:    reads", "sky:", "blue"}, "describe", "configmap", "-n", "reads", "colours")
		k.shows([]string{"colours"}, "get", "cm", "-n", "reads", "-o", "yaml")
		k.shows([]string{"blue"}, "get", "cm", "-n", "reads", "colours", "-o", "jsonpath={.data.sky}")
		k.shows([]string{"FIELD: data", "<map[string]string>"}, "explain", "configmap.data")
		k.shows([]string{"FIELDS", "roleRef", "-required-"}, "explain", "rolebinding")
		k.fails(1, []string{`(NotFound)`, `configmaps "gone" not found`}, "get", "cm", "-n", "reads", "gone")
		k.fails(1, []string{`the server doesn't have a resource type "nonsense"`}, "get", "nonsense")

		k.run("create", "serviceaccount", "runner", "-n", "reads")
		k.feed(pod("web", "reads"), "create", "-f", "-")
		k.shows([]string{"web"}, "get", "all", "-n", "reads")
		k.shows([]string{"Name:", "web", "Containers:", "registry.example/web:1"}, "describe", "pod", "-n", "reads", "web")

		// Selectors, by label and by field.
		k.run("label", "cm", "-n", "reads", "colours", "kind=paint", "tier=one")
		k.run("create", "configmap", "plain", "-n", "reads")
		for selector, want := range map[string]string{
			"kind=paint":              "configmap/colours\n",
			"kind in (paint, stone)":  "configmap/colours\n",
			"kind,tier!=one":          "",
			"!kind,tier notin (zero)": "configmap/plain\n",
		} {
			got := strings.ReplaceAll(k.run("get", "cm", "-n", "reads", "-l", selector, "-o", "name"), "configmap/"+publishedCA+"\n", "")
			if got != want {
				t.Errorf("selector %q: %q, want %q", selector, got, want)
			}
		}
		k.shows([]string{"configmap/plain"}, "get", "cm", "-n", "reads", "--field-selector=metadata.name=plain", "-o", "name")
		k.fails(1, []string{"not a known field selector"}, "get", "cm", "-n", "reads", "--field-selector=data.sky=blue")
		if got := k.run("get", "cm", "-A", "--chunk-size=1", "-o", "name"); !strings.Contains(got, "colours") || !strings.Contains(got, "plain") {
			t.Errorf("a list in pages lacks objects:\n%s", got)
		}
	})
}

// pod is the smallest complete pod. It names its service account, since nothing
// on a bare server would.
func pod(name, namespace string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: %s}
spec:
  serviceAccountName: runner
  automountServiceAccountToken: false
  containers: [{name: main, image: "registry.example/%[1]s:1"}]
`, name, namespace)
}

func configMap(namespace, name, key, value string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: ConfigMap
metadata: {name: %q, namespace: %q}
data: {%q: %q}
`, name, namespace, key, value)
}

func TestKubectlWrites(t *testing.T) {
	onBoth(t, func(t *testing.T, k kube) {
		k.namespace("writes")
		in := func(args ...string) []string { return append(args, "-n", "writes") }
		value := func(want string) {
			t.Helper()
			if got := k.run(in("get", "cm", "c", "-o", "jsonpath={.data.k}")...); got != want {
				t.Errorf("value %q, want %q", got, want)
			}
		}

		// apply: client side, three ways.
		said := k.feed(configMap("writes", "c", "k", "one"), "apply", "-f", "-")
		said += k.feed(configMap("writes", "c", "k", "two"), "apply", "-f", "-")
		said += k.feed(configMap("writes", "c", "k", "two"), "apply", "-f", "-")
		if want := "configmap/c created\nconfigmap/c configured\nconfigmap/c unchanged\n"; said != want {
			t.Errorf("apply says %q, want %q", said, want)
		}
		value("two")

		// diff: 1 for a difference, 0 for none.
		k.failsFed(configMap("writes", "c", "k", "three"), 1, []string{"-  k: two", "+  k: three"}, "diff", "-f", "-")
		k.feed(configMap("writes", "c", "k", "two"), "diff", "-f", "-")
		value("two")

		// A dry run changes nothing, and says what would be.
		k.feed(configMap("writes", "c", "k", "dry"), "apply", "--dry-run=server", "-f", "-")
		value("two")

		// edit, with an editor that is a program.
		editor := filepath.Join(t.TempDir(), "editor")
		if err := os.WriteFile(editor, []byte("#!/bin/sh\nexec sed -i s/two/edited/ \"$1\"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		edit := kube{t, k.k.WithEnv("KUBE_EDITOR=" + editor)}
		edit.shows([]string{"configmap/c edited"}, in("edit", "cm", "c")...)
		value("edited")

		// patch, in its three forms.
		k.run(in("patch", "cm", "c", "-p", `{"data":{"k":"strategic"}}`)...)
		value("strategic")
		k.run(in("patch", "cm", "c", "--type=merge", "-p", `{"data":{"k":"merged"}}`)...)
		value("merged")
		k.run(in("patch", "cm", "c", "--type=json", "-p", `[{"op":"test","path":"/data/k","value":"merged"},{"op":"replace","path":"/data/k","value":"jsoned"}]`)...)
		value("jsoned")
		k.fails(1, []string{"The request is invalid"}, in("patch", "cm", "c", "--type=json", "-p", `[{"op":"test","path":"/data/k","value":"other"}]`)...)

		// label, annotate.
		k.run(in("label", "cm", "c", "a=b")...)
		k.fails(1, []string{"already has a value"}, in("label", "cm", "c", "a=c")...)
		k.run(in("label", "cm", "c", "a=c", "--overwrite")...)
		k.run(in("annotate", "cm", "c", "note=hello")...)
		k.shows([]string{"c hello"}, in("get", "cm", "c", "-o", "jsonpath={.metadata.labels.a} {.metadata.annotations.note}")...)
		k.run(in("label", "cm", "c", "a-")...)
		k.fails(1, []string{"invalid label value"}, in("label", "cm", "c", "bad=-x-")...)
		k.fails(1, []string{"Invalid value", "metadata.labels"}, in("patch", "cm", "c", "--type=merge", "-p", `{"metadata":{"labels":{"bad":"-x-"}}}`)...)

		// replace; a stale resourceVersion is a conflict.
		stale := k.run(in("get", "cm", "c", "-o", "json")...)
		k.feed(configMap("writes", "c", "k", "replaced"), "replace", "-f", "-")
		value("replaced")
		k.failsFed(stale, 1, []string{"Conflict", "the object has been modified"}, "replace", "-f", "-")
		value("replaced")

		// create refuses what exists, delete what does not.
		k.failsFed(configMap("writes", "c", "k", "x"), 1, []string{"AlreadyExists"}, "create", "-f", "-")
		k.fails(1, []string{"NotFound"}, in("delete", "cm", "gone")...)
		k.run(in("delete", "cm", "c")...)
		k.run(in("wait", "--for=delete", "cm/c", "--timeout=60s")...)

		// deletecollection.
		for _, name := range []string{"x", "y"} {
			k.run(in("create", "cm", name)...)
			k.run(in("label", "cm", name, "batch=one")...)
		}
		k.run(in("delete", "cm", "-l", "batch=one")...)
		if left := k.run(in("get", "cm", "-l", "batch=one", "-o", "name")...); left != "" {
			t.Errorf("left after delete by label: %s", left)
		}
	})
}

func TestKubectlServerSideApply(t *testing.T) {
	onBoth(t, func(t *testing.T, k kube) {
		k.namespace("ssa")
		apply := func(manager string, extra ...string) []string {
			return append([]string{"apply", "--server-side", "--field-manager=" + manager, "-f", "-"}, extra...)
		}
		k.feed(configMap("ssa", "c", "k", "one"), apply("first")...)
		k.failsFed(configMap("ssa", "c", "k", "two"), 1,
			[]string{`conflict with "first"`, ".data.k"}, apply("second")...)
		k.feed(configMap("ssa", "c", "other", "mine"), apply("second")...)
		k.shows([]string{"one mine"}, "get", "cm", "-n", "ssa", "c", "-o", "jsonpath={.data.k} {.data.other}")
		k.feed(configMap("ssa", "c", "k", "two"), apply("second", "--force-conflicts")...)
		// The second manager applied without its other key, so that is gone.
		k.shows([]string{`{"k":"two"}`}, "get", "cm", "-n", "ssa", "c", "-o", "jsonpath={.data}")
		k.shows([]string{"second", "f:k"}, "get", "cm", "-n", "ssa", "c", "--show-managed-fields", "-o", "yaml")
	})
}

func TestKubectlSubresources(t *testing.T) {
	onBoth(t, func(t *testing.T, k kube) {
		k.namespace("subresources")
		k.run("create", "serviceaccount", "runner", "-n", "subresources")
		k.feed(pod("p", "subresources"), "create", "-f", "-")
		in := func(args ...string) []string { return append(args, "-n", "subresources") }
		k.run(in("patch", "pod", "p", "--subresource=status", "--type=merge", "-p", `{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}`)...)
		k.shows([]string{"Running"}, in("get", "pod", "p", "--subresource=status", "-o", "jsonpath={.status.phase}")...)
		k.run(in("wait", "--for=condition=Ready", "pod/p", "--timeout=60s")...)
		k.run(in("wait", "--for=jsonpath={.status.phase}=Running", "pod/p", "--timeout=60s")...)
		// The main resource leaves the status alone.
		k.run(in("patch", "pod", "p", "--type=merge", "-p", `{"status":{"phase":"Failed"}}`)...)
		k.shows([]string{"Running"}, in("get", "pod", "p", "-o", "jsonpath={.status.phase}")...)
		// Words are kubectl's own, and others when its time ends in a request.
		k.fails(1, nil, in("wait", "--for=condition=Gone", "pod/p", "--timeout=1s")...)
	})
}

func TestKubectlWatch(t *testing.T) {
	onBoth(t, func(t *testing.T, k kube) {
		k.namespace("watched")
		watch, err := k.k.Start("get", "configmaps", "-n", "watched", "-l", "watch=this", "--watch", "--output-watch-events", "-o", `jsonpath={.type} {.object.metadata.name} {.object.data.k}{"\n"}`)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(watch.Kill)
		ctx, cancel := context.WithTimeout(t.Context(), commandWithin)
		defer cancel()
		saw := func(event string) {
			t.Helper()
			if _, err := watch.WaitLine(ctx, event); err != nil {
				t.Fatal(err)
			}
		}
		k.feed(strings.Replace(configMap("watched", "seen", "k", "one"), "metadata: {", "metadata: {labels: {watch: this}, ", 1), "create", "-f", "-")
		saw("ADDED seen one")
		k.run("create", "configmap", "unseen", "-n", "watched")
		k.run("patch", "cm", "seen", "-n", "watched", "-p", `{"data":{"k":"two"}}`)
		saw("MODIFIED seen two")
		// What no longer matches the selector is deleted for this watcher.
		k.run("label", "cm", "seen", "-n", "watched", "watch-")
		saw("DELETED seen two")
		if strings.Contains(watch.Log(), "unseen") {
			t.Errorf("the watch showed what it did not select:\n%s", watch.Log())
		}
	})
}

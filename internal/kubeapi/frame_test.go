package kubeapi_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

func configMap(name, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"k": value},
	}
}

func TestLifeOfAnObject(t *testing.T) {
	t.Parallel()
	maps := newNamespace(t, "life") + "/configmaps"
	created := as[corev1.ConfigMap](t, do(t, 201, request{method: "POST", path: maps, body: configMap("a", "1")}))
	if created.UID == "" || created.ResourceVersion == "" || created.CreationTimestamp.IsZero() {
		t.Errorf("created without metadata: %+v", created.ObjectMeta)
	}
	do(t, 409, request{method: "POST", path: maps, body: configMap("a", "1")})
	changed := created
	changed.Data = map[string]string{"k": "2"}
	after := as[corev1.ConfigMap](t, do(t, 200, request{method: "PUT", path: maps + "/a", body: &changed}))
	if after.Data["k"] != "2" || after.ResourceVersion == created.ResourceVersion {
		t.Errorf("update: %+v", after)
	}
	// The same state again is a conflict, and changes nothing.
	do(t, 409, request{method: "PUT", path: maps + "/a", body: &changed})
	do(t, 200, request{method: "PATCH", path: maps + "/a", mediaType: "application/merge-patch+json", body: `{"data":{"l":"3"}}`})
	got := as[corev1.ConfigMap](t, do(t, 200, request{path: maps + "/a"}))
	if got.Data["k"] != "2" || got.Data["l"] != "3" {
		t.Errorf("patched: %v", got.Data)
	}
	wrong := created.UID + "x"
	do(t, 409, request{method: "DELETE", path: maps + "/a", body: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &wrong}}})
	do(t, 200, request{method: "DELETE", path: maps + "/a"})
	do(t, 404, request{path: maps + "/a"})
	do(t, 404, request{method: "DELETE", path: maps + "/a"})
}

func TestListsSelectAndPage(t *testing.T) {
	t.Parallel()
	maps := newNamespace(t, "lists") + "/configmaps"
	for i := range 5 {
		m := configMap(fmt.Sprint("m", i), "x")
		m.Labels = map[string]string{"odd": fmt.Sprint(i%2 == 1)}
		do(t, 201, request{method: "POST", path: maps, body: m})
	}
	names := func(query string) (out []string) {
		for _, m := range as[corev1.ConfigMapList](t, do(t, 200, request{path: maps + query})).Items {
			out = append(out, m.Name)
		}
		return out
	}
	if got := names("?labelSelector=odd%3Dtrue"); strings.Join(got, ",") != "m1,m3" {
		t.Errorf("by label: %v", got)
	}
	if got := names("?fieldSelector=metadata.name%3Dm2"); strings.Join(got, ",") != "m2" {
		t.Errorf("by name: %v", got)
	}
	do(t, 400, request{path: maps + "?fieldSelector=data.k%3Dx"})
	page := as[corev1.ConfigMapList](t, do(t, 200, request{path: maps + "?limit=2"}))
	if len(page.Items) != 2 || page.Continue == "" {
		t.Fatalf("first page: %d items, continue %q", len(page.Items), page.Continue)
	}
	if got := names("?limit=10&continue=" + page.Continue); strings.Join(got, ",") != "m2,m3,m4" {
		t.Errorf("the rest: %v", got)
	}
	do(t, 400, request{path: maps + "?limit=2&continue=garbage"})
}

func TestWatchTellsOfChanges(t *testing.T) {
	t.Parallel()
	maps := newNamespace(t, "watched") + "/configmaps"
	list := as[corev1.ConfigMapList](t, do(t, 200, request{path: maps}))
	req, err := http.NewRequestWithContext(t.Context(), "GET", shared.url+maps+"?watch=true&resourceVersion="+list.ResourceVersion, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(callerHeader, "admin")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	do(t, 201, request{method: "POST", path: maps, body: configMap("w", "1")})
	do(t, 200, request{method: "PATCH", path: maps + "/w", mediaType: "application/merge-patch+json", body: `{"data":{"k":"2"}}`})
	do(t, 200, request{method: "DELETE", path: maps + "/w"})
	lines := bufio.NewScanner(resp.Body)
	for _, want := range []string{"ADDED 1", "MODIFIED 2", "DELETED 2"} {
		if !lines.Scan() {
			t.Fatal("the watch ended")
		}
		var ev struct {
			Type   string
			Object corev1.ConfigMap
		}
		if err := json.Unmarshal(lines.Bytes(), &ev); err != nil {
			t.Fatal(err)
		}
		if got := ev.Type + " " + ev.Object.Data["k"]; got != want {
			t.Errorf("event %q, want %q", got, want)
		}
	}
}

func TestServerSideApply(t *testing.T) {
	t.Parallel()
	at := newNamespace(t, "applied") + "/configmaps/a"
	apply := func(code int, manager, value, more string) answer {
		return do(t, code, request{
			method: "PATCH", path: at + "?fieldManager=" + manager + more, mediaType: "application/apply-patch+yaml",
			body: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"k":"` + value + `"}}`,
		})
	}
	apply(201, "one", "1", "")
	apply(200, "two", "1", "") // both own it now
	if a := apply(409, "two", "2", ""); !strings.Contains(string(a.body), `conflict with \"one\"`) {
		t.Errorf("the conflict does not name the other owner: %s", a.body)
	}
	apply(200, "two", "2", "&force=true")
	if got := as[corev1.ConfigMap](t, do(t, 200, request{path: at})); got.Data["k"] != "2" || len(got.ManagedFields) == 0 {
		t.Errorf("applied: %+v", got)
	}
}

func TestTables(t *testing.T) {
	t.Parallel()
	maps := newNamespace(t, "tables") + "/configmaps"
	do(t, 201, request{method: "POST", path: maps, body: configMap("a", "1")})
	table := as[metav1.Table](t, do(t, 200, request{path: maps, header: http.Header{"Accept": {"application/json;as=Table;v=v1;g=meta.k8s.io"}}}))
	var columns []string
	for _, c := range table.ColumnDefinitions {
		columns = append(columns, c.Name)
	}
	if strings.Join(columns, ",") != "Name,Data,Age" || len(table.Rows) != 1 || table.Rows[0].Cells[0] != "a" || table.ResourceVersion == "" {
		t.Errorf("columns %v, rows %v", columns, table.Rows)
	}
	if raw := string(table.Rows[0].Object.Raw); strings.Contains(raw, `"data"`) || !strings.Contains(raw, "PartialObjectMetadata") {
		t.Errorf("a row carries %s", raw)
	}
}

func TestFieldValidation(t *testing.T) {
	t.Parallel()
	maps := newNamespace(t, "fields") + "/configmaps"
	body := func(name string) string {
		return `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"` + name + `"},"datum":{"k":"v"}}`
	}
	if a := do(t, 400, request{method: "POST", path: maps + "?fieldValidation=Strict", body: body("strict")}); !strings.Contains(string(a.body), `unknown field \"datum\"`) {
		t.Errorf("does not name the field: %s", a.body)
	}
	do(t, 404, request{path: maps + "/strict"})
	do(t, 201, request{method: "POST", path: maps, body: body("warned")})
	do(t, 400, request{method: "POST", path: maps, body: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"cut"`})
	do(t, 415, request{method: "POST", path: maps, mediaType: "text/plain", body: body("text")})
	do(t, 400, request{method: "POST", path: maps, body: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"t"},"data":[]}`})
	do(t, 422, request{method: "POST", path: maps, body: body("Not A Name")})
	do(t, 413, request{method: "POST", path: maps, body: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"t"},"data":{"k":"` + strings.Repeat("x", 4<<20) + `"}}`})
}

// A dry run answers as the change would and leaves everything as it was.
func TestDryRunChangesNothing(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t, "dry")
	do(t, 201, request{method: "POST", path: ns + "/configmaps", body: configMap("a", "1")})
	do(t, 201, request{method: "POST", path: ns + "/serviceaccounts", body: &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "robot"}}})
	before := as[corev1.ConfigMapList](t, do(t, 200, request{path: ns + "/configmaps"}))
	const dry = "?dryRun=All"
	do(t, 201, request{method: "POST", path: ns + "/configmaps" + dry, body: configMap("b", "1")})
	do(t, 200, request{method: "PATCH", path: ns + "/configmaps/a" + dry, mediaType: "application/merge-patch+json", body: `{"data":{"k":"2"}}`})
	do(t, 201, request{
		method: "PATCH", path: ns + "/configmaps/c" + dry + "&fieldManager=m", mediaType: "application/apply-patch+yaml",
		body: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"},"data":{"k":"1"}}`,
	})
	do(t, 200, request{method: "DELETE", path: ns + "/configmaps/a" + dry})
	do(t, 200, request{method: "DELETE", path: ns + "/configmaps" + dry})
	do(t, 200, request{method: "DELETE", path: ns + dry})
	minted := shared.minted.get()
	token := do(t, 201, request{method: "POST", path: ns + "/serviceaccounts/robot/token" + dry, body: `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{"audiences":["a"]}}`})
	if strings.Contains(string(token.body), "a-token") || shared.minted.get() != minted {
		t.Errorf("a dry run handed out a token: %s", token.body)
	}
	do(t, 403, request{as: climber, method: "POST", path: "/apis/rbac.authorization.k8s.io/v1/clusterroles" + dry, body: wild("dry")})
	after := as[corev1.ConfigMapList](t, do(t, 200, request{path: ns + "/configmaps"}))
	if len(after.Items) != 1 || after.Items[0].ResourceVersion != before.Items[0].ResourceVersion {
		t.Errorf("dry runs changed %+v", after.Items)
	}
	if got := as[corev1.Namespace](t, do(t, 200, request{path: ns})); got.DeletionTimestamp != nil || got.Status.Phase != corev1.NamespaceActive {
		t.Errorf("a dry run deleted the namespace: %+v", got)
	}
}

func TestNamespaceDeletionEmptiesIt(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t, "doomed")
	do(t, 201, request{method: "POST", path: ns + "/configmaps", body: configMap("a", "1")})
	held := configMap("held", "1")
	held.Finalizers = []string{"example.com/wait"}
	do(t, 201, request{method: "POST", path: ns + "/configmaps", body: held})
	do(t, 201, request{method: "POST", path: ns + "/secrets", body: &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s"}}})

	wrong := metav1.NewUIDPreconditions("0000")
	do(t, 409, request{method: "DELETE", path: ns, body: &metav1.DeleteOptions{Preconditions: wrong}})
	got := as[corev1.Namespace](t, do(t, 200, request{method: "DELETE", path: ns}))
	if got.DeletionTimestamp == nil || got.Status.Phase != corev1.NamespaceTerminating {
		t.Errorf("deletion answered %+v", got)
	}
	eventually(t, "the namespace holds only what somebody else must finish", func() bool {
		return len(as[corev1.ConfigMapList](t, do(t, 200, request{path: ns + "/configmaps"})).Items) == 1 &&
			len(as[corev1.SecretList](t, do(t, 200, request{path: ns + "/secrets"})).Items) == 0
	})
	do(t, 403, request{method: "POST", path: ns + "/configmaps", body: configMap("late", "1")})
	do(t, 200, request{path: ns})
	do(t, 200, request{method: "PATCH", path: ns + "/configmaps/held", mediaType: "application/merge-patch+json", body: `{"metadata":{"finalizers":null}}`})
	eventually(t, "the namespace is gone", func() bool {
		a, err := shared.send(t.Context(), request{path: ns})
		return err == nil && a.code == 404
	})
	newNamespace(t, "doomed")
	if left := as[corev1.ConfigMapList](t, do(t, 200, request{path: ns + "/configmaps"})); len(left.Items) != 0 {
		t.Errorf("the next namespace of the name inherits %d objects", len(left.Items))
	}
}

// Deleting a collection of namespaces would drop them without emptying them,
// the ones among them that cannot be deleted included.
func TestNamespacesAreNotDeletedTogether(t *testing.T) {
	t.Parallel()
	newNamespace(t, "together")
	do(t, 405, request{method: "DELETE", path: "/api/v1/namespaces"})
	do(t, 405, request{method: "DELETE", path: "/api/v1/namespaces?fieldSelector=metadata.name%3Dtogether"})
	do(t, 200, request{path: "/api/v1/namespaces/together"})
	resources := as[metav1.APIResourceList](t, do(t, 200, request{path: "/api/v1"}))
	for _, r := range resources.APIResources {
		for _, v := range r.Verbs {
			if r.Name == "namespaces" && v == "deletecollection" {
				t.Error("discovery offers it")
			}
		}
	}
}

func TestSecretsAreSealed(t *testing.T) {
	t.Parallel()
	// Its own server, because the library's cache of a kind stumbles over what
	// this test plants.
	ctx, cancel := context.WithCancel(context.Background())
	own, stop, err := serve(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); stop() }()
	const ns = "/api/v1/namespaces/sealed"
	own.do(t, 201, request{method: "POST", path: "/api/v1/namespaces", body: &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "sealed"}}})
	const clear = "correct horse battery staple"
	put := func(name string) {
		own.do(t, 201, request{method: "POST", path: ns + "/secrets", body: &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: name}, StringData: map[string]string{"k": clear + name},
		}})
	}
	put("a")
	put("b")
	key := func(name string) string { return "/registry/secrets/sealed/" + name }
	stored := func(name string) string {
		got, err := own.client.Get(t.Context(), key(name))
		if err != nil || len(got.Kvs) != 1 {
			t.Fatalf("etcd: %v %v", got, err)
		}
		return string(got.Kvs[0].Value)
	}
	if v := stored("a"); strings.Contains(v, clear) || !strings.HasPrefix(v, "gatehouse:sealed:v1:") {
		t.Errorf("etcd holds %q", v)
	}
	read := func(name string) int {
		// Without a resourceVersion the object is read from etcd.
		a, err := own.send(t.Context(), request{path: ns + "/secrets/" + name})
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(a.body), clear) {
			t.Errorf("%s: %s", name, a.body)
		}
		return a.code
	}
	// Who can write to etcd copies a's secret to a place that he may read.
	if _, err := own.client.Put(t.Context(), key("b"), stored("a")); err != nil {
		t.Fatal(err)
	}
	if code := read("b"); code != 500 {
		t.Errorf("a value under another's key: %d", code)
	}
	if _, err := own.client.Put(t.Context(), key("c"), stored("a")); err != nil {
		t.Fatal(err)
	}
	if code := read("c"); code != 500 {
		t.Errorf("a value under a new key: %d", code)
	}
	// He plants one in clear text.
	plain, err := json.Marshal(&corev1.Secret{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, ObjectMeta: metav1.ObjectMeta{Name: "d", Namespace: "sealed"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := own.client.Put(t.Context(), key("d"), string(plain)); err != nil {
		t.Fatal(err)
	}
	if code := read("d"); code != 500 {
		t.Errorf("a value in clear text: %d", code)
	}
	for _, name := range []string{"b", "c", "d"} {
		if _, err := own.client.Delete(t.Context(), key(name)); err != nil {
			t.Fatal(err)
		}
	}
	if got := as[corev1.Secret](t, own.do(t, 200, request{path: ns + "/secrets/a"})); string(got.Data["k"]) != clear+"a" {
		t.Errorf("the secret reads %q", got.Data)
	}
}

func TestEventsEnd(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t, "events")
	do(t, 201, request{method: "POST", path: ns + "/events", body: &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Name: "e"}, InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: "events", Name: "p"}, Reason: "R", Type: "Normal",
	}})
	got, err := shared.client.Get(t.Context(), "/registry/events/events/e")
	if err != nil || len(got.Kvs) != 1 || got.Kvs[0].Lease == 0 {
		t.Fatalf("an event without an end: %v %v", got, err)
	}
	left, err := shared.client.TimeToLive(t.Context(), clientv3.LeaseID(got.Kvs[0].Lease))
	if err != nil || left.TTL < 60 || left.TTL > 2*60*60 {
		t.Errorf("it lives for %+v, %v", left, err)
	}
}

func wild(name string) *rbacv1.ClusterRole {
	return &rbacv1.ClusterRole{
		TypeMeta:   metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "ClusterRole"},
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Rules:      []rbacv1.PolicyRule{{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}}},
	}
}

// The check of what a role grants runs on every way to write one.
func TestEscalationIsRefusedOnEveryWay(t *testing.T) {
	t.Parallel()
	const roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
	small := wild("small")
	small.Rules[0].Verbs = []string{"get"}
	do(t, 201, request{as: climber, method: "POST", path: roles, body: small})
	rules := `"rules":[{"verbs":["*"],"apiGroups":["*"],"resources":["*"]}]`
	whole := `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"NAME"},` + rules + `}`
	named := func(name string) string { return strings.ReplaceAll(whole, "NAME", name) }
	for name, r := range map[string]request{
		"create":              {method: "POST", path: roles, body: wild("made")},
		"generated name":      {method: "POST", path: roles, body: strings.ReplaceAll(whole, `"name":"NAME"`, `"generateName":"made-"`)},
		"put over":            {method: "PUT", path: roles + "/small", body: named("small")},
		"put to create":       {method: "PUT", path: roles + "/made", body: named("made")},
		"merge patch":         {method: "PATCH", path: roles + "/small", mediaType: "application/merge-patch+json", body: "{" + rules + "}"},
		"JSON patch":          {method: "PATCH", path: roles + "/small", mediaType: "application/json-patch+json", body: `[{"op":"replace","path":"/rules/0/verbs","value":["*"]}]`},
		"strategic patch":     {method: "PATCH", path: roles + "/small", mediaType: "application/strategic-merge-patch+json", body: "{" + rules + "}"},
		"apply over":          {method: "PATCH", path: roles + "/small?fieldManager=m&force=true", mediaType: "application/apply-patch+yaml", body: named("small")},
		"apply to create":     {method: "PATCH", path: roles + "/made?fieldManager=m", mediaType: "application/apply-patch+yaml", body: named("made")},
		"dry create":          {method: "POST", path: roles + "?dryRun=All", body: wild("made")},
		"in another encoding": {method: "POST", path: roles, mediaType: "application/yaml", body: named("made")},
	} {
		r.as = climber
		a, err := shared.send(t.Context(), r)
		if err != nil || a.code != 403 || !strings.Contains(string(a.body), "grant more") {
			t.Errorf("%s: %d %s %v", name, a.code, a.body, err)
		}
	}
	if got := as[rbacv1.ClusterRole](t, do(t, 200, request{path: roles + "/small"})); got.Rules[0].Verbs[0] != "get" {
		t.Errorf("a refused change was stored: %+v", got.Rules)
	}
	do(t, 404, request{path: roles + "/made"})
}

// sink notes the names it is told.
type sink struct{ told chan string }

func (s sink) Replace(objs []resource.Object) error {
	for _, o := range objs {
		s.told <- "have " + o.GetName()
	}
	return nil
}
func (s sink) Put(o resource.Object) error {
	s.told <- "put " + o.(*corev1.ServiceAccount).Name
	return nil
}
func (s sink) Delete(o resource.Object) error {
	s.told <- "delete " + o.(*corev1.ServiceAccount).Name
	return nil
}

// The feed hands out the objects themselves, not the watch cache's wrapping.
func TestFeedSeesChanges(t *testing.T) {
	t.Parallel()
	accounts := newNamespace(t, "fed") + "/serviceaccounts"
	s := sink{make(chan string, 64)}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	synced, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- shared.frame.Follow(ctx, schema.GroupResource{Resource: "serviceaccounts"}, s, func() { close(synced) })
	}()
	<-synced
	do(t, 201, request{method: "POST", path: accounts, body: &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "fed-robot"}}})
	do(t, 200, request{method: "DELETE", path: accounts + "/fed-robot"})
	for _, want := range []string{"put fed-robot", "delete fed-robot"} {
		for got := ""; got != want; {
			select {
			case got = <-s.told:
			case err := <-ended:
				t.Fatalf("the feed ended: %v", err)
			}
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := shared.frame.Follow(t.Context(), schema.GroupResource{Resource: "nothings"}, s, nil); err == nil {
		t.Error("followed a kind that does not exist")
	}
}

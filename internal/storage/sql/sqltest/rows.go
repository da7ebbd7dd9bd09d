package sqltest

import (
	"context"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/storage/sql"
)

func testLifecycle(t *testing.T, e Engine) {
	tab, ctx := findings(t, e), t.Context()
	key := sql.Key{Namespace: "team-a", Name: "f1"}
	_, err := tab.Get(ctx, key)
	wantFault(t, err, fault.NotFound)

	in := row("team-a", "f1", finding{Severity: "High", Asset: "web"}, "app", "shop")
	in.Owners = []string{"owner-1"}
	in.Fields = map[string]string{"spec.severity": "forged"}
	created := mustCreate(t, tab, in)
	if created.Revision <= 0 || !created.Created.Equal(clock.Truncate(time.Microsecond)) {
		t.Errorf("created with revision %d at %v", created.Revision, created.Created)
	}
	if got := created.Fields["spec.severity"]; got != "High" {
		t.Errorf("derived severity %q", got)
	}
	got, err := tab.Get(ctx, key)
	if err != nil || !reflect.DeepEqual(got, created) {
		t.Errorf("get = %+v, %v\nwant %+v", got, err, created)
	}
	_, err = tab.Create(ctx, in)
	wantFault(t, err, fault.Conflict)

	change := row("team-a", "f1", finding{Severity: "Low"}, "app", "bank")
	change.UID, change.Created = "another", clock.Add(time.Hour)
	updated, err := tab.Update(ctx, change, sql.Precondition{Revision: created.Revision})
	if err != nil {
		t.Fatal(err)
	}
	if updated.UID != created.UID || !updated.Created.Equal(created.Created) || updated.Revision <= created.Revision {
		t.Errorf("updated = %+v", updated)
	}
	if got, err = tab.Get(ctx, key); err != nil || !reflect.DeepEqual(got, updated) {
		t.Errorf("get = %+v, %v\nwant %+v", got, err, updated)
	}
	deleted, err := tab.Delete(ctx, key, sql.Precondition{UID: created.UID, Revision: updated.Revision})
	if err != nil || !reflect.DeepEqual(deleted, updated) {
		t.Errorf("delete = %+v, %v", deleted, err)
	}
	_, err = tab.Get(ctx, key)
	wantFault(t, err, fault.NotFound)
	_, err = tab.Update(ctx, change, sql.Precondition{})
	wantFault(t, err, fault.NotFound)
	_, err = tab.Delete(ctx, key, sql.Precondition{})
	wantFault(t, err, fault.NotFound)
	if again := mustCreate(t, tab, in); again.Revision <= updated.Revision {
		t.Errorf("revision %d was given again after %d", again.Revision, updated.Revision)
	}
}

func testFidelity(t *testing.T, e Engine) {
	tab := table(t, open(t, e), "archives")
	everyByte := make([]byte, 256)
	for i := range everyByte {
		everyByte[i] = byte(i)
	}
	for name, r := range map[string]sql.Row{
		"bytes":   {Payload: everyByte},
		"empty":   {Payload: []byte{}},
		"largest": {Payload: []byte(strings.Repeat("x", 1024))},
		"labels": {Payload: []byte(`{"a": 1.0, "a":2}`), Labels: map[string]string{
			"example.org/quote'": `"\`, "ключ": "日本", "empty": "", "1": "[0]", "$.x": "%"}},
		"owners": {Owners: []string{"b", "a", "b"}},
	} {
		r.Name, r.UID = name, "u-"+name
		r.Created = time.Date(2001, 2, 3, 4, 5, 6, 7000, time.FixedZone("x", 3600))
		mustCreate(t, tab, r)
		got, err := tab.Get(t.Context(), r.Key)
		if err != nil {
			t.Fatal(err)
		}
		if string(got.Payload) != string(r.Payload) || got.UID != r.UID || !got.Created.Equal(r.Created) || got.Created.Location() != time.UTC {
			t.Errorf("%s: got %+v", name, got)
		}
		if !reflect.DeepEqual(got.Labels, r.Labels) || !reflect.DeepEqual(got.Owners, r.Owners) {
			t.Errorf("%s: labels %q, owners %q", name, got.Labels, got.Owners)
		}
		for key, value := range r.Labels {
			if found := all(t, tab, sql.ListOptions{Labels: []sql.Requirement{{Name: key, Op: sql.In, Values: []string{value}}}}); len(found) != 1 {
				t.Errorf("label %q=%q finds %d rows", key, value, len(found))
			}
		}
	}
}

func testBadRows(t *testing.T, e Engine) {
	db := open(t, e)
	good := row("team-a", "f", finding{})
	for name, c := range map[string]struct {
		kind string
		edit func(*sql.Row)
		want string // in the public text
	}{
		"no name":           {"findings", func(r *sql.Row) { r.Name = "" }, "metadata.name"},
		"long name":         {"findings", func(r *sql.Row) { r.Name = strings.Repeat("a", 254) }, "metadata.name"},
		"NUL in name":       {"findings", func(r *sql.Row) { r.Name = "a\x00" }, "metadata.name"},
		"name not UTF-8":    {"findings", func(r *sql.Row) { r.Name = "a\xff" }, "metadata.name"},
		"no namespace":      {"findings", func(r *sql.Row) { r.Namespace = "" }, "metadata.namespace"},
		"long namespace":    {"findings", func(r *sql.Row) { r.Namespace = strings.Repeat("a", 64) }, "metadata.namespace"},
		"foreign namespace": {"archives", func(r *sql.Row) {}, "metadata.namespace"},
		"no UID":            {"findings", func(r *sql.Row) { r.UID = "" }, "metadata.uid"},
		"label NUL":         {"findings", func(r *sql.Row) { r.Labels = map[string]string{"a": "\x00"} }, "metadata.labels"},
		"label not UTF-8":   {"findings", func(r *sql.Row) { r.Labels = map[string]string{"a\xc0": ""} }, "metadata.labels"},
		"long label":        {"findings", func(r *sql.Row) { r.Labels = map[string]string{"a": strings.Repeat("b", 64)} }, "metadata.labels"},
		"empty label key":   {"findings", func(r *sql.Row) { r.Labels = map[string]string{"": "b"} }, "metadata.labels"},
		"empty owner":       {"findings", func(r *sql.Row) { r.Owners = []string{""} }, "metadata.ownerReferences"},
		"large payload":     {"archives", func(r *sql.Row) { r.Namespace, r.Payload = "", make([]byte, 1025) }, "1024 bytes"},
		"not derivable":     {"findings", func(r *sql.Row) { r.Payload = []byte("{") }, "not a finding"},
		"long field":        {"findings", func(r *sql.Row) { r.Payload = []byte(`{"asset":"` + strings.Repeat("x", 1025) + `"}`) }, "spec.asset"},
		"NUL in field":      {"findings", func(r *sql.Row) { r.Payload = []byte(`{"asset":"\u0000"}`) }, "spec.asset"},
	} {
		t.Run(name, func(t *testing.T) {
			tab := table(t, db, c.kind)
			bad := good
			c.edit(&bad)
			_, err := tab.Create(t.Context(), bad)
			wantFault(t, err, fault.Invalid)
			if !strings.Contains(fault.Public(err), c.want) {
				t.Errorf("public text %q does not name %q", fault.Public(err), c.want)
			}
			_, err = tab.Upsert(t.Context(), []sql.Row{bad})
			wantFault(t, err, fault.Invalid)
			if !strings.Contains(fault.Public(err), "row 0") {
				t.Errorf("public text %q does not name the row", fault.Public(err))
			}
			if bad.UID != "" { // Update does not need one
				_, err = tab.Update(t.Context(), bad, sql.Precondition{})
				wantFault(t, err, fault.Invalid)
			}
		})
	}
	for _, kind := range []string{"findings", "archives"} {
		if rows := all(t, table(t, db, kind), sql.ListOptions{}); len(rows) != 0 {
			t.Errorf("%s: refused rows were stored: %v", kind, names(rows))
		}
	}
}

func testPreconditions(t *testing.T, e Engine) {
	tab, ctx := findings(t, e), t.Context()
	r := mustCreate(t, tab, row("n", "a", finding{}))
	for name, pre := range map[string]sql.Precondition{
		"other UID":      {UID: "x"},
		"other revision": {Revision: r.Revision + 1},
		"right UID only": {UID: r.UID, Revision: r.Revision + 1},
		"right revision": {UID: "x", Revision: r.Revision},
	} {
		_, err := tab.Update(ctx, row("n", "a", finding{Severity: "Low"}), pre)
		if fault.KindOf(err) != fault.Conflict {
			t.Errorf("%s: update: %v", name, err)
		}
		if _, err := tab.Delete(ctx, r.Key, pre); fault.KindOf(err) != fault.Conflict {
			t.Errorf("%s: delete: %v", name, err)
		}
	}
	if got, err := tab.Get(ctx, r.Key); err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("a refused change left %+v, %v", got, err)
	}
}

func testKindsAreSeparate(t *testing.T, e Engine) {
	db := open(t, e)
	f, a := table(t, db, "findings"), table(t, db, "archives")
	mustCreate(t, f, row("n", "x", finding{}, "l", "1"))
	mustCreate(t, a, sql.Row{Key: sql.Key{Name: "x"}, UID: "u", Labels: map[string]string{"l": "1"}})
	if _, err := a.Delete(t.Context(), sql.Key{Name: "x"}, sql.Precondition{}); err != nil {
		t.Fatal(err)
	}
	byLabel := sql.ListOptions{Labels: []sql.Requirement{{Name: "l", Op: sql.Exists}}}
	if got := names(all(t, f, byLabel)); !reflect.DeepEqual(got, []string{"n/x"}) {
		t.Errorf("findings: %v", got)
	}
	if got := all(t, a, byLabel); len(got) != 0 {
		t.Errorf("archives: %v", names(got))
	}
	if _, err := db.Table("unknown"); err == nil {
		t.Error("an undeclared kind has a table")
	}
}

func testReopen(t *testing.T, e Engine) {
	config := e.New(t)
	first := reopen(t, config, Findings())
	r := mustCreate(t, table(t, first, "findings"), row("n", "a", finding{Severity: "High"}, "l", "v"))
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	// A kind is added; the other stays as it was.
	second := reopen(t, config, Archives(), Findings())
	tab := table(t, second, "findings")
	if got, err := tab.Get(t.Context(), r.Key); err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("after reopening: %+v, %v", got, err)
	}
	if later := mustCreate(t, tab, row("n", "b", finding{})); later.Revision <= r.Revision {
		t.Errorf("revision %d follows %d", later.Revision, r.Revision)
	}
	mustCreate(t, table(t, second, "archives"), sql.Row{Key: sql.Key{Name: "x"}, UID: "u"})
	if err := second.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	if err := second.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

func testCancelled(t *testing.T, e Engine) {
	tab := findings(t, e)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := tab.Create(ctx, row("n", "a", finding{}))
	wantFault(t, err, fault.Unavailable)
	_, err = tab.Upsert(ctx, []sql.Row{row("n", "a", finding{})})
	wantFault(t, err, fault.Unavailable)
	_, err = tab.Get(ctx, sql.Key{Namespace: "n", Name: "a"})
	wantFault(t, err, fault.Unavailable)
	_, err = tab.List(ctx, sql.ListOptions{})
	wantFault(t, err, fault.Unavailable)
	if rows := all(t, tab, sql.ListOptions{}); len(rows) != 0 {
		t.Errorf("stored: %v", names(rows))
	}
	expired, cancel := context.WithTimeout(t.Context(), -1)
	defer cancel()
	_, err = tab.Delete(expired, sql.Key{Namespace: "n", Name: "a"}, sql.Precondition{})
	wantFault(t, err, fault.Unavailable)
}

func testRederive(t *testing.T, e Engine) {
	config := e.New(t)
	old := reopen(t, config, Findings())
	tab := table(t, old, "findings")
	var rows []sql.Row
	for i := range 450 { // more than two batches
		rows = append(rows, row("n", name(i), finding{Severity: "High", Asset: "web", Text: []string{"odd", "even"}[i%2]}))
	}
	mustUpsert(t, tab, rows)

	next := Findings()
	next.Version, next.Fields = 2, []string{"spec.severity", "spec.text"}
	next.Derive = func(r *sql.Row) (map[string]string, error) {
		text := "even"
		if strings.Contains(string(r.Payload), `"odd"`) {
			text = "odd"
		}
		return map[string]string{"spec.text": text, "spec.severity": "High"}, nil
	}
	upgraded := table(t, reopen(t, config, next), "findings")
	for field, want := range map[[2]string]int{{"spec.text", "odd"}: 225, {"spec.text", "x"}: 0, {"spec.severity", "High"}: 450} {
		opts := sql.ListOptions{Fields: []sql.Requirement{{Name: field[0], Op: sql.In, Values: []string{field[1]}}}}
		if got := len(all(t, upgraded, opts)); got != want {
			t.Errorf("%v finds %d rows, want %d", field, got, want)
		}
	}
	// The program of the old version must write no more, and must not start.
	_, err := tab.Create(t.Context(), row("n", "late", finding{}))
	wantFault(t, err, fault.Unavailable)
	config.Kinds = []sql.Kind{Findings()}
	if db, err := sql.Open(t.Context(), config); err == nil || !strings.Contains(err.Error(), "newer version") {
		if db != nil {
			db.Close()
		}
		t.Errorf("the old version opens the new database: %v", err)
	}
}

// Package sqltest is the conformance suite of package sql: what every engine
// must do, stated once and run on each.
//
// It owns: the cases, and the two kinds they use, which show what a descriptor
// is. It refuses: knowledge of an engine.
//
// Start at [Run].
package sqltest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/storage/sql"
)

// Engine is what the suite runs on.
type Engine struct {
	Name string
	// New returns the configuration of a new, empty database that lasts as
	// long as the test.
	New func(testing.TB) sql.Config
}

// Run runs the suite.
func Run(t *testing.T, e Engine) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, Engine)
	}{
		{"Lifecycle", testLifecycle},
		{"RowsKeepEveryByte", testFidelity},
		{"BadRowsAreRefused", testBadRows},
		{"Preconditions", testPreconditions},
		{"KindsAreSeparate", testKindsAreSeparate},
		{"Reopen", testReopen},
		{"UpsertOutcomes", testUpsertOutcomes},
		{"UpsertIsAllOrNothing", testUpsertAtomic},
		{"UpsertBounds", testUpsertBounds},
		{"CancelledWritesNothing", testCancelled},
		{"ConcurrentUpdatesLoseNothing", testConcurrentUpdates},
		{"ConcurrentUpserts", testConcurrentUpserts},
		{"ConcurrentCreatesOfOneKey", testConcurrentCreates},
		{"ListOrderAndPages", testListPages},
		{"ListUnderConcurrentWrites", testListStable},
		{"ListAgainstModel", testListModel},
		{"ListFieldsAndOwners", testListFields},
		{"BadSelectorsAreRefused", testBadSelectors},
		{"ContinueTokens", testContinueTokens},
		{"PagesAreBounded", testPagesBounded},
		{"DeletePage", testDeletePage},
		{"FieldsAreDerivedAnew", testRederive},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t, e)
		})
	}
}

// finding is the payload of the first kind.
type finding struct {
	Severity string `json:"severity,omitempty"`
	Asset    string `json:"asset,omitempty"`
	Text     string `json:"text,omitempty"`
}

// Findings is a namespaced kind with two fields.
func Findings() sql.Kind {
	return sql.Kind{
		Name: "findings", Namespaced: true, Version: 1,
		Fields: []string{"spec.severity", "spec.asset"},
		Derive: func(row *sql.Row) (map[string]string, error) {
			var f finding
			if err := json.Unmarshal(row.Payload, &f); err != nil {
				return nil, fault.Wrap(fault.Invalid, "spec: not a finding", err)
			}
			return map[string]string{"spec.severity": f.Severity, "spec.asset": f.Asset}, nil
		},
	}
}

// Archives is a kind without namespaces or fields and with small opaque
// payloads: all that it costs is this descriptor.
func Archives() sql.Kind {
	return sql.Kind{Name: "archives", Version: 1, MaxPayload: 1024}
}

// open opens the database of a new configuration with both kinds.
func open(t testing.TB, e Engine) *sql.DB {
	t.Helper()
	return reopen(t, e.New(t), Findings(), Archives())
}

func reopen(t testing.TB, config sql.Config, kinds ...sql.Kind) *sql.DB {
	t.Helper()
	config.Kinds = kinds
	db, err := sql.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return db
}

func table(t testing.TB, db *sql.DB, kind string) *sql.Table {
	t.Helper()
	tab, err := db.Table(kind)
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

func findings(t testing.TB, e Engine) *sql.Table {
	t.Helper()
	return table(t, open(t, e), "findings")
}

// row builds a finding. pairs are label keys and values in turn.
func row(namespace, name string, f finding, pairs ...string) sql.Row {
	payload, err := json.Marshal(f)
	if err != nil {
		panic(err) // a struct of strings always encodes
	}
	r := sql.Row{Key: sql.Key{Namespace: namespace, Name: name}, UID: "uid-" + namespace + "-" + name, Payload: payload}
	for i := 0; i+1 < len(pairs); i += 2 {
		if r.Labels == nil {
			r.Labels = map[string]string{}
		}
		r.Labels[pairs[i]] = pairs[i+1]
	}
	return r
}

func mustCreate(t testing.TB, tab *sql.Table, r sql.Row) sql.Row {
	t.Helper()
	out, err := tab.Create(t.Context(), r)
	if err != nil {
		t.Fatalf("create %v: %v", r.Key, err)
	}
	return out
}

func mustUpsert(t testing.TB, tab *sql.Table, rows []sql.Row) []sql.Upserted {
	t.Helper()
	out, err := tab.Upsert(t.Context(), rows)
	if err != nil {
		t.Fatalf("upsert %d rows: %v", len(rows), err)
	}
	return out
}

func wantFault(t testing.TB, err error, kind fault.Kind) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one of kind %v", kind)
	}
	if got := fault.KindOf(err); got != kind {
		t.Fatalf("error %q has kind %v, want %v", err, got, kind)
	}
	if fault.Public(err) == "" {
		t.Fatalf("error %q has no public text", err)
	}
	// Nothing of a driver must be reachable from above.
	for e := err; e != nil; e = errors.Unwrap(e) {
		if name := fmt.Sprintf("%T", e); bytes.Contains([]byte(name), []byte("sqlite")) || bytes.Contains([]byte(name), []byte("pgconn")) {
			t.Fatalf("error %q wraps the driver's type %s", err, name)
		}
	}
}

// all returns every row that opts select, page by page.
func all(t testing.TB, tab *sql.Table, opts sql.ListOptions) []sql.Row {
	t.Helper()
	var rows []sql.Row
	for pages := 0; ; pages++ {
		page, err := tab.List(t.Context(), opts)
		if err != nil {
			t.Fatalf("list %+v: %v", opts, err)
		}
		if opts.Limit > 0 && len(page.Rows) > opts.Limit {
			t.Fatalf("page of %d rows, the limit is %d", len(page.Rows), opts.Limit)
		}
		rows = append(rows, page.Rows...)
		if page.Continue == "" {
			return rows
		}
		if pages > 10000 {
			t.Fatal("the list does not end")
		}
		opts.Continue = page.Continue
	}
}

func names(rows []sql.Row) []string {
	list := []string{}
	for _, r := range rows {
		list = append(list, r.Namespace+"/"+r.Name)
	}
	return list
}

// clock is the time that stored rows get from the suite's configurations.
var clock = time.Date(2026, 3, 4, 5, 6, 7, 891234567, time.UTC)

// Now is the clock for [Engine.New].
func Now() time.Time { return clock }

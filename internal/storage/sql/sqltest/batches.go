package sqltest

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/storage/sql"
)

func name(i int) string { return fmt.Sprintf("f-%06d", i) }

func testUpsertOutcomes(t *testing.T, e Engine) {
	tab := findings(t, e)
	if out := mustUpsert(t, tab, nil); len(out) != 0 {
		t.Errorf("an empty batch gives %v", out)
	}
	a, b, c := row("n", "a", finding{Severity: "Low"}, "l", "1"), row("n", "b", finding{}), row("m", "c", finding{})
	first := mustUpsert(t, tab, []sql.Row{b, a})
	for i, uid := range []string{b.UID, a.UID} {
		if first[i].Outcome != sql.Created || first[i].UID != uid || first[i].Revision != first[0].Revision {
			t.Errorf("row %d: %+v", i, first[i])
		}
	}
	changed := row("n", "a", finding{Severity: "High"}, "l", "2")
	changed.UID = "ignored"
	second := mustUpsert(t, tab, []sql.Row{c, changed, b})
	want := []sql.Upserted{
		{Outcome: sql.Created, UID: c.UID, Revision: second[0].Revision},
		{Outcome: sql.Updated, UID: a.UID, Revision: second[0].Revision},
		{Outcome: sql.Unchanged, UID: b.UID, Revision: first[0].Revision},
	}
	if !reflect.DeepEqual(second, want) || second[0].Revision <= first[0].Revision {
		t.Errorf("got %+v\nwant %+v", second, want)
	}
	for selector, count := range map[string]int{"1": 0, "2": 1} {
		if rows := all(t, tab, sql.ListOptions{Labels: []sql.Requirement{{Name: "l", Op: sql.In, Values: []string{selector}}}}); len(rows) != count {
			t.Errorf("label l=%s finds %v", selector, names(rows))
		}
	}
	// Each kind of difference alone is an update.
	for what, edit := range map[string]func(*sql.Row){
		"label added": func(r *sql.Row) { r.Labels = map[string]string{"new": ""} },
		"owner added": func(r *sql.Row) { r.Owners = []string{"o"} },
		"payload":     func(r *sql.Row) { r.Payload = []byte(`{"text":"t"}`) },
	} {
		r := row("n", "diff", finding{})
		mustUpsert(t, tab, []sql.Row{r})
		edit(&r)
		if out := mustUpsert(t, tab, []sql.Row{r}); out[0].Outcome != sql.Updated {
			t.Errorf("%s: %+v", what, out)
		}
		if out := mustUpsert(t, tab, []sql.Row{r}); out[0].Outcome != sql.Unchanged {
			t.Errorf("%s, repeated: %+v", what, out)
		}
	}
}

func testUpsertAtomic(t *testing.T, e Engine) {
	tab := findings(t, e)
	mustCreate(t, tab, row("n", "old", finding{Severity: "Low"}))
	good := []sql.Row{row("n", "a", finding{}), row("n", "old", finding{Severity: "High"})}
	for what, bad := range map[string]sql.Row{"repeated key": good[0], "bad row": row("", "x", finding{})} {
		_, err := tab.Upsert(t.Context(), append(good[:2:2], bad))
		wantFault(t, err, fault.Invalid)
		if rows := all(t, tab, sql.ListOptions{}); len(rows) != 1 || rows[0].Fields["spec.severity"] != "Low" {
			t.Errorf("%s: the refused batch left %+v", what, rows)
		}
	}
}

func testUpsertBounds(t *testing.T, e Engine) {
	tab := findings(t, e)
	rows := make([]sql.Row, sql.MaxBatchRows+1)
	for i := range rows {
		rows[i] = row("n", name(i), finding{})
	}
	_, err := tab.Upsert(t.Context(), rows)
	wantFault(t, err, fault.Invalid)
	big := finding{Text: strings.Repeat("x", sql.DefaultMaxPayload-100)}
	var heavy []sql.Row
	for i := range sql.MaxBatchBytes/(sql.DefaultMaxPayload-100) + 1 {
		heavy = append(heavy, row("n", name(i), big))
	}
	_, err = tab.Upsert(t.Context(), heavy)
	wantFault(t, err, fault.Invalid)
	if got := all(t, tab, sql.ListOptions{}); len(got) != 0 {
		t.Errorf("a batch beyond the bounds left %d rows", len(got))
	}
	if out := mustUpsert(t, tab, rows[:sql.MaxBatchRows]); len(out) != sql.MaxBatchRows {
		t.Errorf("the largest batch gives %d results", len(out))
	}
}

// testConcurrentUpdates counts in one row from many goroutines, as a client
// does that reads, changes and writes back with the revision it read.
func testConcurrentUpdates(t *testing.T, e Engine) {
	tab := findings(t, e)
	mustCreate(t, tab, row("n", "counter", finding{Text: "0"}))
	const writers, each = 8, 10
	count := func(ctx context.Context) error {
		for {
			r, err := tab.Get(ctx, sql.Key{Namespace: "n", Name: "counter"})
			if err != nil {
				return err
			}
			var f finding
			if err := json.Unmarshal(r.Payload, &f); err != nil {
				return err
			}
			n, err := strconv.Atoi(f.Text)
			if err != nil {
				return err
			}
			_, err = tab.Update(ctx, row("n", "counter", finding{Text: strconv.Itoa(n + 1)}), sql.Precondition{Revision: r.Revision})
			if fault.KindOf(err) == fault.Conflict {
				continue
			}
			return err
		}
	}
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				if err := count(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	r, err := tab.Get(t.Context(), sql.Key{Namespace: "n", Name: "counter"})
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf(`{"text":"%d"}`, writers*each); string(r.Payload) != want {
		t.Errorf("counted %s, want %s", r.Payload, want)
	}
}

// testConcurrentUpserts lets batches overlap: all succeed, every batch is seen
// whole, and the posting lists agree with the rows.
func testConcurrentUpserts(t *testing.T, e Engine) {
	tab := findings(t, e)
	const writers, rounds, size = 6, 5, 40
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for round := range rounds {
				var rows []sql.Row
				mark := fmt.Sprintf("w%d-%d", w, round)
				for i := range size {
					rows = append(rows, row("n", name((w*7+size-i)%(2*size)), finding{Asset: mark}, "writer", mark))
				}
				out, err := tab.Upsert(t.Context(), rows)
				if err != nil {
					t.Errorf("writer %d: %v", w, err)
					return
				}
				for _, u := range out {
					if u.Revision != out[0].Revision {
						t.Errorf("one batch has the revisions %d and %d", u.Revision, out[0].Revision)
					}
				}
			}
		})
	}
	wg.Wait()
	seen := 0
	for w := range writers {
		for round := range rounds {
			mark := fmt.Sprintf("w%d-%d", w, round)
			byLabel := all(t, tab, sql.ListOptions{Labels: []sql.Requirement{{Name: "writer", Op: sql.In, Values: []string{mark}}}})
			byField := all(t, tab, sql.ListOptions{Fields: []sql.Requirement{{Name: "spec.asset", Op: sql.In, Values: []string{mark}}}})
			if !reflect.DeepEqual(byLabel, byField) {
				t.Errorf("%s: by label %v, by field %v", mark, names(byLabel), names(byField))
			}
			seen += len(byLabel)
		}
	}
	if rows := all(t, tab, sql.ListOptions{}); seen != len(rows) {
		t.Errorf("the index knows %d rows, the table %d", seen, len(rows))
	}
}

func testConcurrentCreates(t *testing.T, e Engine) {
	tab := findings(t, e)
	var wg sync.WaitGroup
	results := make([]error, 12)
	for i := range results {
		wg.Go(func() {
			r := row("n", "one", finding{}, "creator", strconv.Itoa(i))
			_, results[i] = tab.Create(t.Context(), r)
		})
	}
	wg.Wait()
	won := 0
	for _, err := range results {
		if err == nil {
			won++
			continue
		}
		wantFault(t, err, fault.Conflict)
	}
	if rows := all(t, tab, sql.ListOptions{Labels: []sql.Requirement{{Name: "creator", Op: sql.Exists}}}); won != 1 || len(rows) != 1 {
		t.Errorf("%d creators won, %d rows", won, len(rows))
	}
}

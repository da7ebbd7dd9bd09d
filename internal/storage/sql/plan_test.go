package sql

import (
	"context"
	stdsql "database/sql"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

var discard = slog.New(slog.DiscardHandler)

// TestListsWalkIndexes looks at the plans of the statements that a list is
// made of: none may read a table from end to end or sort what it read.
func TestListsWalkIndexes(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, config Config) {
		db, table := openNotes(t, config)
		var rows []Row
		for i := range 3000 {
			rows = append(rows, note(fmt.Sprintf("n-%05d", i), []string{"open", "closed"}[i%2]))
		}
		if _, err := table.Upsert(t.Context(), rows); err != nil {
			t.Fatal(err)
		}
		if config.SQLite == "" {
			if _, err := db.writer.ExecContext(t.Context(), "ANALYZE"); err != nil {
				t.Fatal(err)
			}
		}
		explain := "EXPLAIN "
		if config.SQLite != "" {
			explain = "EXPLAIN QUERY PLAN "
		}
		for _, namespace := range []string{"", "n"} {
			err := db.read(t.Context(), func(ctx context.Context, tx *stdsql.Tx) error {
				w := &walk{table: table, tx: tx, q: &query{namespace: namespace}}
				after := Key{namespace, "n-00007"}
				where, args := w.behind(after)
				statements := map[string][]any{
					"SELECT " + columns + " FROM k_notes WHERE " + where + " ORDER BY namespace, name LIMIT $3": append(args, 100),
				}
				// Two lists with half of the rows each, and one that no
				// statistics know.
				lists := []int64{term(termLabelValue, "state", "open"), term(termLabelValue, "state", "closed"), 3}
				for n := 1; n <= 3; n++ {
					query, args := w.merged(lists[3-n:], after, 100)
					statements[query] = args
				}
				for statement, args := range statements {
					plan, err := planOf(ctx, tx, explain+statement, args)
					if err != nil {
						return err
					}
					for _, bad := range []string{"SCAN k_notes", "TEMP B-TREE", "Seq Scan", "Sort "} {
						if strings.Contains(plan, bad) {
							t.Errorf("%s\nhas the plan\n%s", statement, plan)
						}
					}
				}
				if config.SQLite != "" {
					return nil
				}
				names := []string{"n-00001", "n-00002", "n-00003"}
				plan, err := planOf(ctx, tx, explain+postgresEngine{}.lookupQuery("k_notes", false), []any{[]string{"n", "n", "n"}, names})
				if err == nil && !strings.Contains(plan, "Index Cond: ((namespace = (k.n)::text) AND (name = (k.m)::text))") {
					t.Errorf("the lookup has the plan\n%s", plan)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	})
}

func planOf(ctx context.Context, tx *stdsql.Tx, statement string, args []any) (string, error) {
	rows, err := tx.QueryContext(ctx, statement, args...)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return "", err
	}
	var plan strings.Builder
	for rows.Next() {
		values, into := make([]any, len(names)), make([]any, len(names))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			return "", err
		}
		fmt.Fprintln(&plan, values[len(values)-1])
	}
	return plan.String(), rows.Err()
}

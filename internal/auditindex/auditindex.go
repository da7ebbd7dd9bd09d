// Package auditindex keeps the index of the audit log in SQL, SQLite or
// PostgreSQL: the storage behind [index.Store].
//
// It owns: the kind of its rows. It refuses: knowing what a row means.
package auditindex

import (
	"context"
	"fmt"
	"strconv"

	"github.com/gatehouse-dev/gatehouse/internal/audit/index"
	"github.com/gatehouse-dev/gatehouse/internal/storage/sql"
)

// Kind is what the database must be opened with.
func Kind() sql.Kind { return sql.Kind{Name: "audit_index", Namespaced: true, Version: 1} }

// Store is an index.Store.
type Store struct{ table *sql.Table }

var _ index.Store = Store{}

// New returns the store in a database.
func New(db *sql.DB) (Store, error) {
	t, err := db.Table(Kind().Name)
	return Store{t}, err
}

// name orders the rows of a term with the highest chunk first.
func name(chunk uint64) string { return fmt.Sprintf("%016x", ^chunk) }

// Put implements index.Store.
func (s Store) Put(ctx context.Context, rows []index.Row) error {
	batch := make([]sql.Row, len(rows))
	for i, r := range rows {
		n := name(r.Chunk)
		batch[i] = sql.Row{Key: sql.Key{Namespace: r.Term, Name: n}, UID: n, Payload: r.Data}
	}
	_, err := s.table.Upsert(ctx, batch)
	return err
}

// Page implements index.Store.
func (s Store) Page(ctx context.Context, term string, before uint64, limit int) ([]index.Row, error) {
	page, err := s.table.List(ctx, sql.ListOptions{Namespace: term, After: name(before), Limit: limit})
	if err != nil {
		return nil, err
	}
	out := make([]index.Row, 0, len(page.Rows))
	for _, r := range page.Rows {
		n, err := strconv.ParseUint(r.Name, 16, 64)
		if err != nil {
			return nil, fmt.Errorf("audit index: row %s: %w", r.Name, err)
		}
		out = append(out, index.Row{Term: term, Chunk: ^n, Data: r.Payload})
	}
	return out, nil
}

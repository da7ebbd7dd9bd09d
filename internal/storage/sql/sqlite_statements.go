package sql

import (
	"context"
	stdsql "database/sql"
	"encoding/json"
)

func (sqliteEngine) name() string { return "sqlite" }

// migrationLock has nothing to do: writers begin with BEGIN IMMEDIATE, which
// holds the lock of the whole file.
func (sqliteEngine) migrationLock(context.Context, *stdsql.Tx) error    { return nil }
func (sqliteEngine) lockKind(context.Context, *stdsql.Tx, string) error { return nil }
func (sqliteEngine) readTx() *stdsql.TxOptions                          { return nil }

func (sqliteEngine) newestRevision() string { return "SELECT value FROM gatehouse_revision" }

func (sqliteEngine) nextRevision(ctx context.Context, tx *stdsql.Tx, kind string) (revision, version int64, err error) {
	err = tx.QueryRowContext(ctx, `UPDATE gatehouse_revision SET value = value + 1
		RETURNING value, (SELECT version FROM gatehouse_kinds WHERE name = $1)`, kind).Scan(&revision, &version)
	return revision, version, err
}

func (sqliteEngine) lookup(ctx context.Context, tx *stdsql.Tx, table string, keys []Key, _ bool) ([]*stored, error) {
	pairs := make([][2]string, len(keys))
	for i, key := range keys {
		pairs[i] = [2]string{key.Namespace, key.Name}
	}
	list, err := json.Marshal(pairs)
	if err != nil {
		return nil, err
	}
	// CROSS JOIN keeps SQLite from scanning the table instead of the keys.
	rows, err := tx.QueryContext(ctx, "SELECT "+columns+", payload FROM (SELECT value AS v FROM json_each($1)) AS k CROSS JOIN "+table+
		" WHERE namespace = k.v ->> 0 AND name = k.v ->> 1", string(list))
	if err != nil {
		return nil, err
	}
	return collect(rows, true)
}

func (sqliteEngine) heads(ctx context.Context, tx *stdsql.Tx, table string, ids []int64, payloads bool) ([]*stored, error) {
	list, err := json.Marshal(ids)
	if err != nil {
		return nil, err
	}
	rows, err := tx.QueryContext(ctx, "SELECT "+columns+", "+payloadOrSize(payloads)+" FROM (SELECT value AS v FROM json_each($1)) AS k CROSS JOIN "+table+
		" WHERE id = k.v", string(list))
	if err != nil {
		return nil, err
	}
	return collect(rows, payloads)
}

func payloadOrSize(payload bool) string {
	if payload {
		return "payload"
	}
	return "length(payload)"
}

func collect(rows *stdsql.Rows, payloads bool) ([]*stored, error) {
	defer rows.Close()
	var list []*stored
	for rows.Next() {
		s, err := scan(rows, payloads)
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, rows.Err()
}

func (sqliteEngine) insert(ctx context.Context, tx *stdsql.Tx, table string, rows []*stored) error {
	stmt, err := tx.PrepareContext(ctx, "INSERT INTO "+table+
		" (namespace, name, uid, revision, created, labels, fields, owners, payload) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)")
	if err != nil {
		return err
	}
	defer stmt.Close()
	for _, s := range rows {
		labels, fields, owners := s.encoded()
		result, err := stmt.ExecContext(ctx, s.Namespace, s.Name, s.UID, s.Revision, s.Created.UnixMicro(), labels, fields, owners, s.Payload)
		if err != nil {
			return err
		}
		if s.id, err = result.LastInsertId(); err != nil {
			return err
		}
	}
	return nil
}

func (sqliteEngine) update(ctx context.Context, tx *stdsql.Tx, table string, rows []*stored) error {
	if len(rows) == 0 {
		return nil
	}
	stmt, err := tx.PrepareContext(ctx, "UPDATE "+table+
		" SET revision = $2, labels = $3, fields = $4, owners = $5, payload = $6 WHERE id = $1")
	if err != nil {
		return err
	}
	defer stmt.Close()
	for _, s := range rows {
		labels, fields, owners := s.encoded()
		if _, err := stmt.ExecContext(ctx, s.id, s.Revision, labels, fields, owners, s.Payload); err != nil {
			return err
		}
	}
	return nil
}

func (sqliteEngine) remove(ctx context.Context, tx *stdsql.Tx, table string, ids []int64) error {
	list, err := json.Marshal(ids)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "DELETE FROM "+table+" WHERE id IN (SELECT value FROM json_each($1))", string(list))
	return err
}

func (e sqliteEngine) post(ctx context.Context, tx *stdsql.Tx, table string, postings []posting) error {
	if len(postings) == 0 {
		return nil
	}
	stmt, err := tx.PrepareContext(ctx, "INSERT INTO "+table+"_terms (term, namespace, name, id) VALUES ($1, $2, $3, $4)")
	if err != nil {
		return err
	}
	defer stmt.Close()
	for _, p := range postings {
		if _, err := stmt.ExecContext(ctx, p.term, p.Namespace, p.Name, p.id); err != nil {
			return err
		}
	}
	return nil
}

func (e sqliteEngine) unpost(ctx context.Context, tx *stdsql.Tx, table string, postings []posting) error {
	if len(postings) == 0 {
		return nil
	}
	stmt, err := tx.PrepareContext(ctx, "DELETE FROM "+table+"_terms WHERE term = $1 AND namespace = $2 AND name = $3")
	if err != nil {
		return err
	}
	defer stmt.Close()
	for _, p := range postings {
		if _, err := stmt.ExecContext(ctx, p.term, p.Namespace, p.Name); err != nil {
			return err
		}
	}
	return nil
}

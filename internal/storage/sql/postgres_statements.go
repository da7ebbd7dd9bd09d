package sql

import (
	"context"
	stdsql "database/sql"
)

func (postgresEngine) name() string { return "postgres" }

// migrationLock waits as long as the caller's context allows: another replica
// may be migrating. Statements of a migration are bounded the same way.
func (postgresEngine) migrationLock(ctx context.Context, tx *stdsql.Tx) error {
	if _, err := tx.ExecContext(ctx, "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0"); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock($1)", int64(migrationLockName))
	return err
}

// nextRevision shares the row of the kind with other writers; lockKind takes
// it alone, and whoever waited for that reads the new version.
func (postgresEngine) nextRevision(ctx context.Context, tx *stdsql.Tx, kind string) (revision, version int64, err error) {
	err = tx.QueryRowContext(ctx, "SELECT nextval('gatehouse_revision'), version FROM gatehouse_kinds WHERE name = $1 FOR SHARE", kind).
		Scan(&revision, &version)
	return revision, version, err
}

func (postgresEngine) newestRevision() string { return "SELECT last_value FROM gatehouse_revision" }

func (postgresEngine) lockKind(ctx context.Context, tx *stdsql.Tx, kind string) error {
	_, err := tx.ExecContext(ctx, "SELECT 1 FROM gatehouse_kinds WHERE name = $1 FOR UPDATE", kind)
	return err
}

// lookupQuery walks the keys in their order, which keeps concurrent batches
// from deadlocking. That is a matter of speed: a deadlock would be retried.
func (postgresEngine) lookupQuery(table string, lock bool) string {
	query := "SELECT " + columns + ", payload FROM unnest($1::text[], $2::text[]) AS k (n, m) JOIN " + table +
		" ON namespace = k.n AND name = k.m"
	if lock {
		query += " FOR UPDATE OF " + table
	}
	return query
}

func (e postgresEngine) lookup(ctx context.Context, tx *stdsql.Tx, table string, keys []Key, lock bool) ([]*stored, error) {
	namespaces, names := make([]string, len(keys)), make([]string, len(keys))
	for i, key := range keys {
		namespaces[i], names[i] = key.Namespace, key.Name
	}
	rows, err := tx.QueryContext(ctx, e.lookupQuery(table, lock), namespaces, names)
	if err != nil {
		return nil, err
	}
	return collect(rows, true)
}

func (postgresEngine) heads(ctx context.Context, tx *stdsql.Tx, table string, ids []int64, payloads bool) ([]*stored, error) {
	rows, err := tx.QueryContext(ctx, "SELECT "+columns+", "+payloadOrSize(payloads)+" FROM "+table+" WHERE id = ANY ($1)", ids)
	if err != nil {
		return nil, err
	}
	return collect(rows, payloads)
}

// columnsOf turns rows into one array for each column.
type columnArrays struct {
	ids, revisions, created []int64
	namespaces, names, uids []string
	labels, fields, owners  []string
	payloads                [][]byte
}

func columnsOf(rows []*stored) *columnArrays {
	var c columnArrays
	for _, s := range rows {
		labels, fields, owners := s.encoded()
		c.ids = append(c.ids, s.id)
		c.namespaces = append(c.namespaces, s.Namespace)
		c.names = append(c.names, s.Name)
		c.uids = append(c.uids, s.UID)
		c.revisions = append(c.revisions, s.Revision)
		c.created = append(c.created, s.Created.UnixMicro())
		c.labels = append(c.labels, labels)
		c.fields = append(c.fields, fields)
		c.owners = append(c.owners, owners)
		c.payloads = append(c.payloads, s.Payload)
	}
	return &c
}

func (postgresEngine) insert(ctx context.Context, tx *stdsql.Tx, table string, rows []*stored) error {
	c := columnsOf(rows)
	result, err := tx.QueryContext(ctx, "INSERT INTO "+table+
		` (namespace, name, uid, revision, created, labels, fields, owners, payload)
		SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::text[], $7::text[], $8::text[], $9::bytea[])
		RETURNING id, namespace, name`,
		c.namespaces, c.names, c.uids, c.revisions, c.created, c.labels, c.fields, c.owners, c.payloads)
	if err != nil {
		return err
	}
	defer result.Close()
	byKey := make(map[Key]*stored, len(rows))
	for _, s := range rows {
		byKey[s.Key] = s
	}
	for result.Next() {
		var id int64
		var key Key
		if err := result.Scan(&id, &key.Namespace, &key.Name); err != nil {
			return err
		}
		byKey[key].id = id
	}
	return result.Err()
}

func (postgresEngine) update(ctx context.Context, tx *stdsql.Tx, table string, rows []*stored) error {
	if len(rows) == 0 {
		return nil
	}
	c := columnsOf(rows)
	_, err := tx.ExecContext(ctx, "UPDATE "+table+` AS t
		SET revision = n.revision, labels = n.labels, fields = n.fields, owners = n.owners, payload = n.payload
		FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::bytea[])
			AS n (id, revision, labels, fields, owners, payload)
		WHERE t.id = n.id`, c.ids, c.revisions, c.labels, c.fields, c.owners, c.payloads)
	return err
}

func (postgresEngine) remove(ctx context.Context, tx *stdsql.Tx, table string, ids []int64) error {
	_, err := tx.ExecContext(ctx, "DELETE FROM "+table+" WHERE id = ANY ($1)", ids)
	return err
}

func (postgresEngine) post(ctx context.Context, tx *stdsql.Tx, table string, postings []posting) error {
	if len(postings) == 0 {
		return nil
	}
	terms, namespaces, names, ids := postingArrays(postings)
	_, err := tx.ExecContext(ctx, "INSERT INTO "+table+"_terms (term, namespace, name, id)"+
		" SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[])", terms, namespaces, names, ids)
	return err
}

func (postgresEngine) unpost(ctx context.Context, tx *stdsql.Tx, table string, postings []posting) error {
	if len(postings) == 0 {
		return nil
	}
	terms, namespaces, names, _ := postingArrays(postings)
	_, err := tx.ExecContext(ctx, "DELETE FROM "+table+"_terms AS t USING unnest($1::bigint[], $2::text[], $3::text[]) AS g (term, n, m)"+
		" WHERE t.term = g.term AND t.namespace = g.n AND t.name = g.m", terms, namespaces, names)
	return err
}

func postingArrays(postings []posting) (terms []int64, namespaces, names []string, ids []int64) {
	for _, p := range postings {
		terms = append(terms, p.term)
		namespaces = append(namespaces, p.Namespace)
		names = append(names, p.Name)
		ids = append(ids, p.id)
	}
	return terms, namespaces, names, ids
}

package sql

import (
	"context"
	stdsql "database/sql"
	"fmt"
	"slices"
	"strings"
)

// Bounds of a page. A page ends at the first that it reaches; Continue then
// leads on, so that a list over any number of rows is complete.
const (
	// MaxPageRows is the most rows of a page, also if Limit is 0 or more.
	MaxPageRows = 5000
	// MaxPageBytes is the most bytes of payload of a page, unless its first
	// row alone is larger.
	MaxPageBytes = 16 << 20
	// maxRejected bounds the rows that a page looks at in vain, so that a
	// selector that matches next to nothing costs many short pages and not one
	// long scan. Such a page may be empty and still have a Continue.
	maxRejected = 2500
	// maxChunk bounds the rows that one statement reads.
	maxChunk = 2000
)

// ListOptions select rows. The zero value selects all rows of the kind.
type ListOptions struct {
	Namespace string        // "" = all namespaces
	Labels    []Requirement // all must hold
	Fields    []Requirement // all must hold; declared fields, FieldName, FieldNamespace; In and NotIn only
	Owner     string        // UID of an owner; "" = any
	Limit     int           // at most so many rows; 0 = MaxPageRows
	Continue  string        // from the previous page of the same list
	After     string        // names behind this one only; needs Namespace, and no Continue
}

// Page is one page of a list.
type Page struct {
	Rows []Row
	// Continue asks for the rest; empty when there is none. A page with fewer
	// rows than the limit, even none, may have it.
	Continue string
	// Revision was the newest in the database when the page was read.
	Revision int64
}

// List returns rows in the order of namespace and name. Each page shows one
// moment. A sequence of pages returns every row exactly once that matched from
// the first page to the last; one that was created, deleted or changed in
// between is in it if it matched when the pages passed its key.
func (t *Table) List(ctx context.Context, opts ListOptions) (Page, error) {
	q, err := t.kind.newQuery(opts)
	if err != nil {
		return Page{}, err
	}
	var page Page
	err = t.db.read(ctx, func(ctx context.Context, tx *stdsql.Tx) error {
		if err := tx.QueryRowContext(ctx, t.db.engine.newestRevision()).Scan(&page.Revision); err != nil {
			return err
		}
		w := &walk{table: t, tx: tx, q: q}
		found, err := w.page(ctx)
		if err != nil {
			return err
		}
		if page.Rows, err = w.load(ctx, found); err != nil {
			return err
		}
		page.Continue = w.token()
		return nil
	})
	if err != nil {
		return Page{}, err
	}
	return page, nil
}

// DeletePage deletes, in one transaction, the rows that List would return as
// a page, and returns them as they were. Repeat it with the returned Continue
// until that is empty to delete a whole list.
func (t *Table) DeletePage(ctx context.Context, opts ListOptions) (Page, error) {
	q, err := t.kind.newQuery(opts)
	if err != nil {
		return Page{}, err
	}
	var page Page
	err = t.write(ctx, func(ctx context.Context, tx *change) error {
		w := &walk{table: t, tx: tx.Tx, q: q}
		found, err := w.page(ctx)
		if err != nil {
			return err
		}
		page = Page{Continue: w.token(), Revision: tx.revision}
		if len(found) == 0 {
			return nil
		}
		keys := make([]Key, len(found))
		for i, s := range found {
			keys[i] = s.Key
		}
		// A row may have changed since the walk; what is locked decides.
		locked, err := tx.engine.lookup(ctx, tx.Tx, t.name, keys, true)
		if err != nil {
			return err
		}
		locked = slices.DeleteFunc(locked, func(s *stored) bool { return !q.matches(&s.Row) })
		slices.SortFunc(locked, func(a, b *stored) int { return a.Key.compare(b.Key) })
		for _, s := range locked {
			page.Rows = append(page.Rows, s.Row)
		}
		return tx.remove(ctx, locked)
	})
	if err != nil {
		return Page{}, err
	}
	return page, nil
}

// walk looks at candidates in key order until the page is full, the bound on
// work is reached, or there are no more.
type walk struct {
	table *Table
	tx    *stdsql.Tx
	q     *query

	last Key  // the last key looked at that is behind the page
	more bool // candidates may follow last
}

// token returns what continues the list after this page.
func (w *walk) token() string {
	if !w.more {
		return ""
	}
	return encodeContinue(w.q, w.last)
}

// page returns the rows of the page without payloads.
func (w *walk) page(ctx context.Context) ([]*stored, error) {
	w.last, w.more = w.q.after, false
	if w.q.never {
		return nil, nil
	}
	next, err := w.source(ctx)
	if err != nil {
		return nil, err
	}
	var found []*stored
	size, rejected := 0, 0
	for chunk := w.q.limit + 1; ; chunk *= 2 {
		chunk = max(64, min(chunk, maxChunk, w.q.limit+1-len(found)+maxRejected-rejected))
		candidates, done, err := next(ctx, w.last, chunk)
		if err != nil {
			return nil, err
		}
		for _, s := range candidates {
			if w.q.matches(&s.Row) {
				if len(found) == w.q.limit || len(found) > 0 && size+s.size > MaxPageBytes {
					w.more = true
					return found, nil
				}
				found = append(found, s)
				size += s.size
			} else {
				rejected++
			}
			w.last = s.Key
		}
		if done {
			return found, nil
		}
		if rejected >= maxRejected {
			w.more = true
			return found, nil
		}
	}
}

// load reads the payloads of rows.
func (w *walk) load(ctx context.Context, rows []*stored) ([]Row, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	ids := make([]int64, len(rows))
	for i, s := range rows {
		ids[i] = s.id
	}
	loaded, err := w.ordered(ctx, ids, true)
	if err != nil {
		return nil, err
	}
	list := make([]Row, len(loaded))
	for i, s := range loaded {
		list[i] = s.Row
	}
	return list, nil
}

// ordered reads rows by id and returns them in that order. Ids that are gone,
// which happens only outside a snapshot, are left out.
func (w *walk) ordered(ctx context.Context, ids []int64, payloads bool) ([]*stored, error) {
	rows, err := w.table.db.engine.heads(ctx, w.tx, w.table.name, ids, payloads)
	if err != nil {
		return nil, err
	}
	byID := make(map[int64]*stored, len(rows))
	for _, s := range rows {
		byID[s.id] = s
	}
	list := rows[:0]
	for _, id := range ids {
		if s := byID[id]; s != nil {
			list = append(list, s)
		}
	}
	return list, nil
}

// source yields up to n candidates behind a key, in order, and whether there
// are no more behind them.
type source func(ctx context.Context, after Key, n int) (rows []*stored, done bool, err error)

// source chooses the shortest way to all matches.
func (w *walk) source(ctx context.Context) (source, error) {
	if w.q.name != "" && (w.q.namespace != "" || !w.table.kind.Namespaced) {
		return w.single, nil
	}
	choices := w.q.indexed()
	if len(choices) == 0 {
		return w.all, nil
	}
	best := choices[0]
	if len(choices) > 1 {
		shortest := maxRejected + 1
		for _, terms := range choices {
			n, err := w.length(ctx, terms, shortest)
			if err != nil {
				return nil, err
			}
			if n < shortest {
				best, shortest = terms, n
			}
		}
	}
	return func(ctx context.Context, after Key, n int) ([]*stored, bool, error) {
		return w.posted(ctx, best, after, n)
	}, nil
}

// single yields the one row that a name selects.
func (w *walk) single(ctx context.Context, after Key, _ int) ([]*stored, bool, error) {
	key := Key{w.q.namespace, w.q.name}
	if key.compare(after) <= 0 {
		return nil, true, nil
	}
	rows, err := w.table.db.engine.lookup(ctx, w.tx, w.table.name, []Key{key}, false)
	return rows, true, err
}

// all yields every row of the namespace, or of the kind.
func (w *walk) all(ctx context.Context, after Key, n int) ([]*stored, bool, error) {
	where, args := w.behind(after)
	rows, err := w.tx.QueryContext(ctx, "SELECT "+columns+", length(payload) FROM "+w.table.name+
		" WHERE "+where+" ORDER BY namespace, name LIMIT $3", append(args, n)...)
	if err != nil {
		return nil, false, err
	}
	list, err := collect(rows, false)
	return list, len(list) < n, err
}

// behind is the condition for keys after one, inside the query's namespace. It
// uses the parameters 1 and 2.
func (w *walk) behind(after Key) (string, []any) {
	if w.q.namespace != "" {
		return "namespace = $1 AND name > $2", []any{w.q.namespace, after.Name}
	}
	return "(namespace, name) > ($1, $2)", []any{after.Namespace, after.Name}
}

// merged is a statement for the first n entries behind a key in each of the
// posting lists of terms. The limit stands in each branch, where it ends the
// walk along the index whatever the planner believes about the sizes; the
// caller puts the branches in order.
func (w *walk) merged(terms []int64, after Key, n int) (string, []any) {
	where, args := w.behind(after)
	args = append(args, n)
	branches := make([]string, len(terms))
	for i, term := range terms {
		args = append(args, term)
		branches[i] = fmt.Sprintf("SELECT * FROM (SELECT term, namespace, name, id FROM %s_terms WHERE term = $%d AND %s ORDER BY namespace, name LIMIT $3) AS list%d",
			w.table.name, len(args), where, i)
	}
	return strings.Join(branches, " UNION ALL "), args
}

// posted yields the rows in the posting lists of terms.
func (w *walk) posted(ctx context.Context, terms []int64, after Key, n int) ([]*stored, bool, error) {
	query, args := w.merged(terms, after, n)
	rows, err := w.tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, false, err
	}
	defer rows.Close()
	var entries []posting
	for rows.Next() {
		var p posting
		if err := rows.Scan(&p.term, &p.Namespace, &p.Name, &p.id); err != nil {
			return nil, false, err
		}
		entries = append(entries, p)
	}
	if err := rows.Err(); err != nil {
		return nil, false, err
	}
	// Fewer than n together means fewer than n in each.
	done := len(entries) < n
	slices.SortFunc(entries, func(a, b posting) int { return a.Key.compare(b.Key) })
	ids := make([]int64, 0, n)
	for _, p := range entries {
		if len(ids) == n {
			break
		}
		// A row whose terms collide stands in two lists.
		if len(ids) == 0 || ids[len(ids)-1] != p.id {
			ids = append(ids, p.id)
		}
	}
	if len(ids) == 0 {
		return nil, true, nil
	}
	list, err := w.ordered(ctx, ids, false)
	return list, done, err
}

// length counts the entries in the posting lists of terms, up to about most.
func (w *walk) length(ctx context.Context, terms []int64, most int) (n int, err error) {
	query, args := w.merged(terms, w.last, most)
	err = w.tx.QueryRowContext(ctx, "SELECT count(*) FROM ("+query+") AS lists", args...).Scan(&n)
	return n, err
}

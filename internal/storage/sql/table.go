package sql

import (
	"context"
	stdsql "database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// Table holds the rows of one kind. Its methods follow the contract in the
// package documentation; every error is a fault.
type Table struct {
	db   *DB
	kind *Kind
	name string
}

// Bounds of a batch.
const (
	// MaxBatchRows is the most rows that one Upsert takes.
	MaxBatchRows = 5000
	// MaxBatchBytes is the most bytes of payload that one Upsert takes.
	MaxBatchBytes = 64 << 20
)

// Kind returns the descriptor. The caller must not change it.
func (t *Table) Kind() *Kind { return t.kind }

func (t *Table) notFound(key Key) error {
	return fault.Newf(fault.NotFound, "%q not found", key.Name)
}

// Create stores a new row and returns it with its revision, creation time and
// fields. It fails with fault.Conflict if the key is taken and fault.Invalid
// if the row breaks a bound.
func (t *Table) Create(ctx context.Context, row Row) (Row, error) {
	next, err := t.kind.prepareNew(&row)
	if err != nil {
		return Row{}, err
	}
	var out Row
	err = t.write(ctx, func(ctx context.Context, tx *change) error {
		s := t.fresh(next, tx.revision)
		if err := tx.insert(ctx, []*stored{s}); err != nil {
			return err
		}
		out = s.Row
		return nil
	})
	return out, err
}

// fresh is the stored form of a row that did not exist.
func (t *Table) fresh(row *Row, revision int64) *stored {
	s := &stored{Row: *row, size: len(row.Payload)}
	s.Revision = revision
	if s.Created.IsZero() {
		s.Created = t.db.now()
	}
	s.Created = s.Created.UTC().Truncate(time.Microsecond)
	return s
}

// Get returns the row with the key, or fault.NotFound.
func (t *Table) Get(ctx context.Context, key Key) (Row, error) {
	if err := t.kind.checkKey(key); err != nil {
		return Row{}, err
	}
	ctx, leave, err := t.db.enter(ctx)
	if err != nil {
		return Row{}, err
	}
	defer leave()
	s, err := scan(t.db.reader.QueryRowContext(ctx,
		"SELECT "+columns+", payload FROM "+t.name+" WHERE namespace = $1 AND name = $2", key.Namespace, key.Name), true)
	if err == stdsql.ErrNoRows {
		return Row{}, t.notFound(key)
	}
	if err != nil {
		return Row{}, t.db.fault(err)
	}
	return s.Row, nil
}

// Update replaces labels, owners and payload of the row with the same key and
// returns it; UID and creation time stay as stored. It fails with
// fault.NotFound if there is no such row and fault.Conflict if pre does not
// hold. A writer that derived the new row from an old one must pass the old
// revision.
func (t *Table) Update(ctx context.Context, row Row, pre Precondition) (Row, error) {
	next, err := t.kind.prepare(&row)
	if err != nil {
		return Row{}, err
	}
	var out Row
	err = t.write(ctx, func(ctx context.Context, tx *change) error {
		old, err := tx.one(ctx, row.Key, pre)
		if err != nil {
			return err
		}
		s := replace(old, next, tx.revision)
		if err := tx.update(ctx, []*stored{old}, []*stored{s}); err != nil {
			return err
		}
		out = s.Row
		return nil
	})
	return out, err
}

// replace is the stored form of next in the place of old.
func replace(old *stored, next *Row, revision int64) *stored {
	s := &stored{Row: *next, id: old.id, size: len(next.Payload)}
	s.UID, s.Created, s.Revision = old.UID, old.Created, revision
	return s
}

// Delete removes a row and returns it as it was. It fails with fault.NotFound
// if there is no such row and fault.Conflict if pre does not hold.
func (t *Table) Delete(ctx context.Context, key Key, pre Precondition) (Row, error) {
	if err := t.kind.checkKey(key); err != nil {
		return Row{}, err
	}
	var out Row
	err := t.write(ctx, func(ctx context.Context, tx *change) error {
		old, err := tx.one(ctx, key, pre)
		if err != nil {
			return err
		}
		out = old.Row
		return tx.remove(ctx, []*stored{old})
	})
	if err != nil {
		return Row{}, err
	}
	return out, nil
}

// Outcome says what an Upsert did with a row.
type Outcome uint8

// The outcomes. The zero Outcome is none of them.
const (
	Created   Outcome = iota + 1 // the key was free
	Updated                      // the content differed
	Unchanged                    // the same content was stored; nothing was written
)

// Upserted is the result for one row of a batch.
type Upserted struct {
	Outcome  Outcome
	UID      string // of the stored row
	Revision int64  // of the stored row
}

// Upsert stores a batch in one transaction: rows whose key is free are
// created, others replaced like an Update without precondition, and rows that
// would not change are left alone, so that a repeated import writes nothing.
// Results are in the order of rows. A batch with a bad or repeated row is
// refused whole, with fault.Invalid naming the row by its index.
func (t *Table) Upsert(ctx context.Context, rows []Row) ([]Upserted, error) {
	next, err := t.prepareBatch(rows)
	if err != nil || len(next) == 0 {
		return nil, err
	}
	// Batches lock their rows in the same order, so that they do not deadlock.
	order := make([]int, len(next))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return next[a].Key.compare(next[b].Key) })
	keys := make([]Key, len(next))
	for i, at := range order {
		keys[i] = next[at].Key
		if i > 0 && keys[i] == keys[i-1] {
			return nil, fault.Newf(fault.Invalid, "row %d: the key %s/%s occurs twice in the batch", at, keys[i].Namespace, keys[i].Name)
		}
	}
	results := make([]Upserted, len(next))
	err = t.write(ctx, func(ctx context.Context, tx *change) error {
		found, err := tx.engine.lookup(ctx, tx.Tx, t.name, keys, true)
		if err != nil {
			return err
		}
		byKey := make(map[Key]*stored, len(found))
		for _, s := range found {
			byKey[s.Key] = s
		}
		var inserts, before, after []*stored
		for _, at := range order {
			old, exists := byKey[next[at].Key]
			switch {
			case !exists:
				s := t.fresh(next[at], tx.revision)
				inserts = append(inserts, s)
				results[at] = Upserted{Created, s.UID, s.Revision}
			case old.sameContent(next[at]):
				results[at] = Upserted{Unchanged, old.UID, old.Revision}
			default:
				before = append(before, old)
				after = append(after, replace(old, next[at], tx.revision))
				results[at] = Upserted{Updated, old.UID, tx.revision}
			}
		}
		if err := tx.update(ctx, before, after); err != nil {
			return err
		}
		err = tx.insert(ctx, inserts)
		if err != nil && tx.engine.classify(err) == classExists {
			// Another batch created a row after the lookup; look again.
			return fmt.Errorf("%w: %s", errLostRace, err.Error())
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return results, nil
}

func (t *Table) prepareBatch(rows []Row) ([]*Row, error) {
	if len(rows) > MaxBatchRows {
		return nil, fault.Newf(fault.Invalid, "batch: must have at most %d rows", MaxBatchRows)
	}
	next, size := make([]*Row, len(rows)), 0
	for i := range rows {
		row, err := t.kind.prepareNew(&rows[i])
		if err != nil {
			return nil, fault.Wrap(fault.KindOf(err), fmt.Sprintf("row %d: %s", i, fault.Public(err)), err)
		}
		if size += len(row.Payload); size > MaxBatchBytes {
			return nil, fault.Newf(fault.Invalid, "batch: payloads must have at most %d bytes together", MaxBatchBytes)
		}
		next[i] = row
	}
	return next, nil
}

// one locks and returns the row with the key.
func (tx *change) one(ctx context.Context, key Key, pre Precondition) (*stored, error) {
	found, err := tx.engine.lookup(ctx, tx.Tx, tx.table.name, []Key{key}, true)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, tx.table.notFound(key)
	}
	return found[0], pre.check(&found[0].Row)
}

func (tx *change) insert(ctx context.Context, rows []*stored) error {
	if len(rows) == 0 {
		return nil
	}
	if err := tx.engine.insert(ctx, tx.Tx, tx.table.name, rows); err != nil {
		return err
	}
	var added []posting
	for _, s := range rows {
		added = append(added, s.postings()...)
	}
	return tx.post(ctx, nil, added)
}

// update writes after over before, which have the same rows in the same order.
func (tx *change) update(ctx context.Context, before, after []*stored) error {
	if len(after) == 0 {
		return nil
	}
	var gone, added []posting
	for i := range after {
		g, a := diffPostings(before[i].postings(), after[i].postings())
		gone, added = append(gone, g...), append(added, a...)
	}
	if err := tx.engine.update(ctx, tx.Tx, tx.table.name, after); err != nil {
		return err
	}
	return tx.post(ctx, gone, added)
}

func (tx *change) remove(ctx context.Context, rows []*stored) error {
	if len(rows) == 0 {
		return nil
	}
	var gone []posting
	ids := make([]int64, len(rows))
	for i, s := range rows {
		ids[i] = s.id
		gone = append(gone, s.postings()...)
	}
	if err := tx.engine.remove(ctx, tx.Tx, tx.table.name, ids); err != nil {
		return err
	}
	return tx.post(ctx, gone, nil)
}

// post changes the posting lists, walking them in their own order.
func (tx *change) post(ctx context.Context, gone, added []posting) error {
	slices.SortFunc(gone, comparePostings)
	slices.SortFunc(added, comparePostings)
	if err := tx.engine.unpost(ctx, tx.Tx, tx.table.name, gone); err != nil {
		return err
	}
	return tx.engine.post(ctx, tx.Tx, tx.table.name, added)
}

// Package registry keeps, apart from the logs themselves, what every replica's
// log is and how far it has come: its id, origin, keys and newest checkpoint,
// and for a retired replica the final one. Whoever cuts off, forks or removes a
// log would have to change the registry as well, which is in etcd and has no
// route that writes checkpoints.
//
// It owns: [Log], [Keeper], which registers the log of this replica, and
// [Retire]. It refuses: a checkpoint that is not signed by the log's key, one
// that covers less than the registered one, and a log that contradicts it.
//
// Start at [Keeper].
package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit/checkpoint"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/keys"
)

// Area is the name under which the entries are kept.
const Area = "auditlogs"

// attempts bounds how often a write is repeated that another one overtook.
const attempts = 8

// Log is one registered log.
type Log struct {
	ID     string `json:"id"`
	Origin string `json:"origin"`
	// Keys are the public keys that signed or sign checkpoints, newest last,
	// in the signed-note format.
	Keys []string `json:"keys"`
	// Checkpoint is the newest that was registered, a signed note; "" before
	// the first.
	Checkpoint string    `json:"checkpoint,omitempty"`
	Registered time.Time `json:"registered"`
	Updated    time.Time `json:"updated"`
	// Retired is when the replica was taken out of service for good; then
	// Checkpoint is the final one.
	Retired *time.Time `json:"retired,omitempty"`
}

// Size returns how many records the registered checkpoint covers, after
// verifying its signature.
func (l *Log) Size() (uint64, error) {
	head, err := l.head()
	return head.Size, err
}

// head opens the registered checkpoint; the zero value stands for none.
func (l *Log) head() (checkpoint.Checkpoint, error) {
	if l.Checkpoint == "" {
		return checkpoint.Checkpoint{Origin: l.Origin}, nil
	}
	return l.open([]byte(l.Checkpoint))
}

// open verifies a checkpoint with the registered keys.
func (l *Log) open(signed []byte) (checkpoint.Checkpoint, error) {
	verifiers, err := checkpoint.Verifiers(l.Keys...)
	if err != nil {
		return checkpoint.Checkpoint{}, fmt.Errorf("log %s: %w", l.ID, err)
	}
	head, err := checkpoint.Open(signed, verifiers)
	if err != nil {
		return head, fmt.Errorf("log %s: checkpoint: %w", l.ID, err)
	}
	if head.Origin != l.Origin {
		return head, fmt.Errorf("log %s: checkpoint is of %s, not of %s", l.ID, head.Origin, l.Origin)
	}
	return head, nil
}

// advance takes a newer checkpoint in. It reports whether anything changed.
func (l *Log) advance(signed []byte) (bool, error) {
	if len(signed) == 0 || l.Checkpoint == string(signed) {
		return false, nil
	}
	was, err := l.head()
	if err != nil {
		return false, err
	}
	head, err := l.open(signed)
	if err != nil {
		return false, fault.Wrap(fault.Invalid, "the checkpoint is not one of this log", err)
	}
	switch {
	case head.Size < was.Size:
		return false, fault.Newf(fault.Conflict, "log %s: the checkpoint covers %d records, the registered one %d", l.ID, head.Size, was.Size)
	case head.Size == was.Size && head.Root != was.Root && was.Size > 0:
		return false, fault.Newf(fault.Conflict, "log %s: two checkpoints over %d records contradict each other", l.ID, head.Size)
	}
	l.Checkpoint = string(signed)
	return true, nil
}

func decode(e keys.Entry) (Log, error) {
	var l Log
	dec := json.NewDecoder(bytes.NewReader(e.Value))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&l); err != nil {
		return l, fmt.Errorf("registered audit log %s: %w", e.Name, err)
	}
	if l.ID != e.Name || l.Origin == "" || len(l.Keys) == 0 {
		return l, fmt.Errorf("registered audit log %s: id, origin and keys are required", e.Name)
	}
	return l, nil
}

// List returns every registered log, in the order of their ids.
func List(ctx context.Context, store keys.Store) ([]Log, error) {
	entries, err := store.List(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("list audit logs: %w", err)
	}
	out := make([]Log, 0, len(entries))
	for _, e := range entries {
		l, err := decode(e)
		if err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	return out, nil
}

// update changes one entry, again when another write came first. change
// returns false to leave it alone.
func update(ctx context.Context, store keys.Store, id string, now time.Time, change func(*Log) (bool, error)) (Log, error) {
	for range attempts {
		e, err := store.Get(ctx, id)
		if err != nil {
			return Log{}, err
		}
		l, err := decode(e)
		if err != nil {
			return Log{}, err
		}
		changed, err := change(&l)
		if err != nil || !changed {
			return l, err
		}
		l.Updated = now.UTC()
		value, err := json.Marshal(l)
		if err != nil {
			return l, err
		}
		_, err = store.CompareAndSwap(ctx, id, value, e.Revision)
		if fault.KindOf(err) == fault.Conflict {
			continue
		}
		return l, err
	}
	return Log{}, fault.Newf(fault.Conflict, "audit log %s is being changed by others; try again", id)
}

// Retire marks a log as ended. final, if it is not nil, is its last checkpoint;
// without it the registered one counts. A replica whose log is retired stops.
// Retiring twice is the same as once.
func Retire(ctx context.Context, store keys.Store, id string, final []byte, now time.Time) (Log, error) {
	if err := keys.CheckName(id); err != nil {
		return Log{}, err
	}
	return update(ctx, store, id, now, func(l *Log) (bool, error) {
		changed, err := l.advance(final)
		if err != nil {
			return false, err
		}
		if l.Retired == nil {
			at := now.UTC()
			l.Retired, changed = &at, true
		}
		return changed, nil
	})
}

// addKey appends a key that is not there yet.
func (l *Log) addKey(key string) bool {
	if slices.Contains(l.Keys, key) {
		return false
	}
	l.Keys = append(l.Keys, key)
	return true
}

package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit/merkle"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/keys"
)

// Source is the log of this replica.
type Source interface {
	// VerifierKey is the public key that signs, in the signed-note format.
	VerifierKey() string
	// Checkpoint is the newest signed checkpoint, nil before the first.
	Checkpoint() []byte
	// RootAt returns the root over the first size records, as they are on disk
	// now, and false when the log has fewer.
	RootAt(size uint64) (merkle.Hash, bool, error)
}

// Config is what a keeper needs. All but Interval is required.
type Config struct {
	Store  keys.Store
	ID     string
	Origin string
	Source Source
	// Interval is how often a log that grew is registered anew (10 s): what a
	// thief of the disk could cut off unnoticed.
	Interval time.Duration
	Now      func() time.Time
	Log      *slog.Logger
}

// Keeper registers one log. Its methods are called one after the other.
type Keeper struct{ cfg Config }

// New checks the configuration.
func New(c Config) (*Keeper, error) {
	if c.Store == nil || c.ID == "" || c.Origin == "" || c.Source == nil || c.Now == nil || c.Log == nil {
		return nil, errors.New("audit registry: incomplete configuration")
	}
	if c.Interval <= 0 {
		c.Interval = 10 * time.Second
	}
	return &Keeper{c}, nil
}

// ErrRetired says that the log of this replica was taken out of service.
var ErrRetired = errors.New("the audit log of this replica was retired: it cannot be written any more; a replica begins a new one with an empty data directory")

// Begin registers the log, or holds it against what was registered: a log
// that is shorter, or another one than was signed, is an error, and nothing
// may be added to it.
func (k *Keeper) Begin(ctx context.Context) error {
	now := k.cfg.Now().UTC()
	l := Log{ID: k.cfg.ID, Origin: k.cfg.Origin, Keys: []string{k.cfg.Source.VerifierKey()}, Registered: now, Updated: now}
	value, err := json.Marshal(l)
	if err != nil {
		return err
	}
	_, err = k.cfg.Store.Create(ctx, k.cfg.ID, value)
	switch {
	case fault.KindOf(err) == fault.Conflict:
		e, err := k.cfg.Store.Get(ctx, k.cfg.ID)
		if err != nil {
			return fmt.Errorf("register audit log: %w", err)
		}
		if l, err = decode(e); err != nil {
			return err
		}
		if err := k.compare(&l); err != nil {
			return err
		}
	case err != nil:
		return fmt.Errorf("register audit log: %w", err)
	}
	return k.push(ctx)
}

// compare holds the log on disk against its registration.
func (k *Keeper) compare(l *Log) error {
	if l.Retired != nil {
		return ErrRetired
	}
	if l.Origin != k.cfg.Origin {
		return fmt.Errorf("audit log %s is registered as %s, not as %s", l.ID, l.Origin, k.cfg.Origin)
	}
	head, err := l.head()
	if err != nil {
		return err
	}
	if head.Size == 0 {
		return nil
	}
	root, ok, err := k.cfg.Source.RootAt(head.Size)
	switch {
	case err != nil:
		return fmt.Errorf("compare the audit log with its registration: %w", err)
	case !ok:
		return fmt.Errorf("the audit log was cut off, or restored from an older copy: %d records are registered and not all of them are here; see \"gatehouse audit verify\"", head.Size)
	case root != head.Root:
		return fmt.Errorf("the audit log was altered: its first %d records are not those that were registered; see \"gatehouse audit verify\"", head.Size)
	}
	return nil
}

// push registers the newest checkpoint.
func (k *Keeper) push(ctx context.Context) error {
	signed := k.cfg.Source.Checkpoint()
	key := k.cfg.Source.VerifierKey()
	retired := false
	_, err := update(ctx, k.cfg.Store, k.cfg.ID, k.cfg.Now(), func(l *Log) (bool, error) {
		retired = l.Retired != nil
		added := l.addKey(key)
		moved, err := l.advance(signed)
		return added || moved, err
	})
	if err == nil && retired {
		return ErrRetired
	}
	return err
}

// Run keeps the registration current until ctx ends. It returns an error when
// the log was retired; a store that is away is tried again.
func (k *Keeper) Run(ctx context.Context) error {
	tick := time.NewTicker(k.cfg.Interval)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := k.push(ctx)
		switch {
		case errors.Is(err, ErrRetired):
			return err
		case err != nil && ctx.Err() == nil && !failing:
			failing = true
			k.cfg.Log.Warn("audit log not registered", "error", err)
		case err == nil && failing:
			failing = false
			k.cfg.Log.Info("audit log registered again")
		}
	}
}

// End registers the final checkpoint of a log that was closed. Of a retired
// log it is the last word.
func (k *Keeper) End(ctx context.Context) error {
	if err := k.push(ctx); err != nil && !errors.Is(err, ErrRetired) {
		return fmt.Errorf("register the final checkpoint: %w", err)
	}
	return nil
}

// Package retention removes from the log what need not be kept any longer, by
// class of record, and leaves proof of it.
//
// A dropped record leaves its leaf hash behind (a whole block of them, only
// the hashes of its bundles), so the tree, every checkpoint and every proof
// about other records stay as they were. Before a segment is cut, a record in
// the log says which, how many of each class and why; the verifier takes
// dropped records without such a record for missing ones.
//
// It owns: the classes, the plan, the order record-then-drop. It refuses:
// dropping what the log recorded about itself, what no checkpoint covers, and
// what a sink has still to deliver.
package retention

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/ledger"
	"github.com/gatehouse-dev/gatehouse/internal/audit/segment"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs"
)

// Class sorts records by what they are evidence of.
type Class string

// The classes. The first that fits is a record's class.
const (
	// ClassLog is what the log says about itself: gaps, retention. It is
	// always kept.
	ClassLog Class = "log"
	// ClassDenial is a request that was refused.
	ClassDenial Class = "denial"
	// ClassChange is a request that could change state.
	ClassChange Class = "change"
	// ClassReview is a question: access and token reviews.
	ClassReview Class = "review"
	// ClassRead is everything else.
	ClassRead Class = "read"
)

// Classify returns the class of an event.
func Classify(site string, e *audit.Event) Class {
	if site == "" && e.User.Username == ledger.Self {
		return ClassLog
	}
	if d := e.Decision(); (d != "" && d != "allow") || (e.ResponseStatus != nil && (e.ResponseStatus.Code == 401 || e.ResponseStatus.Code == 403)) {
		return ClassDenial
	}
	if site == "" && asks(e) {
		return ClassReview
	}
	if audit.Changes(e) {
		return ClassChange
	}
	if e.Verb == "create" || e.Verb == "authorize" {
		return ClassReview
	}
	return ClassRead
}

// asks reports whether a post of ours was a question: what a site asks at its
// doors stands beside the object that it asked about, and would pass for a
// change of that.
func asks(e *audit.Event) bool {
	path, _, _ := strings.Cut(e.RequestURI, "?")
	if strings.HasPrefix(path, "/access/v1/") { // AuthZEN
		return true
	}
	door, isSite := strings.CutPrefix(path, "/sites/")
	_, door, _ = strings.Cut(door, "/")
	return isSite && (door == "authorize" || door == "authorize/deny" || door == "authenticate")
}

// Policy says how long each class is kept. A class that is not in it is kept
// for ever.
type Policy map[Class]time.Duration

// validate refuses what would surprise.
func (p Policy) validate() error {
	for class, d := range p {
		switch class {
		case ClassDenial, ClassChange, ClassReview, ClassRead:
		case ClassLog:
			return errors.New("retention: what the log says about itself is always kept")
		default:
			return fmt.Errorf("retention: %q is not a class", class)
		}
		if d < 24*time.Hour {
			return fmt.Errorf("retention: %s for %v: at least a day", class, d)
		}
	}
	return nil
}

// Log is the log that is cut; *ledger.Log is one.
type Log interface {
	audit.Recorder
	Dir() string
	Stats() ledger.Stats
	SelfEvent(verb string) *audit.Event
}

// Keeper applies a policy to a log.
type Keeper struct {
	log    Log
	fsys   vfs.FS
	policy Policy
	clock  func() time.Time

	mu sync.Mutex // one at a time

	countMu sync.Mutex // guards dropped
	dropped map[Class]uint64
}

// New returns a keeper. clock is time.Now if nil.
func New(log Log, fsys vfs.FS, policy Policy, clock func() time.Time) (*Keeper, error) {
	if err := policy.validate(); err != nil {
		return nil, err
	}
	if clock == nil {
		clock = time.Now
	}
	return &Keeper{log: log, fsys: fsys, policy: policy, clock: clock, dropped: map[Class]uint64{}}, nil
}

// Interval is how often Run looks for what may go: limits are days.
const Interval = time.Hour

// Run applies the policy at once and then every [Interval], until ctx ends,
// which is its only way to return. needed is asked each time.
func (k *Keeper) Run(ctx context.Context, needed func() uint64, logger *slog.Logger) error {
	tick := time.NewTicker(Interval)
	defer tick.Stop()
	for {
		n, err := k.Apply(ctx, needed())
		if n > 0 {
			logger.Info("audit records dropped by retention", "records", n)
		}
		if err != nil && ctx.Err() == nil {
			logger.Error("audit retention is behind", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Dropped returns how many records of each limited class were dropped since
// the start.
func (k *Keeper) Dropped() map[Class]uint64 {
	k.countMu.Lock()
	defer k.countMu.Unlock()
	out := map[Class]uint64{}
	for class := range k.policy {
		out[class] = k.dropped[class]
	}
	return out
}

// Apply drops what the policy lets go. needed is the first record that
// somebody still has to read, such as the lowest cursor of the sinks. It
// returns how many records it dropped; after an error everything is consistent
// and it can be called again.
func (k *Keeper) Apply(ctx context.Context, needed uint64) (uint64, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.policy) == 0 {
		return 0, nil
	}
	infos, err := segment.List(k.fsys, k.log.Dir())
	if err != nil {
		return 0, fmt.Errorf("audit retention: %w", err)
	}
	safe := min(needed, k.log.Stats().Signed)
	sealer, err := segment.NewSealer()
	if err != nil {
		return 0, fmt.Errorf("audit retention: %w", err)
	}
	var total uint64
	for _, info := range infos {
		if err := ctx.Err(); err != nil {
			return total, err
		}
		if !info.Sealed {
			continue
		}
		n, err := k.segment(ctx, sealer, info, safe)
		total += n
		if err != nil {
			return total, fmt.Errorf("audit retention: %s: %w", info.Name, err)
		}
	}
	return total, nil
}

// segment cuts one segment.
func (k *Keeper) segment(ctx context.Context, sealer *segment.Sealer, info segment.Info, safe uint64) (uint64, error) {
	now := k.clock()
	footer, err := segment.ReadFooter(k.fsys, k.log.Dir(), info)
	if err != nil {
		return 0, err
	}
	if info.First+footer.Records > safe || footer.Dropped == footer.Records || !k.old(footer, now) {
		return 0, nil
	}
	// The record has the counts, so they are found out before anything is cut.
	classes := map[Class]uint64{}
	drop := func(e segment.Entry) (Class, bool) {
		event, err := audit.Decode(e.Event)
		if err != nil {
			return "", false // kept: nobody can say what it is
		}
		class := Classify(e.Site, event)
		d, limited := k.policy[class]
		return class, limited && now.Sub(e.At) > d
	}
	if err := k.count(info, footer, drop, classes); err != nil || len(classes) == 0 {
		return 0, err
	}
	notice := ledger.RetentionNotice{First: info.First, Last: info.First + footer.Records - 1, At: now.UTC(), Classes: map[string]uint64{}, Kept: map[string]string{}}
	for class, n := range classes {
		notice.Dropped += n
		notice.Classes[string(class)] = n
		notice.Kept[string(class)] = k.policy[class].String()
	}
	b, err := json.Marshal(notice)
	if err != nil {
		return 0, err
	}
	e := k.log.SelfEvent(ledger.VerbRetain)
	e.Annotate(ledger.AnnotationRetention, string(b))
	if err := k.log.Append(ctx, e, audit.Durable); err != nil {
		return 0, err
	}
	n, err := sealer.Prune(k.fsys, k.log.Dir(), info.First, func(e segment.Entry) bool {
		_, gone := drop(e)
		return !gone
	})
	if err == nil {
		k.countMu.Lock()
		defer k.countMu.Unlock()
		for class, n := range classes {
			k.dropped[class] += n
		}
	}
	return n, err
}

// old says whether the oldest record of a segment is beyond any limit, which
// spares reading young segments.
func (k *Keeper) old(footer segment.Footer, now time.Time) bool {
	for _, d := range k.policy {
		if now.Sub(time.Unix(0, footer.Blocks[0].Since)) > d {
			return true
		}
	}
	return false
}

func (k *Keeper) count(info segment.Info, footer segment.Footer, drop func(segment.Entry) (Class, bool), classes map[Class]uint64) error {
	r, err := segment.OpenSealed(k.fsys, k.log.Dir(), info)
	if err != nil {
		return err
	}
	defer r.Close()
	for i := range footer.Blocks {
		records, err := r.Block(i)
		if err != nil {
			return err
		}
		for n := range records.Len() {
			prefixed := records.Prefixed(n)
			if segment.Kind(prefixed[0]) != segment.KindRecord {
				continue
			}
			entry, err := segment.ParseEntry(prefixed[1:])
			if err != nil {
				return err
			}
			if class, gone := drop(entry); gone {
				classes[class]++
			}
		}
	}
	return nil
}

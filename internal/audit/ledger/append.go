package ledger

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/segment"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// group is what is written with one write.
type group struct {
	buf      []byte
	records  int
	durable  bool // somebody waits for the sync
	buffered bool // somebody waits for the write
	keys     []dedupKey
	waiting  atomic.Int32  // appenders that wait for the sync, or were told and did not run yet
	written  chan struct{} // closed when handed to the operating system, or failed
	synced   chan struct{} // closed when on disk, or failed
	// err is set before the channel that announces it is closed. writeErr
	// concerns buffered waiters, syncErr durable ones.
	writeErr, syncErr error
}

func newGroup(buf []byte) *group {
	return &group{buf: buf, written: make(chan struct{}), synced: make(chan struct{})}
}

// scratch is what an appender needs outside the lock: a copy of the event, as
// Redact and Fit replace members, and the frame.
type scratch struct {
	event audit.Event
	frame []byte
}

var scratchPool = sync.Pool{New: func() any { return &scratch{frame: make([]byte, 0, 4096)} }}

// maxPooled bounds what the buffers of groups that are kept for later ones may
// hold together.
const maxPooled = 16 << 20

// Append implements [audit.Recorder].
func (l *Log) Append(ctx context.Context, event *audit.Event, durability audit.Durability) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := event.Validate(); err != nil {
		return err
	}
	g, err := l.appendOne(event, durability)
	if err != nil {
		return err
	}
	if durability == audit.Durable {
		err = wait(ctx, g.synced, &g.syncErr)
		l.returned(g)
	} else {
		err = wait(ctx, g.written, &g.writeErr)
	}
	if err != nil && ctx.Err() == nil {
		l.miss(durability, err)
	}
	return err
}

// appendOne encodes a copy of event into the pending group.
func (l *Log) appendOne(event *audit.Event, durability audit.Durability) (*group, error) {
	s := scratchPool.Get().(*scratch)
	defer scratchPool.Put(s)
	s.event = *event
	var err error
	s.frame, err = l.encode(s.frame[:0], "", &s.event)
	s.event = audit.Event{} // the pool must not keep the caller's alive
	if err != nil {
		return nil, err
	}
	g, err := l.enqueue(s.frame, durability)
	if err != nil {
		l.miss(durability, err)
		return nil, err
	}
	return g, nil
}

// returned notes that an appender no longer waits for g. The last one lets the
// writer have what the others may have appended meanwhile (mayGrow).
func (l *Log) returned(g *group) {
	if g.waiting.Add(-1) > 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.pending.buf) > 0 {
		l.wakeWriter()
	}
}

// wait returns the group's error once done is closed.
func wait(ctx context.Context, done <-chan struct{}, result *error) error {
	if ctx.Done() == nil {
		<-done
		return *result
	}
	select {
	case <-done:
		return *result
	case <-ctx.Done():
		return ctx.Err()
	}
}

// encode appends the unfinished frame of e, redacted and bounded.
func (l *Log) encode(b []byte, site string, e *audit.Event) ([]byte, error) {
	l.redactor.Redact(e)
	if l.cfg.Attribute != nil {
		l.cfg.Attribute(site, e)
	}
	return segment.AppendEntry(b, site, func(b []byte) ([]byte, error) {
		start := len(b)
		b = e.AppendJSON(b)
		if len(b)-start <= audit.MaxEventBytes && len(e.Annotations) <= audit.MaxAnnotations {
			return b, nil
		}
		fitted, err := e.Fit(append([]byte(nil), b[start:]...))
		if err != nil {
			return b[:start], err
		}
		return append(b[:start], fitted...), nil
	})
}

// enqueue adds the frame of a record to the pending group. Whoever made it
// durable calls [Log.returned] when the group is answered or not waited for.
func (l *Log) enqueue(frame []byte, durability audit.Durability) (*group, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g, err := l.admit(len(frame))
	if err != nil {
		return nil, err
	}
	if durability == audit.Durable {
		g.waiting.Add(1)
	}
	l.add(g, frame, 1, durability == audit.Durable)
	return g, nil
}

// admit returns the pending group if it may take size more bytes. l.mu is held.
func (l *Log) admit(size int) (*group, error) {
	switch {
	case l.closed:
		return nil, fault.New(fault.Unavailable, "the audit log is closed")
	case l.broken != nil:
		return nil, fault.Wrap(fault.Unavailable, unwritable, l.broken)
	case len(l.pending.buf)+size > l.cfg.MaxPending:
		return nil, fault.New(fault.Exhausted, "the audit log cannot keep up")
	}
	return l.pending, nil
}

// add puts frames into g, the pending group. l.mu is held.
func (l *Log) add(g *group, frames []byte, records int, durable bool) {
	g.buf = append(g.buf, frames...)
	g.records += records
	if durable {
		g.durable = true
	} else {
		g.buffered = true
	}
	if !l.mayGrow() {
		l.wakeWriter()
	}
}

// unwritable is the public text of every storage error.
const unwritable = "the audit log cannot be written"

// AppendBatch implements [audit.BatchRecorder]. The whole list is validated
// before anything of it is taken.
func (l *Log) AppendBatch(ctx context.Context, site string, events []audit.Event) (audit.BatchResult, error) {
	return l.appendBatch(ctx, site, events, (*audit.Event).Foreign)
}

// AppendCollected implements [audit.CollectedRecorder].
func (l *Log) AppendCollected(ctx context.Context, site string, events []audit.Event) (audit.BatchResult, error) {
	return l.appendBatch(ctx, site, events, (*audit.Event).MarkSkew)
}

// appendBatch calls mark on a copy of each event before it is encoded.
func (l *Log) appendBatch(ctx context.Context, site string, events []audit.Event, mark func(*audit.Event, time.Time)) (audit.BatchResult, error) {
	var result audit.BatchResult
	if err := ctx.Err(); err != nil {
		return result, err
	}
	if !segment.ValidSite(site) {
		return result, fault.Newf(fault.Invalid, "site: %q is not a site name", site)
	}
	if len(events) > audit.MaxBatchEvents {
		return result, fault.Newf(fault.Invalid, "items: %d events, at most %d", len(events), audit.MaxBatchEvents)
	}
	now := l.cfg.Clock()
	frames := make([][]byte, len(events))
	keys := make([]dedupKey, len(events))
	total := 0
	for i := range events {
		e := events[i]
		if err := e.Validate(); err != nil {
			return result, fault.Newf(fault.Invalid, "items[%d].%s", i, fault.Public(err))
		}
		e.Annotations = cloneMap(e.Annotations) // mark changes it
		mark(&e, now)
		frame, err := l.encode(nil, site, &e)
		if err != nil {
			return result, fault.Wrap(fault.KindOf(err), fault.Public(err), err)
		}
		frames[i], keys[i] = frame, keyOf(site, e.AuditID, string(e.Stage))
		total += len(frame)
	}

	l.mu.Lock()
	g, err := l.admit(total)
	if err != nil {
		l.mu.Unlock()
		return result, err
	}
	// Duplicates may still be on their way to the disk in an earlier group;
	// the answer waits for those too.
	waits := map[*group]struct{}{}
	for i, k := range keys {
		if held, known := l.dedup.groups[k]; known {
			result.Duplicates++
			result.Known = append(result.Known, i)
			if held != nil {
				waits[held] = struct{}{}
			}
			continue
		}
		l.dedup.put(k, g)
		g.keys = append(g.keys, k)
		l.add(g, frames[i], 1, true)
		waits[g] = struct{}{}
		result.Recorded++
	}
	l.mu.Unlock()
	for g := range waits {
		if err := wait(ctx, g.synced, &g.syncErr); err != nil {
			return audit.BatchResult{}, err
		}
	}
	return result, nil
}

func cloneMap(m map[string]string) map[string]string {
	out := make(map[string]string, len(m)+1)
	for k, v := range m {
		out[k] = v
	}
	return out
}

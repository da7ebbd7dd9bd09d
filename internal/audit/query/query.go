// Package query searches a log without an index: it reads the segments, passes
// over the blocks whose times cannot match, and parses only the records in
// which the words of the question occur.
//
// It owns: [Filter] and [Run]. It refuses: who may ask. A caller that may see
// only some events says so with [Filter.Allow].
package query

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/segment"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs"
)

// OwnSite selects the control plane's own events by site; the same name as in
// policies.
const OwnSite = "gatehouse"

// Filter selects events; every field that is set must match.
type Filter struct {
	// User matches the caller or whom it impersonated.
	User       string
	Group      string
	Credential string // JTI=…, X509SHA256=…, KEY=…
	Verb       string
	APIGroup   *string // pointer, since "" is the core group
	Resource   string
	Namespace  string
	Name       string
	Decision   string // allow or forbid
	Site       string // OwnSite for the control plane's own
	AuditID    string
	Stage      audit.Stage
	// Since is inclusive, Until exclusive; both are compared with the time at
	// which the log took the record, which a sender cannot choose.
	Since, Until time.Time
	// From is the first record that is looked at, To, unless it is 0, the first
	// that is not.
	From, To uint64
	// Limit ends the search after so many matches, 0 never.
	Limit int
	// Newest searches backwards, newest match first.
	Newest bool
	// Allow, if set, is asked last and hides what it refuses.
	Allow func(site string, e *audit.Event) bool
}

// Match is one record that matched.
type Match struct {
	Index uint64
	At    time.Time
	Site  string // "" for our own
	Event *audit.Event
	// Raw is the event's JSON as recorded.
	Raw []byte
}

// errStop ends a search early.
var errStop = errors.New("enough")

// Run calls emit for each match in the log in dir, in the order of the log or
// with Newest against it. An error of emit ends the search and is returned.
// The torn end of a log that is being written is not an error; other damage is,
// after everything before it.
func Run(ctx context.Context, fsys vfs.FS, dir string, f Filter, emit func(Match) error) error {
	infos, err := segment.List(fsys, dir)
	if err != nil {
		return fmt.Errorf("query audit log: %w", err)
	}
	infos = f.within(infos)
	s := &search{ctx: ctx, fsys: fsys, dir: dir, f: f, emit: emit, needles: f.needles()}
	if f.Newest {
		slices.Reverse(infos)
	}
	for i, info := range infos {
		last := (f.Newest && i == 0) || (!f.Newest && i == len(infos)-1)
		if info.Sealed {
			err = s.sealed(info)
		} else {
			err = s.raw(info, last)
		}
		if errors.Is(err, errStop) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("query audit log: %w", err)
		}
	}
	return nil
}

// A Cut is a segment of which retention dropped records.
type Cut struct {
	first, end   uint64
	since, until time.Time
	dropped      uint64
}

// Cuts reads what retention dropped. Only retention changes that.
func Cuts(fsys vfs.FS, dir string) ([]Cut, error) {
	infos, err := segment.List(fsys, dir)
	if err != nil {
		return nil, fmt.Errorf("query audit log: %w", err)
	}
	var cuts []Cut
	for _, info := range infos {
		if !info.Sealed {
			continue
		}
		footer, err := segment.ReadFooter(fsys, dir, info)
		if err != nil {
			return nil, fmt.Errorf("query audit log: %w", err)
		}
		if last := len(footer.Blocks) - 1; footer.Dropped > 0 && last >= 0 {
			cuts = append(cuts, Cut{
				info.First, info.First + footer.Records, time.Unix(0, footer.Blocks[0].Since), time.Unix(0, footer.Blocks[last].Until), footer.Dropped,
			})
		}
	}
	return cuts, nil
}

// Missing returns how many records were dropped where the filter looks: an
// upper bound of what the answer lacks, since nobody can say any more what
// they were.
func (f *Filter) Missing(cuts []Cut) uint64 {
	var n uint64
	for _, c := range cuts {
		if !f.outside(c.since, c.until) && !f.beyond(c.first, c.end) {
			n += c.dropped
		}
	}
	return n
}

// Warning says so to whoever asked; "" when nothing was dropped.
func Warning(missing uint64) string {
	if missing == 0 {
		return ""
	}
	return fmt.Sprintf("of the time asked about, up to %d records were dropped by retention; --verb retain finds what and why", missing)
}

type search struct {
	ctx     context.Context
	fsys    vfs.FS
	dir     string
	f       Filter
	emit    func(Match) error
	needles [][]byte
	found   int
	held    []Match // of one run of records, when searching backwards
}

// within leaves out the segments before From and behind To.
func (f *Filter) within(infos []segment.Info) []segment.Info {
	for len(infos) > 1 && infos[1].First <= f.From {
		infos = infos[1:]
	}
	for f.To > 0 && len(infos) > 0 && infos[len(infos)-1].First >= f.To {
		infos = infos[:len(infos)-1]
	}
	return infos
}

// beyond says whether all of the records [first, end) are left out.
func (f *Filter) beyond(first, end uint64) bool {
	return end <= f.From || (f.To > 0 && first >= f.To)
}

// needles are byte strings that every matching event contains. Strings that
// JSON would escape are left to the comparison after parsing.
func (f *Filter) needles() [][]byte {
	var out [][]byte
	add := func(before, value string) {
		quoted := audit.AppendString(nil, value)
		if value != "" && len(quoted) == len(value)+2 {
			out = append(out, append([]byte(before), quoted...))
		}
	}
	add(`"auditID":`, f.AuditID)
	add(`"username":`, f.User)
	add(``, f.Credential)
	add(`"resource":`, f.Resource)
	add(`"namespace":`, f.Namespace)
	add(`"name":`, f.Name)
	add(``, f.Group)
	add(`"verb":`, f.Verb)
	add(`"authorization.k8s.io/decision":`, f.Decision)
	return out
}

// outside says whether the whole time range is outside the filter's.
func (f *Filter) outside(since, until time.Time) bool {
	return (!f.Since.IsZero() && until.Before(f.Since)) || (!f.Until.IsZero() && !since.Before(f.Until))
}

func (s *search) sealed(info segment.Info) error {
	r, err := segment.OpenSealed(s.fsys, s.dir, info)
	if err != nil {
		return err
	}
	defer r.Close()
	blocks := r.Footer().Blocks
	first := make([]uint64, len(blocks))
	index := info.First
	for i, b := range blocks {
		first[i] = index
		index += uint64(b.Records)
	}
	for i := range blocks {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		if s.f.Newest {
			i = len(blocks) - 1 - i
		}
		if s.f.outside(time.Unix(0, blocks[i].Since), time.Unix(0, blocks[i].Until)) || s.f.beyond(first[i], first[i]+uint64(blocks[i].Records)) {
			continue
		}
		records, err := r.Block(i)
		if err != nil {
			return err
		}
		for n := range records.Len() {
			if segment.Kind(records.Prefixed(n)[0]) != segment.KindRecord {
				continue // dropped by retention
			}
			if err := s.record(first[i]+uint64(n), records.Prefixed(n)[1:]); err != nil {
				return err
			}
		}
		if err := s.flush(); err != nil {
			return err
		}
	}
	return nil
}

func (s *search) raw(info segment.Info, last bool) error {
	r, err := segment.OpenReader(s.fsys, s.dir, info)
	if err != nil {
		return ignoreTorn(err, last)
	}
	defer r.Close()
	for n := 0; ; n++ {
		if n&0xfff == 0 {
			if err := s.ctx.Err(); err != nil {
				return err
			}
		}
		item, err := r.Next()
		if err != nil {
			// What was found before the damage counts.
			if flushErr := s.flush(); flushErr != nil {
				return flushErr
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			return ignoreTorn(err, last)
		}
		if item.Kind == segment.KindRecord {
			if err := s.record(item.Index, item.Payload); err != nil {
				return err
			}
		}
	}
}

func ignoreTorn(err error, last bool) error {
	var d *segment.DamageError
	if last && errors.As(err, &d) && d.Torn {
		return nil
	}
	return err
}

// record emits or holds the record if it matches.
func (s *search) record(index uint64, payload []byte) error {
	if s.f.beyond(index, index+1) {
		return nil
	}
	for _, n := range s.needles {
		if !bytes.Contains(payload, n) {
			return nil
		}
	}
	entry, err := segment.ParseEntry(payload)
	if err != nil {
		return fmt.Errorf("record %d: %w", index, err)
	}
	m, ok, err := s.f.Entry(index, entry)
	if err != nil || !ok {
		return err
	}
	if !s.f.Newest {
		return s.send(m)
	}
	s.held = append(s.held, m)
	// Of a run only the newest Limit can ever be emitted.
	if limit := s.f.Limit; limit > 0 && len(s.held) >= 2*limit {
		s.held = append(s.held[:0], s.held[len(s.held)-limit:]...)
	}
	return nil
}

// Entry holds one record against the whole filter, but for From, To and Limit.
func (f *Filter) Entry(index uint64, entry segment.Entry) (Match, bool, error) {
	if (!f.Since.IsZero() && entry.At.Before(f.Since)) || (!f.Until.IsZero() && !entry.At.Before(f.Until)) {
		return Match{}, false, nil
	}
	if site := f.Site; site != "" && (entry.Site == "" && site != OwnSite || entry.Site != "" && site != entry.Site) {
		return Match{}, false, nil
	}
	raw := bytes.Clone(entry.Event)
	event, err := audit.Decode(raw)
	if err != nil {
		return Match{}, false, fmt.Errorf("record %d: %w", index, err)
	}
	if !f.Matches(event) || (f.Allow != nil && !f.Allow(entry.Site, event)) {
		return Match{}, false, nil
	}
	return Match{Index: index, At: entry.At, Site: entry.Site, Event: event, Raw: raw}, true, nil
}

// flush emits what was held, newest first.
func (s *search) flush() error {
	for i := len(s.held) - 1; i >= 0; i-- {
		if err := s.send(s.held[i]); err != nil {
			return err
		}
	}
	s.held = s.held[:0]
	return nil
}

func (s *search) send(m Match) error {
	if err := s.emit(m); err != nil {
		return err
	}
	s.found++
	if s.f.Limit > 0 && s.found >= s.f.Limit {
		return errStop
	}
	return nil
}

// Matches says whether the event satisfies the filter, but for site, time and
// Allow, which are not in the event.
func (f *Filter) Matches(e *audit.Event) bool {
	if f.User != "" && e.User.Username != f.User && (e.ImpersonatedUser == nil || e.ImpersonatedUser.Username != f.User) {
		return false
	}
	if f.Group != "" && !slices.Contains(e.User.Groups, f.Group) && (e.ImpersonatedUser == nil || !slices.Contains(e.ImpersonatedUser.Groups, f.Group)) {
		return false
	}
	o := e.ObjectRef
	if o == nil {
		o = &audit.ObjectReference{}
		if f.APIGroup != nil {
			return false
		}
	}
	is := func(want, got string) bool { return want == "" || want == got }
	return is(f.Credential, e.Credential()) && is(f.Verb, e.Verb) && is(f.Resource, o.Resource) && is(f.Namespace, o.Namespace) &&
		is(f.Name, o.Name) && is(f.Decision, e.Decision()) && is(f.AuditID, e.AuditID) && is(string(f.Stage), string(e.Stage)) &&
		(f.APIGroup == nil || *f.APIGroup == o.APIGroup)
}

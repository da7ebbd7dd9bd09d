package ledger

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/segment"
)

// dedupAge is how far back from its last record site events are remembered
// across a restart. A stock kube-apiserver gives up repeating a batch after two
// minutes; a local decision point repeats what was not acknowledged when the
// process ended, however long ago that was.
const dedupAge = 5 * time.Minute

// dedupKey identifies an event of a site: site, auditID and stage, hashed so
// that the window's memory is fixed.
type dedupKey [16]byte

func keyOf(site, auditID string, stage string) (k dedupKey) {
	var b [512]byte
	s := append(b[:0], site...)
	s = append(append(s, 0), auditID...)
	s = append(append(s, 0), stage...)
	sum := sha256.Sum256(s)
	copy(k[:], sum[:])
	return k
}

// window remembers the newest keys. A nil group means that the event is on
// disk. It is guarded by Log.mu.
type window struct {
	size   int
	groups map[dedupKey]*group
	ring   []dedupKey // grows up to size
	next   int
}

func newWindow(size int) window {
	return window{size: size, groups: make(map[dedupKey]*group)}
}

func (w *window) put(k dedupKey, g *group) {
	if len(w.ring) < w.size {
		w.ring = append(w.ring, k)
	} else {
		delete(w.groups, w.ring[w.next])
		w.ring[w.next] = k
		w.next = (w.next + 1) % len(w.ring)
	}
	w.groups[k] = g
}

// fill adds keys of events on disk.
func (w *window) fill(keys []dedupKey) {
	for _, k := range keys {
		if _, known := w.groups[k]; !known {
			w.put(k, nil)
		}
	}
}

// settle marks keys as on disk, or forgets them when their group failed.
func (w *window) settle(keys []dedupKey, g *group, failed bool) {
	for _, k := range keys {
		if held, ok := w.groups[k]; ok && held == g {
			if failed {
				delete(w.groups, k)
			} else {
				w.groups[k] = nil
			}
		}
	}
}

// remember notes a recent site event for the window of duplicates.
func (s *scan) remember(keys []dedupKey, entry segment.Entry) []dedupKey {
	if entry.Site == "" || s.newest().Sub(entry.At) > dedupAge {
		return keys
	}
	if auditID, stage, ok := audit.Identify(entry.Event); ok {
		keys = append(keys, keyOf(entry.Site, auditID, stage))
	}
	return keys
}

// newest is the time of the last record that was scanned.
func (s *scan) newest() time.Time {
	if s.r.lastAt.IsZero() {
		return s.l.cfg.Clock()
	}
	return s.r.lastAt
}

// rememberSealed fills the window from sealed segments, newest first until it
// is full, then from what the raw ones held. Segments without recent site
// events are not read.
func (s *scan) rememberSealed(infos []segment.Info) error {
	l := s.l
	var older [][]dedupKey
	total := len(s.keys)
	for i := len(infos) - 1; i >= 0 && total < l.cfg.DedupWindow; i-- {
		if !infos[i].Sealed {
			continue
		}
		r, err := segment.OpenSealed(l.cfg.FS, l.dir, infos[i])
		if err != nil {
			return err
		}
		keys, recent, err := s.siteKeys(r)
		if err = errors.Join(err, r.Close()); err != nil {
			return err
		}
		if !recent {
			break
		}
		older = append(older, keys)
		total += len(keys)
	}
	for i := len(older) - 1; i >= 0; i-- {
		s.l.dedup.fill(older[i])
	}
	s.l.dedup.fill(s.keys)
	return nil
}

// siteKeys reads the keys of a segment; recent is false when all of it is too
// old to matter.
func (s *scan) siteKeys(r *segment.Sealed) (keys []dedupKey, recent bool, err error) {
	footer := r.Footer()
	newest := s.newest()
	for i, b := range footer.Blocks {
		if newest.Sub(time.Unix(0, b.Until)) > dedupAge {
			continue
		}
		recent = true
		if footer.Sites == 0 {
			continue
		}
		records, err := r.Block(i)
		if err != nil {
			return nil, false, err
		}
		for n := range records.Len() {
			prefixed := records.Prefixed(n)
			if segment.Kind(prefixed[0]) != segment.KindRecord {
				continue
			}
			entry, err := segment.ParseEntry(prefixed[1:])
			if err != nil {
				return nil, false, fmt.Errorf("damaged: %w", err)
			}
			keys = s.remember(keys, entry)
		}
	}
	return keys, recent, nil
}

package verify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sort"

	"golang.org/x/mod/sumdb/note"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/checkpoint"
	"github.com/gatehouse-dev/gatehouse/internal/audit/ledger"
	"github.com/gatehouse-dev/gatehouse/internal/audit/merkle"
	"github.com/gatehouse-dev/gatehouse/internal/audit/segment"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs"
)

// Options say what is known from elsewhere. The zero value is a check of the
// directory by itself.
type Options struct {
	// Keys are the log's public keys in the signed-note format. Without them
	// the directory's own log.json is believed, and the report says so.
	Keys []string
	// Anchors are signed checkpoints of the log that were kept elsewhere.
	Anchors [][]byte
	// Witnesses are public keys of witnesses, in the signed-note format. Each
	// must have signed a checkpoint that is kept with the log or is among the
	// anchors, and the log must agree with all of those.
	Witnesses []string
	// Progress, if set, is told the records read so far, about every 65,536.
	Progress func(records uint64)
	// FS is the operating system's by default.
	FS vfs.FS
}

// Log checks the log in dir. The error is about the check itself: the
// directory cannot be read or is no log. Faults of the log are in the report.
func Log(ctx context.Context, dir string, o Options) (*Report, error) {
	if o.FS == nil {
		o.FS = vfs.OS{}
	}
	meta, err := ledger.ReadMeta(o.FS, dir)
	if err != nil {
		return nil, fmt.Errorf("verify audit log %s: %w", dir, err)
	}
	c := &check{dir: dir, o: o, r: &Report{Log: meta.ID, Origin: meta.Origin}, meta: meta}
	if err := c.run(ctx); err != nil {
		return nil, fmt.Errorf("verify audit log %s: %w", dir, err)
	}
	return c.r, nil
}

// claim is a checkpoint and where it was found.
type claim struct {
	checkpoint.Checkpoint
	file   string
	offset int64
	anchor bool
}

type check struct {
	dir       string
	o         Options
	r         *Report
	meta      ledger.Meta
	verifiers note.Verifiers

	claims []claim // by size
	next   int     // claim to compare next

	tree    merkle.Tree
	lost    bool   // the tree could not be continued past some damage
	altered bool   // a root has differed; later ones must
	good    uint64 // records up to here are as signed
	index   uint64 // of the next record
	lastAt  int64
	hasLast bool

	cut     []cut             // segments of which retention dropped something
	notices map[uint64]uint64 // dropped records announced, by first record of the segment
}

// cut is a segment that lacks records.
type cut struct {
	file                 string
	first, last, dropped uint64
}

func (c *check) run(ctx context.Context) error {
	keys := c.o.Keys
	if len(keys) == 0 {
		keys = c.meta.Verifiers
		c.r.Unsure = append(c.r.Unsure, "the public key was read from the copy itself: give the log's key to exclude that the whole log was written anew with another")
	}
	var err error
	if c.verifiers, err = checkpoint.Verifiers(keys...); err != nil {
		return err
	}
	infos, err := segment.List(c.o.FS, c.dir)
	if err != nil {
		return err
	}
	if err := c.collect(infos); err != nil {
		return err
	}
	for i, info := range infos {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := c.segment(ctx, info, i == len(infos)-1); err != nil {
			return err
		}
	}
	c.finish()
	return nil
}

// collect gathers and verifies every checkpoint, because those between the
// records stand behind the records they cover.
func (c *check) collect(infos []segment.Info) error {
	head, err := ledger.ReadCheckpoint(c.o.FS, c.dir)
	if err != nil {
		return err
	}
	if head != nil {
		c.claim(head, "checkpoint", 0, false)
	} else {
		c.r.Unsure = append(c.r.Unsure, "the log has no checkpoint file")
	}
	for i, a := range c.o.Anchors {
		c.claim(a, fmt.Sprintf("anchor %d", i+1), -1, true)
	}
	if err := c.collectWitnessed(); err != nil {
		return err
	}
	for _, info := range infos {
		if err := c.collectSegment(info); err != nil {
			return err
		}
	}
	sort.SliceStable(c.claims, func(i, j int) bool { return c.claims[i].Size < c.claims[j].Size })
	for i := 1; i < len(c.claims); i++ {
		a, b := c.claims[i-1], c.claims[i]
		if a.Size == b.Size && a.Root != b.Root {
			c.r.fault(Fault{Kind: Fork, File: b.file, Offset: b.offset, Detail: fmt.Sprintf("two valid checkpoints of %d records differ; the other is in %s", b.Size, a.file)})
		}
	}
	return nil
}

func (c *check) collectSegment(info segment.Info) error {
	if info.Sealed {
		footer, err := segment.ReadFooter(c.o.FS, c.dir, info)
		if err == nil && footer.Checkpoint != "" {
			c.claim([]byte(footer.Checkpoint), info.Name, -1, false)
		}
		return ignoreDamage(err) // found again, and reported, when reading
	}
	r, err := segment.OpenReader(c.o.FS, c.dir, info)
	if err != nil {
		return ignoreDamage(err)
	}
	defer r.Close()
	for {
		item, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return ignoreDamage(err)
		}
		if item.Kind == segment.KindCheckpoint {
			c.claim(item.Payload, info.Name, item.Offset, false)
		}
	}
}

// ignoreDamage keeps errors of the storage and drops those of the content.
func ignoreDamage(err error) error {
	var damage *segment.DamageError
	if errors.As(err, &damage) {
		return nil
	}
	return err
}

// claim verifies a signed checkpoint and keeps it for comparison.
func (c *check) claim(signed []byte, file string, offset int64, anchor bool) {
	cp, err := checkpoint.Open(signed, c.verifiers)
	if err != nil {
		c.r.fault(Fault{Kind: Signature, File: file, Offset: offset, Detail: "checkpoint: " + err.Error()})
		return
	}
	if cp.Origin != c.meta.Origin {
		c.r.fault(Fault{Kind: Foreign, File: file, Offset: offset, Detail: fmt.Sprintf("checkpoint is of log %q, not %q", cp.Origin, c.meta.Origin)})
		return
	}
	c.claims = append(c.claims, claim{cp, file, offset, anchor})
}

// segment reads one segment.
func (c *check) segment(ctx context.Context, info segment.Info, last bool) error {
	c.r.Segments++
	switch {
	case c.r.Segments == 1:
		c.index, c.r.First = info.First, info.First
		if info.First > 0 {
			c.lost = true
			c.r.fault(Fault{Kind: Missing, Offset: -1, Records: true, First: 0, Last: info.First - 1, Detail: "the log begins with " + info.Name})
		}
	case info.First > c.index:
		c.r.fault(Fault{Kind: Missing, Offset: -1, Records: true, First: c.index, Last: info.First - 1, Detail: "not in the segment before " + info.Name})
		c.index, c.lost = info.First, true
	case info.First < c.index:
		c.r.fault(Fault{Kind: Altered, File: info.Name, Offset: -1, Records: true, First: info.First, Last: c.index - 1, Detail: "records that another segment holds too"})
		c.index, c.lost = info.First, true
	}
	if info.Sealed {
		return c.sealed(ctx, info)
	}
	return c.raw(ctx, info, last)
}

// raw reads a raw segment. In the last one the end may be torn: an interrupted
// write, or one going on while a live log is read.
func (c *check) raw(ctx context.Context, info segment.Info, last bool) error {
	r, err := segment.OpenReader(c.o.FS, c.dir, info)
	if err != nil {
		return c.damage(err, last)
	}
	defer r.Close()
	c.header(r.Header(), info)
	for {
		item, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return c.damage(err, last)
		}
		if item.Kind != segment.KindRecord {
			continue
		}
		c.record(item.Prefixed, info.Name, item.Offset)
		c.leaf(merkle.Leaf(item.Prefixed))
		if err := c.tick(ctx); err != nil {
			return err
		}
	}
}

func (c *check) header(h segment.Header, info segment.Info) {
	if h.Log != c.meta.ID || h.Origin != c.meta.Origin {
		c.r.fault(Fault{Kind: Foreign, File: info.Name, Offset: 0, Detail: fmt.Sprintf("segment of log %s (%s)", h.Log, h.Origin)})
	}
}

// damage reports what a reader could not read; other errors end the check.
func (c *check) damage(err error, last bool) error {
	var d *segment.DamageError
	if !errors.As(err, &d) {
		return err
	}
	if last && d.Torn && !c.covered() {
		c.r.Unsure = append(c.r.Unsure, fmt.Sprintf("%s ends in an interrupted write at byte %d; what stood there was not under a checkpoint", d.File, d.Offset))
		return nil
	}
	c.lost = true
	c.r.fault(Fault{Kind: Damaged, File: d.File, Offset: d.Offset, Records: true, First: c.index, Last: c.index, Detail: d.Reason})
	return nil
}

// covered says whether a checkpoint covers the next record.
func (c *check) covered() bool {
	return len(c.claims) > 0 && c.claims[len(c.claims)-1].Size > c.index
}

// sealed reads a sealed segment. Where a block is damaged, the tree goes on
// with the footer's hashes, so that the rest is still checked against the
// checkpoints.
func (c *check) sealed(ctx context.Context, info segment.Info) error {
	s, err := segment.OpenSealed(c.o.FS, c.dir, info)
	if err != nil {
		return c.damage(err, false)
	}
	defer s.Close()
	footer := s.Footer()
	c.header(footer.Header, info)
	if footer.Dropped > 0 {
		c.cut = append(c.cut, cut{info.Name, info.First, info.First + footer.Records - 1, footer.Dropped})
	}
	bundle, dropped := 0, uint64(0)
	var leaves []merkle.Hash
	for i, block := range footer.Blocks {
		if block.Dropped {
			for range block.Records / merkle.BundleWidth {
				c.bundle(footer.Bundle(bundle))
				bundle++
			}
			dropped += uint64(block.Records)
			continue
		}
		records, err := s.Block(i)
		if err != nil {
			var d *segment.DamageError
			if !errors.As(err, &d) {
				return err
			}
			c.r.fault(Fault{Kind: Damaged, File: d.File, Offset: d.Offset, Records: true, First: c.index, Last: c.index + uint64(block.Records) - 1, Detail: d.Reason})
			if len(leaves) != 0 || block.Records%merkle.BundleWidth != 0 {
				c.lost = true
			}
			for range block.Records / merkle.BundleWidth {
				c.bundle(footer.Bundle(bundle))
				bundle++
			}
			c.index = info.First + uint64(bundle*merkle.BundleWidth)
			leaves = leaves[:0]
			continue
		}
		for n := range records.Len() {
			prefixed := records.Prefixed(n)
			var h merkle.Hash
			if segment.Kind(prefixed[0]) == segment.KindDropped {
				copy(h[:], prefixed[1:])
				dropped++
			} else {
				c.record(prefixed, info.Name, block.Offset)
				h = merkle.Leaf(prefixed)
			}
			c.leaf(h)
			if leaves = append(leaves, h); len(leaves) < merkle.BundleWidth {
				continue
			}
			if merkle.Root(leaves) != footer.Bundle(bundle) {
				c.r.fault(Fault{Kind: Altered, File: info.Name, Offset: block.Offset, Records: true, First: c.index - merkle.BundleWidth, Last: c.index - 1, Detail: "records do not have the hash that the segment's footer gives"})
			}
			bundle++
			leaves = leaves[:0]
		}
		if err := c.tick(ctx); err != nil {
			return err
		}
	}
	c.r.Dropped += dropped
	if dropped > footer.Dropped {
		c.r.fault(Fault{Kind: Altered, File: info.Name, Offset: -1, Records: true, First: info.First, Last: c.index - 1, Detail: fmt.Sprintf("%d records are dropped, the footer says %d", dropped, footer.Dropped)})
	}
	return nil
}

// record checks one record by itself.
func (c *check) record(prefixed []byte, file string, offset int64) {
	c.r.Records++
	entry, err := segment.ParseEntry(prefixed[1:])
	if err != nil {
		c.r.fault(Fault{Kind: Altered, File: file, Offset: offset, Records: true, First: c.index, Last: c.index, Detail: err.Error()})
		return
	}
	at := entry.At.UnixNano()
	if c.hasLast && at < c.lastAt {
		c.r.fault(Fault{Kind: Clock, File: file, Offset: offset, Records: true, First: c.index, Last: c.index, Detail: fmt.Sprintf("the clock ran backwards by %v", c.r.Until.Sub(entry.At))})
	}
	if !c.hasLast {
		c.r.Since = entry.At
	}
	c.lastAt, c.hasLast, c.r.Until = at, true, entry.At
	if entry.Site == "" && isSelf(entry.Event) {
		c.self(entry)
	}
}

// self reads what the log says about itself.
func (c *check) self(entry segment.Entry) {
	e, err := audit.Decode(entry.Event)
	if err != nil || e.User.Username != ledger.Self {
		return
	}
	switch e.Verb {
	case ledger.VerbGap:
		if len(c.r.Gaps) < maxFaults {
			c.r.Gaps = append(c.r.Gaps, Gap{Record: c.index, At: entry.At, Why: e.Annotations[audit.AnnotationGap]})
		}
	case ledger.VerbRetain:
		var n ledger.RetentionNotice
		if json.Unmarshal([]byte(e.Annotations[ledger.AnnotationRetention]), &n) == nil {
			if c.notices == nil {
				c.notices = map[uint64]uint64{}
			}
			c.notices[n.First] += n.Dropped
			if len(c.r.Retention) < maxFaults {
				c.r.Retention = append(c.r.Retention, n)
			}
		}
	}
}

// leaf adds a record to the tree.
func (c *check) leaf(h merkle.Hash) {
	c.index++
	c.tree.Append(h)
	c.compare()
}

// bundle adds 256 records that could not be read.
func (c *check) bundle(h merkle.Hash) {
	c.index += merkle.BundleWidth
	if c.tree.AppendBundle(h) != nil {
		c.lost = true
		return
	}
	c.compare()
}

// compare holds the tree against the checkpoints of its size.
func (c *check) compare() {
	for c.next < len(c.claims) && c.claims[c.next].Size < c.index {
		// Inside a bundle of which only the hash is left.
		if cl := c.claims[c.next]; cl.anchor && !c.lost {
			c.r.Unsure = append(c.r.Unsure, fmt.Sprintf("%s, of %d records, could not be compared: the records around it were dropped or damaged", cl.file, cl.Size))
		}
		c.next++
	}
	if c.lost || c.next >= len(c.claims) || c.claims[c.next].Size != c.index {
		return
	}
	root := c.tree.Root()
	for ; c.next < len(c.claims) && c.claims[c.next].Size == c.index; c.next++ {
		cl := c.claims[c.next]
		if cl.Root == root {
			c.r.Checkpoints++
			if cl.anchor {
				c.r.Anchors++
			}
			if !c.altered {
				c.good = cl.Size
			}
			continue
		}
		if c.altered {
			continue // said already; every later root differs too
		}
		kind, detail := Altered, fmt.Sprintf("not the records that the checkpoint of %d records in %s signed", cl.Size, cl.file)
		if cl.anchor {
			kind, detail = Fork, fmt.Sprintf("the log contradicts %s, a checkpoint of %d records kept elsewhere", cl.file, cl.Size)
		}
		c.altered = true
		c.r.fault(Fault{Kind: kind, Offset: -1, Records: true, First: c.good, Last: cl.Size - 1, Detail: detail})
	}
}

// finish compares the end with what should be there and says what stays open.
func (c *check) finish() {
	r := c.r
	anchored := false
	for _, cl := range c.claims {
		anchored = anchored || cl.anchor
		if cl.Size > c.index {
			r.fault(Fault{Kind: Truncated, File: cl.file, Offset: cl.offset, Records: true, First: c.index, Last: cl.Size - 1, Detail: fmt.Sprintf("the log ends with record count %d, but a checkpoint covers %d", c.index, cl.Size)})
		}
		r.Signed = max(r.Signed, cl.Size)
	}
	for _, k := range c.cut {
		// More may be announced than dropped: a crash between the two.
		if c.notices[k.first] < k.dropped {
			r.fault(Fault{Kind: Missing, File: k.file, Offset: -1, Records: true, First: k.first, Last: k.last, Detail: fmt.Sprintf("%d records were dropped, the log says so of %d", k.dropped, c.notices[k.first])})
		}
	}
	if c.index > r.Signed {
		r.Unsure = append(r.Unsure, fmt.Sprintf("the last %d records are not under a checkpoint: that they were altered, dropped or added cannot be excluded", c.index-r.Signed))
	}
	for _, w := range r.Witnesses {
		if c.index > w.Size {
			r.Unsure = append(r.Unsure, fmt.Sprintf("witness %s has signed the first %d records: of the %d behind, another log may have been shown to others", w.Name, w.Size, c.index-w.Size))
		}
	}
	if c.lost && len(c.claims) > 0 {
		r.Unsure = append(r.Unsure, "behind the first missing record no checkpoint could be compared")
	}
	if !anchored {
		r.Unsure = append(r.Unsure, "no checkpoint from elsewhere was given: that records were cut off at the end together with the checkpoints that covered them, or that another log was shown to others, cannot be excluded")
	}
	if r.omitted > 0 {
		r.Unsure = append(r.Unsure, fmt.Sprintf("%d further faults are not listed", r.omitted))
	}
}

func (c *check) tick(ctx context.Context) error {
	if c.r.Records&0xffff == 0 {
		if c.o.Progress != nil {
			c.o.Progress(c.r.Records)
		}
		return ctx.Err()
	}
	return nil
}

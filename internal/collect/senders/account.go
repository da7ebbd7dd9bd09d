package senders

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/collect/gaps"
	"github.com/gatehouse-dev/gatehouse/internal/federation/totalwire"
)

const (
	// vanished is when a kube-apiserver that no report has any more counts as
	// ended.
	vanished = 10 * time.Minute
	// maxProcesses bounds what is remembered of a site, ended ones included: a
	// report that overtook another must not count them anew.
	maxProcesses = 2 * totalwire.MaxProcesses
	// maxPending is how many gaps may wait for the record before no report is
	// taken. Counters only rise, so that the next one makes up for it.
	maxPending = 256

	// A site that delivers nothing for silentAfter while its senders go on
	// making events has a gap. Of these events those count that are older than
	// underWay: a stock sender delivers or gives up within two minutes.
	silentAfter = 5 * time.Minute
	underWay    = 3 * time.Minute
	// sayAgain bounds how often that is recorded while it lasts.
	sayAgain = time.Hour
)

// account is the value that is kept of a site.
type account struct {
	Since     time.Time `json:"since"`
	Reported  time.Time `json:"reported"`
	Unreached int       `json:"unreached,omitempty"`
	Processes []process `json:"processes,omitempty"`
	// Produced and Discarded are sums over all processes that ever were.
	Produced  int64     `json:"produced"`
	Discarded int64     `json:"discarded"`
	Silent    silent    `json:"silent,omitzero"`
	Pending   []pending `json:"pending,omitempty"`

	claimed []pending // by who holds this value, if it can write it
}

// process is a kube-apiserver with what it said last.
type process struct {
	totalwire.Process
	Seen  time.Time `json:"seen"`
	Ended bool      `json:"ended,omitempty"`
}

// pending is a gap that has to be recorded.
type pending struct {
	Gap     gaps.Gap  `json:"gap"`
	Claimed time.Time `json:"claimed"`
}

// same reports whether both are one gap: what its auditID is made of.
func (p *pending) same(other *pending) bool {
	a, b := &p.Gap, &other.Gap
	return a.Key == b.Key && a.Sender == b.Sender && a.Missing == b.Missing && a.From.Equal(b.From) && a.To.Equal(b.To)
}

// silent watches a site that delivers nothing.
type silent struct {
	Since time.Time `json:"since"`
	// Base is what was produced and not discarded then.
	Base int64 `json:"base"`
	// Settled and Next are what had been produced at two moments, of which the
	// first lies back underWay at least.
	Settled, Next mark
	Told          int64     `json:"told,omitempty"`
	Again         time.Time `json:"again,omitzero"`
}

type mark struct {
	At       time.Time `json:"at"`
	Produced int64     `json:"produced"`
}

// merge takes a report. It returns whether the account must be written.
func (a *account) merge(r *totalwire.Report, heard, now time.Time) (write bool) {
	if a.Since.IsZero() {
		a.Since = now
	}
	write = now.Sub(a.Reported) >= writeEvery || len(r.Unreached) != a.Unreached
	gapsBefore := len(a.Pending)
	for i := range r.Processes {
		write = a.take(&r.Processes[i], now) || write
	}
	for i := range a.Processes {
		p := &a.Processes[i]
		if p.Ended || now.Sub(p.Seen) < vanished || slices.Contains(r.Unreached, p.Server) {
			continue
		}
		p.Ended = true
		a.lost(p, now, "is not there any more")
	}
	a.prune()
	a.silence(heard, now)
	if len(a.Pending) > gapsBefore {
		write = true
	}
	if !write {
		return false
	}
	a.Reported, a.Unreached = now, len(r.Unreached)
	return true
}

// take takes what one process says. Counters that are lower than those that are
// known come from a report that was overtaken.
func (a *account) take(in *totalwire.Process, now time.Time) (write bool) {
	at := slices.IndexFunc(a.Processes, func(p process) bool { return p.Server == in.Server && p.Started == in.Started })
	from := time.UnixMicro(in.Started).UTC()
	if at < 0 {
		for i := range a.Processes {
			if p := &a.Processes[i]; p.Server == in.Server && p.Started < in.Started && !p.Ended {
				p.Ended = true
				a.lost(p, from, "was started anew")
			}
		}
		a.Processes = append(a.Processes, process{Process: totalwire.Process{Server: in.Server, Started: in.Started}})
		at, write = len(a.Processes)-1, true
	} else {
		from = a.Processes[at].Seen
	}
	p := &a.Processes[at]
	grow := func(known *int64, says int64) int64 {
		more := max(0, says-*known)
		*known += more
		return more
	}
	more := totalwire.Discarded{
		Buffered: grow(&p.Discarded.Buffered, in.Discarded.Buffered),
		Webhook:  grow(&p.Discarded.Webhook, in.Discarded.Webhook),
		Truncate: grow(&p.Discarded.Truncate, in.Discarded.Truncate),
	}
	a.Produced = sum(a.Produced, grow(&p.Produced, in.Produced))
	p.Seen = now
	if n := more.Total(); n > 0 {
		a.Discarded = sum(a.Discarded, n)
		a.gap(gaps.Gap{From: from, To: now, Missing: n, Why: why(more), Sender: p.name(),
			Key: fmt.Sprintf("discarded %d %d %d", p.Discarded.Buffered, p.Discarded.Webhook, p.Discarded.Truncate)})
	}
	return write
}

// maxSum is where sums stop: what a site claims must not wrap them around.
const maxSum = math.MaxInt64 / 4

func sum(a, b int64) int64 { return min(a+b, maxSum) }

func (p *process) name() string {
	return fmt.Sprintf("kube-apiserver %s, started %s", p.Server, time.UnixMicro(p.Started).UTC().Format(time.RFC3339Nano))
}

// lost notes a process that has ended: what it had not sent when it did, nobody
// counts.
func (a *account) lost(p *process, until time.Time, how string) {
	if until.Before(p.Seen) {
		until = p.Seen // its clock is not ours
	}
	a.gap(gaps.Gap{From: p.Seen, To: until, Sender: p.name(), Key: "ended",
		Why: "a kube-apiserver of the site " + how + ": unless it ended in order, what it had not delivered is missing; how many is not known"})
}

func (a *account) gap(g gaps.Gap) { a.Pending = append(a.Pending, pending{Gap: g}) }

// claim takes on the gaps that nobody works on, and returns whether there are
// any.
func (a *account) claim(now time.Time) bool {
	a.claimed = nil
	for i := range a.Pending {
		if p := &a.Pending[i]; now.Sub(p.Claimed) >= orphaned {
			p.Claimed = now
			a.claimed = append(a.claimed, *p)
		}
	}
	return len(a.claimed) > 0
}

// prune forgets the processes that ended longest ago.
func (a *account) prune() {
	if len(a.Processes) <= maxProcesses {
		return
	}
	slices.SortFunc(a.Processes, func(x, y process) int {
		if x.Ended != y.Ended {
			if x.Ended {
				return -1
			}
			return 1
		}
		return cmp.Or(x.Seen.Compare(y.Seen), cmp.Compare(x.Started, y.Started))
	})
	a.Processes = slices.Delete(a.Processes, 0, len(a.Processes)-maxProcesses)
}

// silence looks for events that are made and not delivered, nor given up on: a
// kube-apiserver whose webhook was taken away counts no error.
func (a *account) silence(heard, now time.Time) {
	s := &a.Silent
	if heard.IsZero() {
		*s = silent{} // it never delivered; its status says so
		return
	}
	if s.Since.IsZero() || !heard.Before(s.Since) {
		m := mark{now, a.Produced}
		*s = silent{Since: now, Base: a.Produced - a.Discarded, Settled: m, Next: m}
		return
	}
	if now.Sub(s.Next.At) >= underWay {
		s.Settled, s.Next = s.Next, mark{now, a.Produced}
	}
	// What was discarded meanwhile may have been produced later: the count is
	// never too high.
	missing := s.Settled.Produced - a.Discarded - s.Base
	if now.Sub(s.Since) < silentAfter || missing <= s.Told || now.Before(s.Again) {
		return
	}
	a.gap(gaps.Gap{From: s.Since, To: s.Settled.At, Missing: missing - s.Told, Key: fmt.Sprint("undelivered ", missing),
		Why: "the kube-apiservers of the site made events, as their metrics count them, and delivered none of them; there are at least as many"})
	s.Told, s.Again = missing, now.Add(sayAgain)
}

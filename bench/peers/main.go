// Command peers puts the decision engine beside casbin, Cedar, OPA and OpenFGA:
// the same generated policy sets, the same questions, one process, one table. A
// peer that answers a question wrongly ends the run.
//
// Each peer gets the form of the data that suits it best: OPA finds everything
// by key and reads pre-parsed input, Cedar is given only the policies of the
// caller and its groups, casbin a domain for each namespace, and OpenFGA a store
// in memory or, beyond a thousand bindings, in SQLite. Times are processor time
// of the whole process, which a busy machine disturbs least.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/gatehouse-dev/gatehouse/bench/peers/world"
)

// engine is one system, filled.
type engine interface {
	allowed(ctx context.Context, q *world.Question) (bool, error)
}

// peer makes an engine of a world; beyond most bindings it is left out, because
// it would take hours.
type peer struct {
	name string
	most int
	fill func(context.Context, *world.World) (engine, error)
}

var peers = []peer{
	{"gatehouse", 1_000_000, newOurs},
	{"opa", 100_000, newOPA},
	{"cedar-go", 100_000, newCedar},
	{"casbin", 10_000, newCasbin},
	{"openfga", 10_000, newOpenFGA},
}

type row struct {
	peer        string
	bindings    int
	fill        time.Duration
	deny, allow time.Duration // processor time of one question
	asked       int
}

func main() {
	sizes := flag.String("bindings", "1000,10000", "sizes of the policy sets")
	budget := flag.Duration("budget", time.Second, "processor time given to each peer for each kind of answer")
	only := flag.String("peers", "", "peers to run, by comma (default: all)")
	seed := flag.Uint64("seed", 1, "seed of the policy sets")
	flag.Parse()
	var rows []row
	for _, text := range strings.Split(*sizes, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			fmt.Fprintf(os.Stderr, "peers: -bindings: %q is no number\n", text)
			os.Exit(2)
		}
		w := world.New(n, 20_000, *seed)
		for _, p := range peers {
			if *only != "" && !slices.Contains(strings.Split(*only, ","), p.name) || n > p.most {
				continue
			}
			fmt.Fprintf(os.Stderr, "measuring %s with %d bindings\n", p.name, n)
			r, err := measure(context.Background(), p, w, *budget)
			if err != nil {
				fmt.Fprintf(os.Stderr, "peers: %s: %v\n", p.name, err)
				os.Exit(1)
			}
			r.bindings = n
			rows = append(rows, r)
		}
	}
	print(rows)
}

// measure asks until the budget is spent, each kind of answer by itself.
func measure(ctx context.Context, p peer, w *world.World, budget time.Duration) (row, error) {
	start := cpu()
	e, err := p.fill(ctx, w)
	if err != nil {
		return row{}, err
	}
	r := row{peer: p.name, fill: cpu() - start}
	if c, ok := e.(interface{ Close() }); ok {
		defer c.Close()
	}
	for _, want := range []bool{false, true} {
		var questions []*world.Question
		for i := range w.Questions {
			if w.Questions[i].Allowed == want {
				questions = append(questions, &w.Questions[i])
			}
		}
		runtime.GC()
		n, begin := 0, cpu()
		for spent := time.Duration(0); spent < budget; spent = cpu() - begin {
			// The clock is read once in a while, not for each question.
			for range max(1, n/8) {
				q := questions[n%len(questions)]
				got, err := e.allowed(ctx, q)
				if err != nil {
					return row{}, err
				}
				if got != q.Allowed {
					return row{}, fmt.Errorf("answers %v, which is wrong: %+v", got, *q)
				}
				n++
			}
		}
		each := (cpu() - begin) / time.Duration(n)
		r.asked += n
		if want {
			r.allow = each
		} else {
			r.deny = each
		}
	}
	return r, nil
}

// cpu is the processor time that this process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0 // it cannot fail for oneself
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func print(rows []row) {
	ours := map[int]row{}
	for _, r := range rows {
		if r.peer == peers[0].name {
			ours[r.bindings] = r
		}
	}
	fmt.Println("Decisions in process, processor time of one question; every answer was checked")
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "bindings\tengine\tfill\tdeny\tallow\tratio deny\tratio allow\tasked\t")
	for _, r := range rows {
		o := ours[r.bindings]
		fmt.Fprintf(t, "%d\t%s\t%v\t%v\t%v\t%s\t%s\t%d\t\n", r.bindings, r.peer, r.fill.Round(time.Millisecond), r.deny.Round(10*time.Nanosecond), r.allow.Round(10*time.Nanosecond),
			ratio(r.deny, o.deny), ratio(r.allow, o.allow), r.asked)
	}
	t.Flush()
}

func ratio(theirs, ours time.Duration) string {
	if ours == 0 {
		return ""
	}
	return fmt.Sprintf("%.0fx", float64(theirs)/float64(ours))
}

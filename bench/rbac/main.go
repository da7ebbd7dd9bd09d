// Command rbac puts the decision engine beside the Kubernetes RBAC authorizer:
// the same generated policy sets, the same questions, one process, one table.
// It fails when the two disagree on a question.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

func main() {
	sizes := flag.String("bindings", "100,1000,10000,100000,1000000", "sizes of the policy sets")
	queries := flag.Int("queries", 20_000, "questions asked of our engine for each set")
	budget := flag.Duration("budget", 3*time.Second, "time given to the upstream authorizer for each set")
	seed := flag.Uint64("seed", 1, "seed of the policy sets")
	flag.Parse()

	var results []result
	for _, f := range strings.Split(*sizes, ",") {
		n, err := strconv.Atoi(f)
		if err != nil || n < 1 {
			fmt.Fprintf(os.Stderr, "rbac: -bindings: %q is not a number of bindings\n", f)
			os.Exit(2)
		}
		fmt.Fprintf(os.Stderr, "measuring %d bindings\n", n)
		r, err := measure(context.Background(), n, *queries, *budget, *seed)
		if err != nil {
			fmt.Fprintln(os.Stderr, "rbac:", err)
			os.Exit(1)
		}
		results = append(results, r)
	}
	print(results)
}

func print(results []result) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	defer w.Flush()
	fmt.Println("Decisions in process, medians of single questions at their best of five: ours beside the Kubernetes RBAC authorizer, same answers")
	fmt.Fprintln(w, "bindings\tk8s deny\tk8s allow\tours deny\tours allow\tratio deny\tratio allow\tratio\tours p50\tours p99\tallocs\tmean\tcompared\t")
	for _, r := range results {
		fmt.Fprintf(w, "%d\t%v\t%v\t%v\t%v\t%.0fx\t%.0fx\t%.0fx\t%v\t%v\t%.2f\t%v\t%d\t\n", r.bindings,
			short(r.theirs.deny), short(r.theirs.allow), short(r.ours.deny), short(r.ours.allow),
			ratio(r.theirs.deny, r.ours.deny), ratio(r.theirs.allow, r.ours.allow), ratio(r.theirs.p50, r.ours.p50),
			short(r.ours.p50), short(r.ours.p99), r.allocs, short(r.mean), r.compared)
	}
	w.Flush()
	fmt.Println("\nOur engine's upkeep; a change of one binding or role is a snapshot of its own")
	fmt.Fprintln(w, "bindings\tbuild\tbytes/binding\tone binding p50\tp99\tone role p50\twho-can p50\tholders\t")
	for _, r := range results {
		fmt.Fprintf(w, "%d\t%v\t%d\t%v\t%v\t%v\t%v\t%d\t\n", r.bindings,
			short(r.build), r.bytesPerBinding, short(r.change), short(r.changeP99), short(r.roleChange), short(r.whoCan), r.holders)
	}
}

func ratio(theirs, ours time.Duration) float64 { return float64(theirs) / float64(max(ours, 1)) }

// short keeps three digits.
func short(d time.Duration) time.Duration {
	unit := time.Nanosecond
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit)
}

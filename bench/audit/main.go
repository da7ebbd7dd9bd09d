// Command audit measures durable audit records: our ledger beside the log
// backend of k8s.io/apiserver, which neither syncs nor proves, and beside
// Tessera's POSIX driver, all in one run on the same events.
//
//	go run ./audit [-time 2s] [-rounds 3] [-dir D]
//
// All three take the same event from the same number of writers in the same
// process settings and write to the same disk. The log backend is opened as
// kube-apiserver opens it for --audit-log-path: blocking, unwrapped, on a file
// for appending; the run ends with an error if its line says anything else than
// our record. Every writer waits for its record before the next: until it is
// synced (ours), until the write returned (k8s), until it is integrated
// (Tessera). CPU is that of the whole process, what runs behind the answer
// included: with us the redaction, the tree and the compression too, which the
// log backend does not have. The systems take turns in each round, because
// other load on the machine comes and goes; a line is the round of median rate.
package main

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"
)

// system is something that records events.
type system struct {
	name string
	// open returns what one writer calls for each event, and what ends it all
	// and tells the bytes kept for an event, 0 if it does not compress.
	open func(dir string, writers int) (record func(writer, n int) error, end func(events int) (float64, error), err error)
}

type result struct {
	rate, cpu, bytes float64
	p50, p99         time.Duration
}

func main() {
	window := flag.Duration("time", 2*time.Second, "how long each measurement runs")
	rounds := flag.Int("rounds", 3, "how often each measurement runs")
	dir := flag.String("dir", "", "where to write; by default a temporary directory")
	flag.Parse()
	if err := run(*window, max(*rounds, 1), *dir); err != nil {
		fmt.Fprintln(os.Stderr, "bench audit:", err)
		os.Exit(1)
	}
}

func run(window time.Duration, rounds int, dir string) error {
	if err := sameEvent(); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(dir, "gatehouse-bench-audit-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	fmt.Printf("%d CPUs, event of %d bytes as JSON, median of %d times %v; fdatasync of 32 KiB takes %v (median)\n\n",
		runtime.NumCPU(), eventSize(), rounds, window, syncTime(tmp))
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "writers\tsystem\tevents/s\tours is\tCPU µs/event\tp50 ms\tp99 ms\tbytes/event\t")
	for _, writers := range []int{1024, 32, 1} {
		all := systems()
		results := make([][]result, len(all))
		for round := range rounds {
			for i, s := range all {
				r, err := measure(s, fmt.Sprintf("%s/%d-%d-%d", tmp, writers, round, i), writers, window)
				if err != nil {
					return fmt.Errorf("%s: %w", s.name, err)
				}
				results[i] = append(results[i], r)
			}
		}
		ours := median(results[0])
		for i, s := range all {
			r := median(results[i])
			kept := "-"
			if r.bytes > 0 {
				kept = fmt.Sprintf("%.0f", r.bytes)
			}
			fmt.Fprintf(table, "%d\t%s\t%.0f\t%.1f×\t%.1f\t%.2f\t%.2f\t%s\t\n", writers, s.name, r.rate, ours.rate/r.rate, r.cpu,
				r.p50.Seconds()*1e3, r.p99.Seconds()*1e3, kept)
		}
	}
	return table.Flush()
}

// median returns the round of median rate.
func median(rounds []result) result {
	slices.SortFunc(rounds, func(a, b result) int { return cmp.Compare(a.rate, b.rate) })
	return rounds[len(rounds)/2]
}

// measure runs one system with so many writers for the window.
func measure(s system, dir string, writers int, window time.Duration) (result, error) {
	defer os.RemoveAll(dir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return result{}, err
	}
	record, end, err := s.open(dir, writers)
	if err != nil {
		return result{}, err
	}
	runtime.GC()
	var (
		wg    sync.WaitGroup
		lats  = make([]histogram, writers)
		errs  = make(chan error, writers)
		start = time.Now()
		cpu   = cpuTime()
	)
	for w := range writers {
		wg.Go(func() {
			for n := 0; ; n++ {
				before := time.Now()
				if before.Sub(start) > window {
					return
				}
				if err := record(w, n); err != nil {
					errs <- err
					return
				}
				lats[w].add(time.Since(before))
			}
		})
	}
	wg.Wait()
	elapsed := time.Since(start)
	var all histogram
	for i := range lats {
		all.merge(&lats[i])
	}
	kept, err := end(int(all.count))
	if err != nil {
		return result{}, err
	}
	select {
	case err := <-errs:
		return result{}, err
	default:
	}
	return result{
		rate: float64(all.count) / elapsed.Seconds(), bytes: kept,
		cpu: float64((cpuTime() - cpu).Microseconds()) / float64(all.count),
		p50: all.quantile(0.50), p99: all.quantile(0.99),
	}, nil
}

// histogram counts latencies in steps of 2 %.
type histogram struct {
	buckets [1024]uint32
	count   uint64
}

const step = 1.02

func (h *histogram) add(d time.Duration) {
	h.count++
	h.buckets[bucket(d)]++
}

func (h *histogram) merge(o *histogram) {
	h.count += o.count
	for i, n := range o.buckets {
		h.buckets[i] += n
	}
}

func (h *histogram) quantile(q float64) time.Duration {
	rest := uint64(q * float64(h.count))
	for i, n := range h.buckets {
		if rest < uint64(n) {
			return bounds[i]
		}
		rest -= uint64(n)
	}
	return bounds[len(bounds)-1]
}

// bounds are the upper ends of the buckets, from one microsecond.
var bounds = func() (b [1024]time.Duration) {
	d := float64(time.Microsecond)
	for i := range b {
		b[i] = time.Duration(d)
		d = min(d*step, float64(time.Hour))
	}
	return b
}()

func bucket(d time.Duration) int {
	low, high := 0, len(bounds)-1
	for low < high {
		mid := (low + high) / 2
		if bounds[mid] < d {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low
}

func cpuTime() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// syncTime tells what the disk can do, without which the table says little.
func syncTime(dir string) time.Duration {
	f, err := os.CreateTemp(dir, "sync")
	if err != nil {
		return 0
	}
	defer f.Close()
	var h histogram
	block := make([]byte, 32<<10)
	for range 200 {
		start := time.Now()
		if _, err := f.Write(block); err != nil {
			return 0
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return 0
		}
		h.add(time.Since(start))
	}
	return h.quantile(0.5)
}

package ledger_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
)

// BenchmarkDurable measures durable appends of concurrent writers, sealing
// included: events a second, CPU of the process an event, p99, bytes on disk.
func BenchmarkDurable(b *testing.B) {
	for _, writers := range []int{1, 32, 1024} {
		b.Run(fmt.Sprint(writers), func(b *testing.B) {
			dir := b.TempDir()
			l := mustOpen(&testing.T{}, dir, testConfig())
			var wg sync.WaitGroup
			lat := make([][]time.Duration, writers)
			before := cpu()
			b.ResetTimer()
			for w := range writers {
				wg.Go(func() {
					e := sample(w)
					for i := w; i < b.N; i += writers {
						e.AuditID = fmt.Sprintf("7f0f2a34-%04x-4000-8000-%012x", w, uint64(i)*0x9E3779B97F4A7C15>>16)
						start := time.Now()
						e.StageTimestamp.Time, e.RequestReceivedTimestamp.Time = start, start
						if err := l.Append(b.Context(), e, audit.Durable); err != nil {
							b.Error(err)
						}
						lat[w] = append(lat[w], time.Since(start))
					}
				})
			}
			wg.Wait()
			elapsed := b.Elapsed()
			l.Close()
			b.StopTimer()
			var all []time.Duration
			for _, x := range lat {
				all = append(all, x...)
			}
			sort.Slice(all, func(i, j int) bool { return all[i] < all[j] })
			b.ReportMetric(float64(b.N)/elapsed.Seconds(), "events/s")
			b.ReportMetric(float64(cpu()-before)/float64(b.N)/1000, "cpu-µs/event")
			b.ReportMetric(float64(all[len(all)*99/100])/1e6, "p99-ms")
			b.ReportMetric(float64(all[len(all)/2])/1e6, "p50-ms")
			var sealed int64
			names, _ := filepath.Glob(dir + "/*.seg")
			for _, n := range names {
				st, _ := os.Stat(n)
				sealed += st.Size()
			}
			if len(names) > 0 {
				b.ReportMetric(float64(sealed)/float64(len(names)*65536), "sealed-B/event")
			}
		})
	}
}

func cpu() time.Duration {
	var r syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

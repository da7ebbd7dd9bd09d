package fastlane_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gatehouse-dev/gatehouse/internal/fastlane"
)

// BenchmarkLaneSAR is a SubjectAccessReview over HTTP/2 and mutual TLS on the
// loopback: the real chain, the real engine with 10,000 bindings, the real
// audit log on disk. cpu-µs/op is of client and server together.
func BenchmarkLaneSAR(b *testing.B) {
	log := openLedger(b)
	w := newWorld(b, func(c *fastlane.Config) { c.InFlight = 1024; c.Recorder, c.Batch = log, log })
	const bindings = 10_000
	var all []*rbacv1.RoleBinding
	for i := range bindings {
		all = append(all, &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Namespace: fmt.Sprintf("team-%d", i%500), Name: fmt.Sprintf("b-%d", i)},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "reader"},
			Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: fmt.Sprintf("user-%d", i)}},
		})
	}
	w.policy.RoleBindings.Replace(all)
	c := w.client(w.admin, false)
	body := sarIn("team-7", "user-507", "get", "pods", "developers", "system:authenticated")
	ask := func() {
		req, err := http.NewRequest(http.MethodPost, w.url+sarPath, strings.NewReader(body))
		must(b, err)
		req.Header.Set("Content-Type", "application/json")
		resp, err := c.Do(req)
		must(b, err)
		out, err := io.ReadAll(resp.Body)
		must(b, err)
		resp.Body.Close()
		if resp.StatusCode != http.StatusCreated || !strings.Contains(string(out), `"allowed":true`) {
			b.Fatalf("%d %s", resp.StatusCode, out)
		}
	}
	ask()
	measure(b, ask)
}

// BenchmarkBareGet is what HTTP/2 and TLS cost without any of us.
func BenchmarkBareGet(b *testing.B) {
	w := newWorld(b)
	c := w.client(nil, false)
	measure(b, func() {
		resp, err := c.Get(w.url + "/")
		must(b, err)
		resp.Body.Close()
		w.frame.take()
	})
}

func measure(b *testing.B, ask func()) {
	b.ReportAllocs()
	before := cpu()
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			ask()
		}
	})
	b.ReportMetric((cpu()-before)*1e6/float64(b.N), "cpu-µs/op")
}

// cpu is the processor time of this process, in seconds.
func cpu() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	at := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return at(u.Utime) + at(u.Stime)
}

// BenchmarkLaneRefusal is what a stranger costs: a refusal is on disk before it
// is answered, many in one sync.
func BenchmarkLaneRefusal(b *testing.B) {
	log := openLedger(b)
	w := newWorld(b, func(c *fastlane.Config) { c.InFlight = 1024; c.Recorder, c.Batch = log, log })
	c := w.client(nil, false)
	before := log.Stats()
	measure(b, func() {
		resp, err := c.Post(w.url+"/sites/one/authorize", "application/json", nil)
		must(b, err)
		resp.Body.Close()
		if resp.StatusCode != http.StatusUnauthorized {
			b.Fatal(resp.StatusCode)
		}
	})
	if got := log.Stats().Size - before.Size; got != uint64(b.N) {
		b.Errorf("%d records of %d refusals", got, b.N)
	}
}

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/storage/sql/pgtest"
	"github.com/gatehouse-dev/gatehouse/test/harness"
)

// Two replicas on one etcd and one PostgreSQL know between them what is on
// record: an entry that is sent again to the other one, the silence of a source
// and a gap that both are told of are there once.
func TestReplicasCollectOnce(t *testing.T) {
	t.Parallel()
	config := configure(t, startEtcd(t))
	dsn := filepath.Join(t.TempDir(), "dsn")
	if err := os.WriteFile(dsn, []byte(pgtest.Start(t).Database(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, fmt.Appendf(text, "  sql:\n    postgresDSNFile: %q\n", dsn), 0o600); err != nil {
		t.Fatal(err)
	}
	first, second := startReplicas(t, config)
	site, _ := connect(t, first, "blue")
	dir := connectHost(t, first, "web-1", "blue", "--host", "web-1.example", "--interval", "5s")
	both := func(filters ...string) (all events) {
		t.Helper()
		return append(record(t, first, filters...), record(t, second, filters...)...)
	}

	// Neither was told of the source: each judges that it is silent.
	inRecord(t, "the silence", func() bool { return len(both("--verb", "silent")) > 0 })

	// The other replica knows what was sent to the first.
	work := t.TempDir()
	files, state := filepath.Join(work, "journal"), filepath.Join(work, "state")
	if err := os.Mkdir(files, 0o755); err != nil {
		t.Fatal(err)
	}
	began := time.Now().Add(-time.Hour).Truncate(time.Microsecond)
	journal := func(file string, from, to int) {
		t.Helper()
		var entries strings.Builder
		for i := from; i <= to; i++ {
			entries.WriteString(exportFormat("web-1", i, began.Add(time.Duration(i)*time.Millisecond), fmt.Sprint("entry ", i)))
		}
		journalFile(t, filepath.Join(files, file), entries.String())
	}
	upload := func(g *harness.Gatehouse) {
		t.Helper()
		if err := os.Remove(state); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		finish(t, startUpload(t, g.URL+"/sites/blue/journal", dir, "source", files, state), 0)
	}
	journal("a.journal", 1, 1500)
	upload(first)
	inRecord(t, "the return", func() bool { return len(both("--verb", "return")) > 0 })

	// A gap is told to both.
	c, other := bareClient(t, first, pair(t, site, "site")), bareClient(t, second, pair(t, site, "site"))
	header := http.Header{"Content-Type": {"application/json"}}
	totals := []byte(`{"processes":[{"server":"192.0.2.7:6443","started":1767323046000000,"produced":900,"discarded":{"buffered":17}}]}`)
	for _, c := range []client{c, other, c} {
		if code, answer := c.send(http.MethodPost, "/sites/blue/audit/totals", header, totals); code != http.StatusOK {
			t.Errorf("totals: %d %s", code, answer)
		}
	}
	// What is no report is refused, and so is that of another site.
	for body, path := range map[string]string{
		`{"processes":[{"server":"a","started":1,"produced":-1}]}`: "/sites/blue/audit/totals",
		`{"processes":[],"more":1}`:                                "/sites/blue/audit/totals",
		`{"processes":[]}`:                                         "/sites/red/audit/totals",
	} {
		if code, answer := c.send(http.MethodPost, path, header, []byte(body)); code != http.StatusBadRequest && code != http.StatusForbidden {
			t.Errorf("%s: %d %s", body, code, answer)
		}
	}

	// A replica that ends leaves what it knew to the others.
	if err := drain(first); err != nil {
		t.Fatal(err)
	}
	journal("b.journal", 1501, 1600)
	upload(second)
	count := map[string]int{}
	for _, e := range both("--verb", "log", "--name", "web-1.example") {
		count[e.field(t, "MESSAGE")]++
	}
	for i := 1; i <= 1600; i++ {
		if m := fmt.Sprint("entry ", i); count[m] != 1 {
			t.Fatalf("%q is on record %d times", m, count[m])
		}
	}
	if got := record(t, second, "--verb", "log", "--name", "web-1.example"); len(got) != 100 {
		t.Errorf("the second replica recorded %d entries, of 1,600 that it got", len(got))
	}
	if got := both("--verb", "gap", "--user", "system:gatehouse", "--site", "blue"); len(got) != 1 || got[0].Annotations["audit.gatehouse.dev/gap-count"] != "17" {
		t.Errorf("%d gaps: %v", len(got), got)
	}
	silent, back := both("--verb", "silent"), both("--verb", "return")
	ids := map[string]int{}
	for _, e := range append(silent, back...) {
		ids[e.AuditID]++
	}
	for id, n := range ids {
		if n != 1 {
			t.Errorf("%s is on record %d times", id, n)
		}
	}
	if len(back) == 0 || len(silent) < len(back) || len(silent) > len(back)+1 {
		t.Errorf("%d times silent, %d times back", len(silent), len(back))
	}
}

package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/test/harness"
)

// connectHost declares an audit source and returns the folder with its files.
func connectHost(t *testing.T, g *harness.Gatehouse, name, site string, args ...string) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), name)
	ctx, cancel := context.WithTimeout(t.Context(), commandWithin)
	defer cancel()
	got, err := harness.RunGatehouse(ctx, append([]string{"site", "connect", "host", name, "--site", site, "--out", dir, "--kubeconfig", g.Kubeconfig}, args...)...)
	if err != nil || got.Code != 0 {
		t.Fatalf("site connect host: %v %v", err, got)
	}
	return dir
}

// pair is a client certificate in a folder.
func pair(t *testing.T, dir, name string) tls.Certificate {
	t.Helper()
	c, err := tls.LoadX509KeyPair(filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// exportFormat is an entry of a journal in the export format.
func exportFormat(host string, seq int, at time.Time, message string) string {
	return fmt.Sprintf("__CURSOR=s=5e97f1c2a3b445d69e8f0a1b2c3d4e5f;i=%x;b=0a1b2c3d4e5f60718293a4b5c6d7e8f9;m=%x;t=%x;x=%x\n__REALTIME_TIMESTAMP=%d\n__MONOTONIC_TIMESTAMP=%d\n_BOOT_ID=0a1b2c3d4e5f60718293a4b5c6d7e8f9\n_MACHINE_ID=00112233445566778899aabbccddeeff\n_HOSTNAME=%s\n_TRANSPORT=syslog\nSYSLOG_IDENTIFIER=sshd\nPRIORITY=6\nMESSAGE=%s\n\n",
		seq, seq, at.UnixMicro(), seq, at.UnixMicro(), seq, host, message)
}

// journalFile makes a journal file out of entries, with the stock tool.
func journalFile(t *testing.T, path, entries string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/lib/systemd/systemd-journal-remote", "--output="+path, "-")
	cmd.Stdin = strings.NewReader(entries)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("systemd-journal-remote: %v: %s", err, out)
	}
}

// startUpload runs the stock systemd-journal-upload on journal files.
func startUpload(t *testing.T, url, dir, prefix, files, state string, args ...string) *harness.Process {
	t.Helper()
	p, err := harness.Start("systemd-journal-upload", "/lib/systemd/systemd-journal-upload", nil, append([]string{
		"--url=" + url, "--key=" + filepath.Join(dir, prefix+".key"), "--cert=" + filepath.Join(dir, prefix+".crt"),
		"--trust=" + filepath.Join(dir, "ca.crt"), "--directory=" + files, "--save-state=" + state, "--follow=no",
	}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("--- systemd-journal-upload ---\n%s", p.Log())
		}
	})
	return p
}

func finish(t *testing.T, p *harness.Process, want int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandWithin)
	defer cancel()
	if code, err := p.Wait(ctx); err != nil || code != want {
		t.Fatalf("ended with code %d, want %d: %v\n%s", code, want, err, p.Log())
	}
}

// collected counts the events of a host by their message.
func collected(t *testing.T, g *harness.Gatehouse, host string) map[string]int {
	t.Helper()
	count := map[string]int{}
	for _, e := range record(t, g, "--verb", "log", "--name", host) {
		message := e.field(t, "MESSAGE")
		count[message]++
	}
	return count
}

// The stock systemd-journal-upload delivers a journal to the door of its site;
// nothing is lost and nothing is there twice when either side dies.
func TestJournalUpload(t *testing.T) {
	t.Parallel()
	g := start(t)
	connect(t, g, "blue")
	connect(t, g, "red")
	dir := connectHost(t, g, "web-1", "blue", "--host", "web-1.example")
	work := t.TempDir()
	files, state := filepath.Join(work, "journal"), filepath.Join(work, "state")
	if err := os.Mkdir(files, 0o755); err != nil {
		t.Fatal(err)
	}
	began := time.Now().Add(-time.Hour).Truncate(time.Microsecond)
	const first, all = 3000, 4000
	var entries strings.Builder
	for i := 1; i <= first; i++ {
		entries.WriteString(exportFormat("web-1", i, began.Add(time.Duration(i)*time.Millisecond), fmt.Sprint("entry ", i)))
	}
	journalFile(t, filepath.Join(files, "a.journal"), entries.String())
	url := g.URL + "/sites/blue/journal"
	upload := startUpload(t, url, dir, "source", files, state)
	finish(t, upload, 0)
	expect := func(n int) {
		t.Helper()
		count := collected(t, g, "web-1.example")
		for i := 1; i <= n; i++ {
			if m := fmt.Sprint("entry ", i); count[m] != 1 {
				t.Fatalf("%q is on record %d times", m, count[m])
			}
		}
		if len(count) != n {
			t.Fatalf("%d messages on record, want %d", len(count), n)
		}
	}
	expect(first)
	for _, e := range record(t, g, "--verb", "log", "--name", "web-1.example", "--limit", "1") {
		if e.User.Username != "system:audit-source:web-1" || e.RequestURI != "/sites/blue/journal" || e.field(t, "SYSLOG_IDENTIFIER") != "sshd" ||
			e.Annotations["audit.gatehouse.dev/source"] != "web-1" || e.Annotations["audit.gatehouse.dev/claimed-host"] != "web-1" ||
			!strings.HasPrefix(e.Annotations["audit.gatehouse.dev/cursor"], "s=") || e.RequestReceivedTimestamp.After(began.Add(time.Minute)) || e.Stage != "ResponseComplete" {
			t.Errorf("recorded as %s", e.raw)
		}
	}

	// The sender lost its state: it sends all again. Then the server dies in
	// the middle of an upload.
	if err := os.Remove(state); err != nil {
		t.Fatal(err)
	}
	finish(t, startUpload(t, url, dir, "source", files, state), 0)
	expect(first)
	entries.Reset()
	for i := first + 1; i <= all; i++ {
		entries.WriteString(exportFormat("web-1", i, began.Add(time.Duration(i)*time.Millisecond), fmt.Sprint("entry ", i)))
	}
	journalFile(t, filepath.Join(files, "b.journal"), entries.String())
	upload = startUpload(t, url, dir, "source", files, state)
	eventually(t, commandWithin, "the server has some of it", func() bool {
		return len(collected(t, g, "web-1.example")) > first
	})
	g.Kill()
	if err := g.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-upload.Done() // it may have been through, or it gave up and is started again
	finish(t, startUpload(t, url, dir, "source", files, state), 0)
	expect(all)
	// Nor does the server forget what it had, when all of it comes again after
	// its death.
	if err := os.Remove(state); err != nil {
		t.Fatal(err)
	}
	finish(t, startUpload(t, url, dir, "source", files, state), 0)
	expect(all)
	// The sender as it runs on a host, which waits for more.
	startUpload(t, url, dir, "source", files, state, "--follow=yes")
	journalFile(t, filepath.Join(files, "c.journal"), exportFormat("web-1", all+1, began.Add(time.Minute), fmt.Sprint("entry ", all+1)))
	eventually(t, commandWithin, "an entry that is written while the sender waits", func() bool {
		return collected(t, g, "web-1.example")[fmt.Sprint("entry ", all+1)] == 1
	})

	// Nobody writes as another, at another door, or without a certificate.
	c := bareClient(t, g, pair(t, dir, "source"))
	header := http.Header{"Content-Type": {"application/vnd.fdo.journal"}}
	one := []byte(exportFormat("web-9", 1, time.Now(), "forged"))
	for name, path := range map[string]string{
		"another site":   "/sites/red/journal",
		"another door":   "/sites/blue/audit",
		"its own, too":   "/sites/blue/authorize/deny",
		"an odd path":    "/sites/blue/journal/upload/x",
		"another kind's": "/sites/blue/v1/logs",
	} {
		if code, body := c.send(http.MethodPost, path, header, one); code != http.StatusForbidden && code != http.StatusUnauthorized {
			t.Errorf("%s: %d %s", name, code, body)
		}
	}
	if code, _ := bareClient(t, g).send(http.MethodPost, "/sites/blue/journal/upload", header, one); code != http.StatusUnauthorized {
		t.Errorf("without a certificate: %d", code)
	}
	if code, _ := c.send(http.MethodPost, "/sites/blue/journal/upload", header, one); code != http.StatusAccepted {
		t.Errorf("its own door: %d", code)
	}
	if !record(t, g, "--verb", "log", "--name", "web-1.example").has(func(e event) bool {
		return e.field(t, "MESSAGE") == "forged" && e.Annotations["audit.gatehouse.dev/claimed-host"] == "web-9"
	}) {
		t.Error("a foreign host name did not stay a claim")
	}
	if len(record(t, g, "--verb", "log", "--name", "web-9")) > 0 {
		t.Error("an entry is on record under a host that did not write it")
	}
	// What breaks off is not there by half; what came whole before is.
	broken := append([]byte(exportFormat("web-1", 9001, time.Now(), "whole")), one[:len(one)-20]...)
	if code, body := c.send(http.MethodPost, "/sites/blue/journal/upload", header, broken); code != http.StatusBadRequest || !bytes.Contains(body, []byte("breaks off")) {
		t.Errorf("a broken upload: %d %s", code, body)
	}
	if collected(t, g, "web-1.example")["whole"] != 1 {
		t.Error("an entry before the fault is not on record")
	}
	// The source is gone: its certificate opens nothing, within a second.
	k := as(t, g)
	eventually(t, commandWithin, "the source's state", func() bool {
		return strings.Contains(k.run("get", "auditsource", "web-1"), "Active")
	})
	k.run("delete", "auditsource", "web-1")
	eventually(t, effectWithin, "the certificate of a deleted source is refused", func() bool {
		code, _ := c.send(http.MethodPost, "/sites/blue/journal/upload", header, one)
		return code == http.StatusForbidden
	})
}

// The silence of an expected source is recorded once, and its return; the site's
// own certificate writes for a host that has none.
func TestSilentSource(t *testing.T) {
	t.Parallel()
	g := start(t)
	site, _ := connect(t, g, "blue")
	k := as(t, g)
	k.feed(`{apiVersion: audit.gatehouse.dev/v1alpha1, kind: AuditSource, metadata: {name: db-1}, spec: {site: blue, kind: Journal, expectedIntervalSeconds: 1}}`, "apply", "-f", "-")
	noticed := func(verb string) int {
		return len(record(t, g, "--verb", verb, "--name", "db-1"))
	}
	eventually(t, commandWithin, "the silence of a source that was never heard", func() bool { return noticed("silent") == 1 })
	k.shows([]string{"Silent", "<never>"}, "get", "auditsource", "db-1")
	c := bareClient(t, g, pair(t, site, "site"))
	header := http.Header{"Content-Type": {"application/vnd.fdo.journal"}}
	code, body := c.send(http.MethodPost, "/sites/blue/journal/upload", header, []byte(exportFormat("db-1", 1, time.Now().Add(-5*time.Second), "here I am")))
	if code != http.StatusAccepted {
		t.Fatalf("%d %s", code, body)
	}
	eventually(t, commandWithin, "its return", func() bool { return noticed("return") == 1 })
	if lag := k.run("get", "auditsource", "db-1", "-o", "jsonpath={.status.lagSeconds}"); lag != "5" && lag != "6" {
		t.Errorf("lag %q", lag)
	}
	eventually(t, commandWithin, "its next silence", func() bool { return noticed("silent") == 2 })
	if noticed("return") != 1 {
		t.Error("more than one return")
	}
	g.Kill()
	if err := g.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	// A marker that comes later than another silence would have.
	began := time.Now()
	eventually(t, commandWithin, "some intervals", func() bool { return time.Since(began) > 4*time.Second })
	if noticed("silent") != 2 {
		t.Error("a silence that is on record was recorded again")
	}
	if got := record(t, g, "--verb", "silent", "--name", "db-1")[0]; got.User.Username != "system:gatehouse" || got.Annotations["audit.gatehouse.dev/expected-interval"] != "1s" {
		t.Errorf("recorded as %s", got.raw)
	}
}

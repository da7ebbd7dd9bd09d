package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
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

// inRecord is eventually for what shows in the record, which is read by a
// program of its own: often asked, that is what a loaded machine would do.
func inRecord(t *testing.T, what string, check func() bool) {
	t.Helper()
	var last time.Time
	eventually(t, commandWithin, what, func() bool {
		if time.Since(last) < 400*time.Millisecond {
			return false
		}
		defer func() { last = time.Now() }()
		return check()
	})
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
	ctx, cancel := context.WithTimeout(t.Context(), commandWithin)
	defer cancel()
	if _, err := upload.Wait(ctx); err != nil { // it may have been through, or it gave up and is started again
		t.Fatal(err)
	}
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
	journalFile(t, filepath.Join(files, "c.journal"), exportFormat("web-1", all+1, began.Add(time.Minute), fmt.Sprint("entry ", all+1)))
	startUpload(t, url, dir, "source", files, state, "--follow=yes")
	inRecord(t, "an entry of a sender that goes on to wait", func() bool {
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
	promptly(t, effectWithin, "the certificate of a deleted source is refused", func() bool {
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
	inRecord(t, "the silence of a source that was never heard", func() bool { return noticed("silent") == 1 })
	eventually(t, commandWithin, "its state", func() bool {
		row := k.run("get", "auditsource", "db-1")
		return strings.Contains(row, "Silent") && strings.Contains(row, "<never>")
	})
	c := bareClient(t, g, pair(t, site, "site"))
	header := http.Header{"Content-Type": {"application/vnd.fdo.journal"}}
	written := time.Now().Add(-5 * time.Second)
	code, body := c.send(http.MethodPost, "/sites/blue/journal/upload", header, []byte(exportFormat("db-1", 1, written, "here I am")))
	most := int(time.Since(written).Seconds()) + 1
	if code != http.StatusAccepted {
		t.Fatalf("%d %s", code, body)
	}
	inRecord(t, "its return", func() bool { return noticed("return") == 1 })
	// It is what it was when the entry came, between these two moments.
	eventually(t, commandWithin, "the lag", func() bool {
		lag, err := strconv.Atoi(k.run("get", "auditsource", "db-1", "-o", "jsonpath={.status.lagSeconds}"))
		return err == nil && lag >= 5 && lag <= most
	})
	inRecord(t, "its next silence", func() bool { return noticed("silent") == 2 })
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

// taking is a control plane that takes in syslog at the address.
func taking(t *testing.T) (g *harness.Gatehouse, address string) {
	t.Helper()
	free, err := harness.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	// rsyslog knows a server by its name, not by its address.
	_, port, err := net.SplitHostPort(free)
	if err != nil {
		t.Fatal(err)
	}
	address = "localhost:" + port
	config := filepath.Join(t.TempDir(), "config.yaml")
	text := fmt.Sprintf("apiVersion: config.gatehouse.dev/v1alpha1\nkind: Configuration\naudit: {syslog: {listen: %q}}\n", address)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return start(t, "--config", config), address
}

// startRsyslog runs the stock rsyslogd with the configuration that connecting a
// host wrote, and a socket in dir at which programs log.
func startRsyslog(t *testing.T, dir, driver string) *harness.Process {
	t.Helper()
	written, err := os.ReadFile(filepath.Join(dir, "rsyslog-gatehouse.conf"))
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "rsyslog.conf")
	text := fmt.Sprintf("global(workDirectory=%q maxMessageSize=\"128k\")\nmodule(load=\"imuxsock\" SysSock.Use=\"off\")\ninput(type=\"imuxsock\" Socket=%q UseSpecialParser=\"off\" ParseHostname=\"on\" RateLimit.Interval=\"0\" UseSysTimeStamp=\"off\")\n%s",
		dir, filepath.Join(dir, "log"), strings.NewReplacer(`StreamDriver="ossl"`, fmt.Sprintf("StreamDriver=%q", driver), `resumeInterval="10"`, `resumeInterval="1"`).Replace(string(written)))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := harness.Start("rsyslogd", "/usr/sbin/rsyslogd", nil, "-n", "-f", config, "-i", filepath.Join(dir, "rsyslogd.pid"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("--- rsyslogd ---\n%s", p.Log())
		}
	})
	eventually(t, commandWithin, "the socket of rsyslogd", func() bool {
		_, err := os.Stat(filepath.Join(dir, "log"))
		return err == nil
	})
	return p
}

// logger runs the stock logger.
func logger(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "logger", append([]string{"--socket", filepath.Join(dir, "log"), "--rfc5424=notq", "--size=120k", "--id=4711", "--tag", "shop"}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("logger: %v: %s", err, out)
	}
}

// The stock rsyslog sends over TLS, with either of its drivers and with its
// client certificate; what it could not send while the server was away comes
// later.
func TestSyslog(t *testing.T) {
	t.Parallel()
	g, address := taking(t)
	connect(t, g, "blue")
	drivers := map[string]string{"mail-1": "ossl", "mail-2": "gtls"}
	dirs := map[string]string{}
	for host, driver := range drivers {
		dirs[host] = connectHost(t, g, host, "blue", "--kind", "syslog", "--syslog", address)
		startRsyslog(t, dirs[host], driver)
		logger(t, dirs[host], "--priority", "authpriv.warning", "--msgid", "LOGIN", "--sd-id", "shop@32473", "--sd-param", `user="eve"`, "from "+host)
		logger(t, dirs[host], strings.Repeat("long ", 20_000))
	}
	messages := func(host string) map[string]event {
		out := map[string]event{}
		for _, e := range record(t, g, "--verb", "log", "--name", host) {
			out[e.field(t, "message")] = e
		}
		return out
	}
	for host := range drivers {
		inRecord(t, "the messages of "+host, func() bool { return len(messages(host)) == 2 })
		got := messages(host)
		e, ok := got["from "+host]
		if !ok {
			t.Fatalf("%s is not there: %q", host, slices.Sorted(maps.Keys(got)))
		}
		for _, text := range []string{`"facility":10`, `"severity":4`, `"appName":"shop"`, `"procID":"4711"`, `"msgID":"LOGIN"`, `{"id":"shop@32473","params":[{"name":"user","value":"eve"}]}`} {
			if !strings.Contains(string(e.RequestObject), text) {
				t.Errorf("%s: no %s in %s", host, text, e.raw)
			}
		}
		if e.User.Username != "system:audit-source:"+host || e.RequestURI != "/sites/blue/syslog" || time.Since(e.RequestReceivedTimestamp) > time.Hour {
			t.Errorf("%s: %s", host, e.raw)
		}
		for text, e := range got {
			if strings.HasPrefix(text, "long ") && (e.Annotations["audit.k8s.io/truncated"] != "true" || !strings.HasPrefix(e.Annotations["audit.gatehouse.dev/dropped"], "message:")) {
				t.Errorf("%s: a cut message is not marked: %v", host, e.Annotations)
			}
		}
	}
	// Away, and back.
	g.Kill()
	// TCP says nothing of a message that is sent to a server just gone. Once a
	// sender has noticed the end, it keeps what it gets.
	for host := range drivers {
		logger(t, dirs[host], "noticed the end")
	}
	eventually(t, commandWithin, "the senders notice the end", func() bool { return !connected(t, address) })
	logger(t, dirs["mail-1"], "while away")
	if err := g.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	inRecord(t, "what was logged meanwhile", func() bool {
		_, ok := messages("mail-1")["while away"]
		return ok
	})
	if err := drain(g); err != nil { // with senders connected
		t.Fatal(err)
	}
}

// connected says whether anybody still holds a connection to an address.
func connected(t *testing.T, address string) bool {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		table, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // IPv6 may be off
			t.Fatal(err)
		}
		for line := range strings.Lines(string(table)) {
			// sl local_address rem_address st; 01 is established, 08 closed by
			// the other side only.
			f := strings.Fields(line)
			if len(f) > 3 && strings.HasSuffix(f[2], fmt.Sprintf(":%04X", number)) && (f[3] == "01" || f[3] == "08") {
				return true
			}
		}
	}
	return false
}

// Who is no writer of syslog gets nowhere, and a broken stream ends without
// half a message.
func TestSyslogRefusals(t *testing.T) {
	t.Parallel()
	g, address := taking(t)
	site, _ := connect(t, g, "blue")
	good := connectHost(t, g, "mail-1", "blue", "--kind", "syslog", "--syslog", address)
	journal := connectHost(t, g, "web-1", "blue")
	_, config, err := as(t, g).k.Endpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// send returns how the server ended the connection.
	send := func(config *tls.Config, text string) error {
		c, err := tls.Dial("tcp", address, config)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(commandWithin))
		if _, err := io.WriteString(c, text); err != nil {
			return err
		}
		if err := c.CloseWrite(); err != nil {
			return err
		}
		_, err = c.Read(make([]byte, 1))
		return err
	}
	with := func(certificates ...tls.Certificate) *tls.Config {
		c := config.Clone()
		c.Certificates = certificates
		return c
	}
	frame := func(text string) string { return fmt.Sprintf("%d %s", len(text), text) }
	const one = "<13>1 2026-01-02T03:04:05Z db-7 app - - - "
	old := with(pair(t, good, "source"))
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	for name, c := range map[string]*tls.Config{
		"no certificate": with(), "a stranger's": with(expiredCertificate(t)), "the administrator's": config, "a journal's": with(pair(t, journal, "source")), "TLS 1.2": old,
	} {
		if err := send(c, frame(one+"refused")); err == nil {
			t.Errorf("%s: no end", name)
		}
	}
	for name, text := range map[string]string{
		"whole":         frame(one + "whole"),
		"no counting":   frame(one+"before no counting") + "<13>1 - - - - - - uncounted\n",
		"too long":      frame(one+"before too long") + "1048577 " + one,
		"breaks off":    frame(one+"before the break") + "500 " + one,
		"no RFC 5424":   frame("<13>Jan  2 03:04:05 box app: BSD"),
		"not UTF-8":     frame(one + "\xff\xfe"),
		"one megabyte":  fmt.Sprintf("%d %s%s", 1<<20, one, strings.Repeat("m", 1<<20-len(one))),
		"in the future": frame("<13>1 2126-01-02T03:04:05Z - - - - - future"),
	} {
		if err := send(with(pair(t, good, "source")), text); !errors.Is(err, io.EOF) {
			t.Errorf("%s: ended with %v", name, err)
		}
	}
	if err := send(with(pair(t, site, "site")), frame(one+"of the site")); !errors.Is(err, io.EOF) {
		t.Errorf("the site's own: %v", err)
	}
	all := record(t, g, "--verb", "log")
	var texts []string
	for _, e := range all {
		text := e.field(t, "message")
		if len(text) > 100 {
			text = text[:2] + "..."
		}
		if text == "" {
			text = string(e.RequestObject[:30])
		}
		texts = append(texts, text)
		host := e.Annotations["audit.gatehouse.dev/host"]
		if text == "of the site" && host != "db-7" || text != "of the site" && host != "mail-1" {
			t.Errorf("%s is of host %s", text, host)
		}
		if future := e.Annotations["audit.gatehouse.dev/clock-skew"] != ""; future != (text == "future") {
			t.Errorf("%s: clock skew %v", text, future)
		}
	}
	slices.Sort(texts)
	want := []string{"<13>Jan  2 03:04:05 box app: BSD", "before no counting", "before the break", "before too long", "future", "mm...", "of the site", "whole", `{"appName":"app","facility":1,`}
	if !slices.Equal(texts, want) {
		t.Errorf("on record: %q", texts)
	}
	// A refusal may be recorded a moment after the sender knows of it.
	for _, text := range []string{"octet counting is required", "longer than", "breaks off", "may not write as Syslog", "certificate"} {
		inRecord(t, "a refusal that says "+text, func() bool {
			return record(t, g, "--verb", "connect").has(func(e event) bool { return strings.Contains(e.raw, text) })
		})
	}
}

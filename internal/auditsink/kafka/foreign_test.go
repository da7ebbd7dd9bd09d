package kafka

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os/exec"
	"regexp"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/gatehouse-dev/gatehouse/internal/audit/sink"
)

// The broker of librdkafka, which kcat runs and reads from: other people's
// reading of the protocol, on both sides. It knows no TLS; the stories have
// that.
func TestForeignBroker(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "kcat", "-X", "test.mock.num.brokers=1", "-X", "debug=mock", "-b", "replaced", "-C", "-t", topic, "-o", "beginning", "-u", "-q", "-J")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v: scripts/install-test-deps installs kcat", err)
	}
	addresses, messages := make(chan string, 1), make(chan []byte, 100)
	logged, read := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(logged)
		at := regexp.MustCompile(`bootstrap\.servers=([0-9.:]+)`)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			if m := at.FindSubmatch(lines.Bytes()); m != nil {
				select {
				case addresses <- string(m[1]):
				default:
				}
			}
		}
	}()
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			messages <- []byte(lines.Text())
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-logged
		<-read
		_ = cmd.Wait()
	})
	var address string
	select {
	case address = <-addresses:
	case <-time.After(30 * time.Second):
		t.Fatal("kcat starts no broker")
	}

	for i, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		s, err := New(Config{Brokers: []string{address}, Topic: topic, Dial: (&net.Dialer{}).DialContext, Compression: codec, Key: KeyAuditID, Log: "r1",
			// It answers a request for versions that it does not know with what
			// cannot be read.
			versions: kversion.V2_1_0()})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		var batch []sink.Event
		for j := range 10 {
			batch = append(batch, event(uint64(10*i+j), fmt.Sprint("id-", j), "anna"))
		}
		if err := s.Deliver(t.Context(), batch); err != nil {
			t.Fatalf("%s: %v", codec, err)
		}
	}
	records, partition := map[string]bool{}, map[string]int{}
	for len(records) < 50 {
		var m struct {
			Partition    int
			Key, Payload string
			Headers      []string
		}
		select {
		case line := <-messages:
			if err := json.Unmarshal(line, &m); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%d of 50 messages came", len(records))
		}
		headers := map[string]string{}
		for i := 0; i+1 < len(m.Headers); i += 2 {
			headers[m.Headers[i]] = m.Headers[i+1]
		}
		var e struct{ AuditID string }
		if err := json.Unmarshal([]byte(m.Payload), &e); err != nil || e.AuditID != m.Key || headers[HeaderLog] != "r1" || headers[HeaderSite] != "blue" {
			t.Errorf("%v: key %q headers %v payload %s", err, m.Key, m.Headers, m.Payload)
		}
		if p, ok := partition[m.Key]; ok && p != m.Partition {
			t.Errorf("%s is in partitions %d and %d", m.Key, p, m.Partition)
		}
		partition[m.Key] = m.Partition
		if r := headers[HeaderRecord]; records[r] {
			t.Errorf("record %s came twice", r)
		}
		records[headers[HeaderRecord]] = true
	}
}

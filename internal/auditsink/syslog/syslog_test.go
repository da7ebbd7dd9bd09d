package syslog

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/sink"
)

// receiver is a syslog receiver of its own reading of RFC 5425 and 5424.
type receiver struct {
	listener net.Listener
	messages chan string
	conns    chan net.Conn
	client   *tls.Config
}

func listen(t *testing.T) *receiver {
	t.Helper()
	// httptest has a certificate for 127.0.0.1 at hand.
	server := httptest.NewTLSServer(nil)
	t.Cleanup(server.Close)
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: server.TLS.Certificates, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{listener: l, messages: make(chan string, 100), conns: make(chan net.Conn, 10), client: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			r.conns <- conn
			go r.read(conn)
		}
	}()
	return r
}

func (r *receiver) read(conn net.Conn) {
	in := bufio.NewReader(conn)
	for {
		length, err := in.ReadString(' ')
		if err != nil {
			return
		}
		n, err := strconv.Atoi(strings.TrimSuffix(length, " "))
		if err != nil || n <= 0 || n > 1<<20 {
			r.messages <- "bad frame: " + length
			return
		}
		m := make([]byte, n)
		if _, err := io.ReadFull(in, m); err != nil {
			return
		}
		r.messages <- string(m)
	}
}

func (r *receiver) next(t *testing.T) string {
	t.Helper()
	select {
	case m := <-r.messages:
		return m
	case <-time.After(time.Minute):
		t.Fatal("nothing came")
		return ""
	}
}

// message is RFC 5424, section 6, as far as we write it.
var message = regexp.MustCompile(`^<(\d{1,3})>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) (\S+) gatehouse - audit (\[audit@32473(?: [a-zA-Z]+="(?:[^"\\\]]|\\["\\\]])*")*\]) \x{feff}(\{.*\})$`)

func TestDeliver(t *testing.T) {
	t.Parallel()
	r := listen(t)
	unconfirmed := &Unconfirmed{}
	open := func() *Target {
		s, err := New(Config{Address: r.listener.Addr().String(), TLS: r.client, Dialer: &net.Dialer{}, Log: "r1", Host: "host one", Unconfirmed: unconfirmed})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	event := func(i uint64, id string) []sink.Event {
		return []sink.Event{{Index: i, At: at, Site: "blue", Event: &audit.Event{AuditID: id, Annotations: map[string]string{audit.AnnotationDecision: "forbid"}}}}
	}
	if err := s.Deliver(t.Context(), event(1, `a"]\`+"\n")); err != nil {
		t.Fatal(err)
	}
	m := message.FindStringSubmatch(r.next(t))
	if m == nil || m[1] != strconv.Itoa(13*8+4) || m[2] != "2026-01-02T03:04:05.000006Z" || m[3] != "hostone" ||
		m[4] != `[audit@32473 log="r1" record="1" auditID="a\"\]\\?" site="blue"]` {
		t.Fatalf("%q", m)
	}
	if e, err := audit.Decode([]byte(m[5])); err != nil || e.AuditID != `a"]\`+"\n" {
		t.Fatalf("%v %+v", err, e)
	}

	// The receiver dies: what was sent last may never have been read.
	(<-r.conns).Close()
	<-s.gone
	if err := s.Deliver(t.Context(), event(2, "b")); err != nil {
		t.Fatal(err)
	}
	if first, second := r.next(t), r.next(t); !strings.Contains(first, `record="1"`) || !strings.Contains(second, `record="2"`) {
		t.Errorf("after a break came %q, %q", first, second)
	}
	// Also when the target was made anew.
	s.Close()
	s = open()
	defer s.Close()
	if err := s.Deliver(t.Context(), event(3, "c")); err != nil {
		t.Fatal(err)
	}
	if first, second := r.next(t), r.next(t); !strings.Contains(first, `record="2"`) || !strings.Contains(second, `record="3"`) {
		t.Errorf("after a new target came %q, %q", first, second)
	}
}

func TestForeignReceiver(t *testing.T) {
	t.Parallel()
	r := listen(t)
	s, err := New(Config{Address: r.listener.Addr().String(), TLS: &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}, Dialer: &net.Dialer{}, Log: "r1", Unconfirmed: &Unconfirmed{}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Deliver(t.Context(), []sink.Event{{Event: &audit.Event{AuditID: "a"}}}); err == nil {
		t.Error("a receiver that nobody certified got events")
	}
	if _, err := New(Config{Address: "nowhere"}); err == nil {
		t.Error("an address without port")
	}
}

package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// kafkaTopic is a topic of brokers that ask for TLS and a password; kcat reads
// it. The brokers are franz-go's own; a foreign one is in the unit tests, since
// it knows no TLS.
type kafkaTopic struct {
	t     *testing.T
	start func() *kfake.Cluster
	*kfake.Cluster
	bundle string // a file
}

const kafkaPassword = "correct-horse-battery"

func newKafkaTopic(t *testing.T) *kafkaTopic {
	t.Helper()
	server := httptest.NewTLSServer(nil) // has a certificate for 127.0.0.1 at hand
	t.Cleanup(server.Close)
	dir := t.TempDir()
	k := &kafkaTopic{t: t, bundle: filepath.Join(dir, "ca.pem")}
	if err := os.WriteFile(k.bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	at := newDoorway(t)
	k.start = func() *kfake.Cluster {
		c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.ListenFn(at.open), kfake.DataDir(filepath.Join(dir, "data")), kfake.SeedTopics(3, "audit"), kfake.EnableSASL(),
			kfake.Superuser("SCRAM-SHA-512", "gatehouse", kafkaPassword), kfake.TLS(&tls.Config{Certificates: server.TLS.Certificates, MinVersion: tls.VersionTLS12}))
		if err != nil {
			t.Fatal(err)
		}
		oldHandshake(t, c, k.bundle)
		return c
	}
	k.Cluster = k.start()
	t.Cleanup(func() { k.Close() })
	return k
}

// oldHandshake lets brokers say that they know version 0 of SaslHandshake, as
// every Kafka does: librdkafka asks for that before it speaks version 1.
func oldHandshake(t *testing.T, c *kfake.Cluster, bundle string) {
	t.Helper()
	pem, err := os.ReadFile(bundle)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.DialTLSConfig(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}),
		kgo.SASL(scram.Auth{User: "gatehouse", Pass: kafkaPassword}.AsSha512Mechanism()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), commandWithin)
	defer cancel()
	known, err := kmsg.NewPtrApiVersionsRequest().RequestWith(ctx, client)
	if err != nil {
		t.Fatal(err)
	}
	for i := range known.ApiKeys {
		if known.ApiKeys[i].ApiKey == int16(kmsg.SASLHandshake) {
			known.ApiKeys[i].MinVersion = 0
		}
	}
	c.ControlKey(int16(kmsg.ApiVersions), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		answer := *known
		answer.Version = req.GetVersion()
		return &answer, nil, true
	})
}

// A doorway keeps an address while brokers come and go: others could take the
// port of a broker that is away. Without a broker it hangs up.
type doorway struct {
	net.Listener
	mu   sync.Mutex
	room *room // guarded by mu; nil: nobody is there
}

func newDoorway(t *testing.T) *doorway {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d, done := &doorway{Listener: l}, make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			d.mu.Lock()
			r := d.room
			d.mu.Unlock()
			if r == nil {
				conn.Close()
				continue
			}
			select {
			case r.conns <- conn:
			case <-r.closed:
				conn.Close()
			}
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return d
}

// open lets a broker in until it closes what it got.
func (d *doorway) open(string, string) (net.Listener, error) {
	r := &room{doorway: d, conns: make(chan net.Conn), closed: make(chan struct{})}
	r.leave = sync.OnceFunc(func() {
		d.mu.Lock()
		d.room = nil
		d.mu.Unlock()
		close(r.closed)
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	d.room = r
	return r, nil
}

type room struct {
	*doorway
	conns  chan net.Conn
	closed chan struct{}
	leave  func()
}

func (r *room) Accept() (net.Conn, error) {
	select {
	case conn := <-r.conns:
		return conn, nil
	case <-r.closed:
		return nil, net.ErrClosed
	}
}

func (r *room) Close() error {
	r.leave()
	return nil
}

// sinkYAML is a sink with the credential that is in Secret audit/kafka.
func (k *kafkaTopic) sinkYAML(name, more string) string {
	bundle, err := os.ReadFile(k.bundle)
	if err != nil {
		k.t.Fatal(err)
	}
	return fmt.Sprintf("apiVersion: audit.gatehouse.dev/v1alpha1\nkind: AuditSink\nmetadata: {name: %s}\nspec:\n  credential: {namespace: audit, name: kafka}\n"+
		"  kafka: {brokers: [%q], topic: audit, caBundle: %s, sasl: {mechanism: SCRAM-SHA-512}}\n%s",
		name, k.ListenAddrs()[0], base64.StdEncoding.EncodeToString(bundle), more)
}

// read returns what kcat finds in the topic, by key and with how often each
// record came.
func (k *kafkaTopic) read() (raw string, times map[string]int) {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(k.t.Context(), commandWithin)
	defer cancel()
	out, err := exec.CommandContext(ctx, "kcat", "-C", "-e", "-q", "-J", "-m", "60", "-t", "audit", "-o", "beginning", "-b", k.ListenAddrs()[0],
		"-X", "security.protocol=SASL_SSL", "-X", "ssl.ca.location="+k.bundle, "-X", "sasl.mechanism=SCRAM-SHA-512",
		"-X", "sasl.username=gatehouse", "-X", "sasl.password="+kafkaPassword).Output()
	if err != nil {
		k.t.Fatalf("kcat: %v (scripts/install-test-deps installs it)", err)
	}
	times = map[string]int{}
	for line := range strings.Lines(string(out)) {
		var m struct {
			Key, Payload string
			Headers      []string
		}
		var e event
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			k.t.Fatalf("%v: %s", err, line)
		}
		if err := json.Unmarshal([]byte(m.Payload), &e); err != nil || e.AuditID != m.Key {
			k.t.Errorf("%v: key %q of %s", err, m.Key, m.Payload)
		}
		times[strings.Join(m.Headers, " ")]++
		raw += m.Payload + "\n"
	}
	return raw, times
}

// The record reaches a topic that wants TLS and SCRAM, across an outage, and a
// foreign consumer reads it.
func TestKafkaSink(t *testing.T) {
	t.Parallel()
	topic := newKafkaTopic(t)
	g := auditing(t)
	k := as(t, g)
	k.run("create", "namespace", "audit")
	k.run("create", "secret", "generic", "kafka", "-n", "audit", "--type=kubernetes.io/basic-auth", "--from-literal=username=gatehouse", "--from-literal=password=wrong")
	k.feed(topic.sinkYAML("stream", ""), "apply", "-f", "-")
	eventually(t, commandWithin, "the wrong password shows in status", func() bool {
		return strings.Contains(k.run("get", "auditsink", "stream", "-o", "jsonpath={.status.replicas[0].error}"), "SASL")
	})
	// The Secret is read again after a failure.
	k.run("patch", "secret", "kafka", "-n", "audit", "-p", `{"stringData":{"password":"`+kafkaPassword+`"}}`)
	k.run("create", "serviceaccount", "before", "-n", "audit")
	arrives := func(names ...string) {
		t.Helper()
		eventually(t, commandWithin, strings.Join(names, " and ")+" in the topic", func() bool {
			raw, _ := topic.read()
			for _, name := range names {
				if !strings.Contains(raw, `"name":"`+name+`"`) {
					return false
				}
			}
			return true
		})
	}
	arrives("before")

	failures := func() (n float64) {
		t.Helper()
		for line := range strings.Lines(k.run("get", "--raw", "/metrics")) {
			if value, found := strings.CutPrefix(line, `gatehouse_audit_sink_failures_total{sink="stream"} `); found {
				if _, err := fmt.Sscan(value, &n); err != nil {
					t.Fatalf("%v: %s", err, line)
				}
			}
		}
		return n
	}
	before := failures()
	topic.Close()
	k.run("create", "serviceaccount", "meanwhile", "-n", "audit")
	eventually(t, commandWithin, "the outage shows in metrics", func() bool { return failures() > before })
	k.shows([]string{`gatehouse_audit_sink_lag_records{sink="stream"}`}, "get", "--raw", "/metrics")
	topic.Cluster = topic.start()
	k.run("create", "serviceaccount", "after", "-n", "audit")
	arrives("before", "meanwhile", "after")
	if raw, _ := topic.read(); strings.Contains(raw, kafkaPassword) {
		t.Error("the password is in the record")
	}

	// What is wrong is named.
	k.failsFed(strings.Replace(topic.sinkYAML("bad", ""), "topic: audit", "topic: a/b, key: Verb", 1), 1, []string{"spec.kafka.topic", "spec.kafka.key"}, "apply", "-f", "-")
	k.failsFed(strings.Replace(topic.sinkYAML("bad", ""), "topic: audit", "topic: audit, acks: 0", 1), 1, []string{"unknown field", "acks"}, "create", "-f", "-")
}

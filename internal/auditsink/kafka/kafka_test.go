package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	auditapi "github.com/gatehouse-dev/gatehouse/api/audit/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/sink"
	"github.com/gatehouse-dev/gatehouse/internal/auditsink/outbound"
	"github.com/gatehouse-dev/gatehouse/internal/secret"
)

const topic = "audit"

// brokers is a cluster of franz-go's own making, so not a second opinion on the
// protocol: those are in foreign_test.go.
type brokers struct {
	*kfake.Cluster
	bundle []byte
	client *tls.Config
}

func start(t *testing.T, more ...kfake.Opt) *brokers {
	t.Helper()
	// httptest has a certificate for 127.0.0.1 at hand.
	server := httptest.NewTLSServer(nil)
	t.Cleanup(server.Close)
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	c, err := kfake.NewCluster(append([]kfake.Opt{
		kfake.NumBrokers(3), kfake.SeedTopics(4, topic),
		kfake.TLS(&tls.Config{Certificates: server.TLS.Certificates, MinVersion: tls.VersionTLS12}),
	}, more...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return &brokers{c, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
}

func (b *brokers) receiver() *outbound.Receiver { return &outbound.Receiver{CABundle: b.bundle} }

func dialer(t *testing.T, r *outbound.Receiver) func(context.Context, string, string) (net.Conn, error) {
	t.Helper()
	conf, err := r.TLS()
	if err != nil {
		t.Fatal(err)
	}
	return (&tls.Dialer{NetDialer: r.Dialer(), Config: conf}).DialContext
}

// target makes one, which change may alter before.
func (b *brokers) target(t *testing.T, change func(*Config)) *Target {
	t.Helper()
	c := Config{Brokers: b.ListenAddrs(), Topic: topic, Dial: dialer(t, b.receiver()), Compression: "zstd", Key: KeyAuditID, Log: "r1"}
	if change != nil {
		change(&c)
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// consume reads n messages.
func (b *brokers) consume(t *testing.T, n int, opts ...kgo.Opt) []*kgo.Record {
	t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(b.ListenAddrs()...), kgo.DialTLSConfig(b.client), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var out []*kgo.Record
	for len(out) < n {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("after %d of %d messages: %v", len(out), n, err)
		}
		out = append(out, fetches.Records()...)
	}
	return out
}

func event(i uint64, id, user string) sink.Event {
	return sink.Event{Index: i, At: time.UnixMilli(1_700_000_000_000 + int64(i)), Site: "blue", Event: &audit.Event{AuditID: id, User: audit.UserInfo{Username: user}}}
}

func header(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

func TestDeliver(t *testing.T) {
	t.Parallel()
	b := start(t)
	var batch []sink.Event
	for i := range uint64(200) {
		batch = append(batch, event(i, fmt.Sprint("id-", i/2), "anna"))
	}
	batch[7].Site = ""
	if err := b.target(t, nil).Deliver(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	seen, partition, last := map[string]bool{}, map[string]int32{}, map[int32]time.Time{}
	for _, r := range b.consume(t, len(batch)) {
		e, err := audit.Decode(r.Value)
		if err != nil {
			t.Fatalf("%v: %q", err, r.Value)
		}
		record := header(r, HeaderRecord)
		if e.Annotations[sink.AnnotationIndex] != record || string(r.Key) != e.AuditID || header(r, HeaderLog) != "r1" || header(r, "content-type") != "application/json" {
			t.Errorf("key %q headers %v of %s", r.Key, r.Headers, r.Value)
		}
		if want := map[bool]string{true: "", false: "blue"}[record == "7"]; header(r, HeaderSite) != want || e.Annotations[sink.AnnotationSite] != want {
			t.Errorf("site %q of record %s", header(r, HeaderSite), record)
		}
		if p, ok := partition[e.AuditID]; ok && p != r.Partition {
			t.Errorf("the stages of %s are in partitions %d and %d", e.AuditID, p, r.Partition)
		}
		if r.Timestamp.Before(last[r.Partition]) {
			t.Errorf("record %s is out of order in partition %d", record, r.Partition)
		}
		seen[record], partition[e.AuditID], last[r.Partition] = true, r.Partition, r.Timestamp
	}
	if len(seen) != len(batch) || len(last) < 2 {
		t.Errorf("%d different records in %d partitions", len(seen), len(last))
	}
}

// Every choice that the API offers is one that we know.
func TestChoices(t *testing.T) {
	t.Parallel()
	b := start(t)
	var keys []string
	for i, c := range []auditapi.KafkaCompression{auditapi.KafkaUncompressed, auditapi.KafkaGzip, auditapi.KafkaSnappy, auditapi.KafkaLZ4, auditapi.KafkaZstd} {
		key := []auditapi.KafkaKey{auditapi.KafkaKeyAuditID, auditapi.KafkaKeyUser, auditapi.KafkaKeyNone}[i%3]
		s := b.target(t, func(conf *Config) { conf.Compression, conf.Key = string(c), string(key) })
		if err := s.Deliver(t.Context(), []sink.Event{event(uint64(i), "id", "anna")}); err != nil {
			t.Errorf("%s: %v", c, err)
		}
		keys = append(keys, map[string]string{KeyAuditID: "id", KeyUser: "anna", KeyNone: ""}[string(key)])
	}
	for _, r := range b.consume(t, len(keys)) {
		var i int
		if _, err := fmt.Sscan(header(r, HeaderRecord), &i); err != nil || string(r.Key) != keys[i] {
			t.Errorf("record %d (%v) has key %q, want %q", i, err, r.Key, keys[i])
		}
	}
}

func TestSASL(t *testing.T) {
	t.Parallel()
	mechanisms := []auditapi.KafkaMechanism{auditapi.KafkaPlain, auditapi.KafkaSCRAMSHA256, auditapi.KafkaSCRAMSHA512}
	opts := []kfake.Opt{kfake.EnableSASL()}
	for _, m := range mechanisms {
		opts = append(opts, kfake.Superuser(string(m), "gatehouse", "correct-horse"))
	}
	b := start(t, opts...)
	for _, m := range mechanisms {
		t.Run(string(m), func(t *testing.T) {
			t.Parallel()
			as := func(password string) *Target {
				return b.target(t, func(c *Config) {
					c.SASL = &SASL{Mechanism: string(m), Username: "gatehouse", Password: secret.NewString(password)}
				})
			}
			if err := as("correct-horse").Deliver(t.Context(), []sink.Event{event(1, "a", "")}); err != nil {
				t.Error(err)
			}
			err := as("wrong-horse").Deliver(t.Context(), []sink.Event{event(1, "a", "")})
			if err == nil || strings.Contains(err.Error(), "horse") || !strings.Contains(strings.ToLower(err.Error()), "sasl") {
				t.Errorf("a wrong password: %v", err)
			}
		})
	}
}

// What cannot be delivered says why, within the deadline.
func TestFailures(t *testing.T) {
	t.Parallel()
	b := start(t)
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody.Close()
	for name, c := range map[string]struct {
		change func(*Config)
		says   string
		is     error
	}{
		"no such topic":  {func(c *Config) { c.Topic = "nothing" }, "UNKNOWN_TOPIC_OR_PARTITION", nil},
		"nobody there":   {func(c *Config) { c.Brokers = []string{nobody.Addr().String()} }, "connection refused", nil},
		"foreign broker": {func(c *Config) { c.Dial = dialer(t, &outbound.Receiver{}) }, "certificate", nil},
		"confined": {func(c *Config) {
			c.Dial = dialer(t, &outbound.Receiver{CABundle: b.bundle, Confined: true})
		}, "must not be on this machine", outbound.ErrConfined},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := b.target(t, c.change).Deliver(t.Context(), []sink.Event{event(1, "a", "")})
			if err == nil || !strings.Contains(err.Error(), c.says) || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("%v", err)
			}
		})
	}
}

// A confined sink is confined where a broker sends it, too.
func TestNamedElsewhere(t *testing.T) {
	t.Parallel()
	b := start(t)
	b.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
		b.KeepControl()
		resp := req.ResponseKind().(*kmsg.MetadataResponse)
		at := kmsg.NewMetadataResponseBroker()
		at.NodeID, at.Host, at.Port = 1, "169.254.169.254", 80
		part := kmsg.NewMetadataResponseTopicPartition()
		part.Leader, part.Replicas, part.ISR = 1, []int32{1}, []int32{1}
		about := kmsg.NewMetadataResponseTopic()
		about.Topic, about.TopicID, about.Partitions = kmsg.StringPtr(topic), [16]byte{1}, []kmsg.MetadataResponseTopicPartition{part}
		resp.Brokers, resp.Topics, resp.ControllerID = []kmsg.MetadataResponseBroker{at}, []kmsg.MetadataResponseTopic{about}, 1
		return resp, nil, true
	})
	near, far := dialer(t, b.receiver()), dialer(t, &outbound.Receiver{CABundle: b.bundle, Confined: true})
	seeds := map[string]bool{}
	for _, at := range b.ListenAddrs() {
		seeds[at] = true
	}
	s := b.target(t, func(c *Config) {
		c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if seeds[address] { // stand for brokers elsewhere
				return near(ctx, network, address)
			}
			return far(ctx, network, address)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := s.Deliver(ctx, []sink.Event{event(1, "a", "")}); !errors.Is(err, outbound.ErrConfined) {
		t.Errorf("%v", err)
	}
}

// Brokers that take a message and say nothing hold a delivery up until its
// deadline, not longer; the next target begins anew.
func TestSilentBroker(t *testing.T) {
	t.Parallel()
	b := start(t)
	taken, silent := make(chan struct{}), make(chan struct{})
	once := sync.OnceFunc(func() { close(taken) })
	b.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		once()
		b.SleepControl(func() { <-silent })
		return nil, nil, false
	})
	ctx, cancel := context.WithCancel(t.Context())
	s := b.target(t, nil)
	done := make(chan error, 1)
	go func() { done <- s.Deliver(ctx, []sink.Event{event(1, "a", "")}) }()
	select {
	case err := <-done:
		t.Fatalf("delivered without an answer: %v", err)
	case <-taken:
	}
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("a delivery does not end")
	}
	s.Close()
	close(silent)
	if err := b.target(t, nil).Deliver(t.Context(), []sink.Event{event(1, "a", "")}); err != nil {
		t.Fatal(err)
	}
	if r := b.consume(t, 1)[0]; header(r, HeaderRecord) != "1" {
		t.Errorf("%v", r.Headers)
	}
}

// The runner keeps a batch until the brokers are back.
func TestOutage(t *testing.T) {
	t.Parallel()
	b := start(t)
	failing := true
	b.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		b.KeepControl()
		if !failing {
			return nil, nil, false
		}
		failing = false
		return nil, errors.New("hang up"), true
	})
	if err := b.target(t, nil).Deliver(t.Context(), []sink.Event{event(1, "a", ""), event(2, "b", "")}); err != nil {
		t.Fatal(err) // the producer repeats by itself
	}
	got := map[string]int{}
	for _, r := range b.consume(t, 2) {
		got[header(r, HeaderRecord)]++
	}
	if !maps.Equal(got, map[string]int{"1": 1, "2": 1}) {
		t.Errorf("%v", got)
	}
}

func TestIncomplete(t *testing.T) {
	t.Parallel()
	whole := Config{Brokers: []string{"kafka.example:9093"}, Topic: "t", Dial: (&net.Dialer{}).DialContext, Compression: "none", Key: KeyNone, Log: "r1"}
	for name, change := range map[string]func(*Config){
		"brokers": func(c *Config) { c.Brokers = nil }, "topic": func(c *Config) { c.Topic = "" }, "dial": func(c *Config) { c.Dial = nil }, "log": func(c *Config) { c.Log = "" },
		"compression": func(c *Config) { c.Compression = "brotli" }, "key": func(c *Config) { c.Key = "Verb" },
		"mechanism": func(c *Config) { c.SASL = &SASL{Mechanism: "GSSAPI", Username: "a", Password: secret.NewString("b")} },
		"password":  func(c *Config) { c.SASL = &SASL{Mechanism: "PLAIN", Username: "a"} },
		"username":  func(c *Config) { c.SASL = &SASL{Mechanism: "PLAIN", Password: secret.NewString("b")} },
	} {
		c := whole
		change(&c)
		if s, err := New(c); err == nil {
			s.Close()
			t.Errorf("%s is not missed", name)
		}
	}
	s, err := New(whole)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	s.Close() // twice is no fault
}

// A broker cannot make us hash for as long as it likes, nor learn anything
// from what we say about it.
func TestHostileSCRAM(t *testing.T) {
	t.Parallel()
	begin := func() (sasl.Session, string) {
		m := bounded{scram.Sha256(func(context.Context) (scram.Auth, error) {
			return scram.Auth{User: "gatehouse", Pass: "hunter2", Nonce: []byte("nonce")}, nil
		})}
		s, first, err := m.Authenticate(t.Context(), "kafka.example")
		if err != nil {
			t.Fatal(err)
		}
		_, nonce, _ := strings.Cut(string(first), "r=")
		return s, nonce
	}
	for _, i := range []string{"2000000000", "500001", "99999999999999999999999", "-1", "", "4095"} {
		s, nonce := begin()
		if _, out, err := s.Challenge([]byte("r=" + nonce + "x,s=c2FsdA==,i=" + i)); err == nil {
			t.Errorf("%s iterations: %q", i, out)
		}
	}
	s, nonce := begin()
	if _, _, err := s.Challenge([]byte("r=" + nonce + "x,s=c2FsdA==,i=4096")); err != nil {
		t.Fatal(err)
	}
	if done, _, err := s.Challenge([]byte("v=bm90aGluZw==")); done || err == nil || err.Error() != "the broker does not prove that it knows the password" {
		t.Errorf("a broker that does not know the password: %v %v", done, err)
	}
}

// A broker that puts the password into its refusal does not put it into ours.
func TestEchoedPassword(t *testing.T) {
	t.Parallel()
	b := start(t, kfake.EnableSASL(), kfake.Superuser("PLAIN", "gatehouse", "correct-horse"))
	b.ControlKey(int16(kmsg.SASLAuthenticate), func(req kmsg.Request) (kmsg.Response, error, bool) {
		b.KeepControl()
		resp := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		resp.ErrorCode = 58 // SASL_AUTHENTICATION_FAILED
		resp.ErrorMessage = kmsg.StringPtr("no such pair: " + string(req.(*kmsg.SASLAuthenticateRequest).SASLAuthBytes))
		return resp, nil, true
	})
	s := b.target(t, func(c *Config) {
		c.SASL = &SASL{Mechanism: "PLAIN", Username: "gatehouse", Password: secret.NewString("correct-horse")}
	})
	err := s.Deliver(t.Context(), []sink.Event{event(1, "a", "")})
	if err == nil || strings.Contains(err.Error(), "horse") || !strings.Contains(err.Error(), "no such pair: ?gatehouse?[redacted]") {
		t.Errorf("%v", err)
	}
}

func TestErrorsAreFitToShow(t *testing.T) {
	t.Parallel()
	f := &failure{cause: errors.New("bad\x1b[31m\n\xff" + strings.Repeat("é", 1000))}
	text := f.Error()
	if !strings.HasPrefix(text, "audit kafka: bad?[31m??é") || len(text) > maxReason+len("audit kafka: …") || !strings.HasSuffix(text, "é…") {
		t.Errorf("%q", text)
	}
}

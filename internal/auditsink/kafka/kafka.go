// Package kafka delivers events to a topic of brokers that speak Kafka's
// protocol, over TLS.
//
// Each event is one message: the value is its JSON, headers say log, record and
// site, so that a consumer can sort and deduplicate without reading JSON. A
// batch counts as delivered when all replicas in sync have it (acks=all). The
// producer is idempotent, so what it repeats by itself is not doubled; what is
// delivered again after a failure is.
//
// It owns: [Target] and the form of a message. It refuses: connections without
// TLS, making topics, the protocol itself (franz-go), and a broker that would
// have us work for it: see sasl.go. Start with [New].
package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/sink"
	"github.com/gatehouse-dev/gatehouse/internal/secret"
)

// What the key of a message may be. It chooses the partition, and what has one
// key stays in order.
const (
	KeyAuditID = "AuditID" // all stages of one request
	KeyUser    = "User"    // all that one user did
	KeyNone    = "None"    // wherever there is room
)

// Headers of a message.
const (
	HeaderLog    = "gatehouse-log"    // the id of the replica's log
	HeaderRecord = "gatehouse-record" // the index in it; both together are unique
	HeaderSite   = "gatehouse-site"   // of a site's event, its name
	headerType   = "content-type"     // application/json
)

const (
	// maxBatchBytes bounds what is sent to one partition at once, before it is
	// compressed: well below the 1 MiB that a topic takes by default, and above
	// any single event.
	maxBatchBytes = 4 * audit.MaxEventBytes
	// maxAnswerBytes bounds an answer before it is read. The longest is the
	// list of the brokers and of one topic's partitions.
	maxAnswerBytes = 4 << 20
	// tries is how often the client tries by itself, and how far apart at most,
	// before the failure shows: long enough for another broker to take over.
	tries    = 4
	interval = 500 * time.Millisecond
	// maxReason bounds what a broker can put into our status and log.
	maxReason = 300
)

// codecs have the names that Kafka gives them.
var codecs = map[string]kgo.CompressionCodec{
	"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}

// Config describes the topic. All but SASL is required.
type Config struct {
	Brokers []string // host:port, to begin with; they name the others
	Topic   string
	// Dial connects, with TLS. Whatever address a broker names is dialled with
	// it, so what is confined stays confined.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// SASL says as whom, besides a client certificate.
	SASL *SASL
	// Compression is none, gzip, snappy, lz4 or zstd, Key one of the keys above.
	Compression, Key string
	// Log is the id of the log.
	Log string

	versions *kversion.Versions // the newest to speak, for tests; nil: any
}

// Target is a sink.Target and an io.Closer.
type Target struct {
	cfg    Config
	client *kgo.Client
	close  func()

	mu      sync.Mutex // guards connect
	connect error      // of the last connection, nil when it was made
}

// New checks the configuration. Connections are made by the first delivery.
func New(cfg Config) (*Target, error) {
	codec, known := codecs[cfg.Compression]
	switch {
	case len(cfg.Brokers) == 0 || cfg.Topic == "" || cfg.Dial == nil || cfg.Log == "":
		return nil, errors.New("audit kafka: incomplete configuration")
	case !known:
		return nil, fmt.Errorf("audit kafka: compression %q is unknown", cfg.Compression)
	case cfg.Key != KeyAuditID && cfg.Key != KeyUser && cfg.Key != KeyNone:
		return nil, fmt.Errorf("audit kafka: key %q is unknown", cfg.Key)
	}
	t := &Target{cfg: cfg}
	options := []kgo.Opt{
		kgo.ClientID("gatehouse"), kgo.SeedBrokers(cfg.Brokers...), kgo.Dialer(cfg.Dial), kgo.WithHooks(connected{t}),
		kgo.DefaultProduceTopicAlways(), kgo.DefaultProduceTopic(cfg.Topic),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerBatchCompression(codec, kgo.NoCompression()), kgo.ProducerBatchMaxBytes(maxBatchBytes),
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)), // as Kafka's own clients
		// A failed delivery comes again from a new producer, whether or not the
		// brokers had it, so nothing is gained by waiting to learn that.
		kgo.AllowIdempotentProduceCancellation(),
		kgo.RecordRetries(tries), kgo.RequestRetries(1), kgo.MetadataMinAge(interval),
		kgo.RetryBackoffFn(func(n int) time.Duration { return min(interval, 50*time.Millisecond<<min(n, 8)) }),
		kgo.BrokerMaxReadBytes(maxAnswerBytes), kgo.FetchMaxBytes(maxAnswerBytes), kgo.FetchMaxPartitionBytes(maxAnswerBytes),
		kgo.DisableClientMetrics(), // brokers need not know how we are
	}
	if cfg.SASL != nil {
		mechanism, err := cfg.SASL.mechanism()
		if err != nil {
			return nil, fmt.Errorf("audit kafka: %w", err)
		}
		options = append(options, kgo.SASL(mechanism))
	}
	if cfg.versions != nil {
		options = append(options, kgo.MaxVersions(cfg.versions))
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return nil, fmt.Errorf("audit kafka: %w", err)
	}
	t.client, t.close = client, sync.OnceFunc(client.Close)
	return t, nil
}

// Deliver implements sink.Target.
func (t *Target) Deliver(ctx context.Context, batch []sink.Event) error {
	messages := make([]*kgo.Record, len(batch))
	for i, e := range batch {
		messages[i] = t.message(e)
	}
	// A request that is under way cannot be called back, so a delivery that
	// takes too long ends the producer.
	stop := context.AfterFunc(ctx, t.close)
	defer stop()
	err := t.client.ProduceSync(context.WithoutCancel(ctx), messages...).FirstErr()
	if err == nil {
		return nil
	}
	t.mu.Lock()
	connect := t.connect
	t.mu.Unlock()
	switch {
	case connect != nil:
		err = connect // why, where the other says only that
	case ctx.Err() != nil:
		err = ctx.Err()
	}
	f := &failure{cause: err}
	if t.cfg.SASL != nil {
		f.password = t.cfg.SASL.Password
	}
	return f
}

// Close implements io.Closer.
func (t *Target) Close() error {
	t.close()
	return nil
}

func (t *Target) message(e sink.Event) *kgo.Record {
	r := &kgo.Record{
		Value: e.Annotated().AppendJSON(nil), Timestamp: e.At,
		Headers: []kgo.RecordHeader{
			{Key: headerType, Value: []byte("application/json")},
			{Key: HeaderLog, Value: []byte(t.cfg.Log)},
			{Key: HeaderRecord, Value: strconv.AppendUint(nil, e.Index, 10)},
		},
	}
	if e.Site != "" {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: HeaderSite, Value: []byte(e.Site)})
	}
	var key string
	switch t.cfg.Key {
	case KeyAuditID:
		key = e.AuditID
	case KeyUser:
		key = e.User.Username
	}
	if key != "" {
		r.Key = []byte(key)
	}
	return r
}

// connected remembers how connections fare, which the client tells nobody else.
type connected struct{ *Target }

// OnBrokerConnect implements kgo.HookBrokerConnect.
func (c connected) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if c.cfg.SASL != nil && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)) {
		err = fmt.Errorf("the broker hung up, perhaps on the SASL credential: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.connect = err
}

// failure is an error as it may be shown: brokers can put a text of their own
// into one, and the password that PLAIN gives them.
type failure struct {
	cause    error
	password secret.String
}

func (f *failure) Unwrap() error { return f.cause }

func (f *failure) Error() string {
	text := f.cause.Error()
	if f.password.Len() > 0 {
		text = strings.ReplaceAll(text, f.password.Reveal(), audit.Redacted)
	}
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			return '?'
		}
		return r
	}, text)
	if len(text) > maxReason {
		end := maxReason
		for !utf8.RuneStart(text[end]) {
			end--
		}
		text = text[:end] + "…"
	}
	return "audit kafka: " + text
}

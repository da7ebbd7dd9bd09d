package ledger

import (
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/merkle"
	"github.com/gatehouse-dev/gatehouse/internal/audit/segment"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs"
)

// Config is what a log needs to know. ID, Origin and Key are required; the
// zero value of everything else is the default.
type Config struct {
	// ID names this replica's log for good. Origin is the name on its
	// checkpoints, without spaces or plus signs, the same for its whole life.
	ID     string
	Origin string
	// Key signs checkpoints; its public key must be Ed25519. A new key is
	// taken into log.json beside the former ones.
	Key crypto.Signer
	// Redact adds to the built-in secret fields.
	Redact []audit.RedactRule
	// Attribute, if set, says to whom an event belongs, as annotations that
	// nobody else can write. It is called once for each event, before it is
	// encoded, by many goroutines, and must be quick; it changes Annotations
	// only by replacing the map.
	Attribute func(site string, e *audit.Event)

	Clock  func() time.Time // time.Now
	Logger *slog.Logger     // slog.Default
	FS     vfs.FS           // the operating system's
	// BootID tells one boot of the machine from another; by default the
	// kernel's.
	BootID string

	// SyncInterval is how long a buffered record may stay unsynced (100 ms),
	// CheckpointInterval how often a growing log is signed (1 s), RetryInterval
	// how long to wait before writing again to storage that failed (1 s).
	SyncInterval       time.Duration
	CheckpointInterval time.Duration
	RetryInterval      time.Duration
	// SegmentBytes and SegmentRecords end a segment (64 MiB, 65,536), at the
	// next multiple of 256 records.
	SegmentBytes   int64
	SegmentRecords uint64
	// MaxPending bounds the bytes that wait to be written (128 MiB) before
	// appends are refused as Exhausted.
	MaxPending int
	// DedupWindow is how many site events are remembered (262,144).
	DedupWindow int
}

func (c *Config) complete() error {
	if c.ID == "" || strings.ContainsAny(c.ID, " \n\"\\") {
		return fmt.Errorf("log id %q is not valid", c.ID)
	}
	if c.Origin == "" || strings.ContainsAny(c.Origin, " +\n\t") {
		return fmt.Errorf("log origin %q is not valid", c.Origin)
	}
	if c.Key == nil {
		return errors.New("log has no signing key")
	}
	setDefault(&c.SyncInterval, 100*time.Millisecond)
	setDefault(&c.CheckpointInterval, time.Second)
	setDefault(&c.RetryInterval, time.Second)
	setDefault(&c.SegmentBytes, 64<<20)
	setDefault(&c.SegmentRecords, 65536)
	setDefault(&c.MaxPending, 128<<20)
	setDefault(&c.DedupWindow, 262144)
	if c.SegmentRecords%merkle.BundleWidth != 0 {
		return fmt.Errorf("segment of %d records is not a multiple of %d", c.SegmentRecords, merkle.BundleWidth)
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.FS == nil {
		c.FS = vfs.OS{}
	}
	if c.BootID == "" {
		// Absent outside Linux: then every unclean stop counts as a power loss.
		b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
		if err == nil {
			c.BootID = strings.TrimSpace(string(b))
		}
	}
	return nil
}

func setDefault[T int | int64 | uint64 | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// maxEntry is the longest event that fits a record with its envelope.
const maxEntry = segment.MaxRecord - segment.EnvelopeOverhead

// The bounds of package audit and of the format must agree.
var _ [maxEntry - audit.MaxEventBytes]struct{}

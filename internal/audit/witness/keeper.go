package witness

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatehouse-dev/gatehouse/internal/audit/checkpoint"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs"
)

// Dir is the folder, in the directory of a log, of the checkpoints that
// witnesses have signed: the newest of each.
const Dir = "witnessed"

// Name returns the name of a witness's file in [Dir].
func Name(by *Verifier) string { return fmt.Sprintf("%08x.checkpoint", by.hash) }

// Kept returns the checkpoints that witnesses have signed of the log in dir.
// Their signatures are not looked at.
func Kept(fsys vfs.FS, dir string) ([][]byte, error) {
	names, err := fsys.List(dir + "/" + Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for _, name := range names {
		if !strings.HasSuffix(name, ".checkpoint") {
			continue
		}
		signed, err := vfs.ReadFile(fsys, dir+"/"+Dir+"/"+name, 2*checkpoint.MaxSize)
		if err != nil {
			return nil, err
		}
		out = append(out, signed)
	}
	return out, nil
}

// Peer is one witness. Its errors are those of [Witness.Add], where the
// witness said so.
type Peer interface {
	// Add returns the signature lines.
	Add(ctx context.Context, r Request) ([]byte, error)
}

// Target is a witness to ask, and the key by which its answers are known.
type Target struct {
	Key  *Verifier
	Peer Peer
}

// KeeperConfig is what a keeper needs. All but the times and FS is required.
type KeeperConfig struct {
	// Log is the directory of the log.
	Log string
	// Signed returns the size of the newest checkpoint, 0 before the first.
	Signed func() uint64
	// Prove returns the newest checkpoint and the proof that it continues the
	// tree of the first old records. [ErrBeyond] says that there are fewer.
	Prove   func(old uint64) (signed []byte, proof tlog.TreeProof, err error)
	Targets []Target
	// Interval is how often a log that grew is shown (10 s), Timeout bounds one
	// question (10 s), Patience is how long a witness that failed is left alone
	// (1 min).
	Interval, Timeout, Patience time.Duration
	FS                          vfs.FS
	Logger                      *slog.Logger
}

// ErrBeyond says that a log has fewer records than somebody saw.
var ErrBeyond = errors.New("the log is shorter than that")

// Keeper shows the checkpoints of one log to its witnesses and keeps what they
// sign. Its methods are safe for concurrent use.
type Keeper struct {
	cfg    KeeperConfig
	states []*state // one for each target
}

// state is what is known of one witness.
type state struct {
	Target
	mu       sync.Mutex // guards what follows
	size     uint64     // of the newest checkpoint that it signed
	at       time.Time
	err      string
	failures uint64
}

// State is the state of one witness.
type State struct {
	Name string
	// Size is how many records it has signed, At when.
	Size uint64
	At   time.Time
	// Error is why the last question failed, "" when it did not; Failures
	// counts them since the start.
	Error    string
	Failures uint64
}

// NewKeeper checks the configuration and reads what is kept.
func NewKeeper(c KeeperConfig) (*Keeper, error) {
	if c.Log == "" || c.Signed == nil || c.Prove == nil || c.Logger == nil {
		return nil, errors.New("audit witnesses: incomplete configuration")
	}
	if c.FS == nil {
		c.FS = vfs.OS{}
	}
	for d, def := range map[*time.Duration]time.Duration{&c.Interval: 10 * time.Second, &c.Timeout: 10 * time.Second, &c.Patience: time.Minute} {
		if *d <= 0 {
			*d = def
		}
	}
	k := &Keeper{cfg: c}
	if len(c.Targets) == 0 {
		return k, nil
	}
	if err := c.FS.MkdirAll(c.Log + "/" + Dir); err != nil {
		return nil, fmt.Errorf("audit witnesses: %w", err)
	}
	for _, t := range c.Targets {
		s := &state{Target: t}
		if err := k.read(s); err != nil {
			return nil, fmt.Errorf("audit witness %s: %w", t.Key.Name(), err)
		}
		k.states = append(k.states, s)
	}
	return k, nil
}

func (k *Keeper) file(by *Verifier) string { return k.cfg.Log + "/" + Dir + "/" + Name(by) }

// read takes up what a witness signed before.
func (k *Keeper) read(s *state) error {
	signed, err := vfs.ReadFile(k.cfg.FS, k.file(s.Key), 2*checkpoint.MaxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	c, err := Open(signed, note.VerifierList(s.Key), s.Key)
	if err != nil {
		return err
	}
	s.size, s.at = c.Size, c.At
	return nil
}

// Next returns the first record whose hash a proof to some witness still
// needs; retention must keep it and what follows.
func (k *Keeper) Next() uint64 {
	next := uint64(math.MaxUint64)
	for _, s := range k.states {
		s.mu.Lock()
		if s.size > 0 {
			next = min(next, s.size)
		}
		s.mu.Unlock()
	}
	return next
}

// States returns the state of every witness.
func (k *Keeper) States() []State {
	out := make([]State, 0, len(k.states))
	for _, s := range k.states {
		s.mu.Lock()
		out = append(out, State{Name: s.Key.Name(), Size: s.size, At: s.at, Error: s.err, Failures: s.failures})
		s.mu.Unlock()
	}
	return out
}

// Run shows the log to every witness, each at its own pace, until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, s := range k.states {
		wg.Go(func() { k.follow(ctx, s) })
	}
	<-ctx.Done()
	wg.Wait()
	return nil
}

func (k *Keeper) follow(ctx context.Context, s *state) {
	// The first question comes also when nothing grew: what stands here may not
	// be what was signed.
	for first := true; ; {
		wait := time.Second // how soon growth is noticed
		if signed := k.cfg.Signed(); signed > 0 && (first || signed != s.size) {
			first, wait = false, k.cfg.Interval
			if err := k.show(ctx, s); err != nil {
				if ctx.Err() != nil {
					return
				}
				wait = k.cfg.Patience
				k.failed(s, err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (k *Keeper) failed(s *state, err error) {
	s.mu.Lock()
	changed := s.err != err.Error()
	s.err = err.Error()
	s.failures++
	s.mu.Unlock()
	if changed {
		k.cfg.Logger.Error("audit log is not witnessed", "witness", s.Key.Name(), "error", err)
	}
}

// show asks one witness to sign the newest checkpoint.
func (k *Keeper) show(ctx context.Context, s *state) error {
	signed, lines, err := k.ask(ctx, s, s.size)
	var conflict *ConflictError
	if errors.As(err, &conflict) && !conflict.Differs && conflict.Size != s.size {
		// It signed something that we did not hear of, or lost what it had.
		signed, lines, err = k.ask(ctx, s, conflict.Size)
	}
	if err != nil {
		return err
	}
	c, err := attach(signed, lines, s.Key)
	if err != nil {
		return err
	}
	if err := vfs.WriteFile(k.cfg.FS, k.file(s.Key), c.Note); err != nil {
		return fmt.Errorf("keep the cosignature: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != "" {
		k.cfg.Logger.Info("audit log is witnessed again", "witness", s.Key.Name())
	}
	s.size, s.at, s.err = c.Size, c.At, ""
	return nil
}

func (k *Keeper) ask(ctx context.Context, s *state, old uint64) (signed, lines []byte, err error) {
	signed, proof, err := k.cfg.Prove(old)
	if errors.Is(err, ErrBeyond) {
		return nil, nil, fmt.Errorf("it has signed %d records of this log, more than there are: the log was cut off, or another log is shown to others", old)
	}
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, k.cfg.Timeout)
	defer cancel()
	lines, err = s.Peer.Add(ctx, Request{Old: old, Proof: proof, Checkpoint: signed})
	return signed, lines, err
}

// attach adds a witness's signature to a checkpoint. Of what the witness sent,
// only the line that verifies is taken.
func attach(signed, lines []byte, by *Verifier) (Cosigned, error) {
	both := append(append([]byte(nil), signed...), lines...)
	n, err := note.Open(both, note.VerifierList(by))
	if err != nil {
		return Cosigned{}, fmt.Errorf("its answer is not a signature by its key: %w", err)
	}
	sig := n.Sigs[0]
	out := fmt.Appendf(append([]byte(nil), signed...), "\u2014 %s %s\n", sig.Name, sig.Base64)
	return Open(out, note.VerifierList(by), by)
}

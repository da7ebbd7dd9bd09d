package witness_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatehouse-dev/gatehouse/internal/audit/checkpoint"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs/crashfs"
	"github.com/gatehouse-dev/gatehouse/internal/audit/witness"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

const origin = "gatehouse.test/audit/r1"

func key(seed string) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte(strings.Repeat(seed, 32)[:32]))
}

// tree is a log in memory with the hashes of x/mod's tlog, so that the
// mathematics is not ours.
type tree struct {
	t      *testing.T
	signer *checkpoint.Signer
	hashes []tlog.Hash
	size   int64
}

func newTree(t *testing.T, seed string) *tree {
	t.Helper()
	s, err := checkpoint.NewSigner(origin, key(seed))
	if err != nil {
		t.Fatal(err)
	}
	return &tree{t: t, signer: s}
}

func (l *tree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		out[i] = l.hashes[x]
	}
	return out, nil
}

func (l *tree) grow(to int64, content string) *tree {
	l.t.Helper()
	for ; l.size < to; l.size++ {
		hashes, err := tlog.StoredHashes(l.size, fmt.Appendf(nil, "%s %d", content, l.size), l)
		if err != nil {
			l.t.Fatal(err)
		}
		l.hashes = append(l.hashes, hashes...)
	}
	return l
}

func (l *tree) signed() []byte {
	l.t.Helper()
	root, err := tlog.TreeHash(l.size, l)
	if err != nil {
		l.t.Fatal(err)
	}
	out, err := l.signer.Checkpoint(checkpoint.Checkpoint{Origin: origin, Size: uint64(l.size), Root: root})
	if err != nil {
		l.t.Fatal(err)
	}
	return out
}

func (l *tree) prove(old uint64) (signed []byte, proof tlog.TreeProof, err error) {
	if old > uint64(l.size) {
		return nil, nil, witness.ErrBeyond
	}
	if old > 0 && old < uint64(l.size) {
		if proof, err = tlog.ProveTree(l.size, int64(old), l); err != nil {
			return nil, nil, err
		}
	}
	return l.signed(), proof, nil
}

func (l *tree) request(old uint64) witness.Request {
	l.t.Helper()
	signed, proof, err := l.prove(old)
	if err != nil {
		l.t.Fatal(err)
	}
	return witness.Request{Old: old, Proof: proof, Checkpoint: signed}
}

func (l *tree) verifiers() note.Verifiers {
	l.t.Helper()
	v, err := checkpoint.Verifiers(l.signer.VerifierKey())
	if err != nil {
		l.t.Fatal(err)
	}
	return v
}

func newWitness(t *testing.T, fsys *crashfs.FS, logs ...string) (*witness.Witness, *witness.Signer) {
	t.Helper()
	s, err := witness.NewSigner("witness.test/w1", key("w"), func() time.Time { return time.Unix(1_790_000_000, 0) })
	if err != nil {
		t.Fatal(err)
	}
	w, err := witness.NewWitness(s, logs, fsys, "state", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return w, s
}

// TestWitness goes through C2SP tlog-witness: what is signed, and how each
// refusal is told.
func TestWitness(t *testing.T) {
	t.Parallel()
	fsys := crashfs.New(1)
	log := newTree(t, "l").grow(3, "a")
	w, by := newWitness(t, fsys, log.signer.VerifierKey())
	add := func(r witness.Request) error {
		t.Helper()
		lines, err := w.Add(r)
		if err != nil {
			return err
		}
		c, err := witness.Open(append(r.Checkpoint, lines...), log.verifiers(), by.Verifier)
		if err != nil || c.At != time.Unix(1_790_000_000, 0).UTC() {
			t.Errorf("what was signed does not verify: %v at %v", err, c.At)
		}
		return nil
	}
	conflict := func(err error, size uint64, differs bool) {
		t.Helper()
		var c *witness.ConflictError
		if !errors.As(err, &c) || c.Size != size || c.Differs != differs {
			t.Errorf("want a conflict with %d (%v), got %v", size, differs, err)
		}
	}
	if err := add(log.request(0)); err != nil {
		t.Fatal(err)
	}
	if err := add(log.request(3)); err != nil {
		t.Errorf("the same again: %v", err)
	}
	three := log.request(0)
	log.grow(700, "a")
	conflict(add(log.request(0)), 3, false)
	if err := add(log.request(3)); err != nil {
		t.Fatal(err)
	}
	conflict(add(three), 700, false)

	// Another process on the same state knows as much.
	w, by = newWitness(t, fsys, log.signer.VerifierKey())
	fork := newTree(t, "l").grow(500, "a").grow(700, "b")
	conflict(add(fork.request(700)), 700, true)
	if err := add(fork.grow(900, "b").request(700)); !errors.Is(err, witness.ErrInconsistent) {
		t.Errorf("a fork: %v", err)
	}
	right := log.grow(900, "a").request(700)
	for name, r := range map[string]witness.Request{
		"no proof":        {Old: 700, Checkpoint: right.Checkpoint},
		"another's proof": {Old: 700, Proof: fork.request(700).Proof, Checkpoint: right.Checkpoint},
		"a longer proof":  {Old: 700, Proof: append(right.Proof[:len(right.Proof):len(right.Proof)], tlog.Hash{}), Checkpoint: right.Checkpoint},
	} {
		if err := add(r); !errors.Is(err, witness.ErrInconsistent) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := add(witness.Request{Old: 901, Checkpoint: right.Checkpoint}); fault.KindOf(err) != fault.Invalid {
		t.Errorf("an old size above the new: %v", err)
	}
	if err := add(newTree(t, "x").grow(900, "a").request(700)); !errors.Is(err, witness.ErrNotSigned) {
		t.Errorf("another key: %v", err)
	}
	other, err := note.Sign(&note.Note{Text: strings.Replace(string(mustOpen(t, right.Checkpoint, log).Text), origin, "elsewhere", 1)}, log.signer)
	if err != nil {
		t.Fatal(err)
	}
	if err := add(witness.Request{Checkpoint: other}); !errors.Is(err, witness.ErrUnknownLog) {
		t.Errorf("another origin: %v", err)
	}
	if err := add(right); err != nil {
		t.Errorf("after all that: %v", err)
	}
}

// Anybody can add signature lines to a checkpoint that was shown. What is kept
// of them must not be in the way of the next one.
func TestWitnessKeepsNoForeignLines(t *testing.T) {
	t.Parallel()
	_, own := newWitness(t, crashfs.New(1), newTree(t, "a").signer.VerifierKey())
	line := func(name string, hash uint32) string {
		sig := binary.BigEndian.AppendUint32(nil, hash)
		return "\u2014 " + name + " " + base64.StdEncoding.EncodeToString(append(sig, make([]byte, 72)...)) + "\n"
	}
	for name, junk := range map[string]string{
		"in the witness's name": line(own.Name(), own.KeyHash()),
		"as many as a note has": strings.Repeat(line("x", 7), 99),
	} {
		l := newTree(t, "a").grow(3, "r")
		w, signer := newWitness(t, crashfs.New(1), l.signer.VerifierKey())
		r := l.request(0)
		r.Checkpoint = append(r.Checkpoint, junk...)
		if _, err := w.Add(r); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		l.grow(5, "r")
		lines, err := w.Add(l.request(3))
		if err != nil {
			t.Errorf("%s: the next one: %v", name, err)
			continue
		}
		if _, err := witness.Open(append(l.signed(), lines...), l.verifiers(), signer.Verifier); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func mustOpen(t *testing.T, signed []byte, l *tree) *note.Note {
	t.Helper()
	n, err := note.Open(signed, l.verifiers())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// peer is a witness in the same process.
type peer struct {
	*witness.Witness
	garble func([]byte) []byte
}

func (p peer) Add(_ context.Context, r witness.Request) ([]byte, error) {
	parsed, err := witness.ParseRequest(r.Encode())
	if err != nil {
		return nil, err
	}
	lines, err := p.Witness.Add(parsed)
	if p.garble != nil {
		lines = p.garble(lines)
	}
	return lines, err
}

// TestKeeper follows a log: it grows, what was kept is lost, the log is
// forked and cut off.
func TestKeeper(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		theirs, ours := crashfs.New(1), crashfs.New(2)
		log := newTree(t, "l").grow(10, "a")
		w, by := newWitness(t, theirs, log.signer.VerifierKey())
		var shown *tree
		p := peer{Witness: w}
		run := func(what string, l *tree, wantSize uint64, wantErr string) *witness.Keeper {
			t.Helper()
			shown = l
			k, err := witness.NewKeeper(witness.KeeperConfig{
				Log: "log", Signed: func() uint64 { return uint64(shown.size) }, Prove: func(old uint64) ([]byte, tlog.TreeProof, error) { return shown.prove(old) },
				Targets: []witness.Target{{Key: by.Verifier, Peer: p}}, FS: ours, Logger: slog.New(slog.DiscardHandler),
			})
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- k.Run(ctx) }()
			time.Sleep(35 * time.Second) // three intervals, and none is about to end
			s := k.States()[0]
			if s.Size != wantSize || !strings.Contains(s.Error, wantErr) || (wantErr == "") != (s.Error == "") {
				t.Errorf("%s: signed %d, error %q", what, s.Size, s.Error)
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			return k
		}
		if k := run("first", log, 10, ""); k.Next() != 10 {
			t.Errorf("next is %d", k.Next())
		}
		run("grown", log.grow(300, "a"), 300, "")
		kept := ours.Content("log/" + witness.Dir + "/" + witness.Name(by.Verifier))
		if _, err := witness.Open(kept, log.verifiers(), by.Verifier); err != nil {
			t.Errorf("what is kept: %v", err)
		}
		ours.SetContent("log/"+witness.Dir+"/"+witness.Name(by.Verifier), nil)
		run("forgotten", log.grow(400, "a"), 400, "")
		fork := newTree(t, "l").grow(350, "a").grow(500, "b")
		run("forked", fork, 400, "does not continue")
		same := newTree(t, "l").grow(350, "a").grow(400, "b")
		run("forked at the same size", same, 400, "another tree of 400 records")
		run("cut off", newTree(t, "l").grow(399, "a"), 400, "more than there are")
		p.garble = func(b []byte) []byte { return []byte(strings.Replace(string(b), "A", "B", 1)) }
		run("lies", log.grow(401, "a"), 400, "not a signature by its key")
		p.garble = nil
		run("again", log, 401, "")
	})
}

func TestVerifierKeys(t *testing.T) {
	t.Parallel()
	s, err := witness.NewSigner("witness.test/w1", key("w"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	good := s.String()
	v, err := witness.ParseVerifier(good + "\n")
	if err != nil || v.String() != good {
		t.Fatalf("%v: %v", v, err)
	}
	plain, err := checkpoint.NewSigner("witness.test/w1", key("w"))
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(good, "+")
	for _, bad := range []string{
		"", "a+b", plain.VerifierKey(), "x" + good, parts[0] + "+00000000+" + parts[2], parts[0] + "+" + parts[1] + "+" + base64.StdEncoding.EncodeToString([]byte{4, 1}),
		"two words+" + parts[1] + "+" + parts[2],
	} {
		if _, err := witness.ParseVerifier(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add([]byte("old 0\n\norigin\n1\nAAAA\n\n\u2014 x y\n"))
	f.Add([]byte("old 5\n" + base64.StdEncoding.EncodeToString(make([]byte, 32)) + "\n\nx\n"))
	f.Add([]byte("old 007\n\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := witness.ParseRequest(body)
		if err != nil {
			if fault.KindOf(err) != fault.Invalid {
				t.Errorf("%v is no fault of the input", err)
			}
			return
		}
		if got := r.Encode(); string(got) != string(body) {
			t.Errorf("%q became %q", body, got)
		}
	})
}

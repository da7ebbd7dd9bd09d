package tiles_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/ledger"
	"github.com/gatehouse-dev/gatehouse/internal/audit/tiles"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs"
)

var testKey = ed25519.NewKeyFromSeed([]byte("0123456789abcdef0123456789abcdef"))

// buildLog writes count records over several segments, in two sessions.
func buildLog(t *testing.T, dir string, count int) (vkey string, checkpoints [][]byte) {
	t.Helper()
	for session := range 2 {
		l, err := ledger.Open(dir, ledger.Config{ID: "r1", Origin: "gatehouse.test/audit/r1", Key: testKey, SegmentRecords: 512, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		for i := session * count / 2; i < (session+1)*count/2; i++ {
			e := &audit.Event{Level: audit.LevelMetadata, AuditID: fmt.Sprint("id-", i), Stage: audit.StageResponseComplete, Verb: "get"}
			if err := l.Append(t.Context(), e, audit.Buffered); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		vkey = l.VerifierKey()
		checkpoints = append(checkpoints, l.Stats().Checkpoint)
	}
	return vkey, checkpoints
}

// staticTiles serves exported files to x/mod's tile reader, whose paths name
// the tile height that the C2SP paths leave out.
type staticTiles struct {
	dir string
	t   *testing.T
}

func (staticTiles) Height() int                     { return 8 }
func (staticTiles) SaveTiles([]tlog.Tile, [][]byte) {}
func (s staticTiles) ReadTiles(list []tlog.Tile) ([][]byte, error) {
	var out [][]byte
	for _, tile := range list {
		b, err := os.ReadFile(filepath.Join(s.dir, strings.Replace(tile.Path(), "tile/8/", "tile/", 1)))
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

// TestIndependentVerification checks an exported log with the code of
// golang.org/x/mod/sumdb alone: signature, root, the inclusion of every entry,
// and the consistency of two checkpoints.
func TestIndependentVerification(t *testing.T) {
	t.Parallel()
	const count = 1500
	dir, out := t.TempDir(), filepath.Join(t.TempDir(), "out")
	vkey, checkpoints := buildLog(t, dir, count)
	source, err := tiles.Open(vfs.OS{}, dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := source.Export(t.Context(), out); err != nil {
		t.Fatal(err)
	}

	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	open := func(signed []byte) tlog.Tree {
		t.Helper()
		n, err := note.Open(signed, note.VerifierList(verifier))
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(n.Text, "\n")
		var tree tlog.Tree
		if _, err := fmt.Sscan(lines[1], &tree.N); err != nil {
			t.Fatal(err)
		}
		if tree.Hash, err = tlog.ParseHash(lines[2]); err != nil {
			t.Fatal(err)
		}
		return tree
	}
	signed, err := os.ReadFile(filepath.Join(out, "checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	tree := open(signed)
	if tree.N < count || tree.N != int64(source.Size()) {
		t.Fatalf("checkpoint of %d records", tree.N)
	}
	// TileHashReader verifies every tile against the root as it reads.
	reader := tlog.TileHashReader(tree, staticTiles{out, t})
	seen := 0
	for bundle := int64(0); bundle*256 < tree.N; bundle++ {
		name := fmt.Sprintf("tile/entries/%03d", bundle)
		if rest := tree.N - bundle*256; rest < 256 {
			name += fmt.Sprintf(".p/%d", rest)
		}
		data, err := os.ReadFile(filepath.Join(out, name))
		if err != nil {
			t.Fatal(err)
		}
		for index := bundle * 256; len(data) > 0; index++ {
			n := binary.BigEndian.Uint16(data)
			entry := data[2 : 2+n]
			data = data[2+n:]
			proof, err := tlog.ProveRecord(tree.N, index, reader)
			if err != nil {
				t.Fatal(err)
			}
			if err := tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(entry)); err != nil {
				t.Fatalf("record %d: %v", index, err)
			}
			seen++
		}
	}
	if int64(seen) != tree.N {
		t.Fatalf("%d entries for %d records", seen, tree.N)
	}
	for _, older := range checkpoints {
		old := open(older)
		proof, err := tlog.ProveTree(tree.N, old.N, reader)
		if err != nil {
			t.Fatal(err)
		}
		if err := tlog.CheckTree(proof, tree.N, tree.Hash, old.N, old.Hash); err != nil {
			t.Fatalf("checkpoint of %d records: %v", old.N, err)
		}
		// The same from the segments, without an export.
		if proof, err = tlog.ProveTree(tree.N, old.N, source); err != nil {
			t.Fatal(err)
		}
		if err := tlog.CheckTree(proof, tree.N, tree.Hash, old.N, old.Hash); err != nil {
			t.Fatal(err)
		}
	}
}

func TestProof(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	vkey, _ := buildLog(t, dir, 700)
	source, err := tiles.Open(vfs.OS{}, dir)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	for _, index := range []uint64{0, 255, 256, 511, 512, 699} {
		payload, proof, err := source.Proof(index)
		if err != nil {
			t.Fatal(err)
		}
		head, signed, _ := bytes.Cut(proof, []byte("\n\n"))
		lines := strings.Split(string(head), "\n")
		if lines[0] != "c2sp.org/tlog-proof@v1" || lines[1] != fmt.Sprint("index ", index) {
			t.Fatalf("proof begins %q", lines[:2])
		}
		var hashes tlog.RecordProof
		for _, line := range lines[2:] {
			b, err := base64.StdEncoding.DecodeString(line)
			if err != nil {
				t.Fatal(err)
			}
			hashes = append(hashes, tlog.Hash(b))
		}
		n, err := note.Open(signed, note.VerifierList(verifier))
		if err != nil {
			t.Fatal(err)
		}
		var size int64
		var root string
		if _, err := fmt.Sscan(strings.SplitN(n.Text, "\n", 2)[1], &size, &root); err != nil {
			t.Fatal(err)
		}
		hash, err := tlog.ParseHash(root)
		if err != nil {
			t.Fatal(err)
		}
		if err := tlog.CheckRecord(hashes, size, hash, int64(index), tlog.RecordHash(payload)); err != nil {
			t.Fatalf("record %d: %v", index, err)
		}
		payload[10] ^= 1
		if tlog.CheckRecord(hashes, size, hash, int64(index), tlog.RecordHash(payload)) == nil {
			t.Fatalf("record %d: altered payload passes", index)
		}
	}
	if _, _, err := source.Proof(source.Size()); err == nil {
		t.Error("a record beyond the checkpoint has a proof")
	}
}

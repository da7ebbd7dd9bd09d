package merkle_test

import (
	"fmt"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatehouse-dev/gatehouse/internal/audit/merkle"
)

// TestAgainstSumdb holds every root up to 1,100 leaves against the tree of
// golang.org/x/mod/sumdb/tlog, an implementation that shares no code with ours.
func TestAgainstSumdb(t *testing.T) {
	t.Parallel()
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(idx []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(idx))
		for i, x := range idx {
			out[i] = stored[x]
		}
		return out, nil
	})
	var f, bundles merkle.Frontier
	var tree merkle.Tree
	var leaves []merkle.Hash
	for n := int64(0); n < 1100; n++ {
		want, err := tlog.TreeHash(n, reader)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Root(); tlog.Hash(got) != want {
			t.Fatalf("root of %d leaves differs", n)
		}
		data := fmt.Appendf(nil, "record %d", n)
		hashes, err := tlog.StoredHashes(n, data, reader)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, hashes...)
		leaf := merkle.Leaf(append([]byte{0}, data...))
		f.Append(leaf)
		bundle, complete := tree.Append(leaf)
		if tree.Root() != f.Root() || tree.Size() != f.Size() {
			t.Fatalf("tree and frontier differ at %d", n+1)
		}
		leaves = append(leaves, leaf)
		if f.Size() != uint64(n+1) {
			t.Fatalf("size %d after %d leaves", f.Size(), n+1)
		}
		if len(leaves) == merkle.BundleWidth {
			if err := bundles.AppendSubtree(merkle.Root(leaves), merkle.BundleLevel); err != nil {
				t.Fatal(err)
			}
			if !complete || bundle != merkle.Root(leaves) {
				t.Fatalf("bundle root at %d", n+1)
			}
			leaves = leaves[:0]
			if bundles.Root() != f.Root() {
				t.Fatalf("bundles and leaves differ at %d", n+1)
			}
		}
		again, err := merkle.NewFrontier(f.Size(), f.Edges())
		if err != nil || again.Root() != f.Root() {
			t.Fatalf("restored frontier at %d: %v", n+1, err)
		}
	}
	if err := f.AppendSubtree(merkle.Hash{}, merkle.BundleLevel); err == nil {
		t.Error("a subtree off its boundary was taken")
	}
	if _, err := merkle.NewFrontier(3, nil); err == nil {
		t.Error("a frontier without its edges was taken")
	}
}

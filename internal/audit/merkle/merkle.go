// Package merkle is the tree over the records: RFC 6962 hashes and the right
// edge of a growing tree.
//
// It owns: leaf and node hashes and [Frontier], which takes a leaf in about
// one hash and gives the root at any moment. It refuses: storage and proofs;
// golang.org/x/mod/sumdb/tlog has the proofs, and tests hold the two against
// each other.
package merkle

import (
	"crypto/sha256"
	"errors"
	"math/bits"
)

// Hash is a SHA-256 hash of a leaf or a node.
type Hash = [sha256.Size]byte

// BundleWidth is how many records a C2SP tlog-tiles tile or entry bundle
// covers, and BundleLevel the level of the node above them.
const (
	BundleLevel = 8
	BundleWidth = 1 << BundleLevel
)

// Leaf returns the hash of a record. prefixed must be the record after one
// zero byte, which is RFC 6962's domain separation for leaves; taking it in
// place spares a copy.
func Leaf(prefixed []byte) Hash { return sha256.Sum256(prefixed) }

// Node returns the hash of an inner node.
func Node(left, right Hash) Hash {
	var b [1 + 2*sha256.Size]byte
	b[0] = 1
	copy(b[1:], left[:])
	copy(b[1+sha256.Size:], right[:])
	return sha256.Sum256(b[:])
}

// Frontier is the right edge of a tree: the roots of the complete subtrees it
// consists of, largest first. The zero value is the empty tree. It is not safe
// for concurrent use.
type Frontier struct {
	size  uint64
	edges []Hash
}

// NewFrontier returns the frontier with the given size and edges.
func NewFrontier(size uint64, edges []Hash) (*Frontier, error) {
	if bits.OnesCount64(size) != len(edges) {
		return nil, errors.New("frontier has the wrong number of edges for its size")
	}
	return &Frontier{size: size, edges: append([]Hash(nil), edges...)}, nil
}

// Size returns the number of leaves.
func (f *Frontier) Size() uint64 { return f.size }

// Edges returns a copy of the edges.
func (f *Frontier) Edges() []Hash { return append([]Hash(nil), f.edges...) }

// Clone returns an independent copy.
func (f *Frontier) Clone() *Frontier { return &Frontier{size: f.size, edges: f.Edges()} }

// Append adds a leaf.
func (f *Frontier) Append(leaf Hash) { f.push(leaf, 0) }

// AppendSubtree adds a complete subtree of 1<<level leaves. The tree's size
// must be a multiple of that.
func (f *Frontier) AppendSubtree(root Hash, level int) error {
	if f.size&(1<<level-1) != 0 {
		return errors.New("subtree does not stand at its boundary")
	}
	f.push(root, level)
	return nil
}

func (f *Frontier) push(h Hash, level int) {
	// Each trailing one bit of the size is a complete subtree to merge with.
	for s := f.size >> level; s&1 == 1; s >>= 1 {
		last := len(f.edges) - 1
		h = Node(f.edges[last], h)
		f.edges = f.edges[:last]
	}
	f.edges = append(f.edges, h)
	f.size += 1 << level
}

// Root returns the root of the tree as it stands; of the empty tree the hash
// of nothing, as RFC 6962 defines it.
func (f *Frontier) Root() Hash {
	if len(f.edges) == 0 {
		return sha256.Sum256(nil)
	}
	h := f.edges[len(f.edges)-1]
	for i := len(f.edges) - 2; i >= 0; i-- {
		h = Node(f.edges[i], h)
	}
	return h
}

// Root returns the root over leaves. It is used for whole bundles.
func Root(leaves []Hash) Hash {
	var f Frontier
	for _, l := range leaves {
		f.Append(l)
	}
	return f.Root()
}

// Tree is a growing tree that also tells the root of each bundle of 256
// leaves as it completes. The zero value is the empty tree.
type Tree struct {
	whole Frontier // complete bundles
	part  Frontier // the bundle being filled
}

// NewTree returns a tree that continues after complete bundles.
func NewTree(whole *Frontier) *Tree { return &Tree{whole: *whole.Clone()} }

// Size returns the number of leaves.
func (t *Tree) Size() uint64 { return t.whole.size + t.part.size }

// Append adds a leaf. When it completes a bundle, it returns the bundle's root
// and true.
func (t *Tree) Append(leaf Hash) (bundle Hash, complete bool) {
	t.part.Append(leaf)
	if t.part.size < BundleWidth {
		return bundle, false
	}
	bundle = t.part.Root()
	t.part.size, t.part.edges = 0, t.part.edges[:0]
	t.whole.push(bundle, BundleLevel)
	return bundle, true
}

// AppendBundle adds a complete bundle; none may be half filled.
func (t *Tree) AppendBundle(root Hash) error {
	if t.part.size != 0 {
		return errors.New("bundle added inside another")
	}
	return t.whole.AppendSubtree(root, BundleLevel)
}

// Root returns the root of the tree as it stands.
func (t *Tree) Root() Hash {
	if t.part.size == 0 {
		return t.whole.Root()
	}
	h := t.part.Root()
	for i := len(t.whole.edges) - 1; i >= 0; i-- {
		h = Node(t.whole.edges[i], h)
	}
	return h
}

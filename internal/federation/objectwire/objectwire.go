// Package objectwire holds the bodies of the door objects of a site, as the
// fast lane reads and writes them and gatehouse-edge watch does: which node of a
// cluster has which pods, and the names of what they need. Names are all that
// it has room for.
//
// It owns their shape, their bounds and [Group.Digest], by which the two sides
// compare what they have. Start with [Post].
package objectwire

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// Bounds of what a site may send.
const (
	// MaxBody bounds one post, in bytes.
	MaxBody = 4 << 20
	// MaxGroups bounds the groups of one site.
	MaxGroups = 10_000
	// MaxSources and MaxNeeds bound a group and one source in it.
	MaxSources = 2_000
	MaxNeeds   = 1_000
	// MaxName bounds every name, in bytes.
	MaxName = 253
)

// Post is sent to /sites/NAME/objects: changed groups, or an inventory, or
// both. Groups are taken before the inventory is looked at.
type Post struct {
	// Groups replace what was known of them; one without sources is removed.
	Groups []Group `json:"groups,omitempty"`
	// Inventory is the digest of every group that there is. A group that it
	// does not list is forgotten. Nil asks nothing.
	Inventory map[string]string `json:"inventory,omitempty"`
}

// Answer tells which groups of the inventory are not as it says; they are to be
// posted.
type Answer struct {
	Want []string `json:"want,omitempty"`
}

// Group is everything of one node (n/NAME), or a part of the volumes (v/NN,
// two lower case hexadecimal digits).
type Group struct {
	Name    string   `json:"name"`
	Sources []Source `json:"sources,omitempty"`
}

// Source is a pod or attachment of the group's node, the node itself, or a
// volume.
type Source struct {
	// Kind is Pod, VolumeAttachment, Node or PersistentVolume.
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	UID       string `json:"uid,omitempty"`
	// Claim is NAMESPACE/NAME of the claim that a volume is bound to.
	Claim string `json:"claim,omitempty"`
	// Needs are KIND/NAMESPACE/NAME, of the kinds Secret, ConfigMap,
	// ServiceAccount, PersistentVolumeClaim and ResourceClaim.
	Needs []string `json:"needs,omitempty"`
}

// Node returns the node of a group; ok is false for volumes.
func (g *Group) Node() (node string, ok bool) { return strings.CutPrefix(g.Name, "n/") }

// Sort brings sources and needs into the order that [Group.Digest] expects.
func (g *Group) Sort() {
	for i := range g.Sources {
		slices.Sort(g.Sources[i].Needs)
	}
	slices.SortFunc(g.Sources, func(a, b Source) int {
		return strings.Compare(a.Kind+"\x00"+a.Namespace+"\x00"+a.Name, b.Kind+"\x00"+b.Namespace+"\x00"+b.Name)
	})
}

// Digest is the same for equal groups, whatever their encoding.
func (g *Group) Digest() string {
	h := sha256.New()
	field := func(s string) { fmt.Fprintf(h, "%d:%s", len(s), s) }
	field(g.Name)
	for i := range g.Sources {
		s := &g.Sources[i]
		for _, text := range []string{s.Kind, s.Namespace, s.Name, s.UID, s.Claim} {
			field(text)
		}
		fmt.Fprintf(h, "%d,", len(s.Needs))
		for _, n := range s.Needs {
			field(n)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// Check returns an error of kind Invalid that names what is wrong.
func (p *Post) Check() error {
	if len(p.Groups) > MaxGroups || len(p.Inventory) > MaxGroups {
		return fault.Newf(fault.Invalid, "a site has at most %d groups", MaxGroups)
	}
	for i := range p.Groups {
		if err := p.Groups[i].check(); err != nil {
			return fmt.Errorf("groups[%d]: %w", i, err)
		}
	}
	for name, digest := range p.Inventory {
		if !validName(name) || len(digest) != 32 {
			return fault.Newf(fault.Invalid, "inventory: %.100q is not a group with its digest", name)
		}
	}
	return nil
}

func (g *Group) check() error {
	if !validName(g.Name) {
		return fault.Newf(fault.Invalid, "name: %.100q is neither n/NODE nor v/NN", g.Name)
	}
	if len(g.Sources) > MaxSources {
		return fault.Newf(fault.Invalid, "%s: at most %d sources", g.Name, MaxSources)
	}
	_, node := g.Node()
	for i := range g.Sources {
		s := &g.Sources[i]
		kinds := []string{"Pod", "VolumeAttachment", "Node"}
		if !node {
			kinds = []string{"PersistentVolume"}
		}
		switch {
		case !slices.Contains(kinds, s.Kind):
			return fault.Newf(fault.Invalid, "%s.sources[%d].kind: must be one of %q", g.Name, i, kinds)
		case !plain(s.Name) || (s.Namespace != "") != (s.Kind == "Pod") || s.Namespace != "" && !plain(s.Namespace) || len(s.UID) > MaxName:
			return fault.Newf(fault.Invalid, "%s.sources[%d]: is not the name of a %s", g.Name, i, s.Kind)
		case s.Kind == "Node" && (s.Name != strings.TrimPrefix(g.Name, "n/") || len(s.Needs) > 0):
			return fault.Newf(fault.Invalid, "%s.sources[%d]: is not the node of its group alone", g.Name, i)
		case len(s.Needs) > MaxNeeds:
			return fault.Newf(fault.Invalid, "%s.sources[%d].needs: at most %d", g.Name, i, MaxNeeds)
		case (s.Claim != "") == node || s.Claim != "" && !qualified(s.Claim, 2):
			return fault.Newf(fault.Invalid, "%s.sources[%d].claim: must be NAMESPACE/NAME, of volumes alone", g.Name, i)
		}
		for j, n := range s.Needs {
			if !qualified(n, 3) {
				return fault.Newf(fault.Invalid, "%s.sources[%d].needs[%d]: must be KIND/NAMESPACE/NAME", g.Name, i, j)
			}
		}
	}
	return nil
}

func validName(name string) bool {
	if node, ok := strings.CutPrefix(name, "n/"); ok {
		return plain(node)
	}
	part, ok := strings.CutPrefix(name, "v/")
	return ok && len(part) == 2 && strings.Trim(part, "0123456789abcdef") == ""
}

// plain reports whether a name is of the grammar that all names of objects
// here share, so that none can be taken for two.
func plain(name string) bool {
	if name == "" || len(name) > MaxName || name[0] == '.' || name[0] == '-' {
		return false
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' {
			return false
		}
	}
	return true
}

func qualified(name string, parts int) bool {
	p := strings.Split(name, "/")
	if len(p) != parts {
		return false
	}
	for i, part := range p {
		if parts == 3 && i == 0 {
			if !slices.Contains([]string{"Secret", "ConfigMap", "ServiceAccount", "PersistentVolumeClaim", "ResourceClaim"}, part) {
				return false
			}
			continue
		}
		if !plain(part) {
			return false
		}
	}
	return true
}

package authz

import (
	"math/bits"
	"slices"
	"sort"
)

// ruleset is a role's rules in the form that decisions match: words are
// numbers, verbs are bits. It is immutable.
type ruleset struct {
	rules []crule
	words []uint32
	// byResource lists resource<<32|rule in order, for roles with more than
	// linearRules rules.
	byResource []uint64
	urls       bool // some rule has URLs
	broad      bool // too many combinations for the permission index
}

// crule is one rule; its words stand in ruleset.words from off on, the lists in
// the order of the ends.
type crule struct {
	mask                               mask
	off                                uint32
	verbEnd, groupEnd, resEnd, nameEnd uint32
	urlEnd                             uint32
}

const linearRules = 24

// mask summarises a rule, or what a request needs of one, so that most rules
// are passed over at one glance: verbs in the lower half, resources in the
// upper. Verb numbers below wildVerb have bits of their own; resource numbers
// share theirs, and the rule must still be compared.
type mask uint64

const (
	wildVerb     = 30 // the rule has the wildcard
	overflowVerb = 31 // the rule has a verb without a bit of its own

	maskResources = 30      // resource numbers share this many bits
	maskURLs      = 32 + 30 // the rule has URLs
	maskWild      = 32 + 31 // the rule has the wildcard resource

	maskVerbs mask = 1<<32 - 1
)

func verbMask(verb uint32) mask {
	switch {
	case verb == star:
		return 1 << wildVerb
	case verb < wildVerb:
		return 1 << verb
	default:
		return 1 << overflowVerb
	}
}

func resourceMask(res uint32) mask {
	if res == star {
		return 1 << maskWild
	}
	return 1 << (32 + res%maskResources)
}

// overlaps reports whether the two have a verb and a resource in common.
func (m mask) overlaps(want mask) bool {
	m &= want
	return m&maskVerbs != 0 && m>>32 != 0
}

// tally is the union of masks, each of which can be taken out again.
type tally struct {
	union mask
	each  [64]uint32 // how many masks have the bit
}

// count adds a mask, or takes one out that was added.
func (t *tally) count(m mask, add bool) {
	for ; m != 0; m &= m - 1 {
		bit := bits.TrailingZeros64(uint64(m))
		if add {
			t.each[bit]++
		} else {
			t.each[bit]--
		}
		if t.each[bit] == 0 {
			t.union &^= 1 << bit
		} else {
			t.union |= 1 << bit
		}
	}
}

// signature is what a decision reads of a role first: a summary by which most
// roles that cannot permit the request are passed over (false matches are
// possible, false misses are not), and the rules. It fills a cache line.
type signature struct {
	rules     *ruleset // nil where there is only the summary
	mask      mask
	resources [signatureWords]uint64
}

const (
	signatureWords     = 6
	signatureResources = signatureWords * 64 // resource numbers share this many bits
)

func (g *signature) setResource(res uint32) {
	g.mask |= resourceMask(res)
	if res != star {
		g.resources[res%signatureResources/64] |= 1 << (res % 64)
	}
}

// overlaps reports whether the role may permit what is wanted.
func (g *signature) overlaps(c *query) bool {
	m := g.mask & c.want
	if m&maskVerbs == 0 {
		return false
	}
	if m&(1<<maskWild|1<<maskURLs) != 0 {
		return true
	}
	return g.hasResource(c.resource) || g.hasResource(c.anySub)
}

func (g *signature) hasResource(res uint32) bool {
	return res != none && g.resources[res%signatureResources/64]>>(res%64)&1 != 0
}

func (rs *ruleset) verbs(r *crule) []uint32     { return rs.words[r.off:r.verbEnd] }
func (rs *ruleset) groups(r *crule) []uint32    { return rs.words[r.verbEnd:r.groupEnd] }
func (rs *ruleset) resources(r *crule) []uint32 { return rs.words[r.groupEnd:r.resEnd] }
func (rs *ruleset) names(r *crule) []uint32     { return rs.words[r.resEnd:r.nameEnd] }
func (rs *ruleset) urlWords(r *crule) []uint32  { return rs.words[r.nameEnd:r.urlEnd] }

// compile numbers the words of rules, counting their use.
func (t *Tx) compile(rules []Rule) (*ruleset, signature) {
	n := 0
	for i := range rules {
		r := &rules[i]
		n += len(r.Verbs) + len(r.APIGroups) + len(r.Resources) + len(r.ResourceNames) + len(r.NonResourceURLs)
	}
	rs := &ruleset{rules: make([]crule, len(rules)), words: make([]uint32, 0, n)}
	sig := signature{rules: rs}
	add := func(in *interner, p *pool, list []string) uint32 {
		for _, w := range list {
			rs.words = append(rs.words, t.intern(in, p, w))
		}
		return uint32(len(rs.words))
	}
	for i := range rules {
		r, c := &rules[i], &rs.rules[i]
		c.off = uint32(len(rs.words))
		c.verbEnd = add(&t.s.verbs, &t.w.verbs, r.Verbs)
		c.groupEnd = add(&t.s.texts, &t.w.texts, r.APIGroups)
		c.resEnd = add(&t.s.resources, &t.w.resources, r.Resources)
		c.nameEnd = add(&t.s.texts, &t.w.texts, r.ResourceNames)
		c.urlEnd = add(&t.s.texts, &t.w.texts, r.NonResourceURLs)
		for _, v := range rs.verbs(c) {
			c.mask |= verbMask(v)
		}
		for _, res := range rs.resources(c) {
			c.mask |= resourceMask(res)
			sig.setResource(res)
		}
		if len(r.NonResourceURLs) > 0 {
			rs.urls = true
			c.mask |= 1 << maskURLs
		}
		sig.mask |= c.mask
	}
	if len(rules) > linearRules {
		for i := range rs.rules {
			for _, res := range rs.resources(&rs.rules[i]) {
				rs.byResource = append(rs.byResource, uint64(res)<<32|uint64(i))
			}
		}
		slices.Sort(rs.byResource)
		rs.byResource = slices.Clip(slices.Compact(rs.byResource))
	}
	rs.broad = rs.combinations() > maxCombinations
	return rs, sig
}

// discard ends the use of a ruleset's words.
func (t *Tx) discard(rs *ruleset) {
	for i := range rs.rules {
		r := &rs.rules[i]
		for _, w := range rs.verbs(r) {
			t.release(&t.s.verbs, &t.w.verbs, w)
		}
		for _, w := range rs.resources(r) {
			t.release(&t.s.resources, &t.w.resources, w)
		}
		for _, list := range [][]uint32{rs.groups(r), rs.names(r), rs.urlWords(r)} {
			for _, w := range list {
				t.release(&t.s.texts, &t.w.texts, w)
			}
		}
	}
}

// rule returns rule i in its public form.
func (s *Snapshot) rule(rs *ruleset, i int) Rule {
	r := &rs.rules[i]
	text := func(in *interner, list []uint32) []string {
		if len(list) == 0 {
			return nil
		}
		out := make([]string, len(list))
		for i, w := range list {
			out[i] = in.word(w)
		}
		return out
	}
	return Rule{
		Verbs:           text(&s.verbs, rs.verbs(r)),
		APIGroups:       text(&s.texts, rs.groups(r)),
		Resources:       text(&s.resources, rs.resources(r)),
		ResourceNames:   text(&s.texts, rs.names(r)),
		NonResourceURLs: text(&s.texts, rs.urlWords(r)),
	}
}

// is reports whether rs was compiled from rules.
func (s *Snapshot) is(rs *ruleset, rules []Rule) bool {
	if rs == nil || len(rs.rules) != len(rules) {
		return false
	}
	same := func(in *interner, have []uint32, want []string) bool {
		if len(have) != len(want) {
			return false
		}
		for i, w := range have {
			if in.word(w) != want[i] {
				return false
			}
		}
		return true
	}
	for i := range rules {
		c, r := &rs.rules[i], &rules[i]
		if !same(&s.verbs, rs.verbs(c), r.Verbs) || !same(&s.texts, rs.groups(c), r.APIGroups) ||
			!same(&s.resources, rs.resources(c), r.Resources) || !same(&s.texts, rs.names(c), r.ResourceNames) ||
			!same(&s.texts, rs.urlWords(c), r.NonResourceURLs) {
			return false
		}
	}
	return true
}

// match returns the first rule that permits the query's action.
func (rs *ruleset) match(c *query) (rule uint32, ok bool) {
	if !c.q.ResourceRequest {
		if !rs.urls {
			return 0, false
		}
		for i := range rs.rules {
			if r := &rs.rules[i]; r.mask.overlaps(c.want) && rs.matchURL(c, r) {
				return uint32(i), true
			}
		}
		return 0, false
	}
	if rs.byResource == nil {
		for i := range rs.rules {
			if r := &rs.rules[i]; r.mask.overlaps(c.want) && rs.matchResource(c, r, true) {
				return uint32(i), true
			}
		}
		return 0, false
	}
	best := none
	for _, res := range [3]uint32{star, c.resource, c.anySub} {
		if res == none {
			continue
		}
		list := rs.byResource
		list = list[sort.Search(len(list), func(i int) bool { return list[i] >= uint64(res)<<32 }):]
		for _, x := range list {
			if uint32(x>>32) != res || uint32(x) >= best {
				break
			}
			if rs.matchResource(c, &rs.rules[uint32(x)], true) {
				best = uint32(x)
				break
			}
		}
	}
	return best, best != none
}

func (rs *ruleset) matchVerb(c *query, r *crule) bool {
	switch v := r.mask & c.want & maskVerbs; v {
	case 0:
		return false
	case 1 << overflowVerb:
		return has(rs.verbs(r), c.verb)
	default:
		return true
	}
}

// matchResource reports whether the rule permits the action; names false
// leaves its resource names out of account.
func (rs *ruleset) matchResource(c *query, r *crule, names bool) bool {
	if !rs.matchVerb(c, r) {
		return false
	}
	ok := false
	for _, w := range rs.resources(r) {
		if w == star || w == c.resource || w == c.anySub && w != none {
			ok = true
			break
		}
	}
	if !ok {
		return false
	}
	group := c.group()
	ok = false
	for _, w := range rs.groups(r) {
		if w == star || w == group {
			ok = true
			break
		}
	}
	if !ok || !names || r.resEnd == r.nameEnd {
		return ok
	}
	return has(rs.names(r), c.name())
}

func (rs *ruleset) matchURL(c *query, r *crule) bool {
	if r.nameEnd == r.urlEnd || !rs.matchVerb(c, r) {
		return false
	}
	for _, w := range rs.urlWords(r) {
		if urlMatches(c.s.texts.word(w), c.q.Path) {
			return true
		}
	}
	return false
}

func has(list []uint32, x uint32) bool {
	for _, w := range list {
		if w == x {
			return true
		}
	}
	return false
}

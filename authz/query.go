package authz

import "hash/maphash"

// query is a request in the snapshot's numbers. It lives on the stack of one
// question.
type query struct {
	s *Snapshot
	q *Request

	verb     uint32
	resource uint32 // "resource" or "resource/sub"
	anySub   uint32 // "*/sub"
	want     mask   // what a rule must have a verb and a resource of

	spaceHash                         uint32 // of the namespace, 0 until asked
	groupWord, nameWord, spaceWord    uint32
	groupKnown, nameKnown, spaceKnown bool

	hashes [callers]uint64 // of the caller's first names, once hashed is set
	hashed bool
	peeked uint64 // keeps what is read ahead from being optimised away
}

// longestJoined is the length up to which "resource/subresource" is joined
// without allocating.
const longestJoined = 160

// newQuery looks up the words of q. It is split from init so that q, stored in
// a literal, can stay on its caller's stack.
func newQuery(s *Snapshot, q *Request) query {
	c := query{s: s, q: q}
	c.init()
	return c
}

func (c *query) init() {
	s, q := c.s, c.q
	c.verb = s.verbs.find(s.hash(q.Verb), q.Verb)
	c.want = 1 << wildVerb
	if c.verb != none {
		c.want |= verbMask(c.verb)
	}
	c.resource, c.anySub = none, none
	if !q.ResourceRequest {
		c.want |= 1 << maskURLs
		return
	}
	c.want |= 1 << maskWild
	if q.Subresource == "" {
		c.resource = s.resources.find(s.hash(q.Resource), q.Resource)
	} else {
		var buf [longestJoined]byte
		b := append(append(append(buf[:0], q.Resource...), '/'), q.Subresource...)
		c.resource = s.resources.findBytes(uint32(maphash.Bytes(s.seed, b)), b)
		b = append(append(buf[:0], "*/"...), q.Subresource...)
		c.anySub = s.resources.findBytes(uint32(maphash.Bytes(s.seed, b)), b)
		if c.anySub != none {
			c.want |= resourceMask(c.anySub)
		}
	}
	if c.resource != none {
		c.want |= resourceMask(c.resource)
	}
}

// group returns the number of the request's API group, looked up when the
// first rule asks.
func (c *query) group() uint32 {
	if !c.groupKnown {
		c.groupWord, c.groupKnown = c.s.texts.find(c.s.hash(c.q.APIGroup), c.q.APIGroup), true
	}
	return c.groupWord
}

// name is group for the object's name.
func (c *query) name() uint32 {
	if !c.nameKnown {
		c.nameWord, c.nameKnown = c.s.texts.find(c.s.hash(c.q.Name), c.q.Name), true
	}
	return c.nameWord
}

// space is group for the namespace among the words of policies.
func (c *query) space() uint32 {
	if !c.spaceKnown {
		c.spaceWord, c.spaceKnown = none, true
		if c.q.Namespace != "" {
			c.spaceWord = c.s.texts.find(c.namespaceHash(), c.q.Namespace)
		}
	}
	return c.spaceWord
}

func (c *query) namespaceHash() uint32 {
	if c.spaceHash == 0 {
		c.spaceHash = c.s.hash(c.q.Namespace)
	}
	return c.spaceHash
}

// nameHash returns the hash, not yet mixed with a scope, of one of the caller's
// first names, 0 being the user and i the group before i, as the caller has it.
func (c *query) nameHash(i int) uint64 {
	if !c.hashed {
		c.hashed = true
		c.hashes[0] = maphash.String(c.s.seed, c.q.User)
		for j := 1; j < min(len(c.q.Groups)+1, callers); j++ {
			c.hashes[j] = maphash.String(c.s.seed, c.q.Groups[j-1])
		}
	}
	return c.hashes[i]
}

// permits returns the first rule of a role that permits the action.
func (c *query) permits(role uint32) (rule uint32, ok bool) {
	sig := c.s.signatures.at(role)
	if !sig.overlaps(c) {
		return 0, false
	}
	return sig.rules.match(c)
}

// usable reports whether the grant may answer this question at all: at sites
// the bootstrap policy does not.
func (c *query) usable(e *entry) bool {
	return c.q.Site == "" || !c.s.roles.at(e.role).bootstrap && !c.s.bindings.at(e.binding).bootstrap()
}

package authz

import "hash/maphash"

// queueSize is how many bindings are put together; see warm.
const queueSize = 32

// flush puts the queued bindings.
func (t *Tx) flush() {
	if len(t.w.queue) > 1 {
		t.warm()
	}
	for i := range t.w.queue {
		t.putBinding(&t.w.queue[i])
		t.w.queue[i] = Binding{}
	}
	t.w.queue = t.w.queue[:0]
}

// warm touches the records that the queued bindings will look up, level by
// level. Putting one binding is a chain of cache misses; touched side by side,
// the misses of many bindings overlap. It changes nothing.
func (t *Tx) warm() {
	s := t.s
	ids := t.w.warm[:0]
	sum := 0
	for i := range t.w.queue {
		b := &t.w.queue[i]
		sum += int(s.scopeIndex.peek(s.hash(b.Namespace)))
		for j := range min(len(b.Subjects), 4) {
			sub := &b.Subjects[j]
			h := none
			switch sub.Kind {
			case User:
				h = s.hash2(sub.Name, salt(false))
			case Group:
				h = s.hash2(sub.Name, salt(true))
			case ServiceAccount:
				t.w.scratch = appendServiceAccount(t.w.scratch[:0], sub, b.Namespace)
				h = mix(maphash.Bytes(s.seed, t.w.scratch), salt(false))
			}
			sum += int(s.principalIndex.peek(h))
			ids = append(ids, h)
		}
	}
	n := 0
	for _, h := range ids {
		p := s.principalIndex.probe(h)
		if id, ok := p.next(); ok {
			ids[n] = id
			n++
		}
	}
	for _, id := range ids[:n] {
		sum += len(s.principals.at(id).name)
	}
	for _, id := range ids[:n] {
		p := s.principals.at(id)
		if len(p.name) > 0 {
			sum += int(p.name[0])
		}
		if len(p.entries) > 0 {
			sum += int(p.entries[0].scope)
		}
	}
	for i := range t.w.queue {
		b := &t.w.queue[i]
		sc := uint32(clusterScope)
		if b.Namespace != "" {
			sc = s.findScope(b.Namespace)
		}
		if sc != none {
			sum += int(s.bindingIndex.peek(s.hash2(b.Name, sc)))
			if l := s.scopes.at(sc).bindings; l != nil && len(l.firsts) > 0 {
				sum += int(l.firsts[0])
			}
		}
	}
	t.w.warm, t.w.warmed = ids[:0], sum
}

// appendServiceAccount appends the user name of a service account; namespace is
// that of the binding.
func appendServiceAccount(b []byte, s *Subject, namespace string) []byte {
	if s.Namespace != "" {
		namespace = s.Namespace
	}
	b = append(b, serviceAccountPrefix...)
	b = append(b, namespace...)
	b = append(b, ':')
	return append(b, s.Name...)
}

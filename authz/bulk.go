package authz

import "hash/maphash"

// queueSize is how many bindings are put together; see warm.
const queueSize = 32

// queuedBinding is a binding to put, with the hashes of its names.
type queuedBinding struct {
	Binding
	name, role uint64 // to be mixed with their scopes
	space      uint32
	subjects   [queuedSubjects]uint32
	scope      uint32 // number of the namespace, or none
}

const queuedSubjects = 3

// flush puts the queued bindings.
func (t *Tx) flush() {
	for i := range t.w.queue {
		t.hashNames(&t.w.queue[i])
	}
	if len(t.w.queue) > 1 {
		t.warm()
	}
	for i := range t.w.queue {
		t.putBinding(&t.w.queue[i])
		t.w.queue[i] = queuedBinding{}
	}
	t.w.queue = t.w.queue[:0]
}

func (t *Tx) hashNames(b *queuedBinding) {
	s := t.s
	b.name, b.role = maphash.String(s.seed, b.Name), maphash.String(s.seed, b.RoleName)
	if b.Namespace != "" {
		b.space = s.hash(b.Namespace)
	}
	for j := range min(len(b.Subjects), queuedSubjects) {
		b.subjects[j] = t.hashSubject(&b.Subjects[j], b.Namespace)
	}
}

// hashSubject returns the hash of the principal that the subject stands for.
func (t *Tx) hashSubject(sub *Subject, namespace string) uint32 {
	switch sub.Kind {
	case User:
		return t.s.hash2(sub.Name, salt(false))
	case Group:
		return t.s.hash2(sub.Name, salt(true))
	case ServiceAccount:
		t.w.scratch = appendServiceAccount(t.w.scratch[:0], sub, namespace)
		return mix(maphash.Bytes(t.s.seed, t.w.scratch), salt(false))
	}
	return none
}

// warm touches the records that the queued bindings will look up, level by
// level. Putting one binding is a chain of cache misses; touched side by side,
// the misses of many bindings overlap. It changes nothing but the scopes of the
// queue, which it has found by the way.
func (t *Tx) warm() {
	s, queue := t.s, t.w.queue
	sum := uint64(0)
	for i := range queue {
		b := &queue[i]
		sum += s.scopeIndex.peek(b.space) + s.roleIndex.peek(mix(b.role, clusterScope))
		for j := range min(len(b.Subjects), queuedSubjects) {
			sum += s.principalIndex.peek(b.subjects[j])
		}
	}
	var ids [queueSize * queuedSubjects]uint32
	var roles [queueSize]uint32
	n, m := 0, 0
	for i := range queue {
		b := &queue[i]
		for j := range min(len(b.Subjects), queuedSubjects) {
			p := s.principalIndex.probe(b.subjects[j])
			if id, ok := p.next(); ok {
				ids[n] = id
				n++
			}
		}
		p := s.roleIndex.probe(mix(b.role, clusterScope))
		if id, ok := p.next(); ok {
			roles[m] = id
			m++
		}
		if b.scope = clusterScope; b.Namespace != "" {
			b.scope = s.findScopeBy(b.space, b.Namespace)
		}
	}
	for _, id := range ids[:n] {
		sum += uint64(len(s.principals.at(id).name))
	}
	for _, id := range roles[:m] {
		sum += uint64(len(s.roles.at(id).name))
	}
	for i := range queue {
		if sc := queue[i].scope; sc != none {
			sum += s.bindingIndex.peek(mix(queue[i].name, sc))
		}
	}
	for _, id := range ids[:n] {
		if p := s.principals.at(id); len(p.name) > 0 {
			sum += uint64(p.name[0])
		}
	}
	for _, id := range roles[:m] {
		if r := s.roles.at(id); len(r.name) > 0 {
			sum += uint64(r.name[0])
		}
	}
	t.w.warmed = sum
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

package snapshot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse-dev/gatehouse/authz"
)

// Compile compiles the text of a condition.
type Compile func(expression string) (authz.Condition, error)

var errMalformed = errors.New("the policy is malformed")

// decoder reads what encoder writes. After the first fault it reads nothing
// more. It never makes a list longer than the bytes that are left, so that the
// memory it takes is in proportion to the body.
type decoder struct {
	b       []byte
	texts   []string
	compile Compile
	err     error
}

func decode(body []byte, compile Compile) (authz.Content, error) {
	d := &decoder{b: body, compile: compile}
	var c authz.Content
	c.Sites = items(d, func() authz.Site { return authz.Site{Name: d.text(), SharedRBAC: d.flag()} })
	c.Namespaces = items(d, func() authz.Namespace {
		n := authz.Namespace{Site: d.text(), Name: d.text(), Labels: map[string]string{}}
		for range d.count() {
			k := d.text()
			n.Labels[k] = d.text()
		}
		return n
	})
	c.Roles = items(d, func() authz.Role {
		return authz.Role{Namespace: d.text(), Name: d.text(), Bootstrap: d.flag(), Rules: items(d, d.rule)}
	})
	c.Bindings = items(d, func() authz.Binding {
		return authz.Binding{Namespace: d.text(), Name: d.text(), Bootstrap: d.flag(), RoleKind: d.text(), RoleName: d.text(), Subjects: items(d, d.subject)}
	})
	c.Policies = items(d, d.policy)
	c.Bans = items(d, func() authz.Ban {
		return authz.Ban{Name: d.text(), Subjects: items(d, d.policySubject), CredentialIDs: items(d, d.text), KeepsMade: d.flag(),
			Sites: items(d, d.text), NotAfter: d.time(), Reason: d.text()}
	})
	c.Delegations = items(d, d.delegation)
	if d.err == nil && len(d.b) > 0 {
		d.fail(errMalformed)
	}
	if d.err != nil {
		return authz.Content{}, d.err
	}
	return c, nil
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err, d.b = err, nil
	}
}

func items[T any](d *decoder, item func() T) []T {
	n := d.count()
	if n == 0 {
		return nil
	}
	// Items are larger than their bytes: room is made as they prove real.
	out := make([]T, 0, min(n, 64))
	for range n {
		out = append(out, item())
		if d.err != nil {
			return nil
		}
	}
	return out
}

// count reads the length of a list; every item has at least one byte.
func (d *decoder) count() int {
	n := d.number()
	if n > uint64(len(d.b)) {
		d.fail(errMalformed)
		return 0
	}
	return int(n)
}

func (d *decoder) number() uint64 {
	x, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail(errMalformed)
		return 0
	}
	d.b = d.b[n:]
	return x
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail(errMalformed)
		return 0
	}
	x := d.b[0]
	d.b = d.b[1:]
	return x
}

func (d *decoder) flag() bool {
	x := d.byte()
	if x > 1 {
		d.fail(errMalformed)
	}
	return x == 1
}

func (d *decoder) text() string {
	if k := d.number(); k > 0 {
		if k > uint64(len(d.texts)) {
			d.fail(errMalformed)
			return ""
		}
		return d.texts[k-1]
	}
	if d.err != nil {
		return ""
	}
	n := d.count()
	s := string(d.b[:n])
	d.b = d.b[n:]
	d.texts = append(d.texts, s)
	return s
}

func (d *decoder) time() time.Time {
	if !d.flag() {
		return time.Time{}
	}
	seconds, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail(errMalformed)
		return time.Time{}
	}
	d.b = d.b[n:]
	nanoseconds := d.number()
	if nanoseconds >= 1e9 {
		d.fail(errMalformed)
		return time.Time{}
	}
	t := time.Unix(seconds, int64(nanoseconds)).UTC()
	if t.IsZero() { // no limit is written as no time; this would widen one
		d.fail(errMalformed)
	}
	return t
}

func (d *decoder) rule() authz.Rule {
	return authz.Rule{Verbs: items(d, d.text), APIGroups: items(d, d.text), Resources: items(d, d.text),
		ResourceNames: items(d, d.text), NonResourceURLs: items(d, d.text)}
}

func (d *decoder) subject() authz.Subject {
	return authz.Subject{Kind: authz.SubjectKind(d.text()), Namespace: d.text(), Name: d.text()}
}

func (d *decoder) policySubject() authz.PolicySubject {
	s := authz.PolicySubject{Subject: d.subject(), Match: authz.NameMatch(d.byte()), SitesOwn: d.flag(), NamespaceLabels: items(d, d.requirement)}
	if s.Match > authz.Glob {
		d.fail(errMalformed)
	}
	return s
}

func (d *decoder) requirement() authz.Requirement {
	r := authz.Requirement{Key: d.text(), Operator: authz.Operator(d.byte()), Values: items(d, d.text)}
	if r.Operator < authz.In || r.Operator > authz.DoesNotExist {
		d.fail(errMalformed)
	}
	return r
}

func (d *decoder) delegation() authz.Delegation {
	return authz.Delegation{Name: d.text(), ID: d.text(), Parent: d.text(), ParentID: d.text(),
		Giver: authz.Giver{User: d.text(), UID: d.text(), CredentialID: d.text(), Groups: items(d, d.text),
			Origins: items(d, d.text), Extra: d.extra(), Superuser: d.flag()},
		To: d.subject(), Rules: items(d, d.rule), Roles: items(d, d.text), Sites: items(d, d.text),
		Namespaces: items(d, d.text), NamespaceLabels: items(d, d.requirement), NotBefore: d.time(), NotAfter: d.time(), MayDelegate: d.flag()}
}

func (d *decoder) extra() map[string][]string {
	var out map[string][]string
	for range d.count() {
		key := d.text()
		if out == nil {
			out = map[string][]string{}
		}
		out[key] = items(d, d.text)
	}
	return out
}

func (d *decoder) policy() authz.Policy {
	p := authz.Policy{Name: d.text(), Effect: authz.Effect(d.byte()), Subjects: items(d, d.policySubject), Rules: items(d, d.rule),
		Roles: items(d, d.text), Sites: items(d, d.text), Namespaces: items(d, d.text), NamespaceLabels: items(d, d.requirement),
		LabelSelector: items(d, d.requirement), FieldSelector: items(d, d.requirement), NotBefore: d.time(), NotAfter: d.time(), Message: d.text()}
	if p.Effect != authz.Allow && p.Effect != authz.Deny {
		d.fail(errMalformed)
	}
	if !d.flag() || d.err != nil {
		return p
	}
	condition, err := d.compile(d.text())
	if err != nil {
		d.fail(fmt.Errorf("condition of policy %q: %w", p.Name, err))
		return p
	}
	p.Condition = condition
	return p
}

package snapshot

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/authz"
)

var noon = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

type testKey struct{ private ed25519.PrivateKey }

func newKey(seed byte) testKey {
	return testKey{ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))}
}

func (k testKey) KeyID() string                 { return "k1" }
func (k testKey) Sign(m []byte) ([]byte, error) { return ed25519.Sign(k.private, m), nil }

func (k testKey) Verify(id string, m, signature []byte) error {
	if id != "k1" || !ed25519.Verify(k.private.Public().(ed25519.PublicKey), m, signature) {
		return errors.New("bad signature")
	}
	return nil
}

// verbIs is a condition whose text is a verb.
type verbIs string

func (v verbIs) Holds(q *authz.Request) (bool, error) { return q.Verb == string(v), nil }
func (v verbIs) ReadsObject() bool                    { return false }
func (v verbIs) String() string                       { return string(v) }

func compileVerb(text string) (authz.Condition, error) {
	if text == "" {
		return nil, errors.New("no verb")
	}
	return verbIs(text), nil
}

func rules(site, namespace string) Rules {
	return Rules{Site: site, Namespace: namespace, Conditions: "v1", Compile: compileVerb, Verifier: newKey(1), Skew: time.Minute}
}

func header(site, namespace string, sequence uint64) Header {
	return Header{Site: site, Namespace: namespace, Sequence: sequence, Issued: noon, Ends: noon.Add(time.Hour), Conditions: "v1"}
}

// draw makes policy and questions of few names, so that they meet.
type draw struct{ *rand.Rand }

func (d draw) pick(from ...string) string { return from[d.IntN(len(from))] }

func (d draw) some(from ...string) (out []string) {
	for range 1 + d.IntN(2) {
		out = append(out, d.pick(from...))
	}
	return out
}

func (d draw) rules() (out []authz.Rule) {
	for range 1 + d.IntN(2) {
		r := authz.Rule{Verbs: d.some("get", "list", "*"), APIGroups: d.some("", "apps", "*"), Resources: d.some("pods", "jobs", "*", "pods/log")}
		switch d.IntN(6) {
		case 0:
			r.ResourceNames = d.some("a", "b")
		case 1:
			r = authz.Rule{Verbs: r.Verbs, NonResourceURLs: d.some("/healthz", "/api*")}
		}
		out = append(out, r)
	}
	return out
}

func (d draw) subjects() (out []authz.PolicySubject) {
	for range 1 + d.IntN(3) {
		s := authz.PolicySubject{Subject: authz.Subject{Kind: authz.User, Name: d.pick("u1", "u2", "system:node:x")}, SitesOwn: d.IntN(4) == 0}
		switch d.IntN(5) {
		case 0:
			s.Kind, s.Name = authz.Group, d.pick("g1", "g2", "system:authenticated")
		case 1:
			s.Kind, s.Name, s.Namespace = authz.ServiceAccount, "s1", d.pick("n1", "n2")
		case 2:
			s.Kind, s.Name, s.NamespaceLabels = authz.ServiceAccount, "", d.labels("domain")
		case 3:
			s.Match, s.Name = authz.Prefix, d.pick("u", "system:")
		}
		out = append(out, s)
	}
	return out
}

func (d draw) labels(key string) []authz.Requirement {
	return []authz.Requirement{{Key: key, Operator: authz.Operator(1 + d.IntN(4)), Values: []string{d.pick("x", "y")}}}
}

func (d draw) sites() []string { return d.some("*", "s1", "s2", "s*", authz.ControlPlane) }

func (d draw) fill(t *authz.Tx) {
	for _, site := range []string{"s1", "s2"} {
		t.PutSite(authz.Site{Name: site, SharedRBAC: d.IntN(2) == 0})
	}
	for _, site := range []string{authz.ControlPlane, "s1", "s2"} {
		for _, ns := range []string{"n1", "n2"} {
			if d.IntN(5) > 0 {
				t.PutNamespace(site, ns, map[string]string{"domain": d.pick("x", "y"), "tier": d.pick("x", "y"), "unread": "z"})
			}
		}
	}
	for i := range 6 {
		t.PutRole(authz.Role{Namespace: d.pick("", "", "n1", "n2"), Name: d.pick("r1", "r2", "r3", "system:r"), Rules: d.rules(), Bootstrap: i == 0})
	}
	for range 8 {
		b := authz.Binding{Namespace: d.pick("", "n1", "n2"), Name: fmt.Sprint(d.pick("b", "system:b"), d.IntN(8)), RoleKind: d.pick("Role", "ClusterRole"),
			RoleName: d.pick("r1", "r2", "r3", "system:r", "absent"), Bootstrap: d.IntN(8) == 0}
		for range d.IntN(3) {
			s := authz.Subject{Kind: authz.SubjectKind(d.pick("User", "Group", "ServiceAccount", "Other")), Name: d.pick("u1", "g1", "s1"), Namespace: d.pick("", "n1")}
			if s.Kind != authz.ServiceAccount {
				s.Namespace = ""
			}
			b.Subjects = append(b.Subjects, s)
		}
		t.PutBinding(b)
	}
	for i := range 8 {
		p := authz.Policy{Name: fmt.Sprint("p", i), Effect: authz.Effect(1 + d.IntN(2)), Subjects: d.subjects(), Sites: d.sites(), Rules: d.rules()}
		switch d.IntN(3) {
		case 0:
			p.Namespaces = d.some("n1", "n*", "n2")
		case 1:
			p.NamespaceLabels = d.labels("tier")
		}
		switch d.IntN(6) {
		case 0:
			p.Roles = d.some("r1", "system:r", "absent")
		case 1:
			p.NotAfter = noon
		case 2:
			p.NotBefore = noon.Add(time.Nanosecond)
		case 3:
			p.Condition = verbIs("list")
		case 4:
			p.LabelSelector = d.labels("team")
		}
		t.PutPolicy(p)
	}
	for i := range d.IntN(6) {
		x := authz.Delegation{Name: fmt.Sprint("d", i), ID: "id", Giver: authz.Giver{User: d.pick("u1", "u2", "system:serviceaccount:n1:s1"), UID: "uid",
			Groups: d.some("g1", "g2", "system:masters"), CredentialID: d.pick("", "JTI=1"), Superuser: d.IntN(2) == 0,
			Origins: d.some("JTI=1", "JTI=2"), Extra: map[string][]string{"a": d.some("x", "y"), "b": {"z"}}},
			To: authz.Subject{Kind: authz.User, Name: d.pick("u1", "u2")}, Rules: d.rules(), Sites: d.sites(), NotAfter: noon.Add(time.Hour), MayDelegate: d.IntN(2) == 0}
		switch d.IntN(5) {
		case 0:
			x.To = authz.Subject{Kind: authz.ServiceAccount, Namespace: "n1", Name: "s1"}
		case 1:
			x.Roles, x.NotBefore = d.some("r1", "absent"), noon
		case 2:
			x.Namespaces, x.NamespaceLabels = d.some("n1", "n*"), d.labels("tier")
		case 3:
			x.Parent, x.ParentID = fmt.Sprint("d", d.IntN(6)), "id"
		}
		t.PutDelegation(x)
	}
	for i := range d.IntN(3) {
		t.PutBan(authz.Ban{Name: fmt.Sprint("b", i), Subjects: d.subjects(), CredentialIDs: d.some("JTI=1", "JTI=2"), KeepsMade: d.IntN(2) == 0, Sites: d.sites(), Reason: "lost", NotAfter: noon.Add(time.Duration(d.IntN(3)-1) * time.Hour)})
	}
}

func (d draw) question(site, namespace string) *authz.Request {
	q := &authz.Request{User: d.pick("u1", "u2", "system:node:x", "system:serviceaccount:n1:s1", "gatehouse:system:serviceaccount:n1:s1", "gatehouse:system:serviceaccount:n2:s1"),
		Groups: d.some("g1", "g2", "system:authenticated"), Verb: d.pick("get", "list"), Time: noon.Add(time.Duration(d.IntN(3) - 1)), Site: site,
		CredentialID: d.pick("", "", "", "", "JTI=1"), Origins: d.some("JTI=2", "JTI=3"), ResourceRequest: true, APIGroup: d.pick("", "apps"), Resource: d.pick("pods", "jobs"),
		Subresource: d.pick("", "", "log"), Name: d.pick("", "a", "b"), Namespace: namespace}
	if namespace == "" {
		q.Namespace, q.ClusterScoped = d.pick("", "n1", "n2"), d.IntN(2) == 0
		if d.IntN(8) == 0 {
			*q = authz.Request{User: q.User, Groups: q.Groups, Verb: q.Verb, Time: q.Time, Site: site, Path: d.pick("/healthz", "/apis")}
		}
	}
	if d.IntN(4) == 0 {
		q.LabelSelector = d.labels("team")
	}
	return q
}

// TestSameAnswersAsTheCentre restricts, seals, follows and asks both.
func TestSameAnswersAsTheCentre(t *testing.T) {
	t.Parallel()
	var outcomes [3]int
	handed := 0
	for seed := range uint64(400) {
		d := draw{rand.New(rand.NewPCG(seed, 11))}
		centre := authz.New().Update(d.fill)
		r := authz.Restriction{Site: d.pick("s1", "s2", "s1", "s2", authz.ControlPlane), Namespace: d.pick("", "n1")}
		content := centre.Restrict(r)
		frame, _, err := Seal(&content, Credentials{}, header(r.Site, r.Namespace, 1), newKey(1))
		if err != nil {
			t.Fatal(err)
		}
		f := NewFollower(rules(r.Site, r.Namespace))
		if _, err := f.Accept(frame, noon); err != nil {
			t.Fatal(err)
		}
		held, err := f.Current(noon)
		if err != nil {
			t.Fatal(err)
		}
		local := held.Snapshot
		site := r.Site
		if site == authz.ControlPlane {
			site = ""
		}
		for range 150 {
			q := d.question(site, r.Namespace)
			want, got := centre.Decide(q), local.Decide(q)
			if want.Effect() != got.Effect() || want.Reason() != got.Reason() {
				t.Fatalf("seed %d, %+v: %+v\ncentre: %v %s\nlocal:  %v %s", seed, r, q, want.Effect(), want.Reason(), got.Effect(), got.Reason())
			}
			outcomes[want.Effect()]++
			if len(got.Delegations()) > 0 {
				handed++
			}
		}
	}
	if handed < 150 {
		t.Errorf("only %d decisions by delegation", handed)
	}
	for effect, n := range outcomes {
		if n < 3000 {
			t.Errorf("%v only %d times", authz.Effect(effect), n)
		}
	}
}

// TestContentIsTheWholePolicy puts the content of a snapshot into a new engine,
// directly and through the form on the wire, and finds equal content.
func TestContentIsTheWholePolicy(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		d := draw{rand.New(rand.NewPCG(seed, 12))}
		e := authz.New()
		for range 3 {
			e.Update(d.fill)
		}
		want := e.Snapshot().Content()
		body, err := encode(&want)
		if err != nil {
			t.Fatal(err)
		}
		decoded, err := decode(body, compileVerb)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []*authz.Content{&want, &decoded} {
			got := authz.New().Update(func(t *authz.Tx) { t.PutContent(c) }).Content()
			again, err := encode(&got)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(body, again) {
				t.Fatalf("seed %d: the content changed", seed)
			}
		}
	}
}

// TestRestrictionTellsLittle looks for names of other sites and for labels that
// nothing reads.
func TestRestrictionTellsLittle(t *testing.T) {
	t.Parallel()
	s := authz.New().Update(func(t *authz.Tx) {
		t.PutSite(authz.Site{Name: "s1"})
		t.PutSite(authz.Site{Name: "secret-site"})
		t.PutNamespace("s1", "n1", map[string]string{"tier": "x", "secret-label": "y"})
		t.PutNamespace("secret-site", "n1", map[string]string{"tier": "x"})
		t.PutRole(authz.Role{Name: "secret-role", Rules: []authz.Rule{{Verbs: []string{"get"}}}})
		t.PutBinding(authz.Binding{Name: "secret-binding", RoleKind: "ClusterRole", RoleName: "secret-role"})
		t.PutPolicy(authz.Policy{Name: "p", Effect: authz.Deny, Sites: []string{"s1", "secret-site"}, NamespaceLabels: []authz.Requirement{{Key: "tier", Operator: authz.Exists}},
			Subjects: []authz.PolicySubject{{Subject: authz.Subject{Kind: authz.User, Name: "u"}}}})
		t.PutPolicy(authz.Policy{Name: "secret-policy", Effect: authz.Deny, Sites: []string{"secret-site"}, Subjects: []authz.PolicySubject{{Subject: authz.Subject{Kind: authz.User, Name: "u"}}}})
		t.PutBan(authz.Ban{Name: "secret-ban", CredentialIDs: []string{"JTI=1"}, Sites: []string{"secret-*"}})
	})
	c := s.Restrict(authz.Restriction{Site: "s1"})
	body, err := encode(&c)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(body), "secret") {
		t.Errorf("the body tells a secret: %q", body)
	}
	if len(c.Policies) != 1 || len(c.Namespaces) != 1 {
		t.Errorf("content %+v lacks what the site needs", c)
	}
}

func TestFollowerRefuses(t *testing.T) {
	t.Parallel()
	content := authz.New().Update(func(t *authz.Tx) { t.PutSite(authz.Site{Name: "s1"}) }).Content()
	frame := func(h Header, key testKey) []byte {
		f, _, err := Seal(&content, Credentials{}, h, key)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	good := frame(header("s1", "", 5), newKey(1))
	with := func(change func(*Header)) []byte {
		h := header("s1", "", 6)
		change(&h)
		return frame(h, newKey(1))
	}
	cases := map[string][]byte{
		"another key":                frame(header("s1", "", 6), newKey(2)),
		"another site":               with(func(h *Header) { h.Site = "s2" }),
		"another namespace":          with(func(h *Header) { h.Namespace = "n" }),
		"one object":                 with(func(h *Header) { h.Object = "pods/a" }),
		"same sequence":              with(func(h *Header) { h.Sequence = 5 }),
		"earlier sequence":           with(func(h *Header) { h.Sequence = 4 }),
		"ended":                      with(func(h *Header) { h.Ends = noon }),
		"older than the maximum age": with(func(h *Header) { h.Issued = noon.Add(-2 * time.Hour) }),
		"from the future":            with(func(h *Header) { h.Issued = noon.Add(2 * time.Minute) }),
		"other conditions":           with(func(h *Header) { h.Conditions = "v2" }),
		"another format":             bytes.Replace(frame(header("s1", "", 6), newKey(1)), []byte("snapshot 3"), []byte("snapshot 2"), 1),
		"empty":                      {},
		"cut":                        good[:len(good)-1],
		"longer":                     append(bytes.Clone(good), 0),
	}
	f := NewFollower(rules("s1", ""))
	f.rules.MaxAge = time.Hour
	if _, err := f.Current(noon); !errors.Is(err, ErrEnded) {
		t.Fatalf("a follower of nothing: %v", err)
	}
	if _, err := f.Accept(good, noon); err != nil {
		t.Fatal(err)
	}
	for name, bad := range cases {
		if _, err := f.Accept(bad, noon); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if held, err := f.Current(noon); err != nil || held.Header.Sequence != 5 {
			t.Fatalf("%s: what was held is gone: %v, %v", name, held, err)
		}
	}
	for i := range good { // every byte is covered by signature or digest
		bad := bytes.Clone(good)
		bad[i] ^= 1
		g := NewFollower(rules("s1", ""))
		if _, err := g.Accept(bad, noon); err == nil {
			t.Fatalf("accepted with byte %d changed", i)
		}
	}
	if _, err := f.Current(noon.Add(time.Hour)); !errors.Is(err, ErrEnded) {
		t.Errorf("after the end: %v", err)
	}
}

func TestRenewal(t *testing.T) {
	t.Parallel()
	content := authz.New().Update(func(t *authz.Tx) { t.PutSite(authz.Site{Name: "s1"}) }).Content()
	full, h, err := Seal(&content, Credentials{}, header("s1", "", 1), newKey(1))
	if err != nil {
		t.Fatal(err)
	}
	h.Sequence, h.Issued, h.Ends = 2, noon.Add(30*time.Minute), noon.Add(2*time.Hour)
	renewal, err := Renew(h, newKey(1))
	if err != nil {
		t.Fatal(err)
	}
	f := NewFollower(rules("s1", ""))
	if _, err := f.Accept(renewal, noon.Add(30*time.Minute)); !errors.Is(err, ErrUnknownPolicy) {
		t.Fatalf("a renewal of nothing: %v", err)
	}
	if _, err := f.Accept(full, noon); err != nil {
		t.Fatal(err)
	}
	before, err := f.Current(noon)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Accept(renewal, noon.Add(30*time.Minute)); err != nil {
		t.Fatal(err)
	}
	after, err := f.Current(noon.Add(90 * time.Minute))
	if err != nil || after.Header.Sequence != 2 || before.Snapshot != after.Snapshot {
		t.Errorf("after the renewal: %+v, %v", after, err)
	}
	h.Sequence, h.Digest = 3, strings.Repeat("0", 64)
	other, err := Renew(h, newKey(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Accept(other, noon.Add(30*time.Minute)); !errors.Is(err, ErrUnknownPolicy) {
		t.Errorf("a renewal of other policy: %v", err)
	}
}

// FuzzSplit feeds frames that nobody signed.
func FuzzSplit(f *testing.F) {
	content := authz.Content{Sites: []authz.Site{{Name: "s1"}}}
	frame, _, err := Seal(&content, Credentials{}, header("s1", "", 1), newKey(1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(frame)
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, frame []byte) {
		_, message, signature, body, err := split(frame)
		if err == nil && len(message)+2+len(signature)+len(body) != len(frame) {
			t.Error("the parts are not the whole")
		}
	})
}

// FuzzDecode feeds bodies: what is accepted has the same meaning when it is
// written and read again.
func FuzzDecode(f *testing.F) {
	for seed := range uint64(4) {
		content := authz.New().Update(draw{rand.New(rand.NewPCG(seed, 13))}.fill).Content()
		body, err := encode(&content)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := decode(body, compileVerb)
		if err != nil {
			return
		}
		authz.New().Update(func(t *authz.Tx) { t.PutContent(&c) })
		again, err := encode(&c)
		if err != nil {
			t.Fatal(err)
		}
		d, err := decode(again, compileVerb)
		if err != nil || !reflect.DeepEqual(c, d) {
			t.Fatalf("%v: %+v became %+v", err, c, d)
		}
	})
}

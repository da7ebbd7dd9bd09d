package differential

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	covers "k8s.io/component-helpers/auth/rbac/validation"
	"k8s.io/kubernetes/pkg/registry/rbac/validation"
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/bench/rbac/upstream"
)

// wanted is how many questions the test asks in all.
const (
	wanted  = 1_000_000
	workers = 20
	perSet  = 250
)

// policy answers upstream's lookups in the order of names, so that its reasons
// and lists can be compared word for word.
type policy struct {
	roles    map[[2]string]authz.Role
	bindings map[[2]string]authz.Binding

	rules               map[[2]string][]rbacv1.PolicyRule
	clusterRoleBindings []*rbacv1.ClusterRoleBinding
	roleBindings        map[string][]*rbacv1.RoleBinding
}

// convert prepares what upstream reads.
func (p *policy) convert() {
	p.rules = map[[2]string][]rbacv1.PolicyRule{}
	for k, r := range p.roles {
		p.rules[k] = upstream.Rules(r.Rules)
	}
	p.clusterRoleBindings, p.roleBindings = nil, map[string][]*rbacv1.RoleBinding{}
	for _, b := range p.bindings {
		meta := metav1.ObjectMeta{Namespace: b.Namespace, Name: b.Name}
		if b.Namespace == "" {
			p.clusterRoleBindings = append(p.clusterRoleBindings, &rbacv1.ClusterRoleBinding{ObjectMeta: meta, RoleRef: upstream.RoleRef(&b), Subjects: upstream.Subjects(&b)})
		} else {
			p.roleBindings[b.Namespace] = append(p.roleBindings[b.Namespace], &rbacv1.RoleBinding{ObjectMeta: meta, RoleRef: upstream.RoleRef(&b), Subjects: upstream.Subjects(&b)})
		}
	}
	slices.SortFunc(p.clusterRoleBindings, func(a, b *rbacv1.ClusterRoleBinding) int { return strings.Compare(a.Name, b.Name) })
	for _, list := range p.roleBindings {
		slices.SortFunc(list, func(a, b *rbacv1.RoleBinding) int { return strings.Compare(a.Name, b.Name) })
	}
}

func (p *policy) GetRole(_ context.Context, namespace, name string) (*rbacv1.Role, error) {
	rules, ok := p.rules[[2]string{namespace, name}]
	if !ok || namespace == "" {
		return nil, apierrors.NewNotFound(rbacv1.Resource("roles"), name)
	}
	return &rbacv1.Role{Rules: rules}, nil
}

func (p *policy) GetClusterRole(_ context.Context, name string) (*rbacv1.ClusterRole, error) {
	rules, ok := p.rules[[2]string{"", name}]
	if !ok {
		return nil, apierrors.NewNotFound(rbacv1.Resource("clusterroles"), name)
	}
	return &rbacv1.ClusterRole{Rules: rules}, nil
}

func (p *policy) ListRoleBindings(_ context.Context, namespace string) ([]*rbacv1.RoleBinding, error) {
	return p.roleBindings[namespace], nil
}

func (p *policy) ListClusterRoleBindings(context.Context) ([]*rbacv1.ClusterRoleBinding, error) {
	return p.clusterRoleBindings, nil
}

func TestMillionQuestions(t *testing.T) {
	t.Parallel()
	var asked, allowed atomic.Int64
	t.Run("workers", func(t *testing.T) {
		for w := range uint64(workers) {
			t.Run(fmt.Sprint(w), func(t *testing.T) {
				t.Parallel()
				d := draw{rand.New(rand.NewPCG(w, 1))}
				p := &policy{roles: map[[2]string]authz.Role{}, bindings: map[[2]string]authz.Binding{}}
				e := authz.New()
				for range wanted / workers / perSet {
					// The engine is changed, never built anew, so that what
					// is compared includes its upkeep.
					e.Update(func(tx *authz.Tx) {
						for range 1 + d.IntN(30) {
							d.change(p, tx)
						}
					})
					p.convert()
					a, n := compare(t, &d, p, e.Snapshot())
					allowed.Add(int64(a))
					asked.Add(int64(n))
				}
			})
		}
	})
	if asked.Load() != wanted {
		t.Errorf("asked %d questions, want %d", asked.Load(), wanted)
	}
	// Questions that are nearly all refused would prove little.
	if share := float64(allowed.Load()) / float64(asked.Load()); share < 0.1 || share > 0.9 {
		t.Errorf("%.0f%% of the questions were allowed", 100*share)
	}
	t.Logf("%d questions, %d allowed", asked.Load(), allowed.Load())
}

func compare(t *testing.T, d *draw, p *policy, s *authz.Snapshot) (allowed, asked int) {
	ctx := context.Background()
	theirs := rbac.New(p, p, p, p)
	resolver := validation.NewDefaultRuleResolver(p, p, p, p)
	locator := rbac.NewSubjectAccessEvaluator(p, p, p, p, "")
	for i := range perSet {
		q := d.question()
		attributes := upstream.Attributes(q)
		effect, reason, _ := theirs.Authorize(ctx, attributes)
		ours := s.Decide(q)
		if ours.Allowed() != (effect == authorizer.DecisionAllow) {
			t.Fatalf("%+v\nours %v, theirs %v: %s%s", q, ours.Effect(), effect, ours.Reason(), reason)
		}
		if ours.Allowed() {
			allowed++
			if ours.Reason() != reason {
				t.Fatalf("%+v\nours   %s\ntheirs %s", q, ours.Reason(), reason)
			}
		}
		asked++
		if i%4 == 0 {
			want, _ := resolver.RulesFor(ctx, attributes.GetUser(), q.Namespace)
			compareRules(t, q, s, want)
		}
		if i%16 == 0 {
			subjects, _ := locator.AllowedSubjects(ctx, attributes)
			compareHolders(t, q, s, subjects)
		}
	}
	return allowed, asked
}

func compareRules(t *testing.T, q *authz.Request, s *authz.Snapshot, want []rbacv1.PolicyRule) {
	t.Helper()
	granted, _ := s.RulesFor(q)
	got := make([]string, len(granted))
	for i := range granted {
		got[i] = upstream.Rules([]authz.Rule{granted[i].Rule})[0].String()
	}
	text := make([]string, len(want))
	for i := range want {
		text[i] = want[i].String()
	}
	if !slices.Equal(got, text) {
		t.Fatalf("rules for %+v\nours   %q\ntheirs %q", q, got, text)
	}
}

// compareHolders compares the subjects that hold a permission in full. Upstream
// lists what the bindings say, so its subjects that can match nobody are left
// out here.
func compareHolders(t *testing.T, q *authz.Request, s *authz.Snapshot, want []rbacv1.Subject) {
	t.Helper()
	ours, theirs := map[string]bool{}, map[string]bool{}
	h := s.WhoCan(q)
	for i := range h.Len() {
		if x := h.At(i); x.ResourceNames == nil {
			ours[string(x.Grant.Subject.Kind)+" "+x.Grant.Subject.Name] = true
		}
	}
	for _, x := range want[1:] { // the first is system:masters, which is no RBAC
		if x.Kind == rbacv1.UserKind || x.Kind == rbacv1.GroupKind || x.Kind == rbacv1.ServiceAccountKind && (x.Namespace != "" || ours[x.Kind+" "+x.Name]) {
			theirs[x.Kind+" "+x.Name] = true
		}
	}
	if !reflect.DeepEqual(ours, theirs) {
		t.Fatalf("who can %+v\nours   %v\ntheirs %v", q, ours, theirs)
	}
}

// TestCoversAsUpstream compares the escalation check on random rules.
func TestCoversAsUpstream(t *testing.T) {
	t.Parallel()
	d := draw{rand.New(rand.NewPCG(9, 9))}
	agreed := 0
	for range 200_000 {
		owner, asked := d.rules(4), d.rules(2)
		ok, missing := authz.Covers(owner, asked)
		wantOK, wantMissing := covers.Covers(upstream.Rules(owner), upstream.Rules(asked))
		got := fmt.Sprint(upstream.Rules(missing))
		if ok != wantOK || got != fmt.Sprint(wantMissing) {
			t.Fatalf("owner %+v asked %+v\nours   %v %v\ntheirs %v %v", owner, asked, ok, missing, wantOK, wantMissing)
		}
		if ok {
			agreed++
		}
	}
	if agreed < 10_000 || agreed > 190_000 {
		t.Errorf("%d of 200000 were covered: the rules drawn prove little", agreed)
	}
}

// draw makes random policy and questions from few words, so that they meet.
type draw struct{ *rand.Rand }

func (d draw) pick(words ...string) string { return words[d.IntN(len(words))] }

func (d draw) some(most int, word func() string) []string {
	var out []string
	n := 1 + d.IntN(most)
	if d.IntN(12) == 0 {
		n = 0
	}
	for range n {
		out = append(out, word())
	}
	return out
}

func (d draw) verb() string  { return d.pick("get", "list", "create", "use", "", "*") }
func (d draw) group() string { return d.pick("", "apps", "batch", "*") }
func (d draw) resource() string {
	return d.pick("pods", "pods/log", "*", "*/scale", "*/log", "jobs", "jobs/scale", "", "a/b/c", "*/b/c", "pods/")
}
func (d draw) object() string { return d.pick("a", "b", "c", "", "*") }
func (d draw) url() string {
	return d.pick("/", "/healthz", "/healthz/*", "/apis/*", "*", "/a*b", "/apis**", "", "/healthz/x*")
}
func (d draw) namespace() string { return d.pick("n1", "n2", "n3", "") }
func (d draw) user() string {
	return d.pick("u1", "u2", "u3", "system:serviceaccount:n1:s1", "system:serviceaccount:n2:s1", "system:serviceaccount::s1", "g1", "")
}
func (d draw) groupName() string {
	return d.pick("g1", "g2", "g3", "system:authenticated", "system:serviceaccounts:n1", "u1", "")
}

func (d draw) rules(most int) []authz.Rule {
	out := make([]authz.Rule, 1+d.IntN(most))
	if d.IntN(20) == 0 {
		out = out[:0]
	}
	for i := range out {
		r := &out[i]
		r.Verbs = d.some(3, d.verb)
		if d.IntN(5) > 0 {
			r.APIGroups, r.Resources = d.some(2, d.group), d.some(3, d.resource)
		}
		if d.IntN(4) == 0 {
			r.ResourceNames = d.some(2, d.object)
		}
		if d.IntN(3) == 0 {
			r.NonResourceURLs = d.some(2, d.url)
		}
	}
	return out
}

func (d draw) change(p *policy, tx *authz.Tx) {
	switch d.IntN(7) {
	case 0, 1:
		r := authz.Role{Namespace: d.namespace(), Name: d.pick("r1", "r2", "r3", "r4"), Rules: d.rules(3)}
		if d.IntN(10) == 0 {
			r.Rules = d.rules(40) // enough for the role's own index
		}
		p.roles[[2]string{r.Namespace, r.Name}] = r
		tx.PutRole(r)
	case 2:
		namespace, name := d.namespace(), d.pick("r1", "r2", "r3", "r4")
		delete(p.roles, [2]string{namespace, name})
		tx.DeleteRole(namespace, name)
	case 3:
		namespace, name := d.namespace(), fmt.Sprint("b", d.IntN(12))
		delete(p.bindings, [2]string{namespace, name})
		tx.DeleteBinding(namespace, name)
	default:
		b := authz.Binding{Namespace: d.namespace(), Name: fmt.Sprint("b", d.IntN(12)), RoleKind: d.pick("Role", "ClusterRole", "ClusterRole"), RoleName: d.pick("r1", "r2", "r3", "r4", "r5")}
		if d.IntN(40) == 0 {
			b.RoleKind = "Rolle"
		}
		for range d.IntN(4) {
			switch d.IntN(6) {
			case 0:
				b.Subjects = append(b.Subjects, authz.Subject{Kind: authz.ServiceAccount, Name: "s1", Namespace: d.namespace()})
			case 1:
				b.Subjects = append(b.Subjects, authz.Subject{Kind: "Robot", Name: d.user()})
			case 2, 3:
				b.Subjects = append(b.Subjects, authz.Subject{Kind: authz.Group, Name: d.groupName()})
			default:
				b.Subjects = append(b.Subjects, authz.Subject{Kind: authz.User, Name: d.user()})
			}
		}
		p.bindings[[2]string{b.Namespace, b.Name}] = b
		tx.PutBinding(b)
	}
}

func (d draw) question() *authz.Request {
	q := &authz.Request{User: d.user(), Groups: d.some(3, d.groupName), Verb: d.verb(), Namespace: d.namespace(), ResourceRequest: d.IntN(4) > 0}
	if !q.ResourceRequest {
		q.Path = d.pick("/", "/healthz", "/healthz/x", "/healthz/", "/apis/v1", "/apis", "/axb", "/a*b", "")
		return q
	}
	q.APIGroup, q.Resource, q.Name = d.group(), d.resource(), d.object()
	if r, sub, ok := strings.Cut(q.Resource, "/"); ok && d.IntN(4) > 0 {
		q.Resource, q.Subresource = r, sub
	} else if d.IntN(6) == 0 {
		q.Subresource = d.pick("scale", "log", "b/c")
	}
	return q
}

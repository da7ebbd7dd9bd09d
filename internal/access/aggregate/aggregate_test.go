package aggregate_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gatehouse-dev/gatehouse/internal/access/aggregate"
)

func do(verb string, resources ...string) []rbacv1.PolicyRule {
	var rules []rbacv1.PolicyRule
	for _, r := range resources {
		rules = append(rules, rbacv1.PolicyRule{Verbs: []string{verb}, Resources: []string{r}})
	}
	return rules
}

func role(name string, labels map[string]string, rules ...[]rbacv1.PolicyRule) *rbacv1.ClusterRole {
	return &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, Rules: slices.Concat(rules...)}
}

// combined selects roles by each of the label sets in turn.
func combined(name string, selectors []map[string]string, rules ...[]rbacv1.PolicyRule) *rbacv1.ClusterRole {
	r := role(name, nil, rules...)
	r.AggregationRule = &rbacv1.AggregationRule{}
	for _, s := range selectors {
		r.AggregationRule.ClusterRoleSelectors = append(r.AggregationRule.ClusterRoleSelectors, metav1.LabelSelector{MatchLabels: s})
	}
	return r
}

func labelled(r *rbacv1.ClusterRole, labels map[string]string) *rbacv1.ClusterRole {
	r.Labels = labels
	return r
}

func TestStale(t *testing.T) {
	t.Parallel()
	yes, no := map[string]string{"pick": "yes"}, map[string]string{"pick": "no"}
	hammer, chisel, saw := do("hammer", "nails", "wedges"), do("chisel", "mortises"), do("saw", "boards")
	for _, tc := range []struct {
		name string
		all  []*rbacv1.ClusterRole
		want []*rbacv1.ClusterRole
	}{
		{
			name: "rules without a source go",
			all:  []*rbacv1.ClusterRole{role("hammer", yes, hammer), combined("all", []map[string]string{yes}, saw)},
			want: []*rbacv1.ClusterRole{combined("all", []map[string]string{yes}, hammer)},
		},
		{
			name: "nothing is selected",
			all:  []*rbacv1.ClusterRole{role("hammer", no, hammer), combined("all", []map[string]string{yes}, hammer)},
			want: []*rbacv1.ClusterRole{combined("all", []map[string]string{yes})},
		},
		{
			name: "no selectors select nothing",
			all:  []*rbacv1.ClusterRole{role("hammer", yes, hammer), combined("all", nil, hammer)},
			want: []*rbacv1.ClusterRole{combined("all", nil)},
		},
		{
			name: "by name",
			all: []*rbacv1.ClusterRole{role("hammer", yes, hammer), role("chisel", yes, chisel), role("saw", no, saw),
				combined("all", []map[string]string{yes})},
			want: []*rbacv1.ClusterRole{combined("all", []map[string]string{yes}, chisel, hammer)},
		},
		{
			name: "selectors in their order",
			all: []*rbacv1.ClusterRole{role("hammer", yes, hammer), role("chisel", yes, chisel), role("a-saw", no, saw),
				combined("all", []map[string]string{yes, no})},
			want: []*rbacv1.ClusterRole{combined("all", []map[string]string{yes, no}, chisel, hammer, saw)},
		},
		{
			name: "a rule that two roles hold is taken once",
			all: []*rbacv1.ClusterRole{role("hammer", yes, hammer), role("saw", yes, saw), role("other-saw", no, saw),
				combined("all", []map[string]string{yes, no})},
			want: []*rbacv1.ClusterRole{combined("all", []map[string]string{yes, no}, hammer, saw)},
		},
		{
			name: "nothing to do",
			all:  []*rbacv1.ClusterRole{role("hammer", yes, hammer), combined("all", []map[string]string{yes}, hammer)},
		},
		{
			name: "a role does not select itself",
			all:  []*rbacv1.ClusterRole{role("hammer", yes, hammer), labelled(combined("all", []map[string]string{yes}, saw), yes)},
			want: []*rbacv1.ClusterRole{labelled(combined("all", []map[string]string{yes}, hammer), yes)},
		},
		{
			name: "a chain arrives at once",
			all: []*rbacv1.ClusterRole{
				combined("a-top", []map[string]string{no}),
				labelled(combined("b-middle", []map[string]string{yes}), no),
				role("c-base", yes, hammer),
			},
			want: []*rbacv1.ClusterRole{
				combined("a-top", []map[string]string{no}, hammer),
				labelled(combined("b-middle", []map[string]string{yes}, hammer), no),
			},
		},
		{
			name: "a circle keeps nothing that has no source",
			all: []*rbacv1.ClusterRole{
				labelled(combined("a", []map[string]string{no}, saw), yes),
				labelled(combined("b", []map[string]string{yes}, chisel), no),
				role("c", yes, hammer),
			},
			want: []*rbacv1.ClusterRole{
				labelled(combined("a", []map[string]string{no}, hammer), yes),
				labelled(combined("b", []map[string]string{yes}, hammer), no),
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			before := make([]*rbacv1.ClusterRole, len(tc.all))
			for i, r := range tc.all {
				before[i] = r.DeepCopy()
			}
			got, err := aggregate.Stale(tc.all)
			if err != nil {
				t.Fatal(err)
			}
			if !equality.Semantic.DeepEqual(got, tc.want) {
				t.Errorf("got  %v\nwant %v", got, tc.want)
			}
			if !equality.Semantic.DeepEqual(before, tc.all) {
				t.Error("the input was changed")
			}
			again, err := aggregate.Stale(apply(tc.all, got))
			if err != nil || len(again) != 0 {
				t.Errorf("not settled after one write: %v %v", again, err)
			}
		})
	}
}

func TestStaleLeavesMalformedSelectorsAlone(t *testing.T) {
	t.Parallel()
	bad := combined("bad", []map[string]string{{"pick": "yes"}}, do("saw", "boards"))
	bad.AggregationRule.ClusterRoleSelectors[0].MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Near"}}
	good := combined("good", []map[string]string{{"pick": "yes"}})
	got, err := aggregate.Stale([]*rbacv1.ClusterRole{bad, good, role("hammer", map[string]string{"pick": "yes"}, do("hammer", "nails"))})
	if err == nil {
		t.Error("no error for the malformed selector")
	}
	if len(got) != 1 || got[0].Name != "good" {
		t.Errorf("got %v", got)
	}
}

func apply(all, changed []*rbacv1.ClusterRole) []*rbacv1.ClusterRole {
	out := slices.Clone(all)
	for _, c := range changed {
		i := slices.IndexFunc(out, func(r *rbacv1.ClusterRole) bool { return r.Name == c.Name })
		out[i] = c
	}
	return out
}

// store keeps roles, refuses writes of an old version, and tells the
// controllers about every write, as a watched registry does.
type store struct {
	mu     sync.Mutex
	roles  map[string]*rbacv1.ClusterRole // guarded by mu
	writes int                            // guarded by mu
	fail   int                            // guarded by mu; writes still to be refused
	notify []func()
}

func (s *store) ListClusterRoles(context.Context) ([]*rbacv1.ClusterRole, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*rbacv1.ClusterRole
	for _, r := range s.roles {
		all = append(all, r)
	}
	return all, nil
}

func (s *store) UpdateClusterRole(_ context.Context, role *rbacv1.ClusterRole) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail > 0 {
		s.fail--
		return errors.New("storage is away")
	}
	if s.roles[role.Name].ResourceVersion != role.ResourceVersion {
		return errors.New("conflict")
	}
	s.writes++
	role = role.DeepCopy()
	role.ResourceVersion = fmt.Sprint("v", s.writes)
	s.roles[role.Name] = role
	for _, notify := range s.notify {
		notify()
	}
	return nil
}

func TestControllersOnTwoReplicasSettle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		yes := map[string]string{"pick": "yes"}
		hammer := do("hammer", "nails")
		s := &store{roles: map[string]*rbacv1.ClusterRole{
			"all": combined("all", []map[string]string{yes}), "hammer": role("hammer", yes, hammer)}, fail: 3}
		ctx, cancel := context.WithCancel(t.Context())
		var replicas sync.WaitGroup
		var controllers []*aggregate.Controller
		for range 2 {
			c, err := aggregate.New(aggregate.Config{Store: s, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			controllers = append(controllers, c)
			s.notify = append(s.notify, c.Notify)
		}
		for _, c := range controllers {
			replicas.Go(func() {
				if err := c.Run(ctx); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		s.mu.Lock()
		if got := s.roles["all"].Rules; !equality.Semantic.DeepEqual(got, hammer) {
			t.Errorf("rules %v", got)
		}
		if s.writes != 1 {
			t.Errorf("%d writes, want one", s.writes)
		}
		s.mu.Unlock()
		cancel()
		replicas.Wait()
	})
}

func TestNewNeedsItsParts(t *testing.T) {
	t.Parallel()
	if _, err := aggregate.New(aggregate.Config{}); err == nil {
		t.Error("a controller without a store was made")
	}
}

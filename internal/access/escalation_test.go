package access_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

const grants = "rbac.authorization.k8s.io"

// authors is a world of people with different rights to grant.
func authors() world {
	getPods := rule("get", "", "pods")
	return world{
		roles: []*rbacv1.Role{role("ns", "getter", getPods), role("ns", "wide", rule("*", "*", "*"))},
		clusterRoles: []*rbacv1.ClusterRole{
			clusterRole("getter", getPods),
			clusterRole("all", rule("*", "*", "*"), paths("*", "*")),
			clusterRole("all-resources", rule("*", "*", "*")),
			clusterRole("escalator", rule("escalate", grants, "roles,clusterroles")),
			clusterRole("one-escalator", named(rule("escalate", grants, "roles,clusterroles"), "mine")),
			clusterRole("binder", rule("bind", grants, "roles,clusterroles")),
			clusterRole("one-binder", named(rule("bind", grants, "clusterroles"), "all")),
		},
		clusterRoleBindings: []*rbacv1.ClusterRoleBinding{
			clusterBind("all", "User:admin"), clusterBind("all-resources", "User:resource-admin"),
			clusterBind("escalator", "User:escalator"), clusterBind("one-escalator", "User:one-escalator"),
			clusterBind("binder", "User:binder"), clusterBind("one-binder", "User:one-binder"),
			clusterBind("getter", "User:getter"),
		},
		roleBindings: []*rbacv1.RoleBinding{
			bind("ns", "ClusterRole/all", "User:ns-admin"),
			bind("ns", "ClusterRole/binder", "User:ns-binder"),
			bind("ns", "ClusterRole/getter", "User:ns-getter", "Group:getters"),
		},
	}
}

type verdicts map[string]bool

func (v verdicts) check(t *testing.T, do func(author access.Subject) error) {
	t.Helper()
	for name, want := range v {
		f := strings.Split(name, ",")
		err := do(user(f[0], f[1:]...))
		if (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && fault.KindOf(err) != fault.Denied {
			t.Errorf("%s: kind %v of %v", name, fault.KindOf(err), err)
		}
	}
}

func TestChecksOnRoles(t *testing.T) {
	t.Parallel()
	c := access.Checks{Access: authors().authorizer(t)}
	getPods := rule("get", "", "pods")
	for _, tc := range []struct {
		name string
		do   func(ctx context.Context, author access.Subject) error
		want verdicts
	}{
		{
			name: "create a cluster role",
			do: func(ctx context.Context, author access.Subject) error {
				return c.ClusterRole(ctx, author, clusterRole("mine", getPods), nil)
			},
			want: verdicts{"root,system:masters": true, "nobody": false, "admin": true, "escalator": true, "getter": true,
				"one-escalator": false, "binder": false, "ns-admin": false, "ns-getter": false},
		},
		{
			name: "update a cluster role",
			do: func(ctx context.Context, author access.Subject) error {
				return c.ClusterRole(ctx, author, clusterRole("mine", getPods), clusterRole("mine"))
			},
			want: verdicts{"root,system:masters": true, "nobody": false, "admin": true, "escalator": true, "one-escalator": true, "getter": true, "ns-getter": false},
		},
		{
			name: "a rule without names needs one without names",
			do: func(ctx context.Context, author access.Subject) error {
				return c.ClusterRole(ctx, author, clusterRole("mine", rule("bind", grants, "clusterroles")), nil)
			},
			want: verdicts{"one-binder": false, "binder": true},
		},
		{
			name: "aggregation needs everything",
			do: func(ctx context.Context, author access.Subject) error {
				return c.ClusterRole(ctx, author, aggregating("mine"), nil)
			},
			want: verdicts{"root,system:masters": true, "admin": true, "resource-admin": true, "getter": false, "escalator": true},
		},
		{
			name: "taking aggregation away needs everything",
			do: func(ctx context.Context, author access.Subject) error {
				return c.ClusterRole(ctx, author, clusterRole("mine", getPods), aggregating("mine"))
			},
			want: verdicts{"root,system:masters": true, "admin": true, "resource-admin": true, "getter": false, "escalator": true, "one-escalator": true},
		},
		{
			// A label can have a role collected by another, so that the
			// holders of that one gain its rules.
			name: "a label is a grant",
			do: func(ctx context.Context, author access.Subject) error {
				labelled := clusterRole("mine", rule("*", "*", "*"))
				labelled.Labels = map[string]string{"rbac.authorization.k8s.io/aggregate-to-view": "true"}
				return c.ClusterRole(ctx, author, labelled, clusterRole("mine", rule("*", "*", "*")))
			},
			want: verdicts{"root,system:masters": true, "admin": true, "getter": false, "nobody": false},
		},
		{
			name: "create a role",
			do: func(ctx context.Context, author access.Subject) error {
				return c.Role(ctx, author, role("ns", "mine", getPods), nil)
			},
			want: verdicts{"root,system:masters": true, "nobody": false, "admin": true, "ns-admin": true, "ns-getter": true, "x,getters": true,
				"getter": true, "escalator": true, "one-escalator": false, "ns-binder": false},
		},
		{
			name: "create a role elsewhere",
			do: func(ctx context.Context, author access.Subject) error {
				return c.Role(ctx, author, role("other", "mine", getPods), nil)
			},
			want: verdicts{"admin": true, "getter": true, "ns-admin": false, "ns-getter": false, "x,getters": false},
		},
		{
			name: "update a role",
			do: func(ctx context.Context, author access.Subject) error {
				return c.Role(ctx, author, role("ns", "mine", rule("get,list", "", "pods")), role("ns", "mine", getPods))
			},
			want: verdicts{"ns-admin": true, "ns-getter": false, "one-escalator": true},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.want.check(t, func(author access.Subject) error { return tc.do(t.Context(), author) })
		})
	}
}

func aggregating(name string) *rbacv1.ClusterRole {
	r := clusterRole(name)
	r.AggregationRule = &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{"a": "b"}}}}
	return r
}

func TestChecksOnBindings(t *testing.T) {
	t.Parallel()
	c := access.Checks{Access: authors().authorizer(t)}
	for _, tc := range []struct {
		name string
		do   func(ctx context.Context, author access.Subject) error
		want verdicts
	}{
		{
			name: "everything, everywhere",
			do: func(ctx context.Context, author access.Subject) error {
				return c.ClusterRoleBinding(ctx, author, clusterBind("all", "User:friend"), nil)
			},
			want: verdicts{"root,system:masters": true, "admin": true, "resource-admin": true, "binder": true, "one-binder": true,
				"ns-admin": false, "ns-binder": false, "getter": false, "nobody": false, "escalator": false},
		},
		{
			name: "everything, in a namespace",
			do: func(ctx context.Context, author access.Subject) error {
				return c.RoleBinding(ctx, author, bind("ns", "ClusterRole/all", "User:friend"), nil)
			},
			want: verdicts{"root,system:masters": true, "admin": true, "ns-admin": true, "binder": true, "one-binder": true, "ns-binder": true,
				"ns-getter": false, "nobody": false},
		},
		{
			name: "a role of the namespace",
			do: func(ctx context.Context, author access.Subject) error {
				return c.RoleBinding(ctx, author, bind("ns", "Role/getter", "User:friend"), nil)
			},
			want: verdicts{"ns-getter": true, "getter": true, "ns-binder": true, "one-binder": false, "nobody": false},
		},
		{
			name: "a wide role of the namespace",
			do: func(ctx context.Context, author access.Subject) error {
				return c.RoleBinding(ctx, author, bind("ns", "Role/wide", "User:friend"), bind("ns", "Role/wide"))
			},
			want: verdicts{"ns-admin": true, "ns-getter": false, "ns-binder": true},
		},
		{
			name: "a new subject of an old binding",
			do: func(ctx context.Context, author access.Subject) error {
				return c.ClusterRoleBinding(ctx, author, clusterBind("all", "User:friend"), clusterBind("all"))
			},
			want: verdicts{"admin": true, "getter": false},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.want.check(t, func(author access.Subject) error { return tc.do(t.Context(), author) })
		})
	}
}

func TestChecksOnRolesThatDoNotExist(t *testing.T) {
	t.Parallel()
	c := access.Checks{Access: authors().authorizer(t)}
	for _, tc := range []struct {
		name, author, text string
		binding            *rbacv1.RoleBinding
	}{
		{name: "nobody can hold them", author: "getter", binding: bind("ns", "Role/absent"), text: `roles.rbac.authorization.k8s.io "absent" not found`},
		{name: "nor a cluster role", author: "getter", binding: bind("ns", "ClusterRole/absent"), text: `clusterroles.rbac.authorization.k8s.io "absent" not found`},
		{name: "a role of another namespace is not one of this", author: "getter", binding: bind("other", "Role/wide"), text: `roles.rbac.authorization.k8s.io "wide" not found`},
		{name: "bind is enough", author: "binder", binding: bind("ns", "ClusterRole/absent")},
	} {
		err := c.RoleBinding(t.Context(), user(tc.author), tc.binding, nil)
		if tc.text == "" {
			if err != nil {
				t.Errorf("%s: %v", tc.name, err)
			}
		} else if !apierrors.IsNotFound(err) || err.Error() != tc.text {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	for _, b := range []*rbacv1.RoleBinding{bind("ns", "Secret/x"), bind("ns", "/x")} {
		if err := c.RoleBinding(t.Context(), user("binder"), b, nil); fault.KindOf(err) != fault.Invalid {
			t.Errorf("kind %q: %v", b.RoleRef.Kind, err)
		}
	}
	toRole := clusterBind("getter")
	toRole.RoleRef.Kind = "Role"
	if err := c.ClusterRoleBinding(t.Context(), user("binder"), toRole, nil); fault.KindOf(err) != fault.Invalid {
		t.Errorf("a cluster binding of a role: %v", err)
	}
}

// Garbage collection acts for everybody and may write its own fields; any
// other field beside them brings the check back.
// The cases of TestIsOnlyMutatingGCFields of Kubernetes v1.36.3,
// pkg/registry/rbac, but for an object that becomes nil, and more.
func TestChecksLetGarbageCollectionPass(t *testing.T) {
	t.Parallel()
	c := access.Checks{Access: authors().authorizer(t)}
	for name, change := range map[string]struct {
		do   func(metav1.Object)
		pass bool
	}{
		"finalizers":       {func(o metav1.Object) { o.SetFinalizers(nil) }, true},
		"owner references": {func(o metav1.Object) { o.SetOwnerReferences([]metav1.OwnerReference{{Name: "o"}}) }, true},
		"managed fields":   {func(o metav1.Object) { o.SetManagedFields([]metav1.ManagedFieldsEntry{{Manager: "m"}}) }, true},
		"nothing":          {func(metav1.Object) {}, true},
		"owner references and finalizers": {func(o metav1.Object) {
			o.SetOwnerReferences([]metav1.OwnerReference{{Name: "o"}})
			o.SetFinalizers([]string{"final"})
		}, true},
		"annotations": {func(o metav1.Object) { o.SetAnnotations(map[string]string{"foo": "bar"}) }, false},
		"owner references and annotations": {func(o metav1.Object) {
			o.SetOwnerReferences([]metav1.OwnerReference{{Name: "o"}})
			o.SetAnnotations(map[string]string{"foo": "bar"})
		}, false},
		"owner references and what is granted": {func(o metav1.Object) {
			o.SetOwnerReferences([]metav1.OwnerReference{{Name: "o"}})
			everything := rule("*", "*", "pods,secrets")
			switch o := o.(type) {
			case *rbacv1.Role:
				o.Rules = append(o.Rules, everything)
			case *rbacv1.ClusterRole:
				o.Rules = append(o.Rules, everything)
			case *rbacv1.RoleBinding:
				o.Subjects = append(o.Subjects, rbacv1.Subject{Kind: "User", APIGroup: rbacv1.GroupName, Name: "y"})
			case *rbacv1.ClusterRoleBinding:
				o.Subjects = append(o.Subjects, rbacv1.Subject{Kind: "User", APIGroup: rbacv1.GroupName, Name: "y"})
			}
		}, false},
		"labels": {func(o metav1.Object) { o.SetLabels(map[string]string{"a": "b"}) }, false},
		"labels and finalizers": {func(o metav1.Object) {
			o.SetFinalizers(nil)
			o.SetLabels(map[string]string{"a": "b"})
		}, false},
	} {
		nobody := user("nobody")
		oldRole, oldClusterRole := role("ns", "wide", rule("*", "*", "*")), clusterRole("all", rule("*", "*", "*"))
		oldBinding, oldClusterBinding := bind("ns", "Role/wide", "User:x"), clusterBind("all", "User:x")
		for _, o := range []metav1.Object{oldRole, oldClusterRole, oldBinding, oldClusterBinding} {
			o.SetFinalizers([]string{"example.com/wait"})
		}
		r, cr, b, cb := oldRole.DeepCopy(), oldClusterRole.DeepCopy(), oldBinding.DeepCopy(), oldClusterBinding.DeepCopy()
		for _, o := range []metav1.Object{r, cr, b, cb} {
			change.do(o)
		}
		for kind, err := range map[string]error{
			"role": c.Role(t.Context(), nobody, r, oldRole), "cluster role": c.ClusterRole(t.Context(), nobody, cr, oldClusterRole),
			"role binding": c.RoleBinding(t.Context(), nobody, b, oldBinding), "cluster role binding": c.ClusterRoleBinding(t.Context(), nobody, cb, oldClusterBinding),
		} {
			if (err == nil) != change.pass {
				t.Errorf("%s of a %s: %v", name, kind, err)
			}
		}
	}
}

func TestRefusalListsWhatIsMissing(t *testing.T) {
	t.Parallel()
	w := authors()
	w.roleBindings = append(w.roleBindings, bind("ns", "Role/gone", "Group:getters"))
	c := access.Checks{Access: w.authorizer(t)}
	err := c.Role(t.Context(), user("eve", "getters", "dev"), role("ns", "mine",
		rule("get,list,watch", "", "pods,secrets"), named(rule("update", "apps", "deployments"), "web")), nil)
	want := `user "eve" (groups=["getters" "dev"]) is attempting to grant RBAC permissions not currently held:
{APIGroups:[""], Resources:["pods"], Verbs:["list" "watch"]}
{APIGroups:[""], Resources:["secrets"], Verbs:["get" "list" "watch"]}
{APIGroups:["apps"], Resources:["deployments"], ResourceNames:["web"], Verbs:["update"]}; resolution errors: roles.rbac.authorization.k8s.io "gone" not found`
	if fault.Public(err) != want {
		t.Errorf("got  %s\nwant %s", fault.Public(err), want)
	}
	err = c.ClusterRole(t.Context(), user("getter"), aggregating("mine"), nil)
	if want := "must have cluster-admin privileges to use the aggregationRule"; fault.Public(err) != want {
		t.Errorf("got %s", fault.Public(err))
	}
}

// A role that spells out more single actions than can be compared is refused
// before they are built: 2000⁴ of them would be 16·10¹².
func TestChecksAreBounded(t *testing.T) {
	t.Parallel()
	c := access.Checks{Access: authors().authorizer(t)}
	long := slices.Repeat([]string{"x"}, 2000)
	bomb := rbacv1.PolicyRule{Verbs: long, APIGroups: long, Resources: long, ResourceNames: long}
	urls := rbacv1.PolicyRule{Verbs: long, NonResourceURLs: long}
	for name, r := range map[string]*rbacv1.ClusterRole{
		"one rule": clusterRole("mine", bomb), "urls": clusterRole("mine", urls),
		"many rules": clusterRole("mine", slices.Repeat([]rbacv1.PolicyRule{rule("get", "", strings.Join(long[:500], ","))}, 300)...),
	} {
		if err := c.ClusterRole(t.Context(), user("getter"), r, nil); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v", name, err)
		}
		if err := c.ClusterRole(t.Context(), user("root", "system:masters"), r, nil); err != nil {
			t.Errorf("%s, superuser: %v", name, err)
		}
	}
	empty := clusterRole("mine", rbacv1.PolicyRule{Verbs: long, Resources: long, ResourceNames: long})
	if err := c.ClusterRole(t.Context(), user("nobody"), empty, nil); err != nil {
		t.Errorf("a rule without API groups grants nothing: %v", err)
	}
}

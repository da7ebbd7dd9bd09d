package policy_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	upaudit "k8s.io/apiserver/pkg/apis/audit"
	uppolicy "k8s.io/apiserver/pkg/audit/policy"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/policy"
)

// rules and requests of the upstream case table, by its names.
var rules = map[string]policy.Rule{
	"default":                {Level: "Metadata"},
	"create":                 {Level: "Request", Verbs: []string{"create"}},
	"tims":                   {Level: "Metadata", Users: []string{"tim@k8s.io"}},
	"humans":                 {Level: "Metadata", UserGroups: []string{"humans"}},
	"serviceAccounts":        {Level: "Request", UserGroups: []string{"system:serviceaccounts"}},
	"getPods":                {Level: "RequestResponse", Verbs: []string{"get"}, Resources: res("", "pods")},
	"getPodLogs":             {Level: "Request", Verbs: []string{"get"}, Resources: res("", "pods/log")},
	"getAny":                 {Level: "Request", Verbs: []string{"get"}, Resources: res("", "*")},
	"getAnyLog":              {Level: "Request", Verbs: []string{"get"}, Resources: res("", "*/log")},
	"getPodsAny":             {Level: "Request", Verbs: []string{"get"}, Resources: res("", "pods/*")},
	"getClusterRoles":        {Level: "RequestResponse", Verbs: []string{"get"}, Resources: res("rbac.authorization.k8s.io", "clusterroles"), Namespaces: []string{""}},
	"updateAnyStatus":        {Level: "RequestResponse", Verbs: []string{"update"}, Resources: res("*", "*/status")},
	"getLogs":                {Level: "RequestResponse", Verbs: []string{"get"}, NonResourceURLs: []string{"/logs*"}},
	"getMetrics":             {Level: "Request", Verbs: []string{"get"}, NonResourceURLs: []string{"/metrics"}},
	"clusterRoleEdit":        {Level: "Request", Resources: []policy.GroupResources{{Group: "rbac.authorization.k8s.io", Resources: []string{"clusterroles"}, ResourceNames: []string{"edit"}}}},
	"omitReceived":           {Level: "Request", OmitStages: []audit.Stage{"RequestReceived"}},
	"onlyPanic":              {Level: "Request", OmitStages: []audit.Stage{"RequestReceived", "ResponseStarted", "ResponseComplete"}},
	"keepManaged":            {Level: "Request", OmitManagedFields: new(false)},
	"dropManaged":            {Level: "Request", OmitManagedFields: new(true)},
	"namespaceOnly":          {Level: "Metadata", Namespaces: []string{"default"}},
	"everyPath":              {Level: "Metadata", NonResourceURLs: []string{"*"}},
	"everyGroup":             {Level: "Metadata", Resources: []policy.GroupResources{{Group: "*"}}},
	"nobody":                 {Level: "None", Users: []string{""}},
	"namesOverManyResources": {Level: "Request", Resources: []policy.GroupResources{{Resources: []string{"pods", "pods/log"}, ResourceNames: []string{"other", "busybox"}}}},
}

func res(group, resource string) []policy.GroupResources {
	return []policy.GroupResources{{Group: group, Resources: []string{resource}}}
}

var requests = map[string]policy.Request{
	"namespaced":   tim(policy.Request{Verb: "get", Namespace: "default", Plural: "pods", Name: "busybox", Resource: true, Path: "/api/v1/namespaces/default/pods/busybox"}),
	"cluster":      tim(policy.Request{Verb: "get", APIGroup: "rbac.authorization.k8s.io", Plural: "clusterroles", Name: "edit", Resource: true, Path: "/apis/rbac.authorization.k8s.io/v1beta1/clusterroles/edit"}),
	"nonResource":  tim(policy.Request{Verb: "get", Path: "/logs/kubelet.log"}),
	"subresource":  tim(policy.Request{Verb: "get", Namespace: "default", Plural: "pods", Subresource: "log", Name: "busybox", Resource: true, Path: "/api/v1/namespaces/default/pods/busybox"}),
	"unauthorized": {Verb: "get", Namespace: "default", Plural: "pods", Name: "busybox", Resource: true},
	"roleUpdate":   tim(policy.Request{Verb: "update", APIGroup: "rbac.authorization.k8s.io", Plural: "clusterroles", Subresource: "status", Name: "somerole", Resource: true}),
}

func tim(r policy.Request) policy.Request {
	r.HasUser, r.User, r.Groups = true, "tim@k8s.io", []string{"humans", "developers"}
	return r
}

func file(stages []audit.Stage, names ...string) policy.File {
	f := policy.File{Kind: "Policy", APIVersion: "audit.k8s.io/v1", OmitStages: stages}
	for _, n := range names {
		rule, ok := rules[n]
		if !ok {
			panic(n)
		}
		f.Rules = append(f.Rules, rule)
	}
	return f
}

// TestUpstreamTable is the case table of apiserver/pkg/audit/policy: request,
// rules in order, level; without and with stages omitted by the policy.
func TestUpstreamTable(t *testing.T) {
	t.Parallel()
	const table = `
namespaced   Metadata        default
namespaced   None            create
namespaced   Metadata        tims
namespaced   Metadata        humans
namespaced   None            serviceAccounts
namespaced   RequestResponse getPods
namespaced   None            getClusterRoles
namespaced   None            getLogs
namespaced   None            getMetrics
namespaced   Metadata        getMetrics serviceAccounts default
namespaced   RequestResponse getMetrics getPods default
namespaced   RequestResponse getPodLogs getPods
cluster      Metadata        default
cluster      None            create
cluster      Metadata        tims
cluster      Metadata        humans
cluster      None            serviceAccounts
cluster      None            getPods
cluster      RequestResponse getClusterRoles
cluster      Request         clusterRoleEdit getClusterRoles
cluster      None            getLogs
cluster      None            getMetrics
cluster      Metadata        getMetrics serviceAccounts default
cluster      RequestResponse getMetrics getClusterRoles default
cluster      None            getPodLogs getPods
nonResource  Metadata        default
nonResource  None            create
nonResource  Metadata        tims
nonResource  Metadata        humans
nonResource  None            serviceAccounts
nonResource  None            getPods
nonResource  None            getClusterRoles
nonResource  RequestResponse getLogs
nonResource  None            getMetrics
nonResource  Metadata        getMetrics serviceAccounts default
nonResource  RequestResponse getLogs getClusterRoles default
nonResource  None            getPodLogs getPods
subresource  Request         getPodLogs getPods
subresource  Request         getAny
subresource  Request         getAnyLog
subresource  Request         getPodsAny
unauthorized None            tims
unauthorized Metadata        tims default
unauthorized None            humans
unauthorized Metadata        humans default
roleUpdate   RequestResponse updateAnyStatus`
	for _, stages := range [][]audit.Stage{nil, {"RequestReceived", "ResponseStarted"}} {
		for line := range strings.Lines(strings.TrimSpace(table)) {
			w := strings.Fields(line)
			p, err := policy.New(file(stages, w[2:]...))
			if err != nil {
				t.Fatal(err)
			}
			r := requests[w[0]]
			d := p.Evaluate(&r)
			if string(d.Level) != w[1] || !slices.Equal(d.OmitStages, stages) {
				t.Errorf("%s: got %s, omitting %v", strings.TrimSpace(line), d.Level, d.OmitStages)
			}
		}
	}
}

func TestOmissions(t *testing.T) {
	t.Parallel()
	received := []audit.Stage{"RequestReceived"}
	both := []audit.Stage{"RequestReceived", "ResponseStarted"}
	three := []audit.Stage{"RequestReceived", "ResponseComplete", "ResponseStarted"}
	for _, c := range []struct {
		policy []audit.Stage
		rule   string
		want   []audit.Stage
	}{{nil, "omitReceived", received}, {nil, "onlyPanic", three}, {both, "omitReceived", both}, {both, "onlyPanic", three}, {both, "default", both}} {
		p, err := policy.New(file(c.policy, c.rule, "getPods"))
		if err != nil {
			t.Fatal(err)
		}
		for name, r := range requests {
			got := slices.Clone(p.Evaluate(&r).OmitStages)
			slices.Sort(got)
			if !slices.Equal(got, c.want) {
				t.Errorf("%v %s, %s: omits %v", c.policy, c.rule, name, got)
			}
		}
	}
	for _, c := range []struct {
		global bool
		rule   string
		want   bool
	}{{false, "default", false}, {true, "default", true}, {true, "keepManaged", false}, {false, "dropManaged", true}} {
		f := file(nil, c.rule)
		f.OmitManagedFields = c.global
		p, err := policy.New(f)
		if err != nil {
			t.Fatal(err)
		}
		r := requests["namespaced"]
		if got := p.Evaluate(&r).OmitManagedFields; got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// TestAgainstUpstream compares decisions on random policies and requests.
func TestAgainstUpstream(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(7, 7))
	pick := func(list ...string) []string {
		var out []string
		for _, s := range list {
			if rng.IntN(3) == 0 {
				out = append(out, s)
			}
		}
		return out
	}
	one := func(list ...string) string { return list[rng.IntN(len(list))] }
	stages := func() (out []audit.Stage) {
		for _, s := range pick("RequestReceived", "ResponseStarted", "ResponseComplete", "Panic") {
			out = append(out, audit.Stage(s))
		}
		return out
	}
	levels := map[string]int{}
	for range 3000 {
		f := policy.File{Kind: "Policy", APIVersion: "audit.k8s.io/v1", OmitStages: stages(), OmitManagedFields: rng.IntN(2) == 0}
		for range 1 + rng.IntN(6) {
			r := policy.Rule{Level: audit.Level(one("None", "Metadata", "Request", "RequestResponse")),
				Users: pick("u1", "u2", ""), UserGroups: pick("g1", "g2"), Verbs: pick("get", "create", "update", "watch"), OmitStages: stages()}
			switch rng.IntN(3) {
			case 0:
				r.NonResourceURLs = pick("*", "/logs*", "/metrics", "/", "/a/b*")
			case 1:
				r.Namespaces = pick("", "default", "kube-system")
				for range rng.IntN(3) {
					g := policy.GroupResources{Group: one("", "apps", "*"), Resources: pick("*", "pods", "pods/log", "pods/*", "*/log", "*/*", "deployments")}
					if len(g.Resources) > 0 {
						g.ResourceNames = pick("a", "b")
					}
					r.Resources = append(r.Resources, g)
				}
			}
			if rng.IntN(3) == 0 {
				r.OmitManagedFields = new(rng.IntN(2) == 0)
			}
			f.Rules = append(f.Rules, r)
		}
		ours, err := policy.New(f)
		if err != nil {
			t.Fatal(err)
		}
		theirs := uppolicy.NewPolicyRuleEvaluator(upstream(f))
		for range 60 {
			q := policy.Request{HasUser: rng.IntN(5) > 0, Verb: one("get", "create", "update", "watch", "list")}
			attrs := &authorizer.AttributesRecord{Verb: q.Verb}
			if q.HasUser {
				q.User, q.Groups = one("u1", "u2", "u3", ""), pick("g1", "g2", "g3")
				attrs.User = &user.DefaultInfo{Name: q.User, Groups: q.Groups}
			}
			if q.Resource = rng.IntN(3) > 0; q.Resource {
				q.APIGroup, q.Plural, q.Subresource = one("", "apps", "batch"), one("pods", "deployments", "jobs"), one("", "", "log", "status")
				q.Namespace, q.Name = one("", "default", "kube-system", "x"), one("", "a", "b", "c")
			}
			q.Path = one("/logs/x", "/logs", "/metrics", "/", "/a/b/c", "/a")
			attrs.ResourceRequest, attrs.APIGroup, attrs.Resource, attrs.Subresource = q.Resource, q.APIGroup, q.Plural, q.Subresource
			attrs.Namespace, attrs.Name, attrs.Path = q.Namespace, q.Name, q.Path
			got, want := ours.Evaluate(&q), theirs.EvaluatePolicyRule(attrs)
			if string(got.Level) != string(want.Level) || got.OmitManagedFields != want.OmitManagedFields || stageSet(got.OmitStages) != stageSet(want.OmitStages) {
				t.Fatalf("policy %+v\nrequest %+v\nours %+v\nupstream %+v", f, q, got, want)
			}
			levels[string(got.Level)]++
		}
	}
	if len(levels) != 4 || levels["RequestResponse"] < 1000 {
		t.Fatalf("the comparison did not reach every level: %v", levels)
	}
}

func stageSet[S ~string](list []S) string {
	var out []string
	for _, s := range list {
		out = append(out, string(s))
	}
	slices.Sort(out)
	return fmt.Sprint(slices.Compact(out))
}

func upstream(f policy.File) *upaudit.Policy {
	conv := func(in []audit.Stage) (out []upaudit.Stage) {
		for _, s := range in {
			out = append(out, upaudit.Stage(s))
		}
		return out
	}
	p := &upaudit.Policy{OmitStages: conv(f.OmitStages), OmitManagedFields: f.OmitManagedFields}
	for _, r := range f.Rules {
		u := upaudit.PolicyRule{Level: upaudit.Level(r.Level), Users: r.Users, UserGroups: r.UserGroups, Verbs: r.Verbs, Namespaces: r.Namespaces,
			NonResourceURLs: r.NonResourceURLs, OmitStages: conv(r.OmitStages), OmitManagedFields: r.OmitManagedFields}
		for _, g := range r.Resources {
			u.Resources = append(u.Resources, upaudit.GroupResources(g))
		}
		p.Rules = append(p.Rules, u)
	}
	return p
}

func TestParse(t *testing.T) {
	t.Parallel()
	const head = "apiVersion: audit.k8s.io/v1\nkind: Policy\n"
	if _, err := policy.Parse([]byte(head + `rules:
  - level: None
    nonResourceURLs: ["/healthz*", "/version", "*"]
  - level: RequestResponse
    users: ["tim"]
    userGroups: ["testers", "developers"]
    verbs: ["patch", "delete", "create"]
    resources:
      - group: ""
      - group: "rbac.authorization.k8s.io"
        resources: ["clusterroles", "clusterrolebindings"]
    namespaces: ["default", "kube-system"]
  - level: Metadata
    omitStages: [RequestReceived]
`)); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]struct{ in, want string }{
		"no version or kind":      {"rules: [{level: None}]", "apiVersion"},
		"other version":           {"apiVersion: audit.k8s.io/v1beta1\nkind: Policy\nrules: [{level: None}]", "apiVersion"},
		"other kind":              {"apiVersion: audit.k8s.io/v1\nkind: Event\nrules: [{level: None}]", "kind"},
		"empty":                   {"", "rules"},
		"no rules":                {head, "rules"},
		"unknown field":           {head + "rules:\n- level: None\n  resources:\n  - group: coordination.k8s.io\n    verbs: [watch]", "verbs"},
		"doubled field":           {head + "rules:\n- level: None\n  level: Metadata", "level"},
		"no level":                {head + "rules: [{}]", "rules[0].level: required"},
		"wrong level":             {head + "rules: [{level: FooBar}]", "rules[0].level"},
		"paths and namespaces":    {head + "rules: [{level: None, namespaces: [a], nonResourceURLs: [/x]}]", "rules[0].nonResourceURLs"},
		"paths and resources":     {head + "rules: [{level: None, resources: [{resources: [secrets]}], nonResourceURLs: [/x]}]", "rules[0].nonResourceURLs"},
		"group with version":      {head + "rules: [{level: None, resources: [{group: rbac.authorization.k8s.io/v1beta1}]}]", "rules[0].resources[0].group"},
		"path without slash":      {head + "rules: [{level: None, nonResourceURLs: [logs]}]", "rules[0].nonResourceURLs[0]"},
		"empty path":              {head + `rules: [{level: None, nonResourceURLs: [/a, ""]}]`, "rules[0].nonResourceURLs[1]"},
		"two stars":               {head + `rules: [{level: None, nonResourceURLs: ["/logs/*/*"]}]`, "rules[0].nonResourceURLs[0]"},
		"star inside":             {head + `rules: [{level: None, nonResourceURLs: ["/logs/*.log"]}]`, "rules[0].nonResourceURLs[0]"},
		"names without resources": {head + "rules: [{level: None, resources: [{resourceNames: [leader]}]}]", "rules[0].resources[0].resourceNames"},
		"stage of a rule":         {head + "rules: [{level: None, omitStages: [foo]}]", "rules[0].omitStages[0]"},
		"stage of the policy":     {head + "omitStages: [foo]\nrules: [{level: None}]", "omitStages[0]"},
		"second rule":             {head + "rules: [{level: None}, {}]", "rules[1].level"},
		"too large":               {head + strings.Repeat("#", policy.MaxSize), "bytes"},
	} {
		if _, err := policy.Parse([]byte(c.in)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestChainNeverLowers: whatever is added to the base, each request is recorded
// at least as the base has it.
func TestChainNeverLowers(t *testing.T) {
	t.Parallel()
	names := make([]string, 0, len(rules))
	for n := range rules {
		names = append(names, n)
	}
	slices.Sort(names)
	for i, a := range names {
		for _, b := range names {
			base, err := policy.New(file([]audit.Stage{"RequestReceived"}, a, "getPods"))
			if err != nil {
				t.Fatal(err)
			}
			raise, err := policy.New(file([]audit.Stage{"ResponseComplete"}, b, names[(i+7)%len(names)]))
			if err != nil {
				t.Fatal(err)
			}
			chain := policy.NewChain(base, raise)
			for name, r := range requests {
				before, after, other := base.Evaluate(&r), chain.Evaluate(&r), raise.Evaluate(&r)
				if after.Level.Rank() != max(before.Level.Rank(), other.Level.Rank()) {
					t.Errorf("%s + %s, %s: level %s from %s and %s", a, b, name, after.Level, before.Level, other.Level)
				}
				for _, s := range audit.Stages() {
					if after.Records(s) != (before.Records(s) || other.Records(s)) {
						t.Errorf("%s + %s, %s: stage %s", a, b, name, s)
					}
				}
				if before.Level.Rank() > 0 && !before.OmitManagedFields && after.OmitManagedFields {
					t.Errorf("%s + %s, %s: managedFields lost", a, b, name)
				}
			}
		}
	}
}

func TestDefault(t *testing.T) {
	t.Parallel()
	if (policy.Decision{}).Records(audit.StagePanic) {
		t.Error("the zero decision records")
	}
	for _, c := range []struct {
		r    policy.Request
		want audit.Level
	}{
		{policy.Request{Verb: "get", Path: "/readyz"}, "Metadata"},
		{policy.Request{Verb: "get", Resource: true, Plural: "pods"}, "Metadata"},
		{policy.Request{Verb: "update", Resource: true, Plural: "secrets"}, "Metadata"},
		{policy.Request{Verb: "create", Resource: true, Plural: "serviceaccounts", Subresource: "token"}, "Metadata"},
		{policy.Request{Verb: "create", Resource: true, APIGroup: "authentication.k8s.io", Plural: "tokenreviews"}, "Metadata"},
		{policy.Request{Verb: "create", Resource: true, APIGroup: "authorization.k8s.io", Plural: "subjectaccessreviews"}, "Metadata"},
		{policy.Request{Verb: "create", Resource: true, APIGroup: "rbac.authorization.k8s.io", Plural: "rolebindings"}, "RequestResponse"},
		{policy.Request{Verb: "list", Resource: true, APIGroup: "rbac.authorization.k8s.io", Plural: "rolebindings"}, "Metadata"},
		{policy.Request{Verb: "create", Resource: true, APIGroup: "identity.gatehouse.dev", Plural: "accesskeys"}, "Metadata"},
		{policy.Request{Verb: "create", Resource: true, APIGroup: "access.gatehouse.dev", Plural: "accessreviews"}, "Metadata"},
		{policy.Request{Verb: "create", Resource: true, APIGroup: "access.gatehouse.dev", Plural: "accesspolicies"}, "RequestResponse"},
	} {
		d := policy.Default().Evaluate(&c.r)
		if d.Level != c.want || !d.Records(audit.StageResponseComplete) || !d.Records(audit.StagePanic) || d.Records(audit.StageRequestReceived) {
			t.Errorf("%+v: %+v", c.r, d)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(policy.DefaultFile())
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := policy.Parse(data)
		if err != nil {
			return
		}
		for _, r := range requests {
			p.Evaluate(&r)
		}
	})
}

// TestNarrow holds the narrowed chain against the whole one, over random
// policies.
func TestNarrow(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	pick := func(of ...string) []string {
		var out []string
		for _, s := range of {
			if rnd.IntN(3) == 0 {
				out = append(out, s)
			}
		}
		return out
	}
	random := func() *policy.Policy {
		f := policy.File{Kind: "Policy", APIVersion: audit.APIVersion, Rules: []policy.Rule{{Level: audit.LevelNone, Verbs: []string{"never"}}}}
		if rnd.IntN(2) == 0 {
			f.OmitStages = []audit.Stage{audit.StageResponseComplete}
		}
		for range rnd.IntN(5) {
			r := policy.Rule{
				Level: []audit.Level{audit.LevelNone, audit.LevelMetadata, audit.LevelRequest, audit.LevelRequestResponse}[rnd.IntN(4)],
				Users: pick("jane", "joe"), UserGroups: pick("a", "b"), Verbs: pick("create", "post", "get"),
			}
			switch rnd.IntN(3) {
			case 0:
				r.NonResourceURLs = pick("/sites/*", "/sites/one/audit", "*")
			case 1:
				for _, res := range pick("subjectaccessreviews", "pods", "*") {
					r.Resources = append(r.Resources, policy.GroupResources{Group: "authorization.k8s.io", Resources: []string{res}})
				}
				r.Namespaces = pick("", "lab")
			}
			if rnd.IntN(2) == 0 {
				r.OmitStages = []audit.Stage{audit.StageResponseStarted}
			}
			f.Rules = append(f.Rules, r)
		}
		p, err := policy.New(f)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	recorded := 0
	for range 3000 {
		chain := policy.NewChain(random(), random(), random())
		for _, r := range []policy.Request{{Resource: true, Verb: "create", APIGroup: "authorization.k8s.io", Plural: "subjectaccessreviews"}, {Verb: "post"}, {Verb: "get"}} {
			narrow := chain.Narrow(r)
			for _, user := range []string{"", "jane", "joe", "eve"} {
				for _, groups := range [][]string{nil, {"a"}, {"c", "b"}} {
					for _, path := range []string{"/sites/one/audit", "/sites/two/audit", "/metrics"} {
						r.HasUser, r.User, r.Groups, r.Path = user != "", user, groups, path
						want, got := chain.Evaluate(&r), narrow.Evaluate(user != "", user, groups, path)
						if want.Level != got.Level || !slices.Equal(want.OmitStages, got.OmitStages) || want.OmitManagedFields != got.OmitManagedFields {
							t.Fatalf("%+v: %+v, narrowed %+v", r, want, got)
						}
						if got.Level.Rank() > 0 {
							recorded++
						}
					}
				}
			}
		}
	}
	if recorded == 0 {
		t.Error("nothing was ever recorded")
	}
}

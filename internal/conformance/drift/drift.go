// Package drift compares a Kubernetes cluster with a new installation of the
// same version: which bindings, roles and settings has it that a new one would
// not have? An upgrade only adds to what a cluster starts with, so what older
// versions granted more freely, and what somebody widened since, stays.
//
// It owns the comparison ([Compare]), the baselines of the versions that it
// knows exactly ([BaselineFor]), the reading of dumps ([Read]) and of live
// clusters ([Live]), and the repair of what it found ([Repair]). It refuses to
// judge roles and bindings that administrators made for themselves, but for the
// few that earlier versions and their instructions made; and it changes no
// files: settings are repaired by whoever owns the machine. Start at [Compare].
package drift

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gatehouse-dev/gatehouse/internal/access/rbac"
)

// Cluster is what is known of a cluster.
type Cluster struct {
	// Version is the server's, such as v1.36.3; empty when it is not known.
	Version             string
	ClusterRoles        []rbacv1.ClusterRole
	ClusterRoleBindings []rbacv1.ClusterRoleBinding
	Roles               []rbacv1.Role
	RoleBindings        []rbacv1.RoleBinding
	// Flags are those of each kube-apiserver whose command line is known.
	Flags []Flags
}

// Flags is one command line, and where it stands.
type Flags struct {
	Source string
	Args   []string
}

// Kind says what is wrong.
type Kind string

// The kinds of finding.
const (
	ExtraSubject   Kind = "ExtraSubject"   // in a binding that a new installation has without it
	ExtraRule      Kind = "ExtraRule"      // in such a role
	OtherRole      Kind = "OtherRole"      // such a binding gives another role
	NotReconciled  Kind = "NotReconciled"  // such an object is kept from being reconciled
	LeftOver       Kind = "LeftOver"       // an object that a version before put there
	LegacyBinding  Kind = "LegacyBinding"  // a binding that earlier versions needed or advised
	InsecureFlag   Kind = "InsecureFlag"   // a setting that a new installation does not have
	MissingDefence Kind = "MissingDefence" // one that a new installation has
)

// Finding is one thing that a new installation would not have.
type Finding struct {
	Kind Kind `json:"kind"`
	// Object is KIND/[NAMESPACE/]NAME, or the source of a command line.
	Object string `json:"object"`
	// Detail is the subject, rule or flag.
	Detail string `json:"detail"`
	Why    string `json:"why"`
	// Repair are commands for a shell; for settings, what to do by hand.
	Repair []string `json:"repair"`
	// Manual is set when [Repair] cannot do it.
	Manual bool `json:"manual,omitempty"`

	change change
}

// Report is what was found.
type Report struct {
	Version string `json:"version,omitempty"`
	// Baseline is the version whose new installation was compared with; empty
	// when there is none, and only what is wrong in every version was looked for.
	Baseline string    `json:"baseline,omitempty"`
	Findings []Finding `json:"findings"`
	// Missing are objects and rules that a new installation has and the cluster
	// has not. That makes it no weaker, so it is no finding.
	Missing []string `json:"missing,omitempty"`
	// Notes say what could not be looked at.
	Notes []string `json:"notes,omitempty"`
}

// Compare reports what a new installation would not have. base may be nil.
func Compare(c *Cluster, base *Baseline) Report {
	r := &comparison{report: Report{Version: c.Version, Findings: []Finding{}}, handled: map[string]bool{}}
	if base != nil {
		r.report.Baseline = base.Version
		r.roles(c, base)
		r.bindings(c, base)
	} else {
		r.note("no baseline is known for version %q: only what is wrong in every version was looked for; give a dump of a new installation with --baseline", c.Version)
	}
	r.leftOvers(c, base)
	r.legacy(c)
	if len(c.Flags) == 0 {
		r.note("the command line of kube-apiserver is not visible: give its manifest or flags with --from")
	}
	for _, f := range c.Flags {
		r.flags(f)
	}
	slices.SortStableFunc(r.report.Findings, func(a, b Finding) int {
		return strings.Compare(a.Object+"\x00"+string(a.Kind)+"\x00"+a.Detail, b.Object+"\x00"+string(b.Kind)+"\x00"+b.Detail)
	})
	slices.Sort(r.report.Missing)
	return r.report
}

// comparison is a report in the making.
type comparison struct {
	report  Report
	handled map[string]bool // objects that the baseline has
}

func (r *comparison) note(format string, args ...any) {
	r.report.Notes = append(r.report.Notes, fmt.Sprintf(format, args...))
}

func (r *comparison) missing(object, what string) {
	r.report.Missing = append(r.report.Missing, strings.TrimSuffix(object+": "+what, ": "))
}

// object is what a finding needs of one.
type object struct {
	kind string
	meta *metav1.ObjectMeta
}

func (o object) String() string {
	if o.meta.Namespace != "" {
		return o.kind + "/" + o.meta.Namespace + "/" + o.meta.Name
	}
	return o.kind + "/" + o.meta.Name
}

// words are the object's as kubectl takes them.
func (o object) words() string {
	text := strings.ToLower(o.kind) + " " + quote(o.meta.Name)
	if o.meta.Namespace != "" {
		text += " -n " + quote(o.meta.Namespace)
	}
	return text
}

// add reports a finding that a change repairs.
func (r *comparison) add(kind Kind, o object, detail, why string, fix change) {
	fix.object = o
	r.report.Findings = append(r.report.Findings, Finding{Kind: kind, Object: o.String(), Detail: detail, Why: why, Repair: []string{fix.command()}, change: fix})
}

// reconciled reports an object that is kept from being reconciled.
func (r *comparison) reconciled(o object) {
	if o.meta.Annotations[rbacv1.AutoUpdateAnnotationKey] == "false" {
		r.add(NotReconciled, o, rbacv1.AutoUpdateAnnotationKey+"=false", "an upgrade does not bring this object up to date",
			change{annotate: true})
	}
}

func (r *comparison) roles(c *Cluster, base *Baseline) {
	have := map[string]object{}
	rules := map[string][]rbacv1.PolicyRule{}
	aggregated := map[string]*rbacv1.AggregationRule{}
	for i := range c.ClusterRoles {
		o := object{"ClusterRole", &c.ClusterRoles[i].ObjectMeta}
		have[o.String()], rules[o.String()], aggregated[o.String()] = o, c.ClusterRoles[i].Rules, c.ClusterRoles[i].AggregationRule
	}
	for i := range c.Roles {
		o := object{"Role", &c.Roles[i].ObjectMeta}
		have[o.String()], rules[o.String()] = o, c.Roles[i].Rules
	}
	compare := func(name string, want []rbacv1.PolicyRule, selectors *rbacv1.AggregationRule) {
		o, ok := have[name]
		r.handled[name] = true
		if !ok {
			r.missing(name, "")
			return
		}
		r.reconciled(o)
		if selectors != nil {
			r.aggregated(o, aggregated[name], selectors, rules[name])
			return
		}
		if aggregated[name] != nil {
			r.add(ExtraRule, o, "aggregationRule", "others decide on the rules of this role, which a new installation fixes", change{rules: want, aggregation: true})
			return
		}
		for _, extra := range rbac.PolicyRules(rbac.Compact(rbac.Rules(rbac.Missing(want, rules[name])))) {
			r.add(ExtraRule, o, rbac.Words(rbac.Rules([]rbacv1.PolicyRule{extra})[0]), "a new installation does not give this to holders of the role", change{rules: want})
		}
		for _, lack := range rbac.PolicyRules(rbac.Compact(rbac.Rules(rbac.Missing(rules[name], want)))) {
			r.missing(name, rbac.Words(rbac.Rules([]rbacv1.PolicyRule{lack})[0]))
		}
	}
	for i := range base.ClusterRoles {
		w := &base.ClusterRoles[i]
		compare(object{"ClusterRole", &w.ObjectMeta}.String(), w.Rules, w.AggregationRule)
	}
	for i := range base.Roles {
		w := &base.Roles[i]
		compare(object{"Role", &w.ObjectMeta}.String(), w.Rules, nil)
	}
}

// aggregated compares the selectors of an aggregated role: its rules are what
// those select, which administrators and operators add to on purpose.
func (r *comparison) aggregated(o object, have, want *rbacv1.AggregationRule, rules []rbacv1.PolicyRule) {
	fix := change{aggregation: true, selectors: want}
	if have == nil {
		if len(rules) > 0 {
			r.add(ExtraRule, o, "no aggregationRule", "the rules of this role are fixed, where a new installation collects them by label", fix)
		} else {
			r.missing(o.String(), "aggregationRule")
		}
		return
	}
	for _, s := range have.ClusterRoleSelectors {
		if !slices.ContainsFunc(want.ClusterRoleSelectors, func(x metav1.LabelSelector) bool { return equality.Semantic.DeepEqual(x, s) }) {
			r.add(ExtraRule, o, "aggregationRule "+metav1.FormatLabelSelector(&s), "a new installation does not collect rules by this label", fix)
		}
	}
}

func (r *comparison) bindings(c *Cluster, base *Baseline) {
	type binding struct {
		object
		ref      rbacv1.RoleRef
		subjects []rbacv1.Subject
	}
	have := map[string]binding{}
	for i := range c.ClusterRoleBindings {
		b := &c.ClusterRoleBindings[i]
		o := object{"ClusterRoleBinding", &b.ObjectMeta}
		have[o.String()] = binding{o, b.RoleRef, b.Subjects}
	}
	for i := range c.RoleBindings {
		b := &c.RoleBindings[i]
		o := object{"RoleBinding", &b.ObjectMeta}
		have[o.String()] = binding{o, b.RoleRef, b.Subjects}
	}
	compare := func(name string, ref rbacv1.RoleRef, subjects []rbacv1.Subject) {
		r.handled[name] = true
		b, ok := have[name]
		if !ok {
			r.missing(name, "")
			return
		}
		r.reconciled(b.object)
		if b.ref.Kind != ref.Kind || b.ref.Name != ref.Name {
			r.add(OtherRole, b.object, b.ref.Kind+"/"+b.ref.Name, "a new installation gives "+ref.Kind+"/"+ref.Name+" by this binding", change{remove: true, recreate: true})
			return
		}
		for _, s := range b.subjects {
			if !slices.ContainsFunc(subjects, func(x rbacv1.Subject) bool { return sameSubject(x, s) }) {
				r.add(ExtraSubject, b.object, subjectWords(s), "a new installation does not give "+ref.Kind+"/"+ref.Name+" to this subject", change{subjects: kept(b.subjects, subjects), setSubjects: true})
			}
		}
		for _, s := range subjects {
			if !slices.ContainsFunc(b.subjects, func(x rbacv1.Subject) bool { return sameSubject(x, s) }) {
				r.missing(name, subjectWords(s))
			}
		}
	}
	for i := range base.ClusterRoleBindings {
		w := &base.ClusterRoleBindings[i]
		compare(object{"ClusterRoleBinding", &w.ObjectMeta}.String(), w.RoleRef, w.Subjects)
	}
	for i := range base.RoleBindings {
		w := &base.RoleBindings[i]
		compare(object{"RoleBinding", &w.ObjectMeta}.String(), w.RoleRef, w.Subjects)
	}
}

// kept are the subjects of have that want has too.
func kept(have, want []rbacv1.Subject) []rbacv1.Subject {
	out := []rbacv1.Subject{}
	for _, s := range have {
		if slices.ContainsFunc(want, func(x rbacv1.Subject) bool { return sameSubject(x, s) }) {
			out = append(out, s)
		}
	}
	return out
}

// sameSubject compares what counts: the group of a subject's kind follows from
// the kind.
func sameSubject(a, b rbacv1.Subject) bool {
	return a.Kind == b.Kind && a.Name == b.Name && a.Namespace == b.Namespace
}

func subjectWords(s rbacv1.Subject) string {
	if s.Namespace != "" {
		return s.Kind + "/" + s.Namespace + "/" + s.Name
	}
	return s.Kind + "/" + s.Name
}

// quote makes a word safe for a shell.
func quote(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_./:=@", r)
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func jsonText(v any) string {
	b, err := json.Marshal(v)
	if err != nil { // of rules and subjects, which are strings
		return "null"
	}
	return string(b)
}

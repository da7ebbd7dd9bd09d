// Package grantstatus says in the status of access policies and delegations what
// the control plane makes of them: whether they are in force, and why not.
//
// It owns the conditions and their words, and finds out which status has
// changed. It refuses to decide and to write: what it says is read from the
// engine, and [Tracker.Take] hands the changes to whoever writes them. Start at
// [New].
package grantstatus

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access/held"
	"github.com/gatehouse-dev/gatehouse/internal/access/rbac"
)

// The types of conditions.
const (
	Compiled   = "Compiled"
	RolesFound = "RolesFound"
	InForce    = "InForce"
)

// Config is what a tracker reads.
type Config struct {
	// Snapshot is the policy as it decides now.
	Snapshot func() *authz.Snapshot
	// RoleRules returns the rules of a ClusterRole.
	RoleRules func(name string) ([]authz.Rule, bool)
	// CheckCondition says what is wrong with a condition.
	CheckCondition func(effect accessv1alpha1.Effect, expression string) error
	Now            func() time.Time
}

// Tracker holds the objects. It is safe for concurrent use.
type Tracker struct {
	Config
	Policies    *held.Objects[*accessv1alpha1.AccessPolicy]
	Delegations *held.Objects[*accessv1alpha1.Delegation]

	mu     sync.Mutex // guards the rest; held by Take
	number uint64
	next   time.Time // when something begins or ends
	left   bool      // changes that did not fit into the last answer
}

// New returns a tracker of nothing.
func New(c Config) *Tracker {
	return &Tracker{Config: c, Policies: held.New[*accessv1alpha1.AccessPolicy](), Delegations: held.New[*accessv1alpha1.Delegation]()}
}

// Changes are statuses to write, by the name of the object.
type Changes struct {
	Policies    map[string]accessv1alpha1.AccessPolicyStatus
	Delegations map[string]accessv1alpha1.DelegationStatus
}

// most is how many changes one answer holds; the others come with the next.
const most = 100

// Take returns the statuses that are not as they should be. It costs nothing
// while policy has not changed and nothing has begun or ended.
func (t *Tracker) Take() Changes {
	t.mu.Lock()
	defer t.mu.Unlock()
	snapshot, now := t.Snapshot(), t.Now()
	out := Changes{map[string]accessv1alpha1.AccessPolicyStatus{}, map[string]accessv1alpha1.DelegationStatus{}}
	if snapshot.Number() == t.number && !t.left && (t.next.IsZero() || now.Before(t.next)) {
		return out
	}
	t.number, t.next, t.left = snapshot.Number(), time.Time{}, false
	for _, p := range t.Policies.Sorted() {
		t.until(p.Spec.NotBefore, now)
		t.until(p.Spec.NotAfter, now)
		status := *p.Status.DeepCopy()
		t.policy(snapshot, p, &status, now)
		if t.changed(&out, !equality.Semantic.DeepEqual(status, p.Status)) {
			out.Policies[p.Name] = status
		}
	}
	for _, d := range t.Delegations.Sorted() {
		t.until(d.Spec.NotBefore, now)
		t.until(&d.Spec.NotAfter, now)
		status := *d.Status.DeepCopy()
		delegation(snapshot, d, &status, now)
		if t.changed(&out, !equality.Semantic.DeepEqual(status, d.Status)) {
			out.Delegations[d.Name] = status
		}
	}
	return out
}

// Again makes the next Take look at everything: a change was not written.
func (t *Tracker) Again() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.left = true
}

func (t *Tracker) changed(out *Changes, is bool) bool {
	if is && len(out.Policies)+len(out.Delegations) == most {
		t.left = true
		return false
	}
	return is
}

func (t *Tracker) until(at *metav1.Time, now time.Time) {
	if at != nil && at.After(now) && (t.next.IsZero() || at.Time.Before(t.next)) {
		t.next = at.Time
	}
}

func (t *Tracker) policy(snapshot *authz.Snapshot, p *accessv1alpha1.AccessPolicy, status *accessv1alpha1.AccessPolicyStatus, now time.Time) {
	status.ObservedGeneration = p.Generation
	rules, missing := len(p.Spec.Rules), []string(nil)
	for _, name := range p.Spec.Roles {
		list, ok := t.RoleRules(name)
		if !ok {
			missing = append(missing, name)
		}
		rules += len(list)
	}
	status.Rules, status.MatchedSubjects = int32(rules), 0
	if compiled, ok := snapshot.Policy(p.Name); ok {
		for i := range compiled.Subjects {
			if !compiled.Subjects[i].SitesOwn {
				status.MatchedSubjects++
			}
		}
	}
	set := func(kind string, ok bool, reason, message string) {
		condition(&status.Conditions, p.Generation, now, kind, ok, reason, message)
	}
	if len(missing) > 0 {
		set(RolesFound, false, "RoleNotFound", "these ClusterRoles do not exist: "+strings.Join(missing, ", "))
	} else {
		set(RolesFound, true, "Found", "")
	}
	err := error(nil)
	if p.Spec.Condition != "" {
		err = t.CheckCondition(p.Spec.Effect, p.Spec.Condition)
	}
	switch {
	case p.Spec.Condition == "":
		set(Compiled, true, "NoCondition", "")
	case err != nil:
		set(Compiled, false, "DoesNotCompile", err.Error())
	default:
		set(Compiled, true, "Compiled", "")
	}
	switch {
	case p.Spec.NotBefore != nil && now.Before(p.Spec.NotBefore.Time):
		set(InForce, false, "NotYet", "it begins at "+p.Spec.NotBefore.UTC().Format(time.RFC3339))
	case p.Spec.NotAfter != nil && !now.Before(p.Spec.NotAfter.Time):
		set(InForce, false, "Ended", "it ended at "+p.Spec.NotAfter.UTC().Format(time.RFC3339))
	case status.MatchedSubjects == 0:
		set(InForce, false, "NobodyMatches", "its subjects stand for nobody now")
	case rules == 0:
		set(InForce, false, "NoRules", "it has no rules while its roles do not exist")
	case err != nil && p.Spec.Effect != accessv1alpha1.EffectDeny:
		set(InForce, false, "DoesNotCompile", "an allow whose condition cannot be evaluated grants nothing")
	default:
		set(InForce, true, "InForce", "")
	}
}

// words say why a delegation gives nothing.
var words = map[authz.Validity]struct{ reason, message string }{
	authz.Absent:  {"GiverGone", "the account of the giver is gone"},
	authz.NotYet:  {"NotYet", "it, or one that it rests on, has not begun"},
	authz.Ended:   {"Ended", "it, or one that it rests on, has ended"},
	authz.Broken:  {"ParentGone", "a delegation that it rests on is gone, or may not be handed on"},
	authz.Refused: {"GiverBanned", "a giver in the chain is banned"},
	authz.Lacking: {"GiverLacks", "a giver in the chain does not hold all of it any more:\n"},
}

func delegation(snapshot *authz.Snapshot, d *accessv1alpha1.Delegation, status *accessv1alpha1.DelegationStatus, now time.Time) {
	v, chain, missing := snapshot.Inspect(d.Name, now)
	status.Chain = chain
	if v == authz.Held {
		condition(&status.Conditions, d.Generation, now, InForce, true, "Held", "")
		return
	}
	w := words[v]
	if len(missing) > 0 {
		w.message += rbac.DescribeAll(missing)
	}
	condition(&status.Conditions, d.Generation, now, InForce, false, w.reason, w.message)
}

// maxMessage is what the API allows in a condition.
const maxMessage = 32 << 10

func condition(to *[]metav1.Condition, generation int64, now time.Time, kind string, ok bool, reason, message string) {
	c := metav1.Condition{Type: kind, Status: metav1.ConditionFalse, ObservedGeneration: generation, Reason: reason, Message: message, LastTransitionTime: metav1.Time{Time: now.Truncate(time.Second)}}
	if ok {
		c.Status = metav1.ConditionTrue
	}
	if len(c.Message) > maxMessage {
		c.Message = fmt.Sprintf("%s …", c.Message[:maxMessage-len(" …")])
	}
	meta.SetStatusCondition(to, c)
}

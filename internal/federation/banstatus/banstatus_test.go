package banstatus

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	federationv1alpha1 "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
)

var noon = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

func site(name string, mode federationv1alpha1.SiteMode, failure federationv1alpha1.SiteFailurePolicy) *federationv1alpha1.Site {
	return &federationv1alpha1.Site{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: federationv1alpha1.SiteSpec{Mode: mode, FailurePolicy: failure}}
}

func ban(name string, sites ...string) *accessv1alpha1.Ban {
	return &accessv1alpha1.Ban{ObjectMeta: metav1.ObjectMeta{Name: name, UID: "1"}, Spec: accessv1alpha1.BanSpec{CredentialID: "JTI=1", Sites: sites}}
}

// render writes reports as ban: site[@seconds after noon][(limits)].
func render(reports []Report) string {
	var lines []string
	for _, r := range reports {
		line := r.Name + ":"
		for _, s := range r.Status.Sites {
			line += " " + s.Name
			if s.Acknowledged != nil {
				line += fmt.Sprintf("@%d", int(s.Acknowledged.Sub(noon).Seconds()))
			}
			for _, p := range s.NotHeardFrom {
				line += "!" + p.Name
			}
			line += "(" + strings.Join(s.Limits, ",") + ")"
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func TestTracker(t *testing.T) {
	t.Parallel()
	now := noon
	tr := New(func() time.Time { return now })
	expect := func(step, want string) {
		t.Helper()
		if got := render(tr.Take()); got != want {
			t.Errorf("%s:\n got %s\nwant %s", step, got, want)
		}
	}
	const open, closed = "(OpenStreamsLiveOn,OpenWithoutControlPlane,SiteMastersNeverAsk)", "(OpenStreamsLiveOn,SiteMastersNeverAsk)"
	Sites{tr}.Replace([]*federationv1alpha1.Site{
		site("blue", federationv1alpha1.SiteDeny, federationv1alpha1.SiteFailureNoOpinion),
		site("bright", federationv1alpha1.SiteFull, federationv1alpha1.SiteFailureDeny),
		site("green", federationv1alpha1.SiteObserve, federationv1alpha1.SiteFailureNoOpinion),
	})
	tr.Heard("blue", DenyDoor, noon) // of no use to a later ban
	Bans{tr}.Replace([]*accessv1alpha1.Ban{ban("all"), ban("b", "b*"), ban("here", "gatehouse")})
	expect("nobody was heard", "all: blue"+open+" bright"+closed+" green(ObserveMode)\nb: blue"+open+" bright"+closed)
	tr.Heard("blue", DenyDoor, noon.Add(-time.Second)) // a question from before
	tr.Heard("bright", "authenticate", noon.Add(time.Second))
	expect("other doors and earlier questions", "all: blue"+open+" bright"+closed+" green(ObserveMode)\nb: blue"+open+" bright"+closed)
	tr.Heard("blue", DenyDoor, noon.Add(2*time.Second))
	tr.Heard("blue", DenyDoor, noon.Add(3*time.Second))
	expect("the first question counts", "all: blue@2"+open+" bright"+closed+" green(ObserveMode)\nb: blue@2"+open+" bright"+closed)

	// What was written comes back through the watch and is not written again.
	for _, r := range tr.Take() {
		b := ban(r.Name)
		if r.Name == "b" {
			b = ban("b", "b*")
		}
		r.Merge(&b.Status)
		Bans{tr}.Put(b)
	}
	expect("written", "")
	Sites{tr}.Delete(site("green", "", ""))
	expect("a site is gone", "all: blue@2"+open+" bright"+closed)
	Bans{tr}.Delete(ban("all"))
	expect("a ban is gone", "")

	// A ban of the same name is another ban.
	now = noon.Add(time.Minute)
	again := ban("b", "blue")
	again.UID = "2"
	Bans{tr}.Put(again)
	tr.Heard("blue", DenyDoor, noon.Add(50*time.Second))
	expect("a new ban", "b: blue"+open)

	// Keys and sites.
	key := &accessv1alpha1.Ban{ObjectMeta: metav1.ObjectMeta{Name: "k"}, Spec: accessv1alpha1.BanSpec{IssuerKey: "x"}}
	siteBan := &accessv1alpha1.Ban{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Spec: accessv1alpha1.BanSpec{Subject: &accessv1alpha1.BanSubject{Kind: "Site", Name: "blue"}}}
	Bans{tr}.Replace([]*accessv1alpha1.Ban{key, siteBan})
	expect("a key and a site", "k: blue(OpenStreamsLiveOn,OpenWithoutControlPlane,SiteMastersNeverAsk,VerifiedTokensRemembered) bright(OpenStreamsLiveOn,SiteMastersNeverAsk,VerifiedTokensRemembered)")
}

func TestMergeKeepsWhatWasHeardFirst(t *testing.T) {
	t.Parallel()
	at := func(s int) *metav1.Time { return &metav1.Time{Time: noon.Add(time.Duration(s) * time.Second)} }
	status := accessv1alpha1.BanStatus{Sites: []accessv1alpha1.BanSite{{Name: "a", Acknowledged: at(1)}, {Name: "b", Acknowledged: at(9)}, {Name: "gone", Acknowledged: at(1)}}}
	Report{Name: "x", Status: accessv1alpha1.BanStatus{Sites: []accessv1alpha1.BanSite{{Name: "a"}, {Name: "b", Acknowledged: at(5)}, {Name: "c", Acknowledged: at(7)}}}}.Merge(&status)
	if got := render([]Report{{Name: "x", Status: status}}); got != "x: a@1() b@5() c@7()" {
		t.Errorf("got %s", got)
	}
}

// written is a tracker whose reports are written, and come back by the watch, as
// the control plane does it once a second.
type written struct {
	*Tracker
	bans map[string]*accessv1alpha1.Ban
}

func (w *written) put(b *accessv1alpha1.Ban) {
	w.bans[b.Name] = b
	Bans{w.Tracker}.Put(b)
}

func (w *written) write() {
	for _, r := range w.Take() {
		b := w.bans[r.Name].DeepCopy()
		r.Merge(&b.Status)
		w.put(b)
	}
}

// TestDecisionPointsThatAreNotHeard has decision points come and go.
func TestDecisionPointsThatAreNotHeard(t *testing.T) {
	t.Parallel()
	now := noon
	clock := func() time.Time { return now }
	var here map[string][]Follower
	w := &written{New(clock), map[string]*accessv1alpha1.Ban{}}
	w.Follow(24*time.Hour, func() map[string][]Follower { return here })
	blue := site("blue", federationv1alpha1.SiteFull, federationv1alpha1.SiteFailureDeny)
	Sites{w.Tracker}.Put(blue)
	expect := func(step, want string) {
		t.Helper()
		w.write()
		if len(w.Take()) > 0 {
			t.Errorf("%s: what was written is written again", step)
		}
		if got := strings.ReplaceAll(render([]Report{{Name: "b", Status: w.bans["b"].Status}}), "(OpenStreamsLiveOn,SiteMastersNeverAsk)", ""); got != want {
			t.Errorf("%s: %s, want %s", step, got, want)
		}
	}
	at := func(s int) time.Time { return noon.Add(time.Duration(s) * time.Second) }
	// Two of them follow; e2 is cut off before the ban.
	e1 := Follower{Name: "e1", Connected: true, Policy: at(-5), Told: at(-5), LastHeard: at(-5)}
	e2 := Follower{Name: "e2", Policy: at(-300), Told: at(-298), LastHeard: at(-300)}
	here = map[string][]Follower{"blue": {e1, e2}}
	b := ban("b", "blue")
	b.Generation, b.CreationTimestamp = 1, metav1.NewTime(noon)
	w.put(b)
	expect("a ban", "b: blue!e2")
	now = at(1)
	e1.Policy, e1.Told, e1.LastHeard = at(1), at(1), at(1)
	here["blue"] = []Follower{e1, e2}
	w.Heard("blue", DenyDoor, at(1))
	expect("one of two has it", "b: blue!e2")
	if p := w.bans["b"].Status.Sites[0].NotHeardFrom[0]; !p.LastHeard.Time.Equal(at(-300)) || p.DecidesUntil.Before(&metav1.Time{Time: at(-298 + 86400)}) {
		t.Errorf("%+v", p)
	}
	// It is back.
	now = at(20)
	e2 = Follower{Name: "e2", Connected: true, Policy: at(20), Told: at(20), LastHeard: at(20)}
	here["blue"] = []Follower{e1, e2}
	expect("both have it", "b: blue@20")
	// What has the ban and leaves goes on deciding by it.
	e2.Connected = false
	here["blue"] = []Follower{e1, e2}
	now = at(7200)
	expect("one leaves with it", "b: blue@20")

	// A replica that begins later knows the ban from before, and what the status
	// of the site says.
	now = at(8000)
	fresh := &written{New(clock), map[string]*accessv1alpha1.Ban{}}
	fresh.Follow(24*time.Hour, nil)
	told := blue.DeepCopy()
	told.Status.Followers = []federationv1alpha1.SiteFollower{{Name: "e1", PolicyTime: &metav1.Time{Time: at(7000)}, LastHeard: &metav1.Time{Time: at(7000)}}}
	Sites{fresh.Tracker}.Put(told)
	fresh.put(w.bans["b"].DeepCopy())
	w = fresh
	expect("another replica", "b: blue@20")
	// It learns of one that the others had not heard of: not in force after all.
	told = told.DeepCopy()
	told.Status.Followers = append(told.Status.Followers, federationv1alpha1.SiteFollower{Name: "e0", PolicyTime: &metav1.Time{Time: at(-60)}, LastHeard: &metav1.Time{Time: at(-60)}})
	Sites{w.Tracker}.Put(told)
	expect("one more", "b: blue!e0")
	// A replica that knows nothing of it keeps what stands there, until its
	// policy has ended.
	other := New(clock)
	other.Follow(24*time.Hour, nil)
	Sites{other}.Put(blue)
	Bans{other}.Put(w.bans["b"].DeepCopy())
	if got := other.Take(); len(got) > 0 {
		t.Errorf("changed by who knows nothing: %s", render(got))
	}
	now = at(86400 + 600)
	w.Heard("blue", DenyDoor, now)
	expect("the policy of e0 has ended", fmt.Sprintf("b: blue@%d", 86400+600))
}

// TestBriefSilenceIsNoSilence: a beat may pass before a decision point says that
// it has a ban, and half a minute before another replica writes so.
func TestBriefSilenceIsNoSilence(t *testing.T) {
	t.Parallel()
	now := noon
	w := &written{New(func() time.Time { return now }), map[string]*accessv1alpha1.Ban{}}
	w.Follow(24*time.Hour, nil)
	s := site("blue", federationv1alpha1.SiteFull, federationv1alpha1.SiteFailureDeny)
	s.Status.Followers = []federationv1alpha1.SiteFollower{{Name: "e1", PolicyTime: &metav1.Time{Time: noon.Add(-20 * time.Second)}, LastHeard: &metav1.Time{Time: noon.Add(-20 * time.Second)}}}
	Sites{w.Tracker}.Put(s)
	w.put(ban("b", "blue"))
	now = noon.Add(time.Second)
	w.Heard("blue", DenyDoor, now)
	w.write()
	if got := w.bans["b"].Status.Sites[0]; got.Acknowledged != nil || len(got.NotHeardFrom) > 0 {
		t.Errorf("at once: %+v", got)
	}
	now = noon.Add(patience)
	w.write()
	if got := w.bans["b"].Status.Sites[0]; got.Acknowledged != nil || len(got.NotHeardFrom) != 1 {
		t.Errorf("later: %+v", got)
	}
}

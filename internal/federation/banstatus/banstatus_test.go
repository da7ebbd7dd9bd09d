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
		Merge(&b.Status, r.Status)
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
	Merge(&status, accessv1alpha1.BanStatus{Sites: []accessv1alpha1.BanSite{{Name: "a"}, {Name: "b", Acknowledged: at(5)}, {Name: "c", Acknowledged: at(7)}}})
	if got := render([]Report{{"x", status}}); got != "x: a@1() b@5() c@7()" {
		t.Errorf("got %s", got)
	}
}

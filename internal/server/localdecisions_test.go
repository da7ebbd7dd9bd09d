package server

import (
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	federationapi "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/federation/policystream"
)

func TestSetFollowers(t *testing.T) {
	t.Parallel()
	now := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	at := func(ago time.Duration) *metav1.Time { return &metav1.Time{Time: now.Add(-ago)} }
	status := federationapi.SiteStatus{Followers: []federationapi.SiteFollower{
		{Name: "gone", Sequence: 1, LastHeard: at(25 * time.Hour)},
		{Name: "here", Sequence: 2, LastHeard: at(time.Minute)},
		{Name: "moved", Sequence: 9, LastHeard: at(time.Second)},
		{Name: "there", Sequence: 3, LastHeard: at(time.Minute)},
	}}
	setFollowers(&status, []policystream.State{
		{Name: "here", Sequence: 5, Acknowledged: now, Issued: now.Add(-time.Second)},
		{Name: "moved", Sequence: 4, Acknowledged: now.Add(-time.Hour)}, // another replica heard it since
		{Name: "silent", Since: now},
	}, now)
	var got []string
	for _, f := range status.Followers {
		got = append(got, fmt.Sprint(f.Name, " ", f.Sequence))
	}
	if want := "[here 5 moved 9 there 3]"; fmt.Sprint(got) != want {
		t.Errorf("%v, want %s", got, want)
	}
	if f := status.Followers[0]; !f.LastHeard.Time.Equal(now) || !f.PolicyTime.Time.Equal(now.Add(-time.Second)) {
		t.Errorf("%+v", f)
	}
	var many []policystream.State
	for i := range 2 * maxFollowers {
		many = append(many, policystream.State{Name: fmt.Sprint("f", i), Sequence: 1, Acknowledged: now})
	}
	if setFollowers(&status, many, now); len(status.Followers) != maxFollowers {
		t.Errorf("%d followers", len(status.Followers))
	}
}

package server

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	federationapi "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/authn/jws"
	"github.com/gatehouse-dev/gatehouse/internal/federation/policystream"
	"github.com/gatehouse-dev/gatehouse/internal/issuer"
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
	}, 24*time.Hour, now)
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
	if setFollowers(&status, many, 24*time.Hour, now); len(status.Followers) != maxFollowers {
		t.Errorf("%d followers", len(status.Followers))
	}
}

// TestTokenIssuers leaves out banned keys, and nothing else.
func TestTokenIssuers(t *testing.T) {
	t.Parallel()
	now := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	iss, err := issuer.New(issuer.Config{URL: "https://gatehouse.example", Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	bans := authn.NewBans()
	issuers := tokenIssuers(iss, bans, clock, slog.New(slog.DiscardHandler))
	if got := issuers(); len(got) != 0 {
		t.Errorf("without keys: %v", got)
	}
	var ids []string
	var pair [2]*ecdsa.PrivateKey
	for i := range pair {
		if pair[i], err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
		id, err := jws.KeyID(pair[i].Public())
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if err := iss.SetKeys(issuer.Keys{Signing: pair[0], Published: []crypto.PublicKey{pair[1].Public()}}); err != nil {
		t.Fatal(err)
	}
	check := func(when string, want ...string) {
		t.Helper()
		got := issuers()
		if len(got) != 1 || got[0].URL != iss.URL() {
			t.Fatalf("%s: %v", when, got)
		}
		keys, err := jws.ParseKeySet([]byte(got[0].KeySet))
		if err != nil {
			t.Fatal(err)
		}
		var have []string
		for _, k := range keys {
			have = append(have, k.ID())
		}
		if !slices.Equal(have, want) {
			t.Errorf("%s: keys %v, want %v", when, have, want)
		}
	}
	check("at first", ids...)
	if err := bans.Replace([]authn.Ban{{Name: "one", IssuerKey: ids[0], Until: now.Add(time.Hour)}}); err != nil {
		t.Fatal(err)
	}
	check("one is banned", ids[1])
	if err := bans.Replace([]authn.Ban{{Name: "one", IssuerKey: ids[0]}, {Name: "two", IssuerKey: ids[1]}}); err != nil {
		t.Fatal(err)
	}
	check("both are banned")
	if err := bans.Replace([]authn.Ban{{Name: "one", IssuerKey: ids[0], Until: now}}); err != nil {
		t.Fatal(err)
	}
	check("the ban has ended", ids...)
}

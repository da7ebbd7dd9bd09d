//go:build !race

// Under the race detector pools drop what they are given at random.

package access_test

import (
	"testing"

	"github.com/gatehouse-dev/gatehouse/internal/access"
)

// A door asks thousands of times a second: no answer may cost garbage.
func TestDecisionsAllocateNothing(t *testing.T) {
	a := federation(t).authorizer(t)
	q := ask("get core/pods prod/x")
	spec := sar("alice", []string{"dev", "system:authenticated"}, "get core/pods prod/x")
	robot := sar("gatehouse:system:serviceaccount:prod:deployer",
		[]string{"gatehouse:system:serviceaccounts", "gatehouse:system:serviceaccounts:prod", "system:authenticated"}, "get core/pods prod/x")
	for name, decide := range map[string]func() (access.Decision, error){
		"allowed":   func() (access.Decision, error) { return a.Decide(t.Context(), user("alice", "dev"), q) },
		"refused":   func() (access.Decision, error) { return a.Decide(t.Context(), user("eve", "other"), q) },
		"superuser": func() (access.Decision, error) { return a.Decide(t.Context(), user("root", "system:masters"), q) },
		"for a site": func() (access.Decision, error) {
			return a.DecideForSite(t.Context(), access.SiteView{Name: "shared"}, spec)
		},
		"for a robot": func() (access.Decision, error) {
			return a.DecideForSite(t.Context(), access.SiteView{Name: "shared"}, robot)
		},
	} {
		subjectsOnly := 0.0
		if name != "for a site" && name != "for a robot" {
			subjectsOnly = 1 // the list of groups that the test itself makes
		}
		if n := testing.AllocsPerRun(200, func() {
			if _, err := decide(); err != nil {
				t.Fatal(err)
			}
		}); n > subjectsOnly {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

package server

import (
	"errors"
	"slices"
	"testing"

	accessapi "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// A delegation ends with the credential that wrote it, whoever it was written as.
func TestDelegationNamesWhatWroteIt(t *testing.T) {
	t.Parallel()
	stolen := []string{"JTI=stolen;exp=1;kid=k", "X509SHA256=first"}
	said := map[string][]string{authn.ExtraCredentialID: {"JTI=stolen"}, authn.ExtraOrigin: stolen[1:]}
	for name, tc := range map[string]struct {
		extra      map[string][]string
		from       string
		credential string
		origins    []string
	}{
		"as oneself":        {said, "", "JTI=stolen", []string{"X509SHA256=first"}},
		"impersonating":     {nil, "", "", []string{"JTI=stolen", "X509SHA256=first"}},
		"with forged extra": {map[string][]string{authn.ExtraCredentialID: {"JTI=other"}}, "", "JTI=other", []string{"JTI=stolen", "X509SHA256=first"}},
		"on behalf":         {said, "bob", "JTI=stolen", []string{"X509SHA256=first"}},
	} {
		by := resource.Caller{Name: "ada", Extra: tc.extra, Made: func() ([]string, error) { return stolen, nil }}
		d := &accessapi.Delegation{Spec: accessapi.DelegationSpec{From: accessapi.DelegationGiver{User: tc.from, Origins: []string{"JTI=forged"}}}}
		handover{}.fill(by, d)
		if from := d.Spec.From; from.CredentialID != tc.credential || !slices.Equal(from.Origins, tc.origins) {
			t.Errorf("%s: credential %q, origins %q", name, from.CredentialID, from.Origins)
		}
	}
	full := errors.New("the line is full")
	by := resource.Caller{Name: "ada", Made: func() ([]string, error) { return nil, full }}
	if err := (handover{checks: access.Checks{}}).check(t.Context(), by, &accessapi.Delegation{}); !errors.Is(err, full) {
		t.Errorf("a credential that can make nothing: %v", err)
	}
}

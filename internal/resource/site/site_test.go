package site

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	federationv1alpha1 "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

func good() *federationv1alpha1.Site {
	s := &federationv1alpha1.Site{Spec: federationv1alpha1.SiteSpec{Kind: federationv1alpha1.SiteKubernetes, OwnerNamespace: "payments"}}
	setDefaults(s)
	return s
}

// TestBounds fills every list to its limit, and then puts one more in.
func TestBounds(t *testing.T) {
	t.Parallel()
	fingerprint := func(i int) string { return fmt.Sprintf("%s%064x", certificateID, i) }
	for name, c := range map[string]struct {
		limit int
		fill  func(s *federationv1alpha1.Site, i int)
		check func(s *federationv1alpha1.Site) field.ErrorList
	}{
		"spec.namespaceMap": {maxNamespaces, func(s *federationv1alpha1.Site, i int) {
			if s.Spec.NamespaceMap == nil {
				s.Spec.NamespaceMap = map[string]string{}
			}
			s.Spec.NamespaceMap[fmt.Sprint(i)] = "payments"
		}, validate},
		"spec.credentials": {maxCredentials, func(s *federationv1alpha1.Site, i int) {
			s.Spec.Credentials = append(s.Spec.Credentials, fingerprint(i))
		}, validate},
		"status.conditions": {maxConditions, func(s *federationv1alpha1.Site, i int) {
			s.Status.Conditions = append(s.Status.Conditions, metav1.Condition{
				Type: fmt.Sprintf("C%d", i), Status: metav1.ConditionTrue, Reason: "R", LastTransitionTime: metav1.NewTime(time.Unix(1, 0)),
			})
		}, func(s *federationv1alpha1.Site) field.ErrorList { return validateStatus(s, nil) }},
		"status.limits": {maxLimits, func(s *federationv1alpha1.Site, i int) {
			s.Status.Limits = append(s.Status.Limits, federationv1alpha1.SiteLimit{Reason: fmt.Sprintf("L%d", i)})
		}, func(s *federationv1alpha1.Site) field.ErrorList { return validateStatus(s, nil) }},
	} {
		s := good()
		for i := range c.limit {
			c.fill(s, i)
		}
		if errs := c.check(s); len(errs) > 0 {
			t.Errorf("%s at its limit: %v", name, errs[0])
		}
		c.fill(s, c.limit)
		if errs := c.check(s); len(errs) != 1 || errs[0].Field != name || errs[0].Type != field.ErrorTypeTooMany {
			t.Errorf("%s above its limit: %v", name, errs)
		}
	}
}

func TestCredentialIsCheckedBeforeItIsIssued(t *testing.T) {
	t.Parallel()
	refusal := errors.New("no")
	asked := 0
	action := New(func(_ context.Context, caller resource.Caller, s *federationv1alpha1.Site, _ *federationv1alpha1.SiteCredential, dryRun bool) error {
		asked++
		if caller.Name != "jane" || s.Name != "cluster-1" || !dryRun {
			t.Errorf("issue for %s to %s, dry run %t", s.Name, caller.Name, dryRun)
		}
		return refusal
	}, nil).(*resource.Stored).Actions[0]
	s := good()
	s.Name = "cluster-1"
	do := func(request []byte, seconds *int64) error {
		in := &federationv1alpha1.SiteCredential{}
		in.Spec.Request, in.Spec.ExpirationSeconds = request, seconds
		_, err := action.Do(t.Context(), resource.Caller{Name: "jane"}, s, in, true)
		return err
	}
	seconds := func(n int64) *int64 { return &n }
	for name, err := range map[string]error{
		"no request":        do(nil, nil),
		"a request too big": do([]byte(strings.Repeat("x", maxRequest+1)), nil),
		"too short a life":  do([]byte("x"), seconds(minExpiration-1)),
		"too long a life":   do([]byte("x"), seconds(maxExpiration+1)),
	} {
		if !apierrors.IsInvalid(err) || asked != 0 {
			t.Errorf("%s: %v, asked %d times", name, err, asked)
		}
	}
	if err := do([]byte("x"), seconds(minExpiration)); !errors.Is(err, refusal) || asked != 1 {
		t.Errorf("a good request: %v, asked %d times", err, asked)
	}
}

func TestKeyRotationIsCheckedBeforeItIsDone(t *testing.T) {
	t.Parallel()
	asked := 0
	action := New(nil, func(_ context.Context, caller resource.Caller, s *federationv1alpha1.Site, in *federationv1alpha1.SiteKeyRotation, _ bool) error {
		asked++
		if caller.Name != "jane" || s.Name != "cluster-1" {
			t.Errorf("rotation at %s for %s", s.Name, caller.Name)
		}
		in.Status.KeyID = "k"
		return nil
	}).(*resource.Stored).Actions[1]
	s := good()
	s.Name = "cluster-1"
	for lead, valid := range map[int64]bool{-1: false, 0: true, maxLead: true, maxLead + 1: false} {
		asked = 0
		in := &federationv1alpha1.SiteKeyRotation{Spec: federationv1alpha1.SiteKeyRotationSpec{LeadSeconds: &lead}}
		_, err := action.Do(t.Context(), resource.Caller{Name: "jane"}, s, in, false)
		if valid && (err != nil || asked != 1 || in.Status.KeyID != "k") || !valid && (!apierrors.IsInvalid(err) || asked != 0) {
			t.Errorf("lead %d: %v, asked %d times", lead, err, asked)
		}
	}
}

func TestLastHeardIsTheLatestDoor(t *testing.T) {
	t.Parallel()
	ago := func(d time.Duration) *metav1.Time {
		at := metav1.NewTime(time.Now().Add(-d))
		return &at
	}
	s := good()
	if got := lastHeard(s); got != "<never>" {
		t.Errorf("lastHeard = %s", got)
	}
	s.Status.Doors = []federationv1alpha1.SiteDoor{{Name: "audit"}, {Name: "authorize", LastHeard: ago(9 * time.Hour)}, {Name: "authenticate", LastHeard: ago(3 * time.Hour)}}
	if got := lastHeard(s); got != "3h" {
		t.Errorf("lastHeard = %s", got)
	}
}

package auditsource

import (
	"context"
	"errors"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	auditapi "github.com/gatehouse-dev/gatehouse/api/audit/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

func TestCredentialIsCheckedBeforeItIsIssued(t *testing.T) {
	t.Parallel()
	refusal := errors.New("no")
	asked := 0
	action := New(func(_ context.Context, caller resource.Caller, s *auditapi.AuditSource, _ *auditapi.AuditSourceCredential, dryRun bool) error {
		asked++
		if caller.Name != "jane" || s.Name != "web-1" || !dryRun {
			t.Errorf("issue for %s to %s, dry run %t", s.Name, caller.Name, dryRun)
		}
		return refusal
	}).(*resource.Stored).Actions[0]
	do := func(kind auditapi.AuditSourceKind, request string, seconds int64) error {
		s := &auditapi.AuditSource{Spec: auditapi.AuditSourceSpec{Site: "blue", Kind: kind}}
		s.Name = "web-1"
		in := &auditapi.AuditSourceCredential{}
		in.Spec.Request, in.Spec.ExpirationSeconds = []byte(request), &seconds
		_, err := action.Do(t.Context(), resource.Caller{Name: "jane"}, s, in, true)
		return err
	}
	for name, err := range map[string]error{
		"no request":        do(auditapi.AuditSourceJournal, "", minExpiration),
		"a request too big": do(auditapi.AuditSourceJournal, strings.Repeat("x", maxRequest+1), minExpiration),
		"too short a life":  do(auditapi.AuditSourceJournal, "x", minExpiration-1),
		"too long a life":   do(auditapi.AuditSourceJournal, "x", maxExpiration+1),
		"for a cluster":     do(auditapi.AuditSourceKubernetes, "x", minExpiration),
	} {
		if !apierrors.IsInvalid(err) || asked != 0 {
			t.Errorf("%s: %v, asked %d times", name, err, asked)
		}
	}
	if err := do(auditapi.AuditSourceSyslog, "x", minExpiration); !errors.Is(err, refusal) || asked != 1 {
		t.Errorf("a good request: %v, asked %d times", err, asked)
	}
}

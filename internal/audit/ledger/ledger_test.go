package ledger_test

import (
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/ledger"
)

// testKey is fixed, so that failures repeat.
var testKey = ed25519.NewKeyFromSeed([]byte("0123456789abcdef0123456789abcdef"))

func testConfig() ledger.Config {
	return ledger.Config{ID: "r1", Origin: "gatehouse.test/audit/r1", Key: testKey, Logger: slog.New(slog.DiscardHandler), BootID: "boot-1"}
}

func sample(n int) *audit.Event {
	at := audit.MicroTime{Time: time.Date(2026, 11, 22, 10, 0, 0, n*1000, time.UTC)}
	return &audit.Event{
		Level: audit.LevelMetadata, AuditID: fmt.Sprintf("7f0f2a34-0000-4000-8000-%012x", n), Stage: audit.StageResponseComplete,
		RequestURI: fmt.Sprintf("/api/v1/namespaces/team-%d/configmaps/settings-%d?timeout=10s", n%50, n%1000), Verb: "get",
		User: audit.UserInfo{
			Username: fmt.Sprintf("system:serviceaccount:team-%d:worker", n%50), UID: "0b4fcf6c-8d3a-4a7c-9a0c-1c2b8a9f4d11",
			Groups: []string{"system:serviceaccounts", fmt.Sprintf("system:serviceaccounts:team-%d", n%50), "system:authenticated"},
			Extra:  map[string][]string{"authentication.kubernetes.io/credential-id": {"JTI=6f1c2d8e-1111-4222-8333-444455556666"}},
		},
		SourceIPs: []string{"10.20.30.40"}, UserAgent: "worker/v1.2.3 (linux/amd64) kubernetes/abcdef0",
		ObjectRef:      &audit.ObjectReference{Resource: "configmaps", Namespace: fmt.Sprintf("team-%d", n%50), Name: fmt.Sprintf("settings-%d", n%1000), APIVersion: "v1"},
		ResponseStatus: &audit.Status{Code: 200}, RequestReceivedTimestamp: at, StageTimestamp: at,
		Annotations: map[string]string{
			"authorization.k8s.io/decision": "allow",
			"authorization.k8s.io/reason":   fmt.Sprintf(`RBAC: allowed by RoleBinding "worker/team-%d" of Role "reader" to ServiceAccount "worker/team-%d"`, n%50, n%50),
		},
	}
}

func mustOpen(t *testing.T, dir string, cfg ledger.Config) *ledger.Log {
	t.Helper()
	l, err := ledger.Open(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestAppendAndReopen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := testConfig()
	cfg.SegmentRecords = 512
	for round := range 3 {
		l := mustOpen(t, dir, cfg)
		if got := l.Stats().Size; got != uint64(round*700) {
			t.Fatalf("round %d: %d records", round, got)
		}
		for i := range 700 {
			d := audit.Buffered
			if i%100 == 0 {
				d = audit.Durable
			}
			if err := l.Append(t.Context(), sample(i), d); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if s := l.Stats(); s.Signed != uint64((round+1)*700) {
			t.Fatalf("round %d: %d records signed", round, s.Signed)
		}
	}
}

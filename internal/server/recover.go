package server

import (
	"context"
	"fmt"
	"log/slog"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/ledger"
	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/config"
	"github.com/gatehouse-dev/gatehouse/internal/issuer"
	"github.com/gatehouse-dev/gatehouse/internal/keys"
	"github.com/gatehouse-dev/gatehouse/internal/kubeconfig"
	"github.com/gatehouse-dev/gatehouse/internal/pki"
)

// recoveryValidity is how long a recovered administrator may act: long enough
// to repair policy, too short to become a habit.
const recoveryValidity = 24 * time.Hour

// recoveredPrefix begins the names of recovered administrators; what they do is
// marked as break-glass.
const recoveredPrefix = "gatehouse-recovery-"

// annotationLifted lists the objects that a recovery deleted.
const annotationLifted = "recovery.gatehouse.dev/lifted"

// RecoverOptions are what the recovery of administrators needs.
type RecoverOptions struct {
	Config config.Config
	// Reason is recorded; it is required.
	Reason string
	// Out is the kubeconfig to write.
	Out   string
	Log   *slog.Logger
	Fatal func(reason string)
}

// Recover gives whoever holds the data directory and its root key a new
// administrator, when no other can get in any more. It works on a stopped
// server only, needs no network, and is recorded before anything is written.
// Bans and denying policies that would bind the new administrator are deleted.
// It returns the name of the administrator and what was deleted.
func Recover(ctx context.Context, o RecoverOptions) (name string, lifted []string, err error) {
	now := time.Now
	st, err := openState(ctx, o.Config, now, o.Log, o.Fatal)
	if err != nil {
		return "", nil, err
	}
	defer st.close()
	trust, err := openTrust(ctx, st.vault, now)
	if err != nil {
		return "", nil, err
	}
	checkpoints, err := keys.Ensure[keys.Checkpoints](ctx, st.vault)
	if err != nil {
		return "", nil, err
	}
	name = recoveredPrefix + now().UTC().Format("20060102-150405")
	key, err := pki.NewLeafKey()
	if err != nil {
		return "", nil, fmt.Errorf("recover: %w", err)
	}
	prepared, err := pki.PrepareAdmin(pki.Client{User: name, Groups: []string{"system:masters"}, Public: key.Public(), Validity: recoveryValidity})
	if err != nil {
		return "", nil, fmt.Errorf("recover: %w", err)
	}
	cert, err := trust.client.Issue(prepared)
	if err != nil {
		return "", nil, fmt.Errorf("recover: %w", err)
	}
	ca, err := trust.serving.BundlePEM()
	if err != nil {
		return "", nil, fmt.Errorf("recover: %w", err)
	}
	private, err := key.PEM()
	if err != nil {
		return "", nil, fmt.Errorf("recover: %w", err)
	}

	record, err := ledger.Open(filepath.Join(st.dir, "audit"), ledger.Config{
		ID: st.replica, Origin: originOf(st.replica), Key: checkpoints.Set().Signer(now()), Logger: o.Log,
	})
	if err != nil {
		return "", nil, fmt.Errorf("open audit log: %w", err)
	}
	found, err := hindrances(ctx, st.client, access.Subject{Name: name, Groups: []string{access.SuperuserGroup, "system:authenticated"}}, o.Log)
	if err != nil {
		record.Close()
		return "", nil, fmt.Errorf("recover: %w", err)
	}
	for _, h := range found {
		lifted = append(lifted, h.String())
	}
	if err := record.Append(ctx, recovery(o.Reason, name, authn.CertificateID(cert), lifted, now()), audit.Durable); err != nil {
		record.Close()
		return "", nil, fmt.Errorf("record the recovery: %w", err)
	}
	if err := record.Close(); err != nil {
		return "", nil, fmt.Errorf("record the recovery: %w", err)
	}
	if err := lift(ctx, st.client, found); err != nil {
		return "", nil, fmt.Errorf("recover: %w", err)
	}
	return name, lifted, kubeconfig.Write(o.Out, kubeconfig.Config{
		Cluster: "gatehouse", User: name, Server: serverURL(o.Config, st.dir), CA: ca,
		Certificate: pki.CertificatePEM(cert), Key: private,
	})
}

// recovery is the event: who ran the command on which machine, and why.
func recovery(reason, name, credential string, lifted []string, at time.Time) *audit.Event {
	who := "unknown"
	if u, err := user.Current(); err == nil {
		who = u.Username
	}
	ev := &audit.Event{
		Level: audit.LevelMetadata, AuditID: uuid.NewString(), Stage: audit.StageResponseComplete,
		Verb: "recover", RequestURI: "gatehouse admin recover",
		User:                     audit.UserInfo{Username: "os:" + who},
		ObjectRef:                &audit.ObjectReference{Resource: "administrators", APIGroup: "identity.gatehouse.dev", Name: name},
		RequestReceivedTimestamp: audit.MicroTime{Time: at},
		StageTimestamp:           audit.MicroTime{Time: at},
		Annotations: map[string]string{
			audit.AnnotationBreakGlass:        reason,
			audit.AnnotationDecision:          "allow",
			audit.AnnotationReason:            "held the data directory and its root key",
			issuer.AnnotationIssuedCredential: credential,
		},
	}
	if len(lifted) > 0 {
		ev.Annotate(annotationLifted, strings.Join(lifted, " "))
	}
	return ev
}

// originOf names a replica's log on its checkpoints.
func originOf(replica string) string { return "gatehouse/" + replica }

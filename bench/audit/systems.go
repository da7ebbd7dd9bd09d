package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	authnv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	upaudit "k8s.io/apiserver/pkg/apis/audit"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	upstreamaudit "k8s.io/apiserver/pkg/audit"
	logplugin "k8s.io/apiserver/plugin/pkg/audit/log"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/checkpoint"
	"github.com/gatehouse-dev/gatehouse/internal/audit/ledger"
)

func systems() []system {
	return []system{
		{"gatehouse, synced and in the tree", openOurs},
		{"k8s log backend, not synced", openUpstream},
		{"Tessera POSIX, integrated", openTessera},
	}
}

// newID returns a random UUID: half of what a compressor cannot remove.
func newID() string {
	var b [16]byte
	rand.Read(b[:])
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// ids are drawn once, so that the measurement is not of crypto/rand; writers
// vary them.
func ids(writers int) [][]byte {
	out := make([][]byte, writers)
	for i := range out {
		out[i] = []byte(newID())
	}
	return out
}

const hexDigits = "0123456789abcdef"

// vary makes the id of the nth event of writer w, as random as a UUID: what
// repeats in ids would flatter the compression.
func vary(id []byte, w, n int) string {
	seed := uint64(n)<<20 | uint64(w)
	at := 0
	for word := range uint64(2) {
		h := (seed + word*0x632BE59BD9B4E019 + 1) * 0x9E3779B97F4A7C15
		h ^= h >> 29
		h *= 0xBF58476D1CE4E5B9
		h ^= h >> 32
		for range 16 {
			for id[at] == '-' {
				at++
			}
			id[at] = hexDigits[h&15]
			h >>= 4
			at++
		}
	}
	return string(id)
}

// event is shaped like what kube-apiserver writes for a read.
func event(w int) *audit.Event {
	ns := fmt.Sprintf("team-%d", w%50)
	return &audit.Event{
		Level: audit.LevelMetadata, AuditID: newID(), Stage: audit.StageResponseComplete,
		RequestURI: "/api/v1/namespaces/" + ns + "/configmaps/settings?timeout=10s", Verb: "get",
		User: audit.UserInfo{
			Username: "system:serviceaccount:" + ns + ":worker", UID: newID(),
			Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + ns, "system:authenticated"},
			Extra:  map[string][]string{"authentication.kubernetes.io/credential-id": {"JTI=" + newID()}},
		},
		SourceIPs: []string{fmt.Sprintf("10.20.30.%d", w%250)}, UserAgent: "worker/v1.2.3 (linux/amd64) kubernetes/abcdef0",
		ObjectRef:      &audit.ObjectReference{Resource: "configmaps", Namespace: ns, Name: "settings", APIVersion: "v1"},
		ResponseStatus: &audit.Status{Code: 200},
		Annotations: map[string]string{
			"authorization.k8s.io/decision": "allow",
			"authorization.k8s.io/reason":   `RBAC: allowed by RoleBinding "worker/` + ns + `" of Role "reader" to ServiceAccount "worker/` + ns + `"`,
		},
	}
}

func stamp(e *audit.Event) {
	now := time.Now()
	e.RequestReceivedTimestamp.Time, e.StageTimestamp.Time = now.Add(-time.Millisecond), now
}

func eventSize() int {
	e := event(1)
	stamp(e)
	return len(e.AppendJSON(nil))
}

func openOurs(dir string, writers int) (func(int, int) error, func(int) (float64, error), error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	l, err := ledger.Open(dir, ledger.Config{ID: "bench", Origin: "bench.example/audit", Key: key, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, nil, err
	}
	events, id := make([]*audit.Event, writers), ids(writers)
	for w := range events {
		events[w] = event(w)
	}
	ctx := context.Background()
	record := func(w, n int) error {
		e := events[w]
		e.AuditID = vary(id[w], w, n)
		stamp(e)
		return l.Append(ctx, e, audit.Durable)
	}
	end := func(int) (float64, error) {
		if err := l.Close(); err != nil {
			return 0, err
		}
		names, err := filepath.Glob(filepath.Join(dir, "*.seg"))
		if err != nil || len(names) == 0 {
			return 0, err
		}
		var size int64
		for _, n := range names {
			st, err := os.Stat(n)
			if err != nil {
				return 0, err
			}
			size += st.Size()
		}
		return float64(size) / float64(len(names)) / 65536, nil
	}
	return record, end, nil
}

func openUpstream(dir string, writers int) (func(int, int) error, func(int) (float64, error), error) {
	f, err := os.OpenFile(filepath.Join(dir, "audit.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, err
	}
	backend := logBackend(f)
	events, id := make([]*upaudit.Event, writers), ids(writers)
	for w := range events {
		events[w] = upstream(event(w))
	}
	record := func(w, n int) error {
		e := events[w]
		e.AuditID = types.UID(vary(id[w], w, n))
		now := time.Now()
		e.RequestReceivedTimestamp, e.StageTimestamp = metav1.NewMicroTime(now.Add(-time.Millisecond)), metav1.NewMicroTime(now)
		if !backend.ProcessEvents(e) {
			return fmt.Errorf("event refused")
		}
		return nil
	}
	return record, func(int) (float64, error) { return 0, f.Close() }, nil
}

// upstream is the same event in upstream's type.
func upstream(e *audit.Event) *upaudit.Event {
	u := &upaudit.Event{
		Level: upaudit.Level(e.Level), Stage: upaudit.Stage(e.Stage), RequestURI: e.RequestURI, Verb: e.Verb,
		User:      authnv1.UserInfo{Username: e.User.Username, UID: e.User.UID, Groups: e.User.Groups, Extra: map[string]authnv1.ExtraValue{}},
		SourceIPs: e.SourceIPs, UserAgent: e.UserAgent, ResponseStatus: &metav1.Status{Code: e.ResponseStatus.Code}, Annotations: e.Annotations,
		ObjectRef: &upaudit.ObjectReference{Resource: e.ObjectRef.Resource, Namespace: e.ObjectRef.Namespace, Name: e.ObjectRef.Name, APIVersion: e.ObjectRef.APIVersion},
	}
	for k, v := range e.User.Extra {
		u.User.Extra[k] = v
	}
	return u
}

func logBackend(w io.Writer) upstreamaudit.Backend {
	return logplugin.NewBackend(w, logplugin.FormatJson, auditv1.SchemeGroupVersion)
}

// sameEvent makes sure that the log backend writes what we write.
func sameEvent() error {
	e := event(1)
	stamp(e)
	u := upstream(e)
	u.AuditID = types.UID(e.AuditID)
	u.RequestReceivedTimestamp, u.StageTimestamp = metav1.NewMicroTime(e.RequestReceivedTimestamp.Time), metav1.NewMicroTime(e.StageTimestamp.Time)
	var line bytes.Buffer
	if !logBackend(&line).ProcessEvents(u) {
		return errors.New("the log backend refused the event")
	}
	var ours, theirs any
	if err := json.Unmarshal(e.AppendJSON(nil), &ours); err != nil {
		return err
	}
	if err := json.Unmarshal(line.Bytes(), &theirs); err != nil {
		return err
	}
	if !reflect.DeepEqual(ours, theirs) {
		return fmt.Errorf("the log backend records another event:\n%s%s", line.Bytes(), e.AppendJSON(nil))
	}
	return nil
}

func openTessera(dir string, writers int) (func(int, int) error, func(int) (float64, error), error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	signer, err := checkpoint.NewSigner("bench.example/tessera", key)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	driver, err := posix.New(ctx, posix.Config{Path: dir})
	if err != nil {
		cancel()
		return nil, nil, err
	}
	// The settings with which it did best in trials: large batches when many
	// write, a short age when few do.
	opts := tessera.NewAppendOptions().WithCheckpointSigner(signer).WithCheckpointInterval(time.Second).
		WithBatching(uint(max(writers, 256)), 10*time.Millisecond).WithPushback(1 << 16)
	appender, shutdown, _, err := tessera.NewAppender(ctx, driver, opts)
	if err != nil {
		cancel()
		return nil, nil, err
	}
	events, id := make([]*audit.Event, writers), ids(writers)
	for w := range events {
		events[w] = event(w)
	}
	record := func(w, n int) error {
		e := events[w]
		e.AuditID = vary(id[w], w, n)
		stamp(e)
		_, err := appender.Add(ctx, tessera.NewEntry(e.AppendJSON(nil)))()
		return err
	}
	end := func(int) (float64, error) {
		defer cancel()
		return 0, shutdown(ctx)
	}
	return record, end, nil
}

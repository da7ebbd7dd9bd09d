package audit_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"sigs.k8s.io/randfill"
)

// TestWireCompatible round-trips random upstream events through our type and
// back: nothing may be lost or changed.
func TestWireCompatible(t *testing.T) {
	t.Parallel()
	fill := randfill.NewWithSeed(42).NilChance(0.3).NumElements(0, 3).Funcs(
		func(u *runtime.Unknown, c randfill.Continue) {
			*u = runtime.Unknown{Raw: []byte(`{"a":"b","n":[1,2.50,true,null]}`), ContentType: runtime.ContentTypeJSON}
		},
		func(m *metav1.MicroTime, c randfill.Continue) {
			m.Time = time.Unix(int64(c.Uint32()), int64(c.Uint32()%1e6)*1000).UTC()
		},
		func(s *metav1.Status, c randfill.Continue) {
			*s = metav1.Status{Status: c.String(10), Message: c.String(30), Reason: "Forbidden", Code: c.Int31()%600 + 1,
				Details: &metav1.StatusDetails{Name: c.String(4), Kind: "pods"}}
		},
	)
	for i := range 3000 {
		var in auditv1.Event
		fill.Fill(&in)
		in.TypeMeta = metav1.TypeMeta{Kind: "Event", APIVersion: "audit.k8s.io/v1"}
		wire, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		ours, err := audit.Decode(wire)
		if err != nil {
			t.Fatalf("%d: %v\n%s", i, err, wire)
		}
		back := ours.AppendJSON(nil)
		if strings.ContainsAny(string(back), "\n\r\u2028\u2029") {
			t.Fatalf("%d: more than one line: %s", i, back)
		}
		// Through maps, upstream's omissions and ours must agree exactly.
		var want, got map[string]any
		if err := json.Unmarshal(wire, &want); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(back, &got); err != nil {
			t.Fatalf("%d: %v\n%s", i, err, back)
		}
		if !reflect.DeepEqual(want, got) {
			t.Fatalf("%d:\nupstream %s\nours     %s", i, wire, back)
		}
		var up auditv1.Event
		if err := json.Unmarshal(back, &up); err != nil {
			t.Fatalf("%d: upstream refuses: %v\n%s", i, err, back)
		}
		id, stage, ok := audit.Identify(back)
		if plain := !strings.ContainsAny(string(mustJSON(t, in.AuditID)), `\`); plain && string(in.Stage) == stage && (!ok || id != string(in.AuditID)) {
			t.Fatalf("%d: identified as %q %q %v", i, id, stage, ok)
		}
	}
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDecodeList(t *testing.T) {
	t.Parallel()
	good := `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[{"level":"Metadata","auditID":"a","stage":"Panic","unknown":1}]}`
	list, err := audit.DecodeList([]byte(good))
	if err != nil || len(list.Items) != 1 || list.Items[0].AuditID != "a" {
		t.Fatalf("%+v %v", list, err)
	}
	for name, body := range map[string]string{
		"kind":      `{"kind":"Event","apiVersion":"audit.k8s.io/v1","items":[]}`,
		"version":   `{"kind":"EventList","apiVersion":"audit.k8s.io/v1beta1","items":[]}`,
		"truncated": good[:len(good)-5],
		"trailing":  good + good,
		"type":      `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[{"auditID":5}]}`,
		"time":      `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[{"stageTimestamp":"yesterday"}]}`,
		"empty":     ``,
		"null":      `null`,
		"many":      `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[` + strings.Repeat("{},", audit.MaxBatchEvents) + `{}]}`,
	} {
		if _, err := audit.DecodeList([]byte(body)); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestForeign(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	e := audit.Event{Annotations: map[string]string{audit.AnnotationBreakGlass: "forged", "authorization.k8s.io/decision": "allow"}}
	e.StageTimestamp.Time = now.Add(2 * time.Hour)
	e.Foreign(now)
	want := map[string]string{"claimed-by-sender." + audit.AnnotationBreakGlass: "forged", "authorization.k8s.io/decision": "allow", audit.AnnotationClockSkew: "2h0m0s"}
	if !reflect.DeepEqual(e.Annotations, want) {
		t.Fatal(e.Annotations)
	}
}

func TestDurabilityOf(t *testing.T) {
	t.Parallel()
	sar := &audit.ObjectReference{APIGroup: "authorization.k8s.io", Resource: "subjectaccessreviews"}
	token := &audit.ObjectReference{Resource: "serviceaccounts", Subresource: "token"}
	for name, c := range map[string]struct {
		e       audit.Event
		want    audit.Durability
		changes bool
	}{
		"read":          {audit.Event{Verb: "get"}, audit.Buffered, false},
		"denied read":   {audit.Event{Verb: "get", Annotations: map[string]string{audit.AnnotationDecision: "forbid"}}, audit.Durable, false},
		"401":           {audit.Event{Verb: "list", ResponseStatus: &audit.Status{Code: 401}}, audit.Durable, false},
		"review":        {audit.Event{Verb: "create", ObjectRef: sar}, audit.Buffered, false},
		"denied review": {audit.Event{Verb: "create", ObjectRef: sar, Annotations: map[string]string{audit.AnnotationDecision: "forbid"}}, audit.Durable, false},
		"token":         {audit.Event{Verb: "create", ObjectRef: token}, audit.Durable, true},
		"change":        {audit.Event{Verb: "patch", ObjectRef: &audit.ObjectReference{Resource: "pods"}}, audit.Durable, true},
		"unknown verb":  {audit.Event{Verb: "frobnicate"}, audit.Durable, false},
		"panic":         {audit.Event{Verb: "get", Stage: audit.StagePanic}, audit.Durable, false},
	} {
		if got := audit.DurabilityOf(&c.e); got != c.want {
			t.Errorf("%s: durability %d", name, got)
		}
		if got := audit.Changes(&c.e); got != c.changes {
			t.Errorf("%s: changes %v", name, got)
		}
	}
	e := &audit.Event{Verb: "create", Stage: audit.StageResponseComplete, ResponseStatus: &audit.Status{Code: 201}}
	if i := audit.Intent(e); i.Stage != audit.StageRequestReceived || i.ResponseStatus != nil || i.Annotations[audit.AnnotationIntent] != "true" || e.Annotations != nil {
		t.Errorf("intent %+v of %+v", i, e)
	}
}

func TestFitWorstCases(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 50_000)
	groups := make([]string, 5_000)
	extra, annotations := map[string][]string{}, map[string]string{audit.AnnotationDecision: "forbid"}
	for i := range groups {
		groups[i] = long[:200]
		extra[strings.Repeat("k", i%500)+long[:8]] = groups[:20]
		annotations[strings.Repeat("k", 600)+string(rune('a'+i%26))+strings.Repeat("z", i%300)] = "\x00\x01" + long[:1000]
	}
	e := &audit.Event{
		Level: audit.LevelRequestResponse, AuditID: "a", Stage: audit.StagePanic, RequestURI: long, Verb: long, UserAgent: strings.Repeat("\x01", 40_000),
		User: audit.UserInfo{Username: long, UID: long, Groups: groups, Extra: extra}, ImpersonatedUser: &audit.UserInfo{Username: long, Groups: groups, Extra: extra},
		SourceIPs: groups, ObjectRef: &audit.ObjectReference{Resource: long, Name: long}, ResponseStatus: &audit.Status{Message: long, Code: 500},
		RequestObject: []byte(`"` + long + `"`), ResponseObject: []byte(`"` + long + `"`), Annotations: annotations,
	}
	out, err := e.Fit(e.AppendJSON(nil))
	if err != nil {
		t.Fatal(err)
	}
	if len(out) > audit.MaxEventBytes || !json.Valid(out) {
		t.Fatalf("%d bytes, valid %v", len(out), json.Valid(out))
	}
	if e.Annotations[audit.AnnotationTruncated] != "true" || e.Annotations[audit.AnnotationDecision] != "forbid" {
		t.Error("the marks or the decision were pushed out")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"a","stage":"Panic","responseObject":{"kind":"Secret","apiVersion":"v1","data":{"a":"b"}}}`))
	r, err := audit.NewRedactor()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := audit.Decode(b)
		if err != nil {
			return
		}
		r.Redact(e)
		out, err := e.Fit(e.AppendJSON(nil))
		if err != nil {
			return
		}
		if !json.Valid(out) || strings.ContainsAny(string(out), "\n\r") {
			t.Fatalf("not one line of JSON: %q", out)
		}
	})
}

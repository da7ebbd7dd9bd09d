package audit

import (
	"bytes"
	"encoding/json"
	"testing"
)

// same compares a read outline with that of the decoded event.
func same(t *testing.T, line []byte) {
	t.Helper()
	got, ok := ReadOutline(line)
	if !ok {
		return // the caller decodes
	}
	e, err := Decode(line)
	if err != nil {
		t.Fatalf("outline of what does not decode: %v\n%s", err, line)
	}
	want := e.Outline()
	for _, w := range []struct {
		name      string
		got, want []byte
	}{
		{"username", got.Username, want.Username},
		{"impersonated", got.Impersonated, want.Impersonated},
		{"credential", got.Credential, want.Credential},
		{"verb", got.Verb, want.Verb},
		{"decision", got.Decision, want.Decision},
		{"resource", got.Resource, want.Resource},
		{"namespace", got.Namespace, want.Namespace},
		{"name", got.Name, want.Name},
	} {
		if !bytes.Equal(w.got, w.want) {
			t.Errorf("%s: %q, decoded %q\n%s", w.name, w.got, w.want, line)
		}
	}
}

func fullEvent() *Event {
	return &Event{
		Level: LevelRequest, AuditID: "a", Stage: StageResponseComplete, RequestURI: `/x?y="z"`, Verb: "create",
		User:             UserInfo{Username: "ada", Groups: []string{"g", `back\slash`}, Extra: map[string][]string{credentialExtra: {"JTI=1", "JTI=2"}, "other": nil}},
		ImpersonatedUser: &UserInfo{Username: "bob", Extra: map[string][]string{"k": {"]", "}"}}},
		SourceIPs:        []string{"::1"}, UserAgent: `quote " and \`,
		ObjectRef:      &ObjectReference{Resource: "pods", Namespace: "web", Name: "p", Subresource: "log"},
		ResponseStatus: &Status{Code: 201, Details: json.RawMessage(`{"name":"inside","kind":"pods"}`)},
		RequestObject:  json.RawMessage(`{"verb":"not this","user":{"username":"nor this"},"list":[1,-2.5e3,true,null,{"a":[]}]}`),
		Annotations:    map[string]string{AnnotationDecision: "allow", "z": `"],}`},
	}
}

// Not parallel: it counts allocations.
func TestReadOutline(t *testing.T) {
	full := fullEvent()
	line := full.AppendJSON(nil)
	got, ok := ReadOutline(line)
	if !ok || string(got.Username) != "ada" || string(got.Credential) != "JTI=1" || string(got.Name) != "p" {
		t.Fatalf("outline %+v, %v of %s", got, ok, line)
	}
	same(t, line)

	full.Annotations[AnnotationCredential] = "KEY=7"
	same(t, full.AppendJSON(nil))

	full.User.Username = "quote\"d"
	if _, ok := ReadOutline(full.AppendJSON(nil)); ok {
		t.Error("a name with an escape was not left to Decode")
	}
	for cut := range len(line) {
		if _, ok := ReadOutline(line[:cut]); ok {
			t.Fatalf("an outline of %s", line[:cut])
		}
	}
	if _, ok := ReadOutline(append(line, '}')); ok {
		t.Error("an outline with data behind the event")
	}
	if n := testing.AllocsPerRun(100, func() { ReadOutline(line) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzReadOutline(f *testing.F) {
	f.Add(fullEvent().AppendJSON(nil))
	f.Add([]byte(`{"kind":"Event","verb":null}`))
	f.Add([]byte(`{"user":{"username":"a\\"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		ReadOutline(b) // any bytes: it ends and does not panic
		e, err := Decode(b)
		if err != nil {
			return
		}
		if (e.RequestObject != nil && !json.Valid(e.RequestObject)) || (e.ResponseObject != nil && !json.Valid(e.ResponseObject)) {
			return
		}
		e.RequestObject, e.ResponseObject = compacted(e.RequestObject), compacted(e.ResponseObject)
		same(t, e.AppendJSON(nil))
	})
}

func compacted(b json.RawMessage) json.RawMessage {
	if b == nil {
		return nil
	}
	var out bytes.Buffer
	if json.Compact(&out, b) != nil {
		return nil
	}
	return out.Bytes()
}

func BenchmarkOutline(b *testing.B) {
	line := fullEvent().AppendJSON(nil)
	b.Run("read", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			ReadOutline(line)
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Decode(line); err != nil {
				b.Fatal(err)
			}
		}
	})
}

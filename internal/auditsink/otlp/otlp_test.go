package otlp

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/sink"
)

// request is the part of opentelemetry.proto.collector.logs.v1 that is used,
// in the JSON form of the OTLP specification; unknown members fail.
type request struct {
	ResourceLogs []struct {
		Resource struct {
			Attributes []keyValue `json:"attributes"`
		} `json:"resource"`
		ScopeLogs []struct {
			Scope struct {
				Name string `json:"name"`
			} `json:"scope"`
			LogRecords []struct {
				TimeUnixNano         int64      `json:"timeUnixNano,string"`
				ObservedTimeUnixNano int64      `json:"observedTimeUnixNano,string"`
				SeverityNumber       int        `json:"severityNumber"`
				SeverityText         string     `json:"severityText"`
				EventName            string     `json:"eventName"`
				Body                 anyValue   `json:"body"`
				Attributes           []keyValue `json:"attributes"`
			} `json:"logRecords"`
		} `json:"scopeLogs"`
	} `json:"resourceLogs"`
}

type keyValue struct {
	Key   string   `json:"key"`
	Value anyValue `json:"value"`
}

type anyValue struct {
	StringValue string `json:"stringValue"`
}

func TestDeliver(t *testing.T) {
	t.Parallel()
	var got request
	answer, code := `{}`, http.StatusOK
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		dec := json.NewDecoder(r.Body)
		dec.DisallowUnknownFields()
		if err := dec.Decode(&got); err != nil || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%v, content type %s", err, r.Header.Get("Content-Type"))
		}
		w.WriteHeader(code)
		_, _ = io.WriteString(w, answer)
	}))
	defer server.Close()
	var rejected int64
	s, err := New(Config{URL: server.URL, Client: server.Client(), Log: "r1", Host: "h", Rejected: func(n int64, why string) {
		rejected += n
		if why != "too old" {
			t.Errorf("why %q", why)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	batch := []sink.Event{
		{Index: 4, At: at, Site: "blue", Event: &audit.Event{AuditID: "a", Verb: "get", User: audit.UserInfo{Username: "é\"\n"},
			ObjectRef: &audit.ObjectReference{Namespace: "ns"}, Annotations: map[string]string{audit.AnnotationDecision: "forbid"}}},
		{Index: 5, At: at, Event: &audit.Event{AuditID: "b", StageTimestamp: audit.MicroTime{Time: at.Add(-time.Second)}}},
	}
	if err := s.Deliver(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	records := got.ResourceLogs[0].ScopeLogs[0].LogRecords
	if len(records) != 2 {
		t.Fatalf("%+v", got)
	}
	r := records[0]
	attributes := map[string]string{}
	for _, a := range r.Attributes {
		attributes[a.Key] = a.Value.StringValue
	}
	if r.TimeUnixNano != at.UnixNano() || r.SeverityNumber != 13 || attributes["user.name"] != "é\"\n" || attributes["audit.site"] != "blue" ||
		attributes["k8s.namespace.name"] != "ns" || attributes["audit.record"] != "4" || attributes["audit.decision"] != "forbid" {
		t.Errorf("%+v", r)
	}
	e, err := audit.Decode([]byte(r.Body.StringValue))
	if err != nil || e.AuditID != "a" || e.Annotations[sink.AnnotationSite] != "blue" {
		t.Errorf("%v %+v", err, e)
	}
	if records[1].SeverityNumber != 9 || records[1].TimeUnixNano != at.Add(-time.Second).UnixNano() {
		t.Errorf("%+v", records[1])
	}

	for _, refused := range []string{`{"partialSuccess":{"rejectedLogRecords":"2","errorMessage":"too old"}}`, `{"partialSuccess":{"rejectedLogRecords":1,"errorMessage":"too old"}}`} {
		answer = refused
		if err := s.Deliver(t.Context(), batch); err != nil {
			t.Errorf("rejected records come again: %v", err)
		}
	}
	if rejected != 3 {
		t.Errorf("%d records rejected, want 3", rejected)
	}
	code = http.StatusTooManyRequests
	if err := s.Deliver(t.Context(), batch); err == nil || !strings.Contains(err.Error(), "429") {
		t.Errorf("429 counts as taken: %v", err)
	}
}

package audit

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// Decode reads one event.
func Decode(b []byte) (*Event, error) {
	var e Event
	if err := json.Unmarshal(b, &e); err != nil {
		return nil, fmt.Errorf("decode audit event: %w", err)
	}
	return &e, nil
}

// DecodeList reads the body of a webhook post: an EventList of audit.k8s.io/v1.
// Unknown fields are ignored, as a newer kube-apiserver may send some; what is
// not the right type, kind or version, and anything after the list, is an
// Invalid fault and nothing of the list is used. The caller bounds the body.
func DecodeList(body []byte) (*EventList, error) {
	var list EventList
	dec := json.NewDecoder(bytes.NewReader(body))
	if err := dec.Decode(&list); err != nil {
		return nil, fault.Newf(fault.Invalid, "audit event list: %v", err)
	}
	if dec.More() {
		return nil, fault.New(fault.Invalid, "audit event list: data after the list")
	}
	if list.Kind != "EventList" || list.APIVersion != APIVersion {
		return nil, fault.Newf(fault.Invalid, "audit event list: kind %q of %q, expected EventList of %s", clip(list.Kind, 64), clip(list.APIVersion, 64), APIVersion)
	}
	if len(list.Items) > MaxBatchEvents {
		return nil, fault.Newf(fault.Invalid, "audit event list: %d items, at most %d", len(list.Items), MaxBatchEvents)
	}
	return &list, nil
}

// Identify returns auditID and stage of an event written by [Event.AppendJSON],
// from its first bytes and without parsing the rest. ok is false for JSON of
// another shape and for an auditID that needed escaping.
func Identify(event []byte) (auditID, stage string, ok bool) {
	rest, ok := bytes.CutPrefix(event, []byte(`{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"`))
	if !ok {
		return "", "", false
	}
	_, rest, ok1 := bytes.Cut(rest, []byte(`","auditID":"`))
	id, rest, ok2 := bytes.Cut(rest, []byte(`","stage":"`))
	st, _, ok3 := bytes.Cut(rest, []byte(`"`))
	if !ok1 || !ok2 || !ok3 || bytes.ContainsAny(id, `"\`) {
		return "", "", false
	}
	return string(id), string(st), true
}

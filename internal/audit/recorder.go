package audit

import (
	"context"
	"maps"
)

// Durability says when Append may return.
type Durability uint8

const (
	// Durable: the record is on disk (fsync) before Append returns. It is the
	// zero value, so that a forgotten choice is the safe one.
	Durable Durability = iota
	// Buffered: the record was handed to the operating system before Append
	// returns and is synced within 100 ms. It survives kill -9, and a power
	// loss after those 100 ms.
	Buffered
)

// Recorder takes events into the record. Implementations are safe for
// concurrent use, keep no reference to the event, redact and bound it before
// it is written, and write all of it or nothing.
//
// An error means that the event is not on record as asked. Its fault kind is
// Unavailable when trying again later can succeed (disk full, log closed) and
// Invalid when this event never will. When ctx ends while a write is under
// way, Append returns its error although the record may still arrive.
type Recorder interface {
	Append(ctx context.Context, event *Event, durability Durability) error
}

// BatchResult counts what became of an [EventList].
type BatchResult struct {
	// Recorded events are new and on disk.
	Recorded int
	// Duplicates were on record already (same site, auditID and stage).
	Duplicates int
	// Known are the places of the duplicates in the list, in order.
	Known []int
}

// BatchRecorder takes the event list of a site. It returns after everything in
// the list, duplicates included, is on disk: only then may the sender be
// answered 200 and forget the list. On an error nothing is promised and the
// sender must send again; what did arrive is then found as a duplicate.
type BatchRecorder interface {
	AppendBatch(ctx context.Context, site string, events []Event) (BatchResult, error)
}

// CollectedRecorder takes events that a collector of ours made out of what a
// source at a site wrote. It keeps the promises of [BatchRecorder]; what our
// annotations say in them is ours and stays.
type CollectedRecorder interface {
	AppendCollected(ctx context.Context, site string, events []Event) (BatchResult, error)
}

// Intent returns the record of a change before it is committed: a copy of
// event at stage RequestReceived, marked as an intent. Recording it durably
// first is what keeps a full disk from leaving an unrecorded change.
func Intent(event *Event) *Event {
	intent := *event
	intent.Stage = StageRequestReceived
	intent.ResponseStatus, intent.ResponseObject = nil, nil
	intent.StageTimestamp = intent.RequestReceivedTimestamp
	intent.Annotations = maps.Clone(event.Annotations)
	intent.Annotate(AnnotationIntent, "true")
	return &intent
}

// Received returns the record of a request's arrival: a copy of e without what
// only came of it.
func (e *Event) Received() *Event {
	out := *e
	out.Stage, out.StageTimestamp = StageRequestReceived, e.RequestReceivedTimestamp
	out.ResponseStatus, out.RequestObject, out.ResponseObject, out.Annotations = nil, nil, nil, nil
	return &out
}

// DurabilityOf returns what the design's Record promise asks for: changes,
// credentials and denials reach the disk at once, reads and reviews within
// 100 ms. What cannot be classified is durable.
func DurabilityOf(event *Event) Durability {
	if d := event.Decision(); d != "" && d != "allow" {
		return Durable
	}
	if s := event.ResponseStatus; s != nil && (s.Code == 401 || s.Code == 403) {
		return Durable
	}
	if event.Stage == StagePanic {
		return Durable
	}
	switch event.Verb {
	case "get", "list", "watch", "head", "options", "authorize":
		return Buffered
	case "create":
		if event.ObjectRef != nil && isReview(event.ObjectRef) {
			return Buffered
		}
	}
	return Durable
}

// isReview says whether creating the object only asks a question.
func isReview(o *ObjectReference) bool {
	switch o.APIGroup {
	case "authorization.k8s.io":
		return true
	case "authentication.k8s.io":
		return o.Subresource == ""
	}
	return false
}

// Changes says whether the event is about a request that can change state, so
// that an [Intent] must be on disk before it is committed.
func Changes(event *Event) bool {
	switch event.Verb {
	case "create":
		return event.ObjectRef == nil || !isReview(event.ObjectRef)
	case "update", "patch", "delete", "deletecollection", "put", "post":
		return true
	}
	return false
}

package fastlane

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"

	kjson "sigs.k8s.io/json"

	federation "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// Bounds of what sites post to the record. Decoded, a list can be ten times
// its size, so that few are read at once.
const (
	// maxEventListBody bounds one post: kube-apiserver keeps a list below 10
	// MiB of events.
	maxEventListBody = 12 << 20
	maxIngests       = 8
	maxIngestsOfSite = 2
)

// doorAudit takes the events of a site. It answers 200 only when all of them
// are on disk, because the sender then forgets them.
func (t *turn) doorAudit(site *federation.Site) int {
	events, err := decodeEvents(t.read)
	if err != nil {
		t.recordAs = "the body is not an EventList"
		return t.fail(err)
	}
	result, err := t.lane.Batch.AppendBatch(t.ctx, site.Name, events)
	if t.lane.Observe != nil {
		t.lane.Observe(site.Name, events, result, err)
	}
	if err != nil {
		return t.fail(err)
	}
	t.lane.Metrics.ingested(site.Name, result.Recorded, result.Duplicates)
	// The events are the record; one more about their arrival would say less.
	t.silent = true
	return t.answer(http.StatusOK, func(_ *turn, b []byte) []byte { return b })
}

// decodeEvents reads an EventList event by event, so that a list of too many
// is refused before it fills the memory. Unknown fields pass: a newer
// kube-apiserver must not lose its record to an older control plane.
func decodeEvents(in string) ([]audit.Event, error) {
	d := kjson.NewDecoderCaseSensitivePreserveInts(strings.NewReader(in))
	malformed := func(err error) error {
		return fault.Newf(fault.Invalid, "the body is not an EventList: %s", printable(err))
	}
	if err := delim(d, '{'); err != nil {
		return nil, malformed(err)
	}
	var (
		kind, apiVersion string
		events           []audit.Event
		seen             = map[string]bool{}
	)
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, malformed(err)
		}
		name, _ := key.(string)
		if seen[name] {
			return nil, fault.New(fault.Invalid, "the EventList has a field twice")
		}
		switch name {
		case "kind":
			err = d.Decode(&kind)
		case "apiVersion":
			err = d.Decode(&apiVersion)
		case "items":
			events, err = items(d)
		default:
			var skipped json.RawMessage
			err = d.Decode(&skipped)
			name = "" // only what is read must be there once
		}
		if fault.KindOf(err) == fault.Invalid {
			return nil, err
		}
		if err != nil {
			return nil, malformed(err)
		}
		seen[name] = name != ""
	}
	if err := delim(d, '}'); err != nil {
		return nil, malformed(err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fault.New(fault.Invalid, "something follows the EventList")
	}
	if kind != "EventList" || apiVersion != audit.APIVersion {
		return nil, fault.New(fault.Invalid, "the body must be an EventList of "+audit.APIVersion)
	}
	return events, nil
}

func items(d kjson.Decoder) ([]audit.Event, error) {
	var events []audit.Event
	first, err := d.Token()
	if err != nil {
		return nil, err
	}
	if first == nil { // a Go client's empty list
		return nil, nil
	}
	if first != json.Delim('[') {
		return nil, fault.New(fault.Invalid, "items: must be a list")
	}
	for d.More() {
		if len(events) == audit.MaxBatchEvents {
			return nil, fault.Newf(fault.Invalid, "items: more than %d events", audit.MaxBatchEvents)
		}
		var ev audit.Event
		if err := d.Decode(&ev); err != nil {
			return nil, err
		}
		events = append(events, ev)
	}
	return events, delim(d, ']')
}

func delim(d kjson.Decoder, want json.Delim) error {
	got, err := d.Token()
	if err == nil && got != want {
		err = fault.Newf(fault.Invalid, "%q expected", want.String())
	}
	return err
}

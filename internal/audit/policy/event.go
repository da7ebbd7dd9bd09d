package policy

import (
	"strings"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
)

// RequestOf returns what rules look at of a recorded event, so that a sink's
// policy can be asked about it.
func RequestOf(e *audit.Event) Request {
	path, _, _ := strings.Cut(e.RequestURI, "?")
	r := Request{HasUser: e.User.Username != "", User: e.User.Username, Groups: e.User.Groups, Verb: e.Verb, Path: path}
	if o := e.ObjectRef; o != nil {
		r.Resource, r.APIGroup, r.Plural, r.Subresource, r.Namespace, r.Name = true, o.APIGroup, o.Resource, o.Subresource, o.Namespace, o.Name
	}
	return r
}

// Reduce cuts a recorded event down to the decision: nil when it is not to be
// passed on at all, else a copy without the bodies that the level leaves out.
// It can only take away; an event recorded at a lower level stays at that.
func (d Decision) Reduce(e *audit.Event) *audit.Event {
	if !d.Records(e.Stage) {
		return nil
	}
	out := *e
	if d.Level.Rank() < out.Level.Rank() {
		out.Level = d.Level
	}
	if d.Level.Rank() < audit.LevelRequestResponse.Rank() {
		out.ResponseObject = nil
	}
	if d.Level.Rank() < audit.LevelRequest.Rank() {
		out.RequestObject = nil
	}
	return &out
}

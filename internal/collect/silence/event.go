package silence

import (
	"strconv"
	"time"

	auditapi "github.com/gatehouse-dev/gatehouse/api/audit/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/collect"
)

// Verbs of the events about sources.
const (
	VerbSilent   = "silent"
	VerbReturned = "return"
)

// Event is the pending event of a source. It has the same auditID whoever
// records it.
func Event(ids *collect.IDs, o *auditapi.AuditSource, now time.Time) audit.Event {
	verb, moment := VerbSilent, o.Status.SilentSince
	text := "nothing was heard of this source for two intervals"
	if o.Status.PendingEvent == Returned {
		verb, moment, text = VerbReturned, o.Status.LastHeard, "this source is heard again"
	}
	ev := audit.Event{
		Level: audit.LevelMetadata, Stage: audit.StageResponseComplete, Verb: verb,
		AuditID:    ids.ID("source", string(o.UID), verb, strconv.FormatInt(stamp(moment).Unix(), 10)),
		RequestURI: "/apis/audit.gatehouse.dev/v1alpha1/auditsources/" + o.Name,
		User:       audit.UserInfo{Username: collect.User},
		ObjectRef: &audit.ObjectReference{
			APIGroup: auditapi.GroupVersion.Group, APIVersion: auditapi.GroupVersion.Version, Resource: "auditsources", Name: o.Name, UID: string(o.UID),
		},
		RequestReceivedTimestamp: audit.MicroTime{Time: now}, StageTimestamp: audit.MicroTime{Time: now},
	}
	ev.Annotate(audit.AnnotationSource, o.Name)
	if o.Spec.Host != "" {
		ev.Annotate(audit.AnnotationHost, o.Spec.Host)
	}
	ev.Annotate(audit.AnnotationReason, text)
	if n := o.Spec.ExpectedIntervalSeconds; n != nil {
		ev.Annotate("audit.gatehouse.dev/expected-interval", (time.Duration(*n) * time.Second).String())
	}
	if t := o.Status.LastHeard; t != nil {
		ev.Annotate("audit.gatehouse.dev/last-heard", t.UTC().Format(time.RFC3339))
	}
	return ev
}

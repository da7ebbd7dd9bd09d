package kubeapi

import (
	"context"
	"encoding/json"
	"maps"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	auditinternal "k8s.io/apiserver/pkg/apis/audit"
	frameaudit "k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/policy"
)

// recordTimeout bounds how long a request waits for its record.
const recordTimeout = 10 * time.Second

// auditBackend hands the frame's events to the record. Its Shutdown, which the
// frame calls once all requests have drained, tells the composition that the
// frame is idle.
type auditBackend struct {
	recorder audit.Recorder
	drained  chan struct{}
	// turnedAway are the audit ids of requests that were refused because they
	// could not be recorded, until they are answered.
	turnedAway sync.Map
}

// refused reports, once, whether a request was refused because it could not be
// recorded.
func (b *auditBackend) refused(auditID string) bool {
	_, was := b.turnedAway.LoadAndDelete(auditID)
	return was
}

var _ frameaudit.Backend = (*auditBackend)(nil)

func (b *auditBackend) Run(<-chan struct{}) error { return nil }
func (b *auditBackend) Shutdown()                 { close(b.drained) }
func (b *auditBackend) String() string            { return "gatehouse" }

// ProcessEvents records. A false answer at the first stage refuses the
// request: what cannot be recorded does not happen.
func (b *auditBackend) ProcessEvents(events ...*auditinternal.Event) bool {
	ctx, cancel := context.WithTimeout(context.Background(), recordTimeout)
	defer cancel()
	ok := true
	for _, in := range events {
		ev := eventFrom(in)
		d := audit.DurabilityOf(ev)
		if ev.Stage == audit.StageRequestReceived && audit.Changes(ev) {
			ev, d = audit.Intent(ev), audit.Durable
		}
		if err := b.recorder.Append(ctx, ev, d); err != nil {
			ok = false
			if ev.Stage == audit.StageRequestReceived && audit.Changes(ev) {
				b.turnedAway.Store(ev.AuditID, struct{}{})
			}
		}
	}
	return ok
}

// eventFrom converts the frame's event into ours, field by field.
func eventFrom(in *auditinternal.Event) *audit.Event {
	ev := &audit.Event{
		Level: audit.Level(in.Level), AuditID: string(in.AuditID), Stage: audit.Stage(in.Stage),
		RequestURI: in.RequestURI, Verb: in.Verb,
		User:                     audit.UserInfo{Username: in.User.Username, UID: in.User.UID, Groups: in.User.Groups, Extra: extraFrom(in.User.Extra)},
		SourceIPs:                in.SourceIPs,
		UserAgent:                in.UserAgent,
		RequestObject:            rawFrom(in.RequestObject),
		ResponseObject:           rawFrom(in.ResponseObject),
		RequestReceivedTimestamp: audit.MicroTime{Time: in.RequestReceivedTimestamp.Time},
		StageTimestamp:           audit.MicroTime{Time: in.StageTimestamp.Time},
		Annotations:              in.Annotations,
	}
	if u := in.ImpersonatedUser; u != nil {
		ev.ImpersonatedUser = &audit.UserInfo{Username: u.Username, UID: u.UID, Groups: u.Groups, Extra: extraFrom(u.Extra)}
	}
	if m := in.AuthenticationMetadata; m != nil {
		ev.AuthenticationMetadata = &audit.AuthenticationMetadata{ImpersonationConstraint: m.ImpersonationConstraint}
	}
	if o := in.ObjectRef; o != nil {
		ev.ObjectRef = &audit.ObjectReference{
			Resource: o.Resource, Namespace: o.Namespace, Name: o.Name, UID: string(o.UID),
			APIGroup: o.APIGroup, APIVersion: o.APIVersion, ResourceVersion: o.ResourceVersion, Subresource: o.Subresource,
		}
	}
	if ev.Annotations[audit.AnnotationDecision] == "forbid" && ev.Annotations[audit.AnnotationReason] == "" {
		// The frame's map goes on to the next stage.
		ev.Annotations = maps.Clone(ev.Annotations)
		ev.Annotate(audit.AnnotationReason, audit.ReasonNothingAllows)
	}
	if s := in.ResponseStatus; s != nil {
		ev.ResponseStatus = &audit.Status{Status: s.Status, Message: s.Message, Reason: string(s.Reason), Code: s.Code, Details: detailsFrom(s.Details)}
	}
	return ev
}

func extraFrom[V ~[]string](in map[string]V) map[string][]string {
	if in == nil {
		return nil
	}
	out := make(map[string][]string, len(in))
	for k, v := range in {
		out[k] = v
	}
	return out
}

func rawFrom(in *runtime.Unknown) json.RawMessage {
	if in == nil || in.ContentType != runtime.ContentTypeJSON {
		return nil
	}
	return in.Raw
}

func detailsFrom(in *metav1.StatusDetails) json.RawMessage {
	if in == nil {
		return nil
	}
	raw, err := json.Marshal(in)
	if err != nil { // a struct of strings and numbers
		return nil
	}
	return raw
}

// AuditPolicy says how much of a request is recorded.
type AuditPolicy interface {
	Evaluate(*policy.Request) policy.Decision
}

// policyEvaluator adapts AuditPolicy.
type policyEvaluator struct{ policy AuditPolicy }

func (p policyEvaluator) EvaluatePolicyRule(a authorizer.Attributes) frameaudit.RequestAuditConfig {
	r := &policy.Request{
		Verb: a.GetVerb(), Resource: a.IsResourceRequest(), APIGroup: a.GetAPIGroup(), Plural: a.GetResource(),
		Subresource: a.GetSubresource(), Namespace: a.GetNamespace(), Name: a.GetName(), Path: a.GetPath(),
	}
	if u := a.GetUser(); u != nil {
		r.HasUser, r.User, r.Groups = true, u.GetName(), u.GetGroups()
	}
	d := p.policy.Evaluate(r)
	ref := &audit.ObjectReference{APIGroup: r.APIGroup, Subresource: r.Subresource}
	changes := audit.Changes(&audit.Event{Verb: r.Verb, ObjectRef: ref})
	out := frameaudit.RequestAuditConfig{Level: auditinternal.Level(d.Level), OmitManagedFields: d.OmitManagedFields}
	for _, s := range d.OmitStages {
		// A change is recorded before it is committed, whatever the policy
		// leaves out.
		if s == audit.StageRequestReceived && changes {
			continue
		}
		out.OmitStages = append(out.OmitStages, auditinternal.Stage(s))
	}
	return out
}

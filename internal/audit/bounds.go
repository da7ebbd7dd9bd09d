package audit

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// Bounds of an event. MaxEventBytes keeps a record with its envelope below the
// 65,535 bytes that a C2SP tlog-tiles entry can have.
const (
	MaxEventBytes   = 64_000
	MaxAnnotations  = 128
	MaxBatchEvents  = 10_000
	maxString       = 4096
	maxExtraEntries = 64
	maxGroups       = 512
	maxSourceIPs    = 64
	// maxSkew is how far ahead of ours a site's clock may be before the event
	// is marked.
	maxSkew = 5 * time.Minute
)

// reservedPrefix is the part of the annotation name space that only the
// control plane writes.
const reservedPrefix = "audit.gatehouse.dev/"

// foreignPrefix is put before reserved keys that came from elsewhere.
const foreignPrefix = "claimed-by-sender."

// Validate reports, as a fault.Invalid that names the field, what no record can
// do without.
func (e *Event) Validate() error {
	switch {
	case e.AuditID == "":
		return fault.New(fault.Invalid, "auditID: required")
	case len(e.AuditID) > 256:
		return fault.New(fault.Invalid, "auditID: longer than 256 bytes")
	case e.Level.Rank() < 1:
		return fault.Newf(fault.Invalid, "level: %q is not Metadata, Request or RequestResponse", clip(string(e.Level), 64))
	case !slices.Contains(Stages(), e.Stage):
		return fault.Newf(fault.Invalid, "stage: %q is not a stage", clip(string(e.Stage), 64))
	}
	return nil
}

// Foreign prepares an event that a site sent: annotations that only the
// control plane may write are renamed, and a time in the future is marked
// rather than believed or refused (refusing would lose the evidence).
func (e *Event) Foreign(now time.Time) {
	var reserved []string
	for k := range e.Annotations {
		if strings.HasPrefix(k, reservedPrefix) {
			reserved = append(reserved, k)
		}
	}
	for _, k := range reserved {
		e.Annotations[foreignPrefix+k] = e.Annotations[k]
		delete(e.Annotations, k)
	}
	e.MarkSkew(now)
}

// MarkSkew marks an event whose time, given by somebody else's clock, lies in
// the future.
func (e *Event) MarkSkew(now time.Time) {
	latest := e.RequestReceivedTimestamp.Time
	if e.StageTimestamp.After(latest) {
		latest = e.StageTimestamp.Time
	}
	if skew := latest.Sub(now); skew > maxSkew {
		e.Annotate(AnnotationClockSkew, skew.Round(time.Second).String())
	}
}

// Fit cuts an event down to its bounds and marks what it cut, as upstream's
// truncating backend does: first the bodies, the response before the request,
// then what lists and strings hold beyond their bounds. encoded is e's JSON as
// it stands; Fit returns the JSON to write, reusing encoded's array.
func (e *Event) Fit(encoded []byte) ([]byte, error) {
	if len(encoded) <= MaxEventBytes && len(e.Annotations) <= MaxAnnotations {
		return encoded, nil
	}
	mark := func(what string) {
		e.dropped(what)
		encoded = e.AppendJSON(encoded[:0])
	}
	if n := len(e.Annotations); n > MaxAnnotations {
		e.clipAnnotations()
		mark("annotations:" + strconv.Itoa(n-len(e.Annotations)))
	}
	if len(encoded) > MaxEventBytes && len(e.ResponseObject) > 0 {
		e.ResponseObject = nil
		mark("responseObject")
	}
	if len(encoded) > MaxEventBytes && len(e.RequestObject) > 0 {
		e.RequestObject = nil
		mark("requestObject")
	}
	if len(encoded) > MaxEventBytes {
		e.clipFields(maxString)
		mark("long fields")
	}
	if len(encoded) > MaxEventBytes {
		// Many fields of permitted length: a second, harder cut always fits.
		e.clipFields(128)
		mark("fields over 128 bytes")
	}
	if len(encoded) > MaxEventBytes {
		return nil, fault.Newf(fault.Invalid, "event: %d bytes after truncation, at most %d", len(encoded), MaxEventBytes)
	}
	return encoded, nil
}

// dropped marks that something was left out of the event.
func (e *Event) dropped(what string) {
	if before := e.Annotations[AnnotationDropped]; before != "" {
		what = before + "," + what
	}
	e.Annotations = maps.Clone(e.Annotations) // the map is the caller's, who goes on with it
	e.Annotate(AnnotationTruncated, "true")
	e.Annotate(AnnotationDropped, what)
}

// clipAnnotations keeps the first MaxAnnotations keys, upstream's and our own
// before others, so that a flood cannot push a decision out of the record.
func (e *Event) clipAnnotations() {
	keys := make([]string, 0, len(e.Annotations))
	for k := range e.Annotations {
		keys = append(keys, k)
	}
	weight := func(k string) int {
		if strings.HasPrefix(k, reservedPrefix) || strings.HasPrefix(k, "authorization.k8s.io/") {
			return 0
		}
		return 1
	}
	slices.SortFunc(keys, func(a, b string) int {
		if d := weight(a) - weight(b); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	kept := make(map[string]string, MaxAnnotations)
	for _, k := range keys[:MaxAnnotations-2] { // two stay free for the marks
		kept[k] = e.Annotations[k]
	}
	e.Annotations = kept
}

// clipFields cuts every string to limit bytes and every list to its bound.
func (e *Event) clipFields(limit int) {
	for _, s := range []*string{&e.RequestURI, &e.Verb, &e.UserAgent} {
		*s = clip(*s, limit)
	}
	e.User = clipUser(e.User, limit)
	if e.ImpersonatedUser != nil {
		u := clipUser(*e.ImpersonatedUser, limit)
		e.ImpersonatedUser = &u
	}
	if m := e.AuthenticationMetadata; m != nil {
		e.AuthenticationMetadata = &AuthenticationMetadata{clip(m.ImpersonationConstraint, limit)}
	}
	e.SourceIPs = clipList(e.SourceIPs, maxSourceIPs, limit)
	if r := e.ObjectRef; r != nil {
		e.ObjectRef = &ObjectReference{
			clip(r.Resource, limit), clip(r.Namespace, limit), clip(r.Name, limit), clip(r.UID, limit),
			clip(r.APIGroup, limit), clip(r.APIVersion, limit), clip(r.ResourceVersion, limit), clip(r.Subresource, limit),
		}
	}
	if s := e.ResponseStatus; s != nil {
		e.ResponseStatus = &Status{Status: clip(s.Status, limit), Message: clip(s.Message, limit), Reason: clip(s.Reason, limit), Code: s.Code}
	}
	short := make(map[string]string, len(e.Annotations))
	for k, v := range e.Annotations {
		short[clip(k, limit)] = clip(v, limit)
	}
	e.Annotations = short
}

func clipUser(u UserInfo, limit int) UserInfo {
	// At the harder cut lists shrink too, or 512 groups of 128 bytes would
	// still be too long.
	groups := min(maxGroups, limit)
	out := UserInfo{Username: clip(u.Username, limit), UID: clip(u.UID, limit), Groups: clipList(u.Groups, groups, min(limit, 256))}
	if len(u.Extra) > 0 {
		out.Extra = make(map[string][]string, min(len(u.Extra), maxExtraEntries))
		keys := sortedKeys(nil, u.Extra)
		for _, k := range keys[:min(len(keys), min(maxExtraEntries, limit/8))] {
			out.Extra[clip(k, min(limit, 128))] = clipList(u.Extra[k], 4, min(limit, 256))
		}
	}
	return out
}

func clipList(list []string, count, limit int) []string {
	out := make([]string, 0, min(len(list), count))
	for _, s := range list[:min(len(list), count)] {
		out = append(out, clip(s, limit))
	}
	return out
}

// clip cuts s to at most limit bytes at a rune boundary.
func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

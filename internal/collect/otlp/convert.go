package otlp

import (
	"crypto/sha256"
	"encoding/hex"
	"math"
	"strconv"
	"strings"
	"time"

	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	logsv1 "go.opentelemetry.io/proto/otlp/logs/v1"
	resourcev1 "go.opentelemetry.io/proto/otlp/resource/v1"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/collect"
)

// Bounds of one log record.
const (
	maxDepth      = 32  // of values in values
	maxAttributes = 512 // of a record or resource; further ones are dropped
	maxSeverity   = 64  // bytes of the text
)

// rejection says why a record is not taken, "" for one that is.
type rejection string

// origin is a resource in the form in which each of its records has it. It is
// made once: a request may have many records of a large resource.
type origin struct {
	host    string
	deep    bool
	object  []byte // nil for one without attributes
	dropped string
	length  int
}

func originOf(r *resourcev1.Resource) *origin {
	list := r.GetAttributes()
	out := &origin{host: host(r), deep: !shallowAll(list, maxDepth), length: len(list)}
	if len(list) > 0 && !out.deep {
		out.object, out.dropped = objectOf("resource", list)
	}
	return out
}

// entryOf gives a log record the form in which it is recorded.
func entryOf(from *origin, scope *commonv1.InstrumentationScope, r *logsv1.LogRecord) (*collect.Entry, rejection) {
	out := &collect.Entry{Kind: kind, Host: from.host}
	nanos := r.GetTimeUnixNano()
	if nanos == 0 {
		nanos = r.GetObservedTimeUnixNano()
	}
	if nanos > math.MaxInt64 {
		return nil, "a time is out of range"
	}
	if nanos > 0 {
		out.At = time.Unix(0, int64(nanos)).UTC()
	}
	if len(r.GetTraceId()) != 0 && len(r.GetTraceId()) != 16 || len(r.GetSpanId()) != 0 && len(r.GetSpanId()) != 8 {
		return nil, "a trace or span id has a wrong length"
	}
	if !shallow(r.GetBody(), maxDepth) || !shallowAll(r.GetAttributes(), maxDepth) || from.deep {
		return nil, rejection("values are nested deeper than " + strconv.Itoa(maxDepth))
	}
	var b collect.Body
	if body := r.GetBody(); body != nil {
		if s, ok := body.Value.(*commonv1.AnyValue_StringValue); ok {
			b.Text("body", s.StringValue, 0)
		} else {
			b.JSON("body", appendValue(nil, body))
		}
	}
	if n := r.GetSeverityNumber(); n != 0 {
		b.JSON("severityNumber", strconv.AppendInt(nil, int64(n), 10))
	}
	text(&b, "severityText", collect.Clip(r.GetSeverityText(), maxSeverity))
	text(&b, "eventName", r.GetEventName())
	if n := r.GetObservedTimeUnixNano(); n != 0 && n != nanos && n <= math.MaxInt64 {
		text(&b, "observed", time.Unix(0, int64(n)).UTC().Format(time.RFC3339Nano))
	}
	text(&b, "traceID", hex.EncodeToString(r.GetTraceId()))
	text(&b, "spanID", hex.EncodeToString(r.GetSpanId()))
	if scope.GetName() != "" || scope.GetVersion() != "" {
		var s collect.Body
		text(&s, "name", scope.GetName())
		text(&s, "version", scope.GetVersion())
		object, _ := s.Close()
		b.JSON("scope", object)
	}
	if from.object != nil {
		attributes(&b, "resource", from.object, from.dropped, from.length)
	}
	if list := r.GetAttributes(); len(list) > 0 {
		object, dropped := objectOf("attributes", list)
		attributes(&b, "attributes", object, dropped, len(list))
	}
	out.Body, out.Dropped = b.Close()
	return out, ""
}

func text(b *collect.Body, name, value string) {
	if value != "" {
		b.Text(name, value, 0)
	}
}

// objectOf returns an object of attributes, called name, and what it lacks. Of
// one name the first counts.
func objectOf(name string, list []*commonv1.KeyValue) (object []byte, dropped string) {
	var inner collect.Body
	for i, kv := range list {
		if i == maxAttributes {
			inner.Drop(name, int64(len(list)))
			break
		}
		if s, ok := kv.GetValue().GetValue().(*commonv1.AnyValue_StringValue); ok {
			inner.Text(kv.GetKey(), s.StringValue, 0)
			continue
		}
		inner.JSON(kv.GetKey(), appendValue(nil, kv.GetValue()))
	}
	return inner.Close()
}

// attributes adds what objectOf returned of a list of attributes.
func attributes(b *collect.Body, name string, object []byte, dropped string, length int) {
	if dropped != "" {
		b.Drop(name+"."+dropped, int64(length))
	}
	b.JSON(name, object)
}

func shallow(v *commonv1.AnyValue, depth int) bool {
	if depth == 0 {
		return v == nil
	}
	switch v := v.GetValue().(type) {
	case *commonv1.AnyValue_ArrayValue:
		for _, e := range v.ArrayValue.GetValues() {
			if !shallow(e, depth-1) {
				return false
			}
		}
	case *commonv1.AnyValue_KvlistValue:
		return shallowAll(v.KvlistValue.GetValues(), depth-1)
	}
	return true
}

func shallowAll(list []*commonv1.KeyValue, depth int) bool {
	for _, kv := range list {
		if !shallow(kv.GetValue(), depth) {
			return false
		}
	}
	return true
}

// appendValue appends a value as plain JSON. What JSON has no number for is a
// string, as in protobuf's JSON.
func appendValue(b []byte, v *commonv1.AnyValue) []byte {
	switch v := v.GetValue().(type) {
	case *commonv1.AnyValue_StringValue:
		return collect.AppendText(b, v.StringValue)
	case *commonv1.AnyValue_BoolValue:
		return strconv.AppendBool(b, v.BoolValue)
	case *commonv1.AnyValue_IntValue:
		return strconv.AppendInt(b, v.IntValue, 10)
	case *commonv1.AnyValue_DoubleValue:
		if f := v.DoubleValue; math.IsNaN(f) || math.IsInf(f, 0) {
			return audit.AppendString(b, strconv.FormatFloat(f, 'g', -1, 64))
		}
		return strconv.AppendFloat(b, v.DoubleValue, 'g', -1, 64)
	case *commonv1.AnyValue_BytesValue:
		return appendBase64(b, v.BytesValue)
	case *commonv1.AnyValue_ArrayValue:
		b = append(b, '[')
		for i, e := range v.ArrayValue.GetValues() {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendValue(b, e)
		}
		return append(b, ']')
	case *commonv1.AnyValue_KvlistValue:
		b = append(b, '{')
		seen := map[string]bool{}
		for _, kv := range v.KvlistValue.GetValues() {
			if seen[kv.GetKey()] {
				continue
			}
			if len(seen) > 0 {
				b = append(b, ',')
			}
			seen[kv.GetKey()] = true
			b = audit.AppendString(b, kv.GetKey())
			b = append(b, ':')
			b = appendValue(b, kv.GetValue())
		}
		return append(b, '}')
	}
	return append(b, "null"...)
}

// appendBase64 has the form of a text that is not UTF-8.
func appendBase64(b, value []byte) []byte {
	if len(value) == 0 {
		return append(b, `{"base64":""}`...)
	}
	return append(append(append(b, `{"base64":"`...), encode(value)...), `"}`...)
}

// host is what the resource says of where it runs.
func host(r *resourcev1.Resource) string {
	for _, kv := range r.GetAttributes() {
		if kv.GetKey() == "host.name" {
			return strings.ToLower(kv.GetValue().GetStringValue())
		}
	}
	return ""
}

// identity tells a record from all others. A request that is sent again, after
// an answer that did not arrive, has the same bytes: so its records are known
// by its digest and their places. Two requests that a program makes are equal
// only if the times of their records are.
func identity(body []byte) func(i int) string {
	sum := sha256.Sum256(body)
	return func(i int) string { return string(sum[:]) + strconv.Itoa(i) }
}

package otlp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	collectorv1 "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	logsv1 "go.opentelemetry.io/proto/otlp/logs/v1"
	resourcev1 "go.opentelemetry.io/proto/otlp/resource/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/collect"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// request is one in OTLP's JSON, with everything in it that a record can have.
const request = `{"resourceLogs":[{"resource":{"attributes":[{"key":"host.name","value":{"stringValue":"Web-1"}},{"key":"service.name","value":{"stringValue":"shop"}}]},
 "scopeLogs":[{"scope":{"name":"lib","version":"1"},"logRecords":[{"timeUnixNano":"1767323045000000001","observedTimeUnixNano":"1767323046000000000","severityNumber":9,"severityText":"INFO","eventName":"sold",
 "body":{"stringValue":"sold \u00e9"},"traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"EEE19B7EC3C1B174","unknown":1,
 "attributes":[{"key":"n","value":{"intValue":"7"}},{"key":"f","value":{"doubleValue":0.5}},{"key":"b","value":{"boolValue":true}},{"key":"raw","value":{"bytesValue":"/wA="}},
  {"key":"list","value":{"arrayValue":{"values":[{"stringValue":"x"},{}]}}},{"key":"map","value":{"kvlistValue":{"values":[{"key":"traceId","value":{"stringValue":"zz"}},{"key":"traceId","value":{"intValue":1}}]}}}]}]}]}],"more":true}`

const want = `{"body":"sold é","severityNumber":9,"severityText":"INFO","eventName":"sold","observed":"2026-01-02T03:04:06Z","traceID":"5b8efff798038103d269b633813fc60c","spanID":"eee19b7ec3c1b174","scope":{"name":"lib","version":"1"},"resource":{"host.name":"Web-1","service.name":"shop"},"attributes":{"n":7,"f":0.5,"b":true,"raw":{"base64":"/wA="},"list":["x",null],"map":{"traceId":"zz"}}}`

func TestEntry(t *testing.T) {
	t.Parallel()
	var in collectorv1.ExportLogsServiceRequest
	if err := decodeJSON([]byte(request), &in); err != nil {
		t.Fatal(err)
	}
	// The two encodings mean the same.
	wire, err := proto.Marshal(&in)
	if err != nil {
		t.Fatal(err)
	}
	var again collectorv1.ExportLogsServiceRequest
	if err := proto.Unmarshal(wire, &again); err != nil {
		t.Fatal(err)
	}
	for _, r := range []*collectorv1.ExportLogsServiceRequest{&in, &again} {
		rl := r.ResourceLogs[0]
		e, no := entryOf(originOf(rl.Resource), rl.ScopeLogs[0].Scope, rl.ScopeLogs[0].LogRecords[0])
		if no != "" || string(e.Body) != want || e.Host != "web-1" || !e.At.Equal(time.Unix(1767323045, 1)) || e.Dropped != "" {
			t.Errorf("%s\n%+v", no, e)
			t.Errorf("got  %s\nwant %s", e.Body, want)
		}
	}
}

func TestMalformedJSON(t *testing.T) {
	t.Parallel()
	record := `{"resourceLogs":[{"scopeLogs":[{"logRecords":[%s]}]}]}`
	for _, in := range []string{
		"", "[]", "{", `{"resourceLogs":{}}`, `{"resourceLogs":[1]}`, `{"resourceLogs":[{"scopeLogs":[{"logRecords":1}]}]}`,
		fmt.Sprintf(record, `{"traceId":"xyz"}`), fmt.Sprintf(record, `{"traceId":7}`), fmt.Sprintf(record, `{"timeUnixNano":"soon"}`), fmt.Sprintf(record, `{"timeUnixNano":"-1"}`),
		fmt.Sprintf(record, `{"body":`+strings.Repeat(`{"arrayValue":{"values":[`, 5000)+strings.Repeat(`]}}`, 5000)+`}`),
		fmt.Sprintf(record, `{"body":{"stringValue":"\ud800"}}`),
	} {
		if err := decodeJSON([]byte(in), &collectorv1.ExportLogsServiceRequest{}); err == nil {
			t.Errorf("accepted: %.100s", in)
		}
	}
}

func value(s string) *commonv1.AnyValue {
	return &commonv1.AnyValue{Value: &commonv1.AnyValue_StringValue{StringValue: s}}
}

func nested(depth int) *commonv1.AnyValue {
	v := value("x")
	for range depth {
		v = &commonv1.AnyValue{Value: &commonv1.AnyValue_ArrayValue{ArrayValue: &commonv1.ArrayValue{Values: []*commonv1.AnyValue{v}}}}
	}
	return v
}

func TestRejected(t *testing.T) {
	t.Parallel()
	for want, r := range map[string]*logsv1.LogRecord{
		"time":   {TimeUnixNano: math.MaxUint64},
		"trace":  {TraceId: []byte("short")},
		"span":   {SpanId: []byte("short")},
		"deeper": {Body: nested(33)},
		"nested": {Attributes: []*commonv1.KeyValue{{Key: "a", Value: nested(40)}}},
	} {
		if _, no := entryOf(originOf(nil), nil, r); !strings.Contains(string(no), want) {
			t.Errorf("%s: %q", want, no)
		}
	}
	if _, no := entryOf(originOf(nil), nil, &logsv1.LogRecord{Body: nested(31)}); no != "" {
		t.Errorf("%q", no)
	}
	if e, no := entryOf(originOf(nil), nil, &logsv1.LogRecord{Attributes: []*commonv1.KeyValue{{Key: "nan", Value: &commonv1.AnyValue{Value: &commonv1.AnyValue_DoubleValue{DoubleValue: math.NaN()}}}}}); no != "" || string(e.Body) != `{"attributes":{"nan":"NaN"}}` {
		t.Errorf("%q %s", no, e.Body)
	}
}

// Whatever is in a record, the event has its bounds and says what it lost.
func TestBounds(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1<<20)
	many := make([]*commonv1.KeyValue, 10_000)
	for i := range many {
		many[i] = &commonv1.KeyValue{Key: fmt.Sprint("k", i), Value: value(long[:100])}
	}
	for name, r := range map[string]*logsv1.LogRecord{
		"a body of 1 MB":         {Body: value(long)},
		"an odd body of 1 MB":    {Body: &commonv1.AnyValue{Value: &commonv1.AnyValue_BytesValue{BytesValue: []byte(long)}}},
		"10,000 attributes":      {Attributes: many, Body: value("kept")},
		"an attribute of 1 MB":   {Attributes: []*commonv1.KeyValue{{Key: "a", Value: value(long)}}},
		"a name of 1 MB":         {Attributes: []*commonv1.KeyValue{{Key: long, Value: value("a")}}},
		"a list of 1 MB":         {Attributes: []*commonv1.KeyValue{{Key: "a", Value: &commonv1.AnyValue{Value: &commonv1.AnyValue_ArrayValue{ArrayValue: &commonv1.ArrayValue{Values: []*commonv1.AnyValue{value(long)}}}}}}},
		"a severity text of 1MB": {SeverityText: long},
	} {
		e, no := entryOf(originOf(&resourcev1.Resource{Attributes: many}), nil, r)
		if no != "" {
			t.Fatal(no)
		}
		ev := collect.Writer{Site: "blue"}.Event(collect.NewIDs([32]byte{}), e, collect.Peer{}, time.Unix(1, 0))
		line := ev.AppendJSON(nil)
		if err := ev.Validate(); err != nil || !json.Valid(line) || len(line) > audit.MaxEventBytes || e.Dropped == "" || ev.Annotations[audit.AnnotationTruncated] != "true" {
			t.Errorf("%s: %v, %d bytes, dropped %q", name, err, len(line), e.Dropped)
		}
	}
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte(request), true)
	var in collectorv1.ExportLogsServiceRequest
	if err := decodeJSON([]byte(request), &in); err != nil {
		f.Fatal(err)
	}
	wire, err := proto.Marshal(&in)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(wire, false)
	f.Fuzz(func(t *testing.T, body []byte, isJSON bool) {
		var in collectorv1.ExportLogsServiceRequest
		if isJSON && decodeJSON(body, &in) != nil || !isJSON && decodeProtobuf(body, &in) != nil {
			return
		}
		for _, rl := range in.GetResourceLogs() {
			for _, sl := range rl.GetScopeLogs() {
				for _, r := range sl.GetLogRecords() {
					e, no := entryOf(originOf(rl.GetResource()), sl.GetScope(), r)
					if no != "" {
						continue
					}
					ev := collect.Writer{Site: "blue"}.Event(collect.NewIDs([32]byte{}), e, collect.Peer{}, time.Unix(1, 0))
					line := ev.AppendJSON(nil)
					if !json.Valid(line) || len(line) > audit.MaxEventBytes {
						t.Errorf("%s", line)
					}
				}
			}
		}
	})
}

// A small request does not become large: neither by empty messages, nor by a
// resource that all of many records repeat.
func TestAmplification(t *testing.T) {
	t.Parallel()
	// wrap makes a field 1 or 2 of what is in it.
	wrap := func(number protowire.Number, in []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), in)
	}
	empty := func(number protowire.Number, n int) []byte { return bytes.Repeat(wrap(number, nil), n) }
	for name, body := range map[string][]byte{
		"records":             wrap(1, wrap(2, empty(2, 1<<20))),
		"attributes":          wrap(1, wrap(2, wrap(2, empty(6, 1<<20)))),
		"resource attributes": wrap(1, wrap(1, empty(1, 1<<20))),
		"resources":           empty(1, 1<<20),
	} {
		var in collectorv1.ExportLogsServiceRequest
		if err := decodeProtobuf(body, &in); !errors.Is(err, errTooMany) {
			t.Errorf("%s: %v", name, err)
		}
	}
	many := `{"resourceLogs":[{"scopeLogs":[{"logRecords":[` + strings.Repeat(`{},`, 1<<20) + `{}]}]}]}`
	if err := decodeJSON([]byte(many), &collectorv1.ExportLogsServiceRequest{}); !errors.Is(err, errTooMany) {
		t.Errorf("JSON: %v", err)
	}
	values := bytes.Repeat(wrap(1, nil), maxMessages/2)
	if err := decodeProtobuf(wrap(1, wrap(2, wrap(2, wrap(5, wrap(5, values))))), &collectorv1.ExportLogsServiceRequest{}); err != nil {
		t.Errorf("many values: %v", err)
	}

	var attributes []*commonv1.KeyValue
	for i := range 10 {
		attributes = append(attributes, &commonv1.KeyValue{Key: fmt.Sprint(i), Value: value(strings.Repeat("x", 4<<10))})
	}
	records := make([]*logsv1.LogRecord, audit.MaxBatchEvents)
	for i := range records {
		records[i] = &logsv1.LogRecord{}
	}
	in := &collectorv1.ExportLogsServiceRequest{ResourceLogs: []*logsv1.ResourceLogs{{
		Resource: &resourcev1.Resource{Attributes: attributes}, ScopeLogs: []*logsv1.ScopeLogs{{LogRecords: records}},
	}}}
	// Refused before anything is recorded, for which there is nobody here.
	if _, err := New(nil).take(t.Context(), nil, in, strconv.Itoa); fault.KindOf(err) != fault.Invalid {
		t.Errorf("%v", err)
	}
}

// A site that reads slowly leaves places for the others.
func TestPlacesOfSites(t *testing.T) {
	t.Parallel()
	d := New(nil)
	for range maxReadingOfSite {
		if !d.enter("blue") {
			t.Fatal("no place")
		}
	}
	if d.enter("blue") || !d.enter("green") {
		t.Error("the places of a site are not its own")
	}
	d.leave("blue")
	if !d.enter("blue") {
		t.Error("a place is not given back")
	}
	for range maxReadingOfSite {
		d.leave("blue")
	}
	d.leave("green")
	if d.all != 0 || len(d.reading) != 0 {
		t.Errorf("%d %v", d.all, d.reading)
	}
}

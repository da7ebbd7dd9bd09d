package otlp

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	collectorv1 "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	"google.golang.org/protobuf/encoding/protojson"
)

// decodeJSON reads OTLP's JSON, which is protobuf's but for the ids of traces
// and spans: those are hexadecimal (OTLP specification, "JSON Protobuf
// Encoding"). Unknown fields pass, as it demands.
func decodeJSON(body []byte, in *collectorv1.ExportLogsServiceRequest) error {
	if bytes.Count(body, []byte("{")) > maxMessages { // each message has one
		return errTooMany
	}
	fixed, err := base64IDs(body, []string{"resourceLogs", "scopeLogs", "logRecords"})
	if err != nil {
		return err
	}
	return protojson.UnmarshalOptions{DiscardUnknown: true, RecursionLimit: 128}.Unmarshal(fixed, in)
}

// base64IDs goes down the members on the path, each a list, and writes the ids
// of the objects at its end as base64. Nothing else is looked into: a body or an
// attribute may have members of these names.
func base64IDs(raw []byte, path []string) ([]byte, error) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(raw, &object); err != nil {
		return nil, fmt.Errorf("decode OTLP JSON: %w", err)
	}
	if len(path) == 0 {
		for _, name := range []string{"traceId", "spanId"} {
			if err := base64ID(object, name); err != nil {
				return nil, err
			}
		}
		return json.Marshal(object)
	}
	value, ok := object[path[0]]
	if !ok {
		return raw, nil
	}
	var list []json.RawMessage
	if err := json.Unmarshal(value, &list); err != nil {
		return nil, fmt.Errorf("decode OTLP JSON: %w", err)
	}
	for i := range list {
		var err error
		if list[i], err = base64IDs(list[i], path[1:]); err != nil {
			return nil, err
		}
	}
	var err error
	if object[path[0]], err = json.Marshal(list); err != nil {
		return nil, fmt.Errorf("decode OTLP JSON: %w", err)
	}
	return json.Marshal(object)
}

func base64ID(object map[string]json.RawMessage, name string) error {
	value, ok := object[name]
	if !ok {
		return nil
	}
	var text string
	if err := json.Unmarshal(value, &text); err != nil {
		return errors.New("decode OTLP JSON: an id is no string")
	}
	id, err := hex.DecodeString(text)
	if err != nil {
		return errors.New("decode OTLP JSON: an id is not hexadecimal")
	}
	object[name], err = json.Marshal(id) // bytes become base64
	return err
}

package otlp

import (
	"errors"

	collectorv1 "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const (
	// maxMessages bounds the messages within a request. An empty one is two
	// bytes, and a hundred times that once it is decoded.
	maxMessages = 200_000
	// maxWireDepth bounds how deep they are nested: a value in a value is three.
	maxWireDepth = 256
)

var (
	errTooMany = errors.New("decode OTLP: too many messages")
	errWire    = errors.New("decode OTLP: not protobuf")
)

// decodeProtobuf reads OTLP's protobuf, after a look at how much it would become.
func decodeProtobuf(body []byte, in *collectorv1.ExportLogsServiceRequest) error {
	left := maxMessages
	if err := count(in.ProtoReflect().Descriptor(), body, &left, maxWireDepth); err != nil {
		return err
	}
	return proto.Unmarshal(body, in)
}

// count takes the messages in the encoding of a message from left.
func count(of protoreflect.MessageDescriptor, b []byte, left *int, depth int) error {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errWire
		}
		b = b[n:]
		if n = protowire.ConsumeFieldValue(number, kind, b); n < 0 {
			return errWire
		}
		if field := of.Fields().ByNumber(number); kind == protowire.BytesType && field != nil && field.Message() != nil {
			if *left--; *left < 0 || depth == 0 {
				return errTooMany
			}
			inner, _ := protowire.ConsumeBytes(b[:n]) // whole, as was just seen
			if err := count(field.Message(), inner, left, depth-1); err != nil {
				return err
			}
		}
		b = b[n:]
	}
	return nil
}

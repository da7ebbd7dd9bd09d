// Package otlp is the door of OpenTelemetry logs: POST /sites/NAME/v1/logs with
// an ExportLogsServiceRequest (OTLP/HTTP 1.x), in protobuf or in JSON.
//
// It owns: reading a request within bounds, the form of a log record in the
// record, and the answers of the specification, partial success included. It
// refuses: traces and metrics, gRPC, and deciding who may write, which is
// collect/entrance.
//
// Start at [Door].
package otlp

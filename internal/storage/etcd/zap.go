package etcd

import (
	"context"
	"log/slog"
	"runtime"

	"go.uber.org/zap/zapcore"
)

// bridge hands etcd's log lines of level warning and above to slog; the rest
// is about etcd's own affairs.
type bridge struct {
	log    *slog.Logger
	fields []zapcore.Field
}

// expected are etcd's words about what is as we want it: no TCP, no
// authentication of its own, a new database, a listener that was closed.
var expected = map[string]bool{
	"Running http and grpc server on single port. This is not recommended for production.": true,
	"simple token is not cryptographically signed":                                         true,
	"Failed to detect schema version":                                                      true,
	"failed to update storage version":                                                     true,
	"setting up serving from embedded etcd failed.":                                        true,
	"stopping insecure grpc server due to error":                                           true,
	"stopped insecure grpc server due to error":                                            true,
}

func newBridge(log *slog.Logger) zapcore.Core { return &bridge{log: log.With("component", "etcd")} }

func (b *bridge) Enabled(l zapcore.Level) bool { return l >= zapcore.WarnLevel }

func (b *bridge) With(fields []zapcore.Field) zapcore.Core {
	return &bridge{log: b.log, fields: append(append([]zapcore.Field(nil), b.fields...), fields...)}
}

func (b *bridge) Check(e zapcore.Entry, c *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if b.Enabled(e.Level) {
		return c.AddCore(e, b)
	}
	return c
}

func (b *bridge) Write(e zapcore.Entry, fields []zapcore.Field) error {
	level := slog.LevelWarn
	switch {
	case expected[e.Message]:
		level = slog.LevelDebug
	case e.Level >= zapcore.ErrorLevel:
		level = slog.LevelError
	}
	if !b.log.Enabled(context.Background(), level) {
		return nil
	}
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range b.fields {
		f.AddTo(enc)
	}
	for _, f := range fields {
		f.AddTo(enc)
	}
	attrs := make([]slog.Attr, 0, len(enc.Fields))
	for k, v := range enc.Fields {
		attrs = append(attrs, slog.Any(k, v))
	}
	b.log.LogAttrs(context.Background(), level, e.Message, attrs...)
	return nil
}

func (b *bridge) Sync() error { return nil }

// fatalHook replaces the exit with which etcd answers damaged files.
type fatalHook struct{ damaged func(reason string) }

func (h fatalHook) OnWrite(e *zapcore.CheckedEntry, fields []zapcore.Field) {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(enc)
	}
	reason := e.Message
	if err, ok := enc.Fields["error"].(string); ok {
		reason += ": " + err
	}
	h.damaged(reason)
	// etcd goes on with what it could not read if this returned.
	runtime.Goexit()
}

package audit

import "context"

type noteKey struct{}

// WithNotes returns a context by which whoever decides within a request can
// annotate its event, which must outlive the context's use. The event belongs
// to one goroutine, and so do the notes.
func WithNotes(ctx context.Context, e *Event) context.Context {
	return context.WithValue(ctx, noteKey{}, e)
}

// Note annotates the event of the request that ctx belongs to. Outside of one it
// does nothing.
func Note(ctx context.Context, key, value string) {
	if e, ok := ctx.Value(noteKey{}).(*Event); ok {
		e.Annotate(key, value)
	}
}

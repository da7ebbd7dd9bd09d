package kubeapi

import (
	"bytes"
	"net/http"
	"strconv"
)

// withNotes adds lines to the verbose answer of /readyz, before its last line,
// which says how the checks ended. Only an answer that was given, to a caller
// who may read it, is added to.
func withNotes(next http.Handler, notes func() []string) http.Handler {
	if notes == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" || r.Method != http.MethodGet || !r.URL.Query().Has("verbose") {
			next.ServeHTTP(w, r)
			return
		}
		h := &held{header: w.Header(), code: http.StatusOK}
		next.ServeHTTP(h, r)
		body := h.body.Bytes()
		if h.code == http.StatusOK || h.code == http.StatusInternalServerError && bytes.HasPrefix(body, []byte("[")) {
			body = annotate(body, notes())
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.WriteHeader(h.code)
		_, _ = w.Write(body)
	})
}

func annotate(body []byte, lines []string) []byte {
	at := bytes.LastIndexByte(bytes.TrimSuffix(body, []byte("\n")), '\n') + 1
	out := bytes.Clone(body[:at])
	for _, line := range lines {
		out = append(append(append(out, "[i]"...), line...), '\n')
	}
	return append(out, body[at:]...)
}

// held keeps a short answer back.
type held struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (h *held) Header() http.Header         { return h.header }
func (h *held) WriteHeader(code int)        { h.code = code }
func (h *held) Write(p []byte) (int, error) { return h.body.Write(p) }

package kubeapi

import "net/http"

// believed are the headers that the library takes facts for the record from.
// Nobody who stands before us is trusted to know them.
var believed = []string{
	// The library records under any id that a client names: one that cannot
	// be recorded would keep a read out of the record, another one's id would
	// hide it among somebody else's events.
	"Audit-Id",
	// These name the client's address on behalf of a proxy.
	"X-Forwarded-For", "X-Real-Ip",
}

// fromNetwork drops what a client says about itself where only we can know.
func fromNetwork(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, name := range believed {
			r.Header.Del(name)
		}
		next.ServeHTTP(w, r)
	})
}

package kubeapi

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestNotesOfReadiness(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		target     string
		code       int
		body, want string
	}{
		"ready":                {"/readyz?verbose", 200, "[+]ping ok\nreadyz check passed\n", "[+]ping ok\n[i]a down\n[i]b ok\nreadyz check passed\n"},
		"not ready":            {"/readyz?verbose=1", 500, "[-]ping failed\nreadyz check failed\n", "[-]ping failed\n[i]a down\n[i]b ok\nreadyz check failed\n"},
		"terse":                {"/readyz", 200, "ok", "ok"},
		"another page":         {"/livez?verbose", 200, "[+]ping ok\nlivez check passed\n", "[+]ping ok\nlivez check passed\n"},
		"a caller who may not": {"/readyz?verbose", 403, "{}\n", "{}\n"},
		"a server that fails":  {"/readyz?verbose", 500, "{}\n", "{}\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := withNotes(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tc.code)
				_, _ = w.Write([]byte(tc.body))
			}), func() []string { return []string{"a down", "b ok"} })
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest("GET", tc.target, nil))
			if w.Code != tc.code || w.Body.String() != tc.want {
				t.Errorf("got %d %q", w.Code, w.Body)
			}
		})
	}
}

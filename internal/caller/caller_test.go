package caller

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

func chain(t *testing.T) *authn.Chain {
	t.Helper()
	c, err := authn.New(authn.Config{Audiences: []string{"test"}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func unseen(context.Context, authn.Identity) {}

func TestOnlyTheShortListIsPublic(t *testing.T) {
	t.Parallel()
	frame := Frame(chain(t), unseen)
	for _, tc := range []struct {
		method, target string
		public         bool
	}{
		{"GET", "/livez", true},
		{"GET", "/readyz", true},
		{"HEAD", "/healthz", true},
		{"GET", "/readyz?verbose", false},
		{"GET", "/readyz/etcd", false},
		{"POST", "/livez", false},
		{"GET", "/metrics", false},
		{"GET", "/version", false},
		{"GET", "/api", false},
		{"GET", "/", false},
	} {
		got, ok, err := frame(httptest.NewRequest(tc.method, tc.target, nil))
		if err != nil || ok != tc.public {
			t.Errorf("%s %s: public %v, %v", tc.method, tc.target, ok, err)
		}
		if ok && got.Name != Anonymous {
			t.Errorf("%s %s: caller %q", tc.method, tc.target, got.Name)
		}
	}
}

// A request with a credential that is refused must not be taken for one
// without a credential, not even on a public path.
func TestRefusedCredentialIsNeverAnonymous(t *testing.T) {
	t.Parallel()
	frame := Frame(chain(t), unseen)
	for name, values := range map[string][]string{
		"garbage token": {"Bearer garbage"},
		"other scheme":  {"Basic YTpi"},
		"no token":      {"Bearer "},
		"no scheme":     {"abc"},
		"two tokens":    {"Bearer a b"},
		"two headers":   {"Bearer a", "Bearer b"},
		"empty":         {""},
	} {
		r := httptest.NewRequest("GET", "/livez", nil)
		r.Header["Authorization"] = values
		if c, ok, err := frame(r); ok || fault.KindOf(err) != fault.Unauthenticated {
			t.Errorf("%s: %v %v %v", name, c, ok, err)
		}
	}
}

func TestCredentialsElsewhereAreNotRead(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequest("GET", "/api?access_token=x&token=y", nil)
	r.AddCookie(&http.Cookie{Name: "token", Value: "z"})
	if _, ok, err := From(t.Context(), chain(t), r); ok || err != nil {
		t.Errorf("a credential was found: %v %v", ok, err)
	}
}

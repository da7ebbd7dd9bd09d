package authn_test

import (
	"testing"

	"github.com/gatehouse-dev/gatehouse/internal/authn/jws"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sameID returns another key under an id that is taken.
func sameID(t testing.TB, id string) []*jws.Key {
	t.Helper()
	key, err := jws.NewKey(id, jws.ES256, newKey(t).Public())
	must(t, err)
	return []*jws.Key{key}
}

package identityprovider

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation/field"

	api "github.com/gatehouse-dev/gatehouse/api/identity/v1alpha1"
)

// TestUpstreamConfigurationTables has the cases of k8s.io/apiserver v0.36.3,
// pkg/apis/apiserver/validation, about AuthenticationConfiguration: 105 of 117,
// each as a whole file and, where it is one issuer, as an IdentityProvider. The
// other twelve turn StructuredAuthenticationConfiguration or its egress selector
// off, which cannot be done here. Expected are fields and kinds of faults.
func TestUpstreamConfigurationTables(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(filepath.Join("testdata", "upstream_configuration.json"))
	must(t, err)
	var rows []struct {
		Name       string
		JWT        []json.RawMessage
		Disallowed []string
		Want       []string
	}
	must(t, json.Unmarshal(data, &rows))
	if len(rows) != 105 {
		t.Errorf("%d cases", len(rows))
	}
	for _, row := range rows {
		t.Run(row.Name, func(t *testing.T) {
			t.Parallel()
			issuers, err := json.Marshal(row.JWT)
			must(t, err)
			_, err = Load([]byte(`{"apiVersion":"apiserver.config.k8s.io/v1","kind":"AuthenticationConfiguration","jwt":`+string(issuers)+`}`), row.Disallowed)
			if (err == nil) != (len(row.Want) == 0) {
				t.Fatalf("file: %v, want %q", err, row.Want)
			}
			for _, want := range row.Want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("file: %v, want %q", err, want)
				}
			}
			if len(row.JWT) != 1 || strings.Contains(string(row.JWT[0]), "egressSelectorType") {
				return // no IdentityProvider can say that
			}
			var jwt api.JWTAuthenticator
			must(t, json.Unmarshal(row.JWT[0], &jwt))
			var got []string
			for _, fault := range Validate(field.NewPath("jwt[0]"), &jwt, row.Disallowed) {
				got = append(got, fault.Field+": "+fault.Type.String())
			}
			if !slices.Equal(got, row.Want) {
				t.Errorf("resource: %q, want %q", got, row.Want)
			}
		})
	}
}

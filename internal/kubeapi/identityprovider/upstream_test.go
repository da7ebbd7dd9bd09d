package identityprovider

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/gatehouse-dev/gatehouse/internal/authn"
)

// upstreamRow is one case of TestToken of k8s.io/apiserver v0.36.3,
// plugin/pkg/authenticator/token/oidc. $url is the test's server; $valid and
// $past are an hour from now and an hour ago.
type upstreamRow struct {
	Name string
	// JWT is the authenticator, as an AuthenticationConfiguration has it.
	JWT json.RawMessage
	// Sign is the key of the token, Keys are those that the issuer publishes;
	// each is a name and an algorithm.
	Sign   string
	Keys   []string
	Claims json.RawMessage
	// Responses are the claims that are served apart from the token.
	Responses map[string]json.RawMessage
	// Discovery is the issuer's document where the case has one.
	Discovery json.RawMessage
	// Want is a user, or "refused", "skipped", "invalid" or "unavailable".
	Want json.RawMessage

	// What is in the file for the cases in notOurs only.
	Remote           bool
	Algs, Disallowed []string
}

// notOurs are the cases about options of the library that nobody can set here.
var notOurs = map[string]string{
	"invalid-sig-alg":                             "the algorithms are those of an AuthenticationConfiguration: every asymmetric one",
	"client and ca mutually exclusive":            "both are ours to give",
	"keyset and discovery URL mutually exclusive": "both are ours to give",
	"valid egress type with working dialer":       "there is no egress selector (TestNewRefuses)",
	"valid egress type with broken dialer":        "there is no egress selector (TestNewRefuses)",
	"health check failure":                        "keys are fetched when a token needs them; how that fails is in TestHostileDocuments",
}

// otherwise are the cases that end differently here, and how.
var otherwise = map[string]authn.Reason{
	// A token that names nobody would be a user whom no policy can name.
	"empty username is allowed via claim": authn.Refused,
	// No provider makes anybody a service account (docs/howto/identity-providers.md).
	"claim mappings with expressions and deeply nested claim - success - service account payload": authn.ReservedName,
	// Distributed claims are not fetched (there, too).
	"groups-distributed":              authn.Refused,
	"groups-distributed-unusual-name": authn.Refused,
	"group-string-claim-distributed":  authn.Refused,
	"groups-prefix-distributed":       authn.Refused,
}

func TestUpstreamOIDCTable(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(filepath.Join("testdata", "upstream_oidc.json"))
	must(t, err)
	var rows []upstreamRow
	must(t, json.Unmarshal(data, &rows))
	if len(rows) != 93 {
		t.Errorf("%d cases, upstream has 93", len(rows))
	}
	exceptions := map[string]bool{}
	for _, row := range rows {
		_, other := otherwise[row.Name]
		if exceptions[row.Name] = notOurs[row.Name] != "" || other; notOurs[row.Name] != "" {
			continue
		}
		t.Run(row.Name, func(t *testing.T) {
			t.Parallel()
			row.run(t)
		})
	}
	for name := range notOurs {
		if !exceptions[name] {
			t.Errorf("%q is no case", name)
		}
	}
	for name := range otherwise {
		if !exceptions[name] {
			t.Errorf("%q is no case", name)
		}
	}
}

func (row upstreamRow) run(t *testing.T) {
	server := row.server(t)
	fill := strings.NewReplacer("$url", server.URL,
		`"$valid"`, fmt.Sprint(time.Now().Add(time.Hour).Unix()), `"$past"`, fmt.Sprint(time.Now().Add(-time.Hour).Unix())).Replace
	provider, err := row.provider(server, fill)
	var want string
	_ = json.Unmarshal(row.Want, &want) // a user leaves it empty
	if (err != nil) != (want == "invalid") {
		t.Fatalf("configuration: %v, want %s", err, row.Want)
	}
	if err != nil {
		return
	}
	t.Cleanup(provider.Close)
	chain, err := authn.New(authn.Config{Audiences: []string{"api"}})
	must(t, err)
	must(t, chain.SetProviders([]authn.ProviderConfig{{Name: "p", Issuers: provider.Issuers(), Provider: provider}}))
	id, err := chain.VerifyToken(context.Background(), sign(t, row.Sign, fill(string(row.Claims))), nil)
	expected := map[string]authn.Reason{"refused": authn.Refused, "skipped": authn.UnknownIssuer}[want]
	if reason, other := otherwise[row.Name]; other {
		expected = reason
	}
	switch {
	case expected != "":
		if authn.ReasonOf(err) != expected {
			t.Errorf("got %v, want it %s", err, expected)
		}
	case err != nil:
		t.Errorf("refused: %v", err)
	default:
		row.compare(t, id)
	}
}

// compare reads who the token is, without what the chain adds for everybody.
func (row upstreamRow) compare(t *testing.T, id authn.Identity) {
	t.Helper()
	var want struct {
		Name, UID string
		Groups    []string
		Extra     map[string][]string
	}
	must(t, json.Unmarshal(row.Want, &want))
	groups := slices.DeleteFunc(id.Groups(), func(g string) bool { return g == "system:authenticated" })
	extra := maps.Clone(id.Extra())
	if ids := extra[authn.ExtraCredentialID]; len(ids) == 1 && strings.HasPrefix(ids[0], "JWTSHA256=") {
		// The id of a token that brings none of its own.
		delete(extra, authn.ExtraCredentialID)
	}
	if id.Name() != want.Name || id.UID() != want.UID || !slices.Equal(groups, want.Groups) || len(extra)+len(want.Extra) > 0 && !reflect.DeepEqual(extra, want.Extra) {
		t.Errorf("got %q %q %q %q, want %s", id.Name(), id.UID(), groups, extra, row.Want)
	}
}

// provider reads the case's authenticator as kube-apiserver's file is read. An
// issuer that is not the test's server has its documents there.
func (row upstreamRow) provider(server *httptest.Server, fill func(string) string) (*Provider, error) {
	file := `{"apiVersion":"apiserver.config.k8s.io/v1","kind":"AuthenticationConfiguration","jwt":[` + fill(string(row.JWT)) + `]}`
	issuers, err := Load([]byte(file), row.Disallowed)
	if err != nil {
		return nil, err
	}
	jwt := issuers[0]
	jwt.Issuer.CertificateAuthority = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	if jwt.Issuer.DiscoveryURL == "" && jwt.Issuer.URL != server.URL && !row.Remote {
		jwt.Issuer.DiscoveryURL = server.URL + "/elsewhere"
	}
	return New(Config{JWT: jwt, Fetching: Fetching{AllowLoopback: true}, DisallowedIssuers: row.Disallowed})
}

// server serves the issuer's documents and the claims that a token refers to.
func (row upstreamRow) server(t *testing.T) *httptest.Server {
	var set jose.JSONWebKeySet
	for _, key := range row.Keys {
		set.Keys = append(set.Keys, jsonWebKey(t, key).Public())
	}
	keys, err := json.Marshal(set)
	must(t, err)
	var server *httptest.Server
	server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		claim := strings.TrimPrefix(r.URL.Path, "/")
		switch _, served := row.Responses[claim]; {
		case claim == ".testing/keys":
			_, _ = w.Write(keys)
		case claim == "elsewhere":
			var jwt struct{ Issuer struct{ URL string } }
			_ = json.Unmarshal(row.JWT, &jwt)
			_ = json.NewEncoder(w).Encode(map[string]string{"issuer": jwt.Issuer.URL, "jwks_uri": server.URL + "/.testing/keys"})
		case strings.HasSuffix(claim, ".well-known/openid-configuration") && len(row.Discovery) > 0:
			_, _ = w.Write([]byte(strings.ReplaceAll(string(row.Discovery), "$url", server.URL)))
		case served:
			t.Errorf("the token's reference to %q was followed", r.URL.Path)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(server.Close)
	return server
}

func sign(t *testing.T, name, payload string) string {
	t.Helper()
	key := jsonWebKey(t, name)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(key.Algorithm), Key: key}, nil)
	must(t, err)
	signed, err := signer.Sign([]byte(payload))
	must(t, err)
	token, err := signed.CompactSerialize()
	must(t, err)
	return token
}

var madeKeys sync.Map // from a name to a func() (crypto.Signer, error)

// jsonWebKey returns the key of a name such as "rsa_1 PS256": one key for each
// first word, made when it is first wanted.
func jsonWebKey(t *testing.T, name string) *jose.JSONWebKey {
	t.Helper()
	id, algorithm, _ := strings.Cut(name, " ")
	make, _ := madeKeys.LoadOrStore(id, sync.OnceValues(func() (crypto.Signer, error) {
		switch {
		case strings.HasPrefix(id, "rsa"):
			return rsa.GenerateKey(rand.Reader, 2048)
		case strings.HasSuffix(algorithm, "512"):
			return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
		default:
			return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		}
	}))
	key, err := make.(func() (crypto.Signer, error))()
	must(t, err)
	return &jose.JSONWebKey{Key: key, KeyID: id, Algorithm: algorithm, Use: "sig"}
}

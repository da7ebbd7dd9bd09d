package keycloak

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

var good = Config{Name: "staff", URL: "https://login.example/auth/", Realm: "people", ClientID: "gatehouse"}

// What Keycloak's admin API calls the fields that are set: a name that it does
// not know makes it refuse the whole import.
var known = map[string][]string{
	"RealmRepresentation": {
		"realm", "displayName", "enabled", "sslRequired", "registrationAllowed", "editUsernameAllowed", "duplicateEmailsAllowed",
		"bruteForceProtected", "defaultSignatureAlgorithm", "revokeRefreshToken", "refreshTokenMaxReuse", "accessTokenLifespan",
		"ssoSessionIdleTimeout", "ssoSessionMaxLifespan", "oauth2DeviceCodeLifespan", "oauth2DevicePollingInterval",
		"eventsEnabled", "adminEventsEnabled", "clients",
	},
	"ClientRepresentation": {
		"clientId", "name", "description", "enabled", "protocol", "publicClient", "standardFlowEnabled", "implicitFlowEnabled",
		"directAccessGrantsEnabled", "serviceAccountsEnabled", "fullScopeAllowed", "redirectUris", "webOrigins",
		"optionalClientScopes", "attributes", "protocolMappers",
	},
	"ProtocolMapperRepresentation": {"name", "protocol", "protocolMapper", "config"},
	"config of mappers": {
		"claim.name", "id.token.claim", "access.token.claim", "userinfo.token.claim", "full.path", "user.attribute", "jsonType.label",
	},
	"attributes of clients": {
		"pkce.code.challenge.method", "oauth2.device.authorization.grant.enabled", "use.refresh.tokens", "id.token.signed.response.alg", "access.token.lifespan",
	},
}

func TestFieldsAreKeycloaks(t *testing.T) {
	t.Parallel()
	files, err := Render(good)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(files.Realm)
	if err != nil {
		t.Fatal(err)
	}
	realm := map[string]any{}
	if err := json.Unmarshal(data, &realm); err != nil {
		t.Fatal(err)
	}
	only := func(what string, object map[string]any) {
		t.Helper()
		for name := range object {
			if !slices.Contains(known[what], name) {
				t.Errorf("%s has no %q", what, name)
			}
		}
	}
	only("RealmRepresentation", realm)
	client := realm["clients"].([]any)[0].(map[string]any)
	only("ClientRepresentation", client)
	only("attributes of clients", client["attributes"].(map[string]any))
	for _, m := range client["protocolMappers"].([]any) {
		only("ProtocolMapperRepresentation", m.(map[string]any))
		only("config of mappers", m.(map[string]any)["config"].(map[string]any))
	}
	if !reflect.DeepEqual(*files.Client, files.Realm.Clients[0]) {
		t.Error("the client alone is another than that of the realm")
	}
}

func TestClientIsSafe(t *testing.T) {
	t.Parallel()
	files, err := Render(good)
	if err != nil {
		t.Fatal(err)
	}
	c := files.Client
	if !c.PublicClient || !c.StandardFlowEnabled || c.ImplicitFlowEnabled || c.DirectAccessGrantsEnabled || c.ServiceAccountsEnabled || c.FullScopeAllowed ||
		c.Attributes["pkce.code.challenge.method"] != "S256" || len(c.RedirectURIs) != 1 || strings.Contains(c.RedirectURIs[0], "*") || len(c.WebOrigins) != 0 {
		t.Errorf("%+v", c)
	}
	p := files.Provider
	if p.Spec.JWT.Issuer.URL != "https://login.example/auth/realms/people" || p.Spec.JWT.Issuer.Audiences[0] != "gatehouse" || *p.Spec.JWT.ClaimMappings.Username.Prefix != "staff:" || *p.Spec.JWT.ClaimMappings.Groups.Prefix != "staff:" {
		t.Errorf("%+v", p.Spec.JWT)
	}
	with := good
	with.RedirectPort = 8000
	if files, err = Render(with); err != nil || files.Client.RedirectURIs[0] != "http://127.0.0.1:8000/callback" {
		t.Errorf("%v %v", files, err)
	}
}

func TestRenderRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Config){
		"http": func(c *Config) { c.URL = "http://login.example" }, "a realm in it": func(c *Config) { c.URL += "realms/people" }, "a query": func(c *Config) { c.URL += "?x" },
		"no name": func(c *Config) { c.Name = "" }, "a reserved name": func(c *Config) { c.Name = "system" }, "another": func(c *Config) { c.Name = "gatehouse" },
		"a realm of two words": func(c *Config) { c.Realm = "a b" }, "a path": func(c *Config) { c.Realm = "a/b" }, "no client": func(c *Config) { c.ClientID = "" },
	} {
		c := good
		change(&c)
		if _, err := Render(c); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

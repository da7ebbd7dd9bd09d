package e2e

import (
	"encoding/json"
	"fmt"
	"html"
	"io"
	"io/fs"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/test/harness"
)

// A person has a browser and a home of their own.
type person struct {
	t        *testing.T
	name     string
	home     string
	provider *harness.Provider
	browser  *http.Client
}

func newPerson(t *testing.T, provider *harness.Provider, name string) *person {
	t.Helper()
	browser := provider.Browser()
	var err error
	if browser.Jar, err = cookiejar.New(nil); err != nil {
		t.Fatal(err)
	}
	browser.Timeout = commandWithin
	t.Cleanup(browser.CloseIdleConnections)
	return &person{t: t, name: name, home: t.TempDir(), provider: provider, browser: browser}
}

func (p *person) env() []string {
	return []string{"XDG_CACHE_HOME=" + filepath.Join(p.home, "cache"), "HOME=" + p.home}
}

var (
	formPattern  = regexp.MustCompile(`(?s)<form[^>]*action="([^"]*)"[^>]*>(.*?)</form>`)
	inputPattern = regexp.MustCompile(`<input[^>]*>`)
	wordPattern  = regexp.MustCompile(`(name|value)="([^"]*)"`)
)

// open opens a page as a browser would and fills in every form that follows,
// until there is none.
func (p *person) open(address string) string {
	p.t.Helper()
	response, err := p.browser.Get(address)
	for range 8 {
		if err != nil {
			p.t.Fatal(err)
		}
		body, readErr := io.ReadAll(io.LimitReader(response.Body, 1<<20))
		response.Body.Close()
		if readErr != nil {
			p.t.Fatal(readErr)
		}
		form := formPattern.FindStringSubmatch(string(body))
		if form == nil {
			return string(body)
		}
		values := url.Values{}
		for _, input := range inputPattern.FindAllString(form[2], -1) {
			word := map[string]string{}
			for _, m := range wordPattern.FindAllStringSubmatch(input, -1) {
				word[m[1]] = html.UnescapeString(m[2])
			}
			switch word["name"] {
			case "":
			case "abort":
			case "login":
				values.Set("login", p.name)
			case "password":
				values.Set("password", "irrelevant")
			default:
				values.Set(word["name"], word["value"])
			}
		}
		target, parseErr := response.Request.URL.Parse(html.UnescapeString(form[1]))
		if parseErr != nil {
			p.t.Fatal(parseErr)
		}
		response, err = p.browser.PostForm(target.String(), values)
	}
	p.t.Fatal("the provider asks for ever")
	return ""
}

// login runs gatehouse login and signs in where it says.
func (p *person) login(g *harness.Gatehouse, kubeconfig string, args ...string) string {
	p.t.Helper()
	args = append([]string{"login", "--kubeconfig", g.Kubeconfig, "--out", kubeconfig, "--issuer", p.provider.URL, "--client-id", "gatehouse", "--issuer-ca", p.provider.CAFile, "--scope", "groups,offline_access"}, args...)
	run, err := harness.Start("gatehouse login", g.Path, p.env(), args...)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(run.Kill)
	address, err := run.WaitLine(p.t.Context(), "https://")
	if err != nil {
		p.t.Fatal(err)
	}
	if page := p.open(address); !strings.Contains(page, "You are signed in") {
		p.t.Fatalf("the browser ends at:\n%s", page)
	}
	if code, err := run.Wait(p.t.Context()); err != nil || code != 0 {
		p.t.Fatalf("login: code %d, %v\n%s", code, err, run.Log())
	}
	return run.Log()
}

func (p *person) kubectl(kubeconfig string) kube {
	p.t.Helper()
	k, err := harness.NewKubectl(kubeconfig)
	if err != nil {
		p.t.Fatal(err)
	}
	return kube{p.t, k.WithEnv(p.env()...)}
}

// whoAndWhat is who kubectl is and the id of what kubectl showed.
func whoAndWhat(k kube) string {
	k.t.Helper()
	return readWho(k.t, k.run("auth", "whoami", "-o", "json"))
}

func readWho(t *testing.T, answer string) string {
	t.Helper()
	var review struct {
		Status struct {
			UserInfo struct {
				Username string
				Extra    map[string][]string
			}
		}
	}
	if err := json.Unmarshal([]byte(answer), &review); err != nil {
		t.Fatal(err)
	}
	return review.Status.UserInfo.Username + fmt.Sprint(review.Status.UserInfo.Extra["authentication.kubernetes.io/credential-id"])
}

// signInWorld is a control plane that trusts a provider.
func signInWorld(t *testing.T) (*harness.Gatehouse, *harness.Provider) {
	t.Helper()
	provider, err := harness.StartProvider(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		provider.Kill()
		if t.Failed() {
			t.Logf("--- oidc-provider ---\n%s", provider.Log())
		}
	})
	config := filepath.Join(t.TempDir(), "gatehouse.yaml")
	if err := os.WriteFile(config, []byte("apiVersion: config.gatehouse.dev/v1alpha1\nkind: Configuration\nauthentication: {allowLoopbackIssuers: true}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	g := start(t, "--config", config)
	ca, err := json.Marshal(string(provider.CA))
	if err != nil {
		t.Fatal(err)
	}
	k := as(t, g)
	k.feed(fmt.Sprintf(`{"apiVersion":"identity.gatehouse.dev/v1alpha1","kind":"IdentityProvider","metadata":{"name":"staff"},"spec":{"jwt":{
"issuer":{"url":%q,"audiences":["gatehouse"],"certificateAuthority":%s},
"claimMappings":{"username":{"claim":"sub","prefix":"staff:"},"groups":{"claim":"groups","prefix":"staff:"}}}}}`, provider.URL, ca), "create", "-f", "-")
	k.run("create", "clusterrolebinding", "dev", "--clusterrole=view", "--group=staff:dev")
	eventually(t, commandWithin, "the provider is known", func() bool {
		return k.run("get", "idp", "staff", "-o", `jsonpath={.status.conditions[?(@.type=="Accepted")].status}`) == "True"
	})
	return g, provider
}

// Stock kubectl stays signed in through a certified provider: authorization
// code with PKCE and device code, refresh, rotation of the provider's keys, an
// outage, and a ban.
func TestSignIn(t *testing.T) {
	t.Parallel()
	g, provider := signInWorld(t)
	tell := func(command string) {
		t.Helper()
		if err := provider.Tell(t.Context(), command); err != nil {
			t.Fatal(err)
		}
	}
	ada, bob := newPerson(t, provider, "ada"), newPerson(t, provider, "bob")
	config := filepath.Join(ada.home, "kubeconfig")
	tell("life/8")
	said := ada.login(g, config)
	if !strings.Contains(said, "signed in as staff:ada") {
		t.Errorf("login says %s", said)
	}
	k := ada.kubectl(config)
	k.shows([]string{"staff:ada", "staff:dev"}, "auth", "whoami")
	k.run("get", "pods", "-n", "default")
	k.fails(1, []string{"Forbidden"}, "get", "secrets", "-n", "default")
	checkKept(t, ada, said, config)

	// Many kubectls at the moment of expiry share one refresh: the provider ends
	// the whole sign-in when a refresh token is used twice.
	first := whoAndWhat(k)
	tell("life/3600")
	ends := kept(t, ada)["expires"].(time.Time)
	eventually(t, commandWithin, "the token is about to end", func() bool { return time.Until(ends) < 1800*time.Millisecond })
	var together sync.WaitGroup
	for range 4 {
		together.Go(func() {
			if got := k.exec("", "auth", "whoami"); got.Code != 0 {
				t.Errorf("among others: %v", got)
			}
		})
	}
	together.Wait()
	if next := whoAndWhat(k); next == first || time.Until(kept(t, ada)["expires"].(time.Time)) < 50*time.Minute {
		t.Errorf("not renewed: %s", next)
	}

	// The provider signs with a new key: tokens of the old one go on for as long
	// as it is published, and are renewed once they are refused.
	before := whoAndWhat(k)
	tell("rotate")
	if again := whoAndWhat(k); again != before {
		t.Errorf("the old key is still published, but %s became %s", before, again)
	}
	tell("rotate/drop")
	bobs := filepath.Join(bob.home, "kubeconfig")
	bob.login(g, bobs)
	bob.kubectl(bobs).shows([]string{"staff:bob"}, "auth", "whoami")
	eventually(t, commandWithin, "a token of a key that is gone is renewed once it is refused", func() bool {
		got := k.exec("", "auth", "whoami", "-o", "json")
		return got.Code == 0 && readWho(t, got.Stdout) != before
	})

	// While the provider is away, what is kept goes on.
	tell("away/on")
	k.shows([]string{"staff:ada"}, "auth", "whoami")
	tell("away/off")

	// A ban ends it, within a second and whatever is renewed.
	gatehouse(t, 0, "revoke", "subject", "user/staff:ada", "--reason", "left", "--kubeconfig", g.Kubeconfig)
	banned := time.Now()
	eventually(t, effectWithin+commandWithin, "the ban", func() bool {
		began := time.Now()
		got := k.exec("", "get", "pods", "-n", "default")
		if got.Code == 0 && began.Sub(banned) > effectWithin {
			t.Fatalf("%v after the ban kubectl still works", began.Sub(banned))
		}
		return got.Code != 0
	})
	for range 3 {
		got := k.exec("", "get", "pods", "-n", "default")
		if got.Code == 0 || !strings.Contains(got.Stderr, "Unauthorized") && !strings.Contains(got.Stderr, "logged in") && !strings.Contains(got.Stderr, "orbidden") {
			t.Errorf("after the ban: %v", got)
		}
	}
	bob.kubectl(bobs).run("get", "pods", "-n", "default")
}

// kept reads the one file of a person's cache.
func kept(t *testing.T, p *person) map[string]any {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(p.home, "cache", "gatehouse", "credentials", "*.json"))
	if err != nil || len(files) != 1 {
		t.Fatalf("cache: %v %v", files, err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]any{}
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	at, err := time.Parse(time.RFC3339, all["expires"].(string))
	if err != nil {
		t.Fatal(err)
	}
	all["expires"] = at
	return all
}

// checkKept looks for the credential anywhere but in the one file.
func checkKept(t *testing.T, p *person, said, kubeconfig string) {
	t.Helper()
	entry := kept(t, p)
	token, refresh := entry["token"].(string), entry["refreshToken"].(string)
	config, err := os.ReadFile(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	if token == "" || refresh == "" {
		t.Fatal("nothing is kept")
	}
	for where, text := range map[string]string{"what login prints": said, "the kubeconfig": string(config)} {
		if strings.Contains(text, token) || strings.Contains(text, refresh) {
			t.Errorf("%s holds a credential", where)
		}
	}
	err = filepath.WalkDir(p.home, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if strings.Contains(path, "credentials") && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// kubectl itself asks a person, with a code for another device, only when one
// is there.
func TestSignInFromKubectl(t *testing.T) {
	t.Parallel()
	g, provider := signInWorld(t)
	dora := newPerson(t, provider, "dora")
	config := filepath.Join(dora.home, "kubeconfig")
	dora.login(g, config)
	forget := func(args ...string) {
		t.Helper()
		run, err := harness.Start("gatehouse", g.Path, dora.env(), args...)
		if err != nil {
			t.Fatal(err)
		}
		if code, err := run.Wait(t.Context()); err != nil || code != 0 || !strings.Contains(run.Log(), "renews it no more") {
			t.Fatalf("%v: %d %v %s", args, code, err, run.Log())
		}
	}
	forget("login", "--forget", "--kubeconfig", g.Kubeconfig, "--issuer", provider.URL, "--client-id", "gatehouse", "--issuer-ca", provider.CAFile, "--scope", "groups,offline_access")
	k := dora.kubectl(config)
	// Nobody is in front of it.
	k.fails(1, []string{"nobody is signed in", "gatehouse login"}, "auth", "whoami")

	// Somebody is: a terminal, and a plugin with --device.
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, []byte(strings.Replace(string(text), "- credential\n", "- credential\n      - --device\n", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if changed, err := os.ReadFile(config); err != nil || !strings.Contains(string(changed), "--device") {
		t.Fatalf("the kubeconfig has another form:\n%s", changed)
	}
	stock, err := harness.Upstream()
	if err != nil {
		t.Fatal(err)
	}
	terminal, err := harness.Start("kubectl on a terminal", "script", append(dora.env(), "KUBECONFIG="+config),
		"-qec", filepath.Join(stock, "kubectl")+" auth whoami", "/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(terminal.Kill)
	line, err := terminal.WaitLine(t.Context(), "or open https://")
	if err != nil {
		t.Fatal(err)
	}
	dora.open(strings.TrimPrefix(line, "or open "))
	if code, err := terminal.Wait(t.Context()); err != nil || code != 0 || !strings.Contains(terminal.Log(), "staff:dora") {
		t.Fatalf("on a terminal: %d %v\n%s", code, err, terminal.Log())
	}
	if strings.Contains(terminal.Log(), kept(t, dora)["token"].(string)) {
		t.Error("the token is shown on the terminal")
	}
	k.shows([]string{"staff:dora"}, "auth", "whoami")

	// kubectl's own policy on plugins holds.
	kuberc := filepath.Join(dora.home, "kuberc")
	if err := os.WriteFile(kuberc, []byte("apiVersion: kubectl.config.k8s.io/v1beta1\nkind: Preference\ncredentialPluginPolicy: DenyAll\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	k.fails(1, []string{"plugin"}, "auth", "whoami", "--kuberc", kuberc)

	connectedProviders(t, g)

	// The plugin by itself gives nothing to whoever runs it by hand.
	edge := filepath.Join(filepath.Dir(g.Path), "gatehouse-edge")
	for name, env := range map[string]string{"no question": "", "an old version": `{"apiVersion":"client.authentication.k8s.io/v1alpha1","kind":"ExecCredential","spec":{}}`, "no JSON": "x"} {
		run, err := harness.Start(name, edge, append(dora.env(), "KUBERNETES_EXEC_INFO="+env), "credential", "--issuer", provider.URL, "--client-id", "gatehouse", "--issuer-ca", provider.CAFile, "--scope", "groups,offline_access")
		if err != nil {
			t.Fatal(err)
		}
		if code, err := run.Wait(t.Context()); err != nil || code != 2 || strings.Contains(run.Log(), `"token"`) {
			t.Errorf("%s: %d %v %s", name, code, err, run.Log())
		}
	}
}

// What connect writes is taken by the server, and tokens as Keycloak makes them
// count. Keycloak itself is not here.
func connectedProviders(t *testing.T, g *harness.Gatehouse) {
	t.Helper()
	cloak, dir := newIDP(t), t.TempDir()
	base := cloak.server.URL
	cloak.server.URL += "/realms/people"
	ca := filepath.Join(dir, "ca.crt")
	if err := os.WriteFile(ca, []byte(cloak.ca()), 0o600); err != nil {
		t.Fatal(err)
	}
	k := as(t, g)
	gatehouse(t, 0, "connect", "keycloak", "people", "--url", base, "--realm", "people", "--ca", ca, "--out", filepath.Join(dir, "out"))
	k.run("create", "-f", filepath.Join(dir, "out", "identity-provider.yaml"))
	k.feed(gatehouse(t, 0, "connect", "oidc", "dex", "--issuer", "https://dex.example", "--client-id", "gatehouse", "--username-claim", "email").Stdout, "create", "--dry-run=server", "-f", "-")
	gatehouse(t, 2, "connect", "keycloak", "system", "--url", base, "--realm", "people", "--out", dir)
	gatehouse(t, 2, "connect", "oidc", "dex", "--issuer", "http://dex.example", "--client-id", "gatehouse")

	like := func(changes map[string]any) http.Header {
		all := map[string]any{"typ": "ID", "azp": "gatehouse", "sub": "7d1c", "preferred_username": "ada", "groups": []string{"dev"}}
		for claim, value := range changes {
			all[claim] = value
		}
		return bearerOf(cloak.token(all))
	}
	anybody := bareClient(t, g)
	eventually(t, commandWithin, "a person of Keycloak", func() bool {
		who, code := anybody.whoami(like(nil))
		return code == http.StatusCreated && who.Status.UserInfo.Username == "people:ada" && fmt.Sprint(who.Status.UserInfo.Groups) == "[people:dev system:authenticated]"
	})
	for name, changes := range map[string]map[string]any{
		"an access token": {"typ": "Bearer"}, "a refresh token": {"typ": "Refresh"}, "another client": {"azp": "other"}, "another audience": {"aud": "account"},
	} {
		if _, code := anybody.whoami(like(changes)); code != http.StatusUnauthorized {
			t.Errorf("%s: %d", name, code)
		}
	}
}

package clusterfiles_test

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/apis/apiserver/load"
	"k8s.io/apiserver/pkg/apis/apiserver/validation"
	auditpolicy "k8s.io/apiserver/pkg/audit/policy"
	"k8s.io/apiserver/pkg/authorization/cel"
	"k8s.io/client-go/tools/clientcmd"

	federation "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/edge/localtls"
	"github.com/gatehouse-dev/gatehouse/internal/federation/clusterfiles"
)

func options(mode federation.SiteMode) clusterfiles.Options {
	return clusterfiles.Options{
		Site: "blue", Mode: mode, Server: "https://gatehouse.example:7443",
		ServingCA: []byte("ca"), Certificate: []byte("crt"), Key: []byte("key"),
		Dir: "/etc/kubernetes/gatehouse", APIAudiences: []string{"https://kubernetes.default.svc"},
	}
}

func render(t *testing.T, o clusterfiles.Options) map[string]string {
	t.Helper()
	files, err := clusterfiles.Render(o)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, f := range files {
		out[f.Name] = string(f.Content)
		if f.Secret != (f.Name == clusterfiles.KeyFile) {
			t.Errorf("%s: secret is %v", f.Name, f.Secret)
		}
		if f.Name != clusterfiles.KeyFile && strings.Contains(string(f.Content), "key-data") {
			t.Errorf("%s embeds a key", f.Name)
		}
	}
	return out
}

// The library that kube-apiserver reads the file with must accept it and see
// in it what the design fixes.
func TestAuthorizationConfigurationAsUpstreamReadsIt(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		mode   federation.SiteMode
		closed bool
		chain  []string
	}{
		{federation.SiteDeny, false, []string{"gatehouse-deny", "node", "rbac"}},
		{federation.SiteFull, false, []string{"gatehouse-deny", "node", "rbac", "gatehouse-allow"}},
		{federation.SiteFull, true, []string{"gatehouse-deny", "node", "rbac", "gatehouse-allow"}},
	} {
		o := options(tc.mode)
		o.FailClosed = tc.closed
		cfg, err := load.LoadFromData([]byte(render(t, o)[clusterfiles.AuthorizationFile]))
		if err != nil {
			t.Fatal(err)
		}
		errs := validation.ValidateAuthorizationConfiguration(cel.NewDefaultCompiler(), nil, cfg, sets.New("Node", "RBAC", "Webhook"), sets.New("Webhook"))
		for _, e := range errs {
			if !strings.Contains(e.Field, "kubeConfigFile") { // the file is not on this machine
				t.Errorf("%v", e)
			}
		}
		var chain []string
		for _, a := range cfg.Authorizers {
			chain = append(chain, a.Name)
			if a.Webhook == nil {
				continue
			}
			w := a.Webhook
			if w.CacheAuthorizedRequests || w.CacheUnauthorizedRequests || w.Timeout.Duration.Seconds() != 1 {
				t.Errorf("%s remembers answers or waits for long: %+v", a.Name, w)
			}
			if want := map[bool]string{false: apiserver.FailurePolicyNoOpinion, true: apiserver.FailurePolicyDeny}[tc.closed]; w.FailurePolicy != want {
				t.Errorf("%s fails as %s, want %s", a.Name, w.FailurePolicy, want)
			}
		}
		if strings.Join(chain, " ") != strings.Join(tc.chain, " ") {
			t.Errorf("%s: chain %v, want %v", tc.mode, chain, tc.chain)
		}
	}
}

func TestObserveCannotBreakAnything(t *testing.T) {
	t.Parallel()
	files := render(t, options(federation.SiteObserve))
	for _, name := range []string{clusterfiles.AuthorizationFile, clusterfiles.DenyFile, clusterfiles.AllowFile, clusterfiles.TokenWebhookFile} {
		if _, ok := files[name]; ok {
			t.Errorf("observe mode writes %s", name)
		}
	}
	if flags := files[clusterfiles.FlagsFile]; strings.Contains(flags, "authoriz") || strings.Contains(flags, "authentication") {
		t.Errorf("observe mode changes decisions: %s", flags)
	}
}

func TestKubeconfigsNameTheSitesOwnDoors(t *testing.T) {
	t.Parallel()
	files := render(t, options(federation.SiteFull))
	for name, door := range map[string]string{
		clusterfiles.AuditWebhookFile: "/sites/blue/audit",
		clusterfiles.DenyFile:         "/sites/blue/authorize/deny",
		clusterfiles.AllowFile:        "/sites/blue/authorize",
		clusterfiles.TokenWebhookFile: "/sites/blue/authenticate",
	} {
		cfg, err := clientcmd.Load([]byte(files[name]))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := cfg.Clusters["gatehouse"].Server; got != "https://gatehouse.example:7443"+door {
			t.Errorf("%s asks %s", name, got)
		}
	}
	if !strings.Contains(files[clusterfiles.FlagsFile], "--api-audiences=https://kubernetes.default.svc,gatehouse:site:blue\n") {
		t.Errorf("flags lack the site's audience: %s", files[clusterfiles.FlagsFile])
	}
}

func TestAuditPolicyAsUpstreamReadsIt(t *testing.T) {
	t.Parallel()
	if _, err := auditpolicy.LoadPolicyFromBytes([]byte(render(t, options(federation.SiteObserve))[clusterfiles.AuditPolicyFile])); err != nil {
		t.Fatal(err)
	}
}

func TestRenderRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*clusterfiles.Options){
		"clear text":                        func(o *clusterfiles.Options) { o.Server = "http://x" },
		"no mode":                           func(o *clusterfiles.Options) { o.Mode = "" },
		"relative path":                     func(o *clusterfiles.Options) { o.Dir = "here" },
		"no key":                            func(o *clusterfiles.Options) { o.Key = nil },
		"a site that is more than a name":   func(o *clusterfiles.Options) { o.Site = "a\nauthorizers: []" },
		"a site above the own one":          func(o *clusterfiles.Options) { o.Site = ".." },
		"a server with a user":              func(o *clusterfiles.Options) { o.Server = "https://a:b@gatehouse.example" },
		"a server with a query":             func(o *clusterfiles.Options) { o.Server = "https://gatehouse.example?x" },
		"a directory of more than one line": func(o *clusterfiles.Options) { o.Dir = "/etc/x\n    failurePolicy: NoOpinion" },
		"no audience":                       func(o *clusterfiles.Options) { o.APIAudiences = nil },
	} {
		o := options(federation.SiteFull)
		change(&o)
		if _, err := clusterfiles.Render(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A directory may have any name; it is not read as YAML.
func TestDirectoriesAreQuoted(t *testing.T) {
	t.Parallel()
	o := options(federation.SiteFull)
	o.Dir = `/etc/a: {b} "c" # d`
	cfg, err := load.LoadFromData([]byte(render(t, o)[clusterfiles.AuthorizationFile]))
	if err != nil {
		t.Fatal(err)
	}
	if got := *cfg.Authorizers[0].Webhook.ConnectionInfo.KubeConfigFile; got != o.Dir+"/"+clusterfiles.DenyFile {
		t.Errorf("read as %q", got)
	}
}

// A cluster with a local decision point asks that, with the files that it
// writes, and nothing else changes.
func TestLocal(t *testing.T) {
	t.Parallel()
	o := options(federation.SiteFull)
	o.FailClosed = true
	central := render(t, o)
	o.Local = &clusterfiles.Local{Server: "https://127.0.0.1:7444", TLSDir: "/var/lib/gatehouse-edge/tls"}
	local := render(t, o)
	ca, cert, key := localtls.Files(o.Local.TLSDir)
	for name, content := range local {
		config, err := clientcmd.Load([]byte(content))
		if !strings.HasSuffix(name, ".kubeconfig") {
			if name != clusterfiles.EdgeFlagsFile && content != central[name] {
				t.Errorf("%s differs", name)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		cluster, user := config.Clusters["gatehouse"], config.AuthInfos["blue"]
		if !strings.HasPrefix(cluster.Server, "https://127.0.0.1:7444/sites/blue/") || cluster.CertificateAuthority != ca || user.ClientCertificate != cert || user.ClientKey != key {
			t.Errorf("%s: %+v %+v", name, cluster, user)
		}
	}
	want := "--server=https://gatehouse.example:7443\n--site=blue\n--dir=/etc/kubernetes/gatehouse\n--tls-dir=/var/lib/gatehouse-edge/tls\n--listen=127.0.0.1:7444\n--mode=full\n"
	if local[clusterfiles.EdgeFlagsFile] != want {
		t.Errorf("flags:\n%s", local[clusterfiles.EdgeFlagsFile])
	}
	for name, change := range map[string]func(*clusterfiles.Options){
		"observe":              func(o *clusterfiles.Options) { o.Mode = federation.SiteObserve },
		"http":                 func(o *clusterfiles.Options) { o.Local.Server = "http://127.0.0.1:7444" },
		"space":                func(o *clusterfiles.Options) { o.Local.Server = "https://127.0.0.1:7444 --mode=full" },
		"a relative directory": func(o *clusterfiles.Options) { o.Local.TLSDir = "tls" },
	} {
		bad, place := o, *o.Local
		bad.Local = &place
		change(&bad)
		if _, err := clusterfiles.Render(bad); err == nil {
			t.Errorf("%s: rendered", name)
		}
	}
}

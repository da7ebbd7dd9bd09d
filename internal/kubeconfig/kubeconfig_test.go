package kubeconfig

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/keys"
	"github.com/gatehouse-dev/gatehouse/internal/keys/keystest"
	"github.com/gatehouse-dev/gatehouse/internal/pki"
	"github.com/gatehouse-dev/gatehouse/internal/secret"
)

// valid returns a configuration with a certificate, and a key of another one.
func valid(t *testing.T) (Config, secret.Bytes) {
	t.Helper()
	vault := keystest.NewVault(t, time.Now)
	client, err := pki.Open[keys.ClientCA](t.Context(), vault, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	serving, err := pki.Open[keys.ServingCA](t.Context(), vault, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	var private [2]secret.Bytes
	var public pki.LeafKey
	for i := range private {
		if public, err = pki.NewLeafKey(); err != nil {
			t.Fatal(err)
		}
		if private[i], err = public.PEM(); err != nil {
			t.Fatal(err)
		}
	}
	prepared, err := pki.PrepareAdmin(pki.Client{User: "admin", Groups: []string{"system:masters"}, Public: public.Public()})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := client.Issue(prepared)
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := serving.BundlePEM()
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		Cluster: "gatehouse", User: "admin", Server: "https://127.0.0.1:7443", CA: bundle,
		Certificate: pki.CertificatePEM(cert), Key: private[1],
	}, private[0]
}

// TestClientGoReadsIt uses the loader of kubectl itself.
func TestClientGoReadsIt(t *testing.T) {
	t.Parallel()
	withCertificate, _ := valid(t)
	withToken := withCertificate
	withToken.Certificate, withToken.Key = nil, secret.Bytes{}
	withToken.Token, withToken.Namespace = secret.NewString("ey.J0.x-_"), "yes"
	for name, c := range map[string]Config{"certificate": withCertificate, "token": withToken} {
		path := filepath.Join(t.TempDir(), "admin.kubeconfig")
		if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := Write(path, c); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: mode %v, %v", name, info.Mode(), err)
		}
		loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(&clientcmd.ClientConfigLoadingRules{ExplicitPath: path}, nil)
		got, err := loader.ClientConfig()
		if err != nil {
			t.Fatal(err)
		}
		namespace, _, err := loader.Namespace()
		if err != nil {
			t.Fatal(err)
		}
		if want := c.Namespace; namespace != want && (want != "" || namespace != "default") {
			t.Errorf("%s: namespace %q", name, namespace)
		}
		if got.Host != c.Server || string(got.CAData) != string(c.CA) || string(got.CertData) != string(c.Certificate) ||
			string(got.KeyData) != string(c.Key.Reveal()) || got.BearerToken != c.Token.Reveal() || got.Insecure {
			t.Errorf("%s: reads back differently", name)
		}
		raw, err := loader.RawConfig()
		if err != nil || raw.CurrentContext != "admin@gatehouse" {
			t.Errorf("%s: context %q, %v", name, raw.CurrentContext, err)
		}
	}
}

// A program in place of a credential, as client-go reads it.
func TestExec(t *testing.T) {
	t.Parallel()
	c, _ := valid(t)
	c.Certificate, c.Key, c.Exec = nil, secret.Bytes{}, &Exec{Command: "gatehouse-edge", Args: []string{"credential", "--issuer=https://a"}, Hint: "install it"}
	path := filepath.Join(t.TempDir(), "f")
	if err := Write(path, c); err != nil {
		t.Fatal(err)
	}
	read, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	e := read.ExecProvider
	if e == nil || e.Command != "gatehouse-edge" || len(e.Args) != 2 || !e.ProvideClusterInfo || e.InteractiveMode != "IfAvailable" || e.APIVersion != "client.authentication.k8s.io/v1" || e.InstallHint != "install it" {
		t.Errorf("%+v", e)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	good, otherKey := valid(t)
	cases := map[string]struct {
		change func(*Config)
		want   string
	}{
		"http":                   {func(c *Config) { c.Server = "http://127.0.0.1:7443" }, "server: must be an https"},
		"no scheme":              {func(c *Config) { c.Server = "127.0.0.1:7443" }, "server: must be an https"},
		"no host":                {func(c *Config) { c.Server = "https://:7443" }, "server: must be an https"},
		"no server":              {func(c *Config) { c.Server = "" }, "server: must be an https"},
		"password":               {func(c *Config) { c.Server = "https://a:b@127.0.0.1" }, "server: must be an https"},
		"query":                  {func(c *Config) { c.Server = "https://127.0.0.1?x=y" }, "server: must be an https"},
		"port 0":                 {func(c *Config) { c.Server = "https://127.0.0.1:0" }, "server: has a port"},
		"port 65536":             {func(c *Config) { c.Server = "https://127.0.0.1:65536" }, "server: has a port"},
		"unspecified":            {func(c *Config) { c.Server = "https://0.0.0.0:7443" }, "server: is the unspecified"},
		"unspecified IPv6":       {func(c *Config) { c.Server = "https://[::]:7443" }, "server: is the unspecified"},
		"no CA":                  {func(c *Config) { c.CA = []byte("\n") }, "CA: must not be empty"},
		"CA not PEM":             {func(c *Config) { c.CA = []byte("x") }, "CA: must be certificates"},
		"CA with a key":          {func(c *Config) { c.CA = append(append([]byte(nil), c.CA...), c.Key.Reveal()...) }, "CA: must be certificates"},
		"CA not an authority":    {func(c *Config) { c.CA = c.Certificate }, "CA: holds something"},
		"no cluster":             {func(c *Config) { c.Cluster = "" }, "cluster: must be"},
		"user of two words":      {func(c *Config) { c.User = "a b" }, "user: must be"},
		"long user":              {func(c *Config) { c.User = strings.Repeat("a", 254) }, "user: must be"},
		"bad namespace":          {func(c *Config) { c.Namespace = "a\nb" }, "namespace: is not"},
		"no credentials":         {func(c *Config) { c.Certificate, c.Key = nil, secret.Bytes{} }, "credentials: must be one of"},
		"token and program":      {func(c *Config) { c.Exec = &Exec{Command: "x"} }, "credentials: must be one of"},
		"program without a name": {func(c *Config) { c.Certificate, c.Key, c.Exec = nil, secret.Bytes{}, &Exec{} }, "credentials: the program"},
		"both":                   {func(c *Config) { c.Token = secret.NewString("x") }, "credentials: must be one of"},
		"key of another":         {func(c *Config) { c.Key = otherKey }, "credentials: certificate and key"},
		"certificate alone":      {func(c *Config) { c.Key = secret.Bytes{} }, "credentials: certificate and key"},
		"key alone":              {func(c *Config) { c.Certificate = nil }, "credentials: certificate and key"},
		"token with a line end":  {func(c *Config) { c.Certificate, c.Key, c.Token = nil, secret.Bytes{}, secret.NewString("hidden\n") }, "credentials: the token"},
	}
	for name, tc := range cases {
		c := good
		tc.change(&c)
		path := filepath.Join(t.TempDir(), "f")
		err := Write(path, c)
		if fault.KindOf(err) != fault.Invalid || !strings.Contains(fault.Public(err), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
		if err != nil && strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: the error shows the token", name)
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s: a file was written", name)
		}
	}
	if err := Write(filepath.Join(t.TempDir(), "missing", "f"), good); err == nil {
		t.Error("wrote into a missing directory")
	}
}

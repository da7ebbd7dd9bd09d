package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/config"
)

const head = "apiVersion: config.gatehouse.dev/v1alpha1\nkind: Configuration\n"

func load(t *testing.T, text string, flags config.Flags) (config.Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gatehouse.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return config.Load(path, flags)
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	c, err := load(t, head, config.Flags{})
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen() != "127.0.0.1:7443" || !filepath.IsAbs(c.DataDir()) || c.MaxTokenAge() != 24*time.Hour || c.MaxPolicyAge() != 24*time.Hour || !c.RootKeyIsOurs() {
		t.Fatalf("unexpected defaults: %q %q %v", c.Listen(), c.DataDir(), c.MaxTokenAge())
	}
}

func TestFlagsOverrideTheFile(t *testing.T) {
	t.Parallel()
	c, err := load(t, head+"listen: 127.0.0.1:1\ndataDir: /a\n", config.Flags{Listen: "127.0.0.1:2", DataDir: "/b"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen() != "127.0.0.1:2" || c.DataDir() != "/b" || c.RootKeyFile() != "/b/root.key" {
		t.Fatalf("flags lost: %q %q", c.Listen(), c.DataDir())
	}
}

func TestFaultsAreNamed(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		text string
		want []string
	}{
		"unknown key":        {head + "lissten: x\n", []string{"lissten"}},
		"unknown nested key": {head + "storage: {etcd: {endpoint: x}}\n", []string{"endpoint"}},
		"duplicate key":      {head + "listen: 127.0.0.1:1\nlisten: 127.0.0.1:2\n", []string{"listen"}},
		"wrong type":         {head + "servingNames: 3\n", []string{"servingNames"}},
		"no version":         {"kind: Configuration\n", []string{"apiVersion:"}},
		"other kind":         {"apiVersion: config.gatehouse.dev/v1alpha1\nkind: Pod\n", []string{"kind:"}},
		"retention": {
			head + "audit: {retention: {read: 90, change: 2h, denial: forever, review: 90d}}\n",
			[]string{"audit.retention.read:", "audit.retention.change: must be at least a day", "audit.retention.denial:"},
		},
		"every fault at once": {
			head + "listen: nonsense\nlog: {level: loud, format: xml}\ntokens: {maxExpirationSeconds: 5, issuer: \"http://x\", discoveryListen: \"x:0\"}\npolicySnapshots: {maxAgeSeconds: 2592001}\n",
			[]string{"listen:", "log.level:", "log.format:", "tokens.maxExpirationSeconds:", "tokens.issuer:", "tokens.discoveryListen:", "policySnapshots.maxAgeSeconds:"},
		},
		"clear text etcd": {head + "storage: {etcd: {endpoints: [\"http://127.0.0.1:2379\"]}}\n", []string{"storage.etcd.endpoints[0]:", "storage.etcd.caFile:", "storage.etcd.keyFile:"}},
		"missing file":    {head + "audit: {policyFile: /does/not/exist}\n", []string{"audit.policyFile:"}},
		"authentication files": {
			head + "authentication: {configFile: /does/not/exist, requestHeader: {clientCAFile: /dev/null, allowedNames: [\"\"]}}\n",
			[]string{"authentication.configFile:", "authentication.requestHeader.clientCAFile:", "authentication.requestHeader.allowedNames[0]:"},
		},
		"syslog without a port": {head + "audit: {syslog: {listen: localhost}}\n", []string{"audit.syslog.listen:"}},
		"syslog that is TCP":    {head + "audit: {syslog: {listen: \"127.0.0.1:6514\", plain: true}}\n", []string{"plain"}},
		"no single address":     {head + "listen: 0.0.0.0:7443\n", []string{"advertiseAddress:"}},
		"bad serving name":      {head + "servingNames: [\"under_score\"]\n", []string{"servingNames[0]:"}},
		"advertised port zero":  {head + "advertiseAddress: a.example:0\n", []string{"advertiseAddress:"}},
		"port beyond the range": {head + "listen: 127.0.0.1:70000\n", []string{"listen:"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := load(t, tc.text, config.Flags{})
			if err == nil {
				t.Fatal("accepted")
			}
			for _, w := range tc.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q does not name %q", err, w)
				}
			}
		})
	}
}

func TestPrivateFilesMustBePrivate(t *testing.T) {
	t.Parallel()
	dsn := filepath.Join(t.TempDir(), "dsn")
	if err := os.WriteFile(dsn, []byte("postgres://"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := load(t, head+"storage: {sql: {postgresDSNFile: "+dsn+"}}\n", config.Flags{}); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Fatalf("a readable connection string was accepted: %v", err)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(head + "listen: 127.0.0.1:1\n")
	f.Add("{")
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if c, err := config.Load(path, config.Flags{}); err == nil && c.Listen() == "" {
			t.Fatal("accepted without a listener")
		}
	})
}

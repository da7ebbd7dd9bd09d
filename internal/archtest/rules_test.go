package archtest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A rule limits the imports of some packages. Packages are named within the
// module, imports in full; "internal/" before a forbidden import means a
// package of ours. A name stands for itself and everything below it.
type rule struct {
	of     []string // the packages the rule is about; empty: all
	except []string // and which of them it leaves out
	forbid []string // imports that are not allowed
	only   []string // if set, the only imports from outside the standard library
	why    string
}

// domains decide and remember; adapters around them speak to the world.
var domains = []string{
	"authz",
	"internal/access",
	"internal/admission",
	"internal/audit",
	"internal/authn",
	"internal/fault",
	"internal/federation",
	"internal/issuer",
	"internal/keys",
	"internal/pki",
	"internal/rules",
	"internal/secret",
}

// everything is the one package that may import all others.
const everything = "internal/server"

var rules = []rule{
	{
		of:   []string{"authz"},
		only: []string{"github.com/google/cel-go"},
		forbid: []string{
			"os", "io/fs", "net", "syscall", "log", "database", "path/filepath", "embed",
		},
		why: "the engine is pure, so that it can be embedded, replayed and tested without a world around it",
	},
	{
		of:     domains,
		forbid: []string{"net/http", "net/rpc", "google.golang.org/grpc", "database/sql", "k8s.io/client-go", "k8s.io/apiserver"},
		why:    "a domain holds rules and speaks no protocol; adapters translate",
	},
	{
		of: domains,
		forbid: []string{
			"internal/kubeapi", "internal/fastlane", "internal/server", "internal/storage", "internal/config",
		},
		why: "a domain does not know who calls it or where it is kept; it says what it needs as an interface",
	},
	{
		except: []string{"internal/kubeapi", "internal/fastlane", everything},
		forbid: []string{"k8s.io/apiserver"},
		why:    "the frame stays in quarantine: its idioms and upgrades touch one folder",
	},
	{
		except: []string{"internal/storage/etcd", "internal/kubeapi", everything},
		forbid: []string{"go.etcd.io"},
		why:    "one place knows how watched objects are stored",
	},
	{
		except: []string{"internal/storage/sql", everything},
		forbid: []string{"modernc.org/sqlite", "github.com/jackc/pgx", "database/sql"},
		why:    "rows have one port with two engines, and SQL is written behind it",
	},
	{
		except: []string{"internal/authn", "internal/issuer"},
		forbid: []string{"github.com/go-jose/go-jose"},
		why:    "tokens are verified in one package and minted in another, nowhere else",
	},
	{
		except: []string{"cmd/gatehouse-edge", "internal/edge"},
		forbid: []string{"internal/edge/credential/hardkey", "github.com/miekg/pkcs11", "github.com/google/go-tpm"},
		why:    "the control plane loads no modules; what holds a key in hardware runs beside the person or the workload",
	},
	{
		except: []string{"cmd/gatehouse-edge"},
		forbid: []string{"os/exec"},
		why:    "the control plane never starts another program",
	},
	{
		of:     []string{"authz", "internal/authn", "internal/issuer", "internal/keys", "internal/pki", "internal/secret"},
		forbid: []string{"math/rand"},
		why:    "what guards a secret takes its randomness from crypto/rand",
	},
	{
		except: []string{"cmd", everything},
		forbid: []string{"internal/server"},
		why:    "only the commands start the composition root",
	},
	{
		except: []string{"cmd"},
		forbid: []string{"cmd"},
		why:    "flags are read in one place",
	},
	{
		forbid: []string{"io/ioutil", "k8s.io/kubernetes", "unsafe"},
		except: []string{"authz", "internal/resource"},
		why:    "superseded, not importable on its own, or outside what the compiler can check",
	},
}

// under reports whether path is one of the names or lies below one.
func under(path string, names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		return path == name || strings.HasPrefix(path, name+"/")
	})
}

// standard reports whether an import is of the standard library: only those
// have no dot in their first element.
func standard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}

// testHelper reports whether a package is for tests, which its name says: pgtest
// starts a database, keystest checks implementations of a port.
func testHelper(path string) bool {
	return strings.HasSuffix(path, "test") || under(path, []string{"test"})
}

// check returns one line for every import of p that r does not allow.
func (r rule) check(p pkg) []string {
	self := p.rel()
	if (len(r.of) > 0 && !under(self, r.of)) || under(self, r.except) || testHelper(self) {
		return nil
	}
	var faults []string
	for _, imported := range p.Imports {
		name, ours := strings.CutPrefix(imported, modulePath+"/")
		switch {
		case ours && under(name, r.forbid) && !under(self, []string{name}),
			!ours && under(imported, r.forbid),
			!ours && len(r.only) > 0 && !standard(imported) && !under(imported, r.only),
			ours && len(r.only) > 0 && !under(name, r.of):
			faults = append(faults, fmt.Sprintf("%s imports %s: %s", self, imported, r.why))
		}
	}
	return faults
}

func TestImports(t *testing.T) {
	t.Parallel()
	for _, p := range product(t) {
		for _, imported := range p.Imports {
			if name, ours := strings.CutPrefix(imported, modulePath+"/"); ours && testHelper(name) && !testHelper(p.rel()) {
				t.Errorf("%s imports %s, which is for tests", p.rel(), imported)
			}
		}
		for _, r := range rules {
			for _, fault := range r.check(p) {
				t.Error(fault)
			}
		}
	}
}

// The rules themselves: each must refuse what it is there to refuse.
func TestRulesRefuse(t *testing.T) {
	t.Parallel()
	ours := func(name string) string { return modulePath + "/" + name }
	for _, c := range []struct {
		from, imported string
		allowed        bool
	}{
		{"authz", "k8s.io/api/rbac/v1", false},
		{"authz", "os", false},
		{"authz", "net/http", false},
		{"authz", "strings", true},
		{"authz", "github.com/google/cel-go/cel", true},
		{"authz", ours("internal/fault"), false},
		{"authz/snapshot", ours("authz"), true},
		{"internal/access", "k8s.io/api/rbac/v1", true},
		{"internal/access", "k8s.io/apiserver/pkg/authorization/authorizer", false},
		{"internal/keys", "math/rand/v2", false},
		{"internal/keys", ours("internal/storage/etcd"), false},
		{"internal/audit", ours("internal/fault"), true},
		{"internal/kubeapi/install", "k8s.io/apiserver/pkg/server", true},
		{"internal/config", "k8s.io/apiserver/pkg/server", false},
		{"internal/fastlane", "go.etcd.io/etcd/client/v3", false},
		{"internal/storage/etcd", "go.etcd.io/etcd/client/v3", true},
		{"internal/storage/sql", "modernc.org/sqlite", true},
		{"internal/server", "database/sql", true},
		{"cmd/gatehouse", "database/sql", false},
		{"internal/fastlane", "github.com/go-jose/go-jose/v4", false},
		{"internal/issuer", "github.com/go-jose/go-jose/v4/jwt", true},
		{"internal/server", "os/exec", false},
		{"cmd/gatehouse-edge", "os/exec", true},
		{"internal/kubeapi", ours("internal/server"), false},
		{"cmd/gatehouse", ours("internal/server"), true},
		{"internal/server", ours("cmd/gatehouse"), false},
		{"internal/storage/sql/pgtest", "os/exec", true},
		{"internal/kubeapi", "unsafe", false},
		{"cmd/gatehouse", ours("internal/edge/credential/hardkey"), false},
		{"internal/keys", "github.com/miekg/pkcs11", false},
		{"cmd/gatehouse-edge", ours("internal/edge/credential/hardkey"), true},
	} {
		p := pkg{ImportPath: ours(c.from), Imports: []string{c.imported}}
		var faults []string
		for _, r := range rules {
			faults = append(faults, r.check(p)...)
		}
		if allowed := len(faults) == 0; allowed != c.allowed {
			t.Errorf("%s imports %s: allowed %v, want %v %v", c.from, c.imported, allowed, c.allowed, faults)
		}
	}
}

// maxEdge is the size that gatehouse-edge must not pass, stripped.
const maxEdge = 25_000_000

// It is copied to every host and every person's machine.
func TestEdgeSize(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "gatehouse-edge")
	// As anyone builds it: without tags.
	goCommand(t, repoRoot(t), "build", "-ldflags=-s -w", "-o", path, "./cmd/gatehouse-edge")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > maxEdge {
		t.Errorf("gatehouse-edge has %d bytes, %d are the most", info.Size(), maxEdge)
	}
}

// The control plane loads no modules of others.
func TestControlPlaneLinks(t *testing.T) {
	t.Parallel()
	forbidden := []string{"github.com/miekg/pkcs11", "github.com/google/go-tpm"}
	for _, dep := range goList(t, repoRoot(t), "-deps", "./cmd/gatehouse") {
		if under(dep.ImportPath, forbidden) {
			t.Errorf("gatehouse links %s; find the way with: go mod why %s", dep.ImportPath, dep.ImportPath)
		}
	}
}

// What runs beside a workload is small and carries no store.
func TestEdgeLinks(t *testing.T) {
	t.Parallel()
	forbidden := []string{
		"k8s.io/apiserver", "go.etcd.io", "modernc.org/sqlite", "github.com/jackc/pgx", "database/sql",
		// A template calls methods by their names, for which the linker keeps
		// every method of every type; the second brings one and comes with gRPC.
		"html/template", "golang.org/x/net/trace",
	}
	for _, p := range product(t) {
		if p.rel() != "cmd/gatehouse-edge" {
			continue
		}
		for _, dep := range goList(t, repoRoot(t), "-deps", "./cmd/gatehouse-edge") {
			if under(dep.ImportPath, forbidden) {
				t.Errorf("gatehouse-edge links %s; find the way with: go mod why %s", dep.ImportPath, dep.ImportPath)
			}
		}
	}
}

package pki

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/keys"
)

func TestAuthorityCertificates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	certs := map[string]*x509.Certificate{
		"serving":        certificate(t, w.server),
		"client":         certificate(t, w.client),
		"site":           certificate(t, w.site),
		"request header": certificate(t, w.proxy),
		"agent":          certificate(t, w.agent),
	}
	seen := map[string]bool{}
	for name, c := range certs {
		usage := x509.ExtKeyUsageClientAuth
		if name == "serving" {
			usage = x509.ExtKeyUsageServerAuth
		}
		if !c.IsCA || c.MaxPathLen != 0 || !c.MaxPathLenZero || c.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign ||
			!slices.Equal(c.ExtKeyUsage, []x509.ExtKeyUsage{usage}) {
			t.Errorf("%s: path length %d, usage %v %v", name, c.MaxPathLen, c.KeyUsage, c.ExtKeyUsage)
		}
		if key, ok := c.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
			t.Errorf("%s: key %T", name, c.PublicKey)
		}
		if !c.NotBefore.Equal(start.Add(-5*time.Minute)) || !c.NotAfter.Equal(start.Add(3650*24*time.Hour)) {
			t.Errorf("%s: valid %v to %v", name, c.NotBefore, c.NotAfter)
		}
		if len(c.SubjectKeyId) == 0 || !strings.HasPrefix(c.Subject.CommonName, "Gatehouse "+name+" CA ") {
			t.Errorf("%s: subject %v, key id %x", name, c.Subject, c.SubjectKeyId)
		}
		if err := c.CheckSignatureFrom(c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, unique := range []string{c.Subject.String(), string(c.SubjectKeyId), c.SerialNumber.String()} {
			if seen[unique] {
				t.Errorf("%s: %q belongs to another authority too", name, unique)
			}
			seen[unique] = true
		}
		if n := c.SerialNumber.BitLen(); n != 159 {
			t.Errorf("%s: serial of %d bits", name, n)
		}
	}
}

// TestNameConstraints shows the two authorities of plain subjects to a verifier
// that knows nothing of our own checks.
func TestNameConstraints(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	public := newKey(t).Public()
	for name, change := range map[string]func(*x509.Certificate){
		"DNS":  func(c *x509.Certificate) { c.DNSNames = []string{"gatehouse.example"} },
		"IPv4": func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(10, 0, 0, 1)} },
		"IPv6": func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.ParseIP("2001:db8::1")} },
	} {
		template := clientTemplate("a")
		change(template)
		client, proxy := forge(t, w.client, template, public), forge(t, w.proxy, template, public)
		for door, c := range map[string]struct {
			leaf *x509.Certificate
			ca   *x509.Certificate
		}{"client": {client, certificate(t, w.client)}, "request header": {proxy, certificate(t, w.proxy)}} {
			pool := x509.NewCertPool()
			pool.AddCert(c.ca)
			var invalid x509.CertificateInvalidError
			_, err := c.leaf.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: start, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
			if !errors.As(err, &invalid) || invalid.Reason != x509.CANotAuthorizedForThisName {
				t.Errorf("%s CA with a %s name: %v", door, name, err)
			}
		}
	}
}

func TestReplicasOpenOneAuthority(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	want := certificate(t, w.site)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			a, err := Open[keys.SiteCA](t.Context(), w.vault, w.Now)
			if err != nil {
				t.Error(err)
				return
			}
			got, err := a.Certificate()
			if err != nil || !got.Equal(want) {
				t.Errorf("another certificate, %v", err)
			}
		})
	}
	wg.Wait()
}

func TestProfiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := newKey(t)
	const days = 24 * time.Hour
	serving, err1 := PrepareServing(localNames(), key.Public(), 0)
	admin, err2 := PrepareAdmin(Client{User: "admin", Groups: []string{"system:masters"}, Public: key.Public()})
	client, err3 := PrepareClient(Client{User: "alice@example.org", Groups: []string{"a b", "b"}, Public: key.Public(), Validity: time.Hour})
	node, err4 := PrepareNode("worker-1.example", "", key.Public(), 0)
	site, err5 := PrepareSite("berlin", key.Public(), 0)
	proxy, err6 := PrepareFrontProxy("front-proxy", key.Public(), 0)
	source, err7 := PrepareSource("web-1.example", key.Public(), 0)
	cases := map[string]struct {
		cert     *x509.Certificate
		user     string
		groups   []string
		uris     int
		validity time.Duration
	}{
		"serving": {issue(t, w.server, serving, err1), "gatehouse", nil, 0, 30 * days},
		"admin":   {issue(t, w.client, admin, err2), "admin", []string{"system:masters"}, 0, 365 * days},
		"client":  {issue(t, w.client, client, err3), "alice@example.org", []string{"a b", "b"}, 0, time.Hour},
		"node":    {issue(t, w.client, node, err4), "system:node:worker-1.example", []string{"system:nodes"}, 0, 90 * days},
		"site":    {issue(t, w.site, site, err5), "system:site:berlin", []string{"system:sites"}, 1, 365 * days},
		"source":  {issue(t, w.site, source, err7), "system:audit-source:web-1.example", []string{"system:audit-sources"}, 1, 365 * days},
		"proxy":   {issue(t, w.proxy, proxy, err6), "front-proxy", nil, 0, 365 * days},
	}
	for name, tc := range cases {
		c := tc.cert
		// DER sorts the groups, which are a set.
		slices.Sort(c.Subject.Organization)
		if c.Subject.CommonName != tc.user || !slices.Equal(c.Subject.Organization, tc.groups) || len(c.URIs) != tc.uris {
			t.Errorf("%s: subject %v, URIs %v", name, c.Subject, c.URIs)
		}
		if !c.NotBefore.Equal(start.Add(-5*time.Minute)) || !c.NotAfter.Equal(start.Add(tc.validity)) {
			t.Errorf("%s: valid %v to %v", name, c.NotBefore, c.NotAfter)
		}
		if c.IsCA || !c.BasicConstraintsValid || c.KeyUsage != x509.KeyUsageDigitalSignature || len(c.ExtKeyUsage) != 1 || len(c.AuthorityKeyId) == 0 {
			t.Errorf("%s: usage %v %v, authority %x", name, c.KeyUsage, c.ExtKeyUsage, c.AuthorityKeyId)
		}
		if n := c.SerialNumber.BitLen(); n != 159 {
			t.Errorf("%s: serial of %d bits", name, n)
		}
		if at := RenewAt(c); !at.After(c.NotBefore) || !at.Before(c.NotAfter) || at.Sub(c.NotBefore) != (tc.validity+5*time.Minute)*2/3 {
			t.Errorf("%s: renewed at %v", name, at)
		}
		block, rest := pem.Decode(CertificatePEM(c))
		if block == nil || block.Type != "CERTIFICATE" || len(rest) != 0 || string(block.Bytes) != string(c.Raw) {
			t.Errorf("%s: PEM is wrong", name)
		}
	}
	if got := cases["site"].cert.URIs[0].String(); got != "gatehouse:site:berlin" {
		t.Errorf("site URI %q", got)
	}
	for _, name := range []string{"localhost", "gatehouse.example", "127.0.0.1", "::1"} {
		pool, err := w.server.Pool()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cases["serving"].cert.Verify(x509.VerifyOptions{DNSName: name, Roots: pool, CurrentTime: start}); err != nil {
			t.Errorf("serving certificate for %s: %v", name, err)
		}
	}
}

func TestPreparedIsForOneSignature(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p, err := PrepareClient(Client{User: "alice", Public: newKey(t).Public()})
	issue(t, w.client, p, err)
	for name, p := range map[string]*Prepared[keys.ClientCA]{"used": p, "nil": nil, "zero": {}} {
		if cert, err := w.client.Issue(p); cert != nil || fault.KindOf(err) != fault.Internal || err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	again, err := PrepareClient(Client{User: "alice", Public: newKey(t).Public()})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	certs := make(chan *x509.Certificate, 8)
	for range 8 {
		wg.Go(func() {
			if cert, err := w.client.Issue(again); err == nil {
				certs <- cert
			}
		})
	}
	wg.Wait()
	if len(certs) != 1 {
		t.Errorf("one request was signed %d times", len(certs))
	}
}

func TestLint(t *testing.T) {
	t.Parallel()
	good := newKey(t).Public()
	p224, err1 := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	rsa2048, err2 := rsa.GenerateKey(rand.Reader, 2048)
	edPublic, _, err3 := ed25519.GenerateKey(rand.Reader)
	p521, err4 := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	client := func(c Client) func() error {
		return func() error {
			if c.Public == nil {
				c.Public = good
			}
			_, err := PrepareClient(c)
			return err
		}
	}
	serving := func(dns ...string) func() error {
		return func() error { _, err := PrepareServing(Names{DNS: dns}, good, 0); return err }
	}
	site := func(name string) func() error {
		return func() error { _, err := PrepareSite(name, good, 0); return err }
	}
	admin := func(user string, groups ...string) func() error {
		return func() error { _, err := PrepareAdmin(Client{User: user, Groups: groups, Public: good}); return err }
	}
	//lint:ignore SA1019 an attacker's key is not made by the library
	offCurve := &ecdsa.PublicKey{Curve: elliptic.P256(), X: big.NewInt(1), Y: big.NewInt(1)}
	modulus := func(bits uint) *big.Int { return new(big.Int).SetBit(big.NewInt(1), int(bits-1), 1) }
	many := make([]string, 65)
	for i := range many {
		many[i] = strings.Repeat("g", i+1)
	}
	cases := []struct {
		name string
		run  func() error
		want string // "" accepts
	}{
		{"RSA 2048", client(Client{User: "a", Public: &rsa2048.PublicKey}), ""},
		{"Ed25519", client(Client{User: "a", Public: edPublic}), ""},
		{"P-521", client(Client{User: "a", Public: &p521.PublicKey}), ""},
		{"P-224", client(Client{User: "a", Public: &p224.PublicKey}), "P-256, P-384 or P-521"},
		{"point off the curve", client(Client{User: "a", Public: offCurve}), "not a point"},
		{"no point", client(Client{User: "a", Public: &ecdsa.PublicKey{Curve: elliptic.P256()}}), "not a point"},
		{"no curve", client(Client{User: "a", Public: &ecdsa.PublicKey{}}), "P-256, P-384 or P-521"},
		{"nil ECDSA", client(Client{User: "a", Public: (*ecdsa.PublicKey)(nil)}), "P-256, P-384 or P-521"},
		{"RSA 2047", client(Client{User: "a", Public: &rsa.PublicKey{N: modulus(2047), E: 65537}}), "2048 to 8192 bits"},
		{"RSA 8193", client(Client{User: "a", Public: &rsa.PublicKey{N: modulus(8193), E: 65537}}), "2048 to 8192 bits"},
		{"RSA exponent 3", client(Client{User: "a", Public: &rsa.PublicKey{N: modulus(2048), E: 3}}), "65537"},
		{"RSA even modulus", client(Client{User: "a", Public: &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 2047), E: 65537}}), "odd modulus"},
		{"nil RSA", client(Client{User: "a", Public: (*rsa.PublicKey)(nil)}), "2048 to 8192 bits"},
		{"short Ed25519", client(Client{User: "a", Public: ed25519.PublicKey{1}}), "wrong length"},
		{"private key for public", client(Client{User: "a", Public: rsa2048}), "must be ECDSA"},
		{"no key", func() error { _, err := PrepareClient(Client{User: "a"}); return err }, "must be ECDSA"},

		{"no user", client(Client{}), "user: must not be empty"},
		{"long user", client(Client{User: strings.Repeat("a", 513)}), "user: must have at most 512"},
		{"user with a line end", client(Client{User: "a\nb"}), "user: must hold printable"},
		{"user with a zero", client(Client{User: "a\x00"}), "user: must hold printable"},
		{"user with a hidden character", client(Client{User: "a\u200b"}), "user: must hold printable"},
		{"user with a reversal", client(Client{User: "a\u202eb"}), "user: must hold printable"},
		{"user not UTF-8", client(Client{User: "a\xff"}), "user: must be UTF-8"},
		{"user with a space in front", client(Client{User: " system:masters"}), "user: must not begin"},
		{"empty group", client(Client{User: "a", Groups: []string{""}}), "groups: must not be empty"},
		{"group twice", client(Client{User: "a", Groups: []string{"g", "h", "g"}}), `groups: "g" is there twice`},
		{"too many groups", client(Client{User: "a", Groups: many}), "groups: must be at most 64"},
		{"two faults", client(Client{User: "", Groups: []string{"system:x"}}), `user: must not be empty; name: "system:x" is reserved`},

		{"site as client", client(Client{User: "system:site:berlin"}), "is reserved"},
		{"sites group as client", client(Client{User: "a", Groups: []string{"system:sites"}}), "is reserved"},
		{"masters as client", client(Client{User: "a", Groups: []string{"system:masters"}}), "is reserved"},
		{"node as client", client(Client{User: "system:node:x", Groups: []string{"system:nodes"}}), "is reserved"},
		{"service account as client", client(Client{User: "system:serviceaccount:a:b"}), "is reserved"},
		{"unknown system name", client(Client{User: "system:anything"}), "is reserved"},
		{"crossed-over name", client(Client{User: "gatehouse:system:serviceaccount:a:b"}), "is reserved"},
		{"site as admin", admin("system:site:berlin", "system:masters"), "is reserved"},
		{"sites group as admin", admin("a", "system:masters", "system:sites"), "is reserved"},
		{"masters as admin", admin("a", "system:masters"), ""},
		{"reserved front proxy", func() error { _, err := PrepareFrontProxy("system:x", good, 0); return err }, "is reserved"},
		{"node with a colon", func() error { _, err := PrepareNode("a:b", "", good, 0); return err }, "node: must be"},
		{"pool with a colon", func() error { _, err := PrepareNode("a", "b:c", good, 0); return err }, "pool: must be"},
		{"empty node", func() error { _, err := PrepareNode("", "", good, 0); return err }, "node: must be"},

		{"site", site("berlin-2"), ""},
		{"longest site", site(strings.Repeat("a", 63)), ""},
		{"long site", site(strings.Repeat("a", 64)), "site: must be"},
		{"site with a dot", site("berlin.example"), "site: must be"},
		{"source with a slash", func() error { _, err := PrepareSource("a/b", good, 0); return err }, "source: must be"},
		{"source without a name", func() error { _, err := PrepareSource("", good, 0); return err }, "source: must be"},
		{"site with a dash in front", site("-berlin"), "site: must be"},
		{"empty site", site(""), "site: must be"},
		{"site in upper case", site("Berlin"), "site: must be"},
		{"site with a colon", site("a:b"), "site: must be"},
		{"site with a slash", site("a/b"), "site: must be"},
		{"site with a percent", site("a%2fb"), "site: must be"},

		{"no serving name", serving(), "names: must be 1 to 100"},
		{"too many serving names", serving(slices.Repeat([]string{"a"}, 101)...), "names: must be 1 to 100"},
		{"wildcard", serving("*.example.org"), ""},
		{"wildcard over a top", serving("*.org"), "is not a host name"},
		{"bare wildcard", serving("*"), "is not a host name"},
		{"inner wildcard", serving("a.*.org"), "is not a host name"},
		{"upper case", serving("A.org"), "is not a host name"},
		{"trailing dot", serving("a.org."), "is not a host name"},
		{"underscore", serving("a_b.org"), "is not a host name"},
		{"leading dash", serving("-a.org"), "is not a host name"},
		{"long label", serving(strings.Repeat("a", 64)), "is not a host name"},
		{"long name", serving(strings.Repeat("a.", 127)), "is not a host name"},
		{"address as name", serving("127.0.0.1"), "is not a host name"},
		{"port", serving("a.org:443"), "is not a host name"},

		{"a second", client(Client{User: "a", Validity: time.Second}), "validity: must be between 1m"},
		{"negative", client(Client{User: "a", Validity: -time.Hour}), "validity: must be between 1m"},
		{"ten years", client(Client{User: "a", Validity: 87600 * time.Hour}), "validity: must be between 1m"},
		{"long serving", func() error { _, err := PrepareServing(localNames(), good, 91*24*time.Hour); return err }, "validity: must be between 1m and 2160h"},
	}
	for _, address := range []string{"", "0.0.0.0", "::", "224.0.0.1", "fe80::1%eth0"} {
		n := Names{IPs: localNames().IPs[:1]}
		n.IPs = append(slices.Clone(n.IPs), parseAddr(address))
		cases = append(cases, struct {
			name string
			run  func() error
			want string
		}{"address " + address, func() error { _, err := PrepareServing(n, good, 0); return err }, "is not the address of a host"})
	}
	for _, tc := range cases {
		err := tc.run()
		if tc.want == "" {
			if err != nil {
				t.Errorf("%s: %v", tc.name, err)
			}
			continue
		}
		if fault.KindOf(err) != fault.Invalid || !strings.Contains(fault.Public(err), tc.want) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
	ca := clientTemplate("a")
	ca.IsCA = true
	two := clientTemplate("a")
	two.ExtKeyUsage = append(two.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	for name, template := range map[string]*x509.Certificate{"authority": ca, "two usages": two} {
		if err := lint(template, good, nil); fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "end entity") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestIssueChecksItsOwnWork gives Issue a request that lint should never have
// passed.
func TestIssueChecksItsOwnWork(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	template := clientTemplate("a")
	template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	cert, err := w.client.Issue(&Prepared[keys.ClientCA]{template: template, public: newKey(t).Public(), validity: time.Hour})
	if cert != nil || fault.KindOf(err) != fault.Internal || !strings.Contains(err.Error(), "would be refused") {
		t.Errorf("got %v", err)
	}
}

func TestAuthorityRotation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	replica := open[keys.ClientCA](t, w)
	newClient := func() *x509.Certificate {
		p, err := PrepareAdmin(Client{User: "admin", Public: newKey(t).Public()})
		return issue(t, w.client, p, err)
	}
	accepted := func(c *x509.Certificate) bool {
		_, err := VerifyClient([]*x509.Certificate{c}, replica)
		return err == nil
	}
	oldCA := certificate(t, w.client)
	w.Set(start.Add(day))
	if err := w.client.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.client.Rotate(t.Context()); fault.KindOf(err) != fault.Conflict {
		t.Errorf("rotate again: %v", err)
	}
	if !certificate(t, w.client).Equal(oldCA) {
		t.Error("the new authority signs at once")
	}
	if bundle, err := w.client.BundlePEM(); err != nil || strings.Count(string(bundle), "BEGIN CERTIFICATE") != 2 {
		t.Errorf("the new authority is not trusted at once: %v", err)
	}
	before := newClient()
	w.Set(start.Add(31 * day))
	newCA := certificate(t, w.client)
	if newCA.Equal(oldCA) || newCA.Subject.String() == oldCA.Subject.String() {
		t.Error("the new authority does not sign, or has the old name")
	}
	after := newClient()
	if string(before.AuthorityKeyId) != string(oldCA.SubjectKeyId) || string(after.AuthorityKeyId) != string(newCA.SubjectKeyId) {
		t.Error("signed by the wrong authority")
	}
	if !accepted(before) || accepted(after) {
		t.Error("a replica that did not refresh knows the new authority, or lost the old")
	}
	if err := replica.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !accepted(before) || !accepted(after) {
		t.Error("a refreshed replica refuses one of both")
	}
	// A year and slack after its last signature the old one is not trusted.
	w.Set(start.Add(31*day + maxValidity + 5*time.Minute))
	forged := clientTemplate("late")
	forged.NotAfter = w.Now().Add(day)
	oldSigner := w.client.ring.Set().Signer(start)
	late := sign(t, forged, oldCA, newKey(t).Public(), oldSigner)
	if accepted(late) {
		t.Error("the retired authority is trusted")
	}
	if bundle, err := replica.BundlePEM(); err != nil || strings.Count(string(bundle), "BEGIN CERTIFICATE") != 1 {
		t.Errorf("the bundle holds the retired authority: %v", err)
	}
}

func TestCertificatesDoNotOutliveTheirAuthority(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ca := certificate(t, w.site)
	w.Set(ca.NotAfter.Add(-day))
	p, err := PrepareSite("berlin", newKey(t).Public(), 0)
	if cert := issue(t, w.site, p, err); !cert.NotAfter.Equal(ca.NotAfter) {
		t.Errorf("valid until %v, the authority until %v", cert.NotAfter, ca.NotAfter)
	}
	w.Set(ca.NotAfter)
	p, err = PrepareSite("berlin", newKey(t).Public(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.site.Issue(p); err == nil || !strings.Contains(err.Error(), "has expired") {
		t.Errorf("an expired authority issues: %v", err)
	}
	sum := schedule.Every + schedule.Lead + schedule.Keep
	if sum >= authorityValidity {
		t.Errorf("an authority is needed for %v and valid for %v", sum, authorityValidity)
	}
}

// TestFollowersSeeTheNewAuthority runs what a replica runs: Run beside Follow,
// while another replica rotates.
func TestFollowersSeeTheNewAuthority(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		time.Sleep(time.Until(start))
		a, err := Open[keys.SiteCA](t.Context(), w.vault, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		var pools []*x509.CertPool
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := a.Run(ctx, time.Second); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if err := a.Follow(ctx, func(p *x509.CertPool) error { pools = append(pools, p); return nil }); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(time.Minute)
		w.Set(time.Now())
		if err := w.site.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		cancel()
		wg.Wait()
		if len(pools) != 2 || pools[0].Equal(pools[1]) {
			t.Fatalf("%d pools, want the first and another", len(pools))
		}
		if pool, err := w.site.Pool(); err != nil || !pool.Equal(pools[1]) {
			t.Errorf("the follower trusts something else, %v", err)
		}
	})
}

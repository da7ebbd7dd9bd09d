package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/keys"
)

func parseAddr(s string) netip.Addr {
	addr, _ := netip.ParseAddr(s)
	return addr
}

// TestEachDoorAcceptsOnlyItsAuthority presents a correct certificate of each
// authority, of one and the same subject, at every door.
func TestEachDoorAcceptsOnlyItsAuthority(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	public := newKey(t).Public()
	template := clientTemplate("alice", "people")
	certs := map[string]*x509.Certificate{
		"client":         forge(t, w.client, template, public),
		"site":           forge(t, w.site, template, public),
		"request header": forge(t, w.proxy, template, public),
		"agent":          forge(t, w.agent, template, public),
	}
	serving, err := PrepareServing(localNames(), public, 0)
	certs["serving"] = issue(t, w.server, serving, err)
	verify := map[string]func(*x509.Certificate) error{
		"client":         func(c *x509.Certificate) error { _, err := VerifyClient([]*x509.Certificate{c}, w.client); return err },
		"site":           func(c *x509.Certificate) error { _, err := VerifyClient([]*x509.Certificate{c}, w.site); return err },
		"request header": func(c *x509.Certificate) error { _, err := VerifyClient([]*x509.Certificate{c}, w.proxy); return err },
		"agent":          func(c *x509.Certificate) error { _, err := VerifyClient([]*x509.Certificate{c}, w.agent); return err },
	}
	for door, verify := range verify {
		for of, cert := range certs {
			err := verify(cert)
			if (err == nil) != (door == of) {
				t.Errorf("certificate of the %s CA at the %s door: %v", of, door, err)
			}
			if err != nil && (fault.KindOf(err) != fault.Unauthenticated || !strings.Contains(fault.Public(err), door+" CA")) {
				t.Errorf("certificate of the %s CA at the %s door: kind %v, %q", of, door, fault.KindOf(err), fault.Public(err))
			}
		}
	}
}

// TestAttacksOnAClientDoor holds what must never be accepted. Each case is one
// step away from a certificate that is.
func TestAttacksOnAClientDoor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ca := certificate(t, w.site)
	attacker, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := func(change func(*x509.Certificate)) *x509.Certificate {
		c := clientTemplate("system:site:berlin", "system:sites")
		c.URIs = []*url.URL{{Scheme: "gatehouse", Opaque: "site:berlin"}}
		if change != nil {
			change(c)
		}
		return c
	}
	forged := func(change func(*x509.Certificate)) []*x509.Certificate {
		return []*x509.Certificate{forge(t, w.site, good(change), attacker.Public())}
	}
	if v, err := VerifyClient(forged(nil), w.site); err != nil || v.Certificate() == nil {
		t.Fatalf("the correct certificate is refused: %v", err)
	}

	// An authority of the attacker with our name and key id.
	twin := *ca
	twin.PublicKey = nil
	foreignCA := sign(t, &twin, &twin, attacker.Public(), attacker)
	if string(foreignCA.SubjectKeyId) != string(ca.SubjectKeyId) || foreignCA.Subject.String() != ca.Subject.String() {
		t.Fatal("the twin is no twin")
	}
	foreign := sign(t, good(nil), foreignCA, attacker.Public(), attacker)

	// A leaf of ours that signs, with and without the flag of an authority.
	leaf := forged(nil)[0]
	belowLeaf := sign(t, good(nil), leaf, attacker.Public(), attacker)
	intermediate := forged(func(c *x509.Certificate) {
		c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign
		c.SubjectKeyId = []byte{1}
	})[0]
	belowIntermediate := sign(t, good(nil), intermediate, attacker.Public(), attacker)

	other := newWorld(t)
	unknownCritical := func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
	}
	cases := map[string]struct {
		chain []*x509.Certificate
		want  string
	}{
		"no certificate":                    {nil, "no client certificate"},
		"nil certificate":                   {[]*x509.Certificate{nil}, "no client certificate"},
		"expired":                           {forged(func(c *x509.Certificate) { c.NotAfter = start.Add(-time.Second) }), "has expired"},
		"not valid yet":                     {forged(func(c *x509.Certificate) { c.NotBefore = start.Add(time.Second) }), "is not valid yet"},
		"server use":                        {forged(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), "not for the use"},
		"any use":                           {forged(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }), "not for the use"},
		"no use":                            {forged(func(c *x509.Certificate) { c.ExtKeyUsage = nil }), "not for the use"},
		"two uses":                          {forged(func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth) }), "not for the use"},
		"client and unknown use":            {forged(func(c *x509.Certificate) { c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{1, 2, 3}} }), "not for the use"},
		"DNS name":                          {forged(func(c *x509.Certificate) { c.DNSNames = []string{"gatehouse.example"} }), "carries names"},
		"address":                           {forged(func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(10, 0, 0, 1)} }), "carries names"},
		"IPv6 address":                      {forged(func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.ParseIP("2001:db8::1")} }), "carries names"},
		"mail address":                      {forged(func(c *x509.Certificate) { c.EmailAddresses = []string{"a@example.org"} }), "carries names"},
		"unknown critical extension":        {forged(unknownCritical), "not of the site CA"},
		"the authority itself":              {[]*x509.Certificate{ca}, "not for the use"},
		"twin of the authority":             {[]*x509.Certificate{foreignCA}, "not for the use"},
		"below a twin of the authority":     {[]*x509.Certificate{foreign}, "not of the site CA"},
		"with the twin as intermediate":     {[]*x509.Certificate{foreign, foreignCA}, "not of the site CA"},
		"with twin and authority":           {[]*x509.Certificate{foreign, foreignCA, ca}, "not of the site CA"},
		"authority of another installation": {[]*x509.Certificate{forge(t, other.site, good(nil), attacker.Public())}, "not of the site CA"},
		"self-signed":                       {[]*x509.Certificate{sign(t, good(nil), good(nil), attacker.Public(), attacker)}, "not of the site CA"},
		"below a leaf":                      {[]*x509.Certificate{belowLeaf, leaf}, "not of the site CA"},
		"below an intermediate":             {[]*x509.Certificate{belowIntermediate, intermediate, ca}, "not of the site CA"},
		"the intermediate":                  {[]*x509.Certificate{intermediate}, "not for the use"},
		"good one in second place":          {[]*x509.Certificate{foreign, leaf}, "not of the site CA"},
	}
	for name, tc := range cases {
		v, err := VerifyClient(tc.chain, w.site)
		if v.Certificate() != nil || fault.KindOf(err) != fault.Unauthenticated || !strings.Contains(fault.Public(err), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}

	t.Run("one bit changed", func(t *testing.T) {
		t.Parallel()
		for i := range leaf.Raw {
			raw := append([]byte(nil), leaf.Raw...)
			raw[i] ^= 1
			bad, err := x509.ParseCertificate(raw)
			if err != nil {
				continue
			}
			if _, err := VerifyClient([]*x509.Certificate{bad}, w.site); err == nil {
				t.Fatalf("byte %d changed: accepted", i)
			}
		}
	})
}

func TestValidityFollowsTheInjectedClock(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p, err := PrepareClient(Client{User: "alice", Public: newKey(t).Public(), Validity: time.Hour})
	cert := issue(t, w.client, p, err)
	for at, want := range map[time.Duration]bool{
		-5*time.Minute - time.Second: false,
		-5 * time.Minute:             true,
		0:                            true,
		time.Hour:                    true,
		time.Hour + time.Second:      false,
	} {
		w.Set(start.Add(at))
		if _, err := VerifyClient([]*x509.Certificate{cert}, w.client); (err == nil) != want {
			t.Errorf("at %v: %v", at, err)
		}
	}
}

// TestOnlyTheSiteCAMakesASite presents everything that says it is a site, from
// every other authority.
func TestOnlyTheSiteCAMakesASite(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	public := newKey(t).Public()
	byURI := clientTemplate("alice")
	byURI.URIs = []*url.URL{{Scheme: "gatehouse", Opaque: "site:berlin"}}
	if _, err := VerifyClient([]*x509.Certificate{forge(t, w.agent, byURI, public)}, w.agent); !strings.Contains(fault.Public(err), "claims to be a site") {
		t.Errorf("site by URI of the agent CA: %v", err)
	}
	// These two authorities exclude alternative names of every kind.
	_, err1 := VerifyClient([]*x509.Certificate{forge(t, w.client, byURI, public)}, w.client)
	_, err2 := VerifyClient([]*x509.Certificate{forge(t, w.proxy, byURI, public)}, w.proxy)
	for _, err := range []error{err1, err2} {
		if fault.KindOf(err) != fault.Unauthenticated || !strings.Contains(fault.Public(err), "is not of the") {
			t.Errorf("site by URI: %v", err)
		}
	}
	for name, template := range map[string]*x509.Certificate{
		"user":  clientTemplate("system:site:berlin"),
		"group": clientTemplate("alice", "people", "system:sites"),
	} {
		_, err1 := VerifyClient([]*x509.Certificate{forge(t, w.client, template, public)}, w.client)
		_, err2 := VerifyClient([]*x509.Certificate{forge(t, w.agent, template, public)}, w.agent)
		_, err3 := VerifyClient([]*x509.Certificate{forge(t, w.proxy, template, public)}, w.proxy)
		for _, err := range []error{err1, err2, err3} {
			if fault.KindOf(err) != fault.Unauthenticated || !strings.Contains(fault.Public(err), "claims to be a site") {
				t.Errorf("site by %s: %v", name, err)
			}
		}
	}
}

func TestSiteName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	public := newKey(t).Public()
	uri := func(s string) []*url.URL { return []*url.URL{{Scheme: "gatehouse", Opaque: "site:" + s}} }
	cases := map[string]struct {
		change func(*x509.Certificate)
		want   string
	}{
		"correct":            {func(*x509.Certificate) {}, "berlin"},
		"no URI":             {func(c *x509.Certificate) { c.URIs = nil }, ""},
		"other URI":          {func(c *x509.Certificate) { c.URIs = uri("paris") }, ""},
		"two URIs":           {func(c *x509.Certificate) { c.URIs = append(c.URIs, uri("paris")...) }, ""},
		"other user":         {func(c *x509.Certificate) { c.Subject.CommonName = "system:site:paris" }, ""},
		"user without mark":  {func(c *x509.Certificate) { c.Subject.CommonName = "berlin" }, ""},
		"no group":           {func(c *x509.Certificate) { c.Subject.Organization = nil }, ""},
		"more groups":        {func(c *x509.Certificate) { c.Subject.Organization = []string{"system:sites", "system:masters"} }, ""},
		"empty name":         {func(c *x509.Certificate) { c.Subject.CommonName, c.URIs = "system:site:", uri("") }, ""},
		"name with a colon":  {func(c *x509.Certificate) { c.Subject.CommonName, c.URIs = "system:site:a:b", uri("a:b") }, ""},
		"name with a dot":    {func(c *x509.Certificate) { c.Subject.CommonName, c.URIs = "system:site:a.b", uri("a.b") }, ""},
		"name in upper case": {func(c *x509.Certificate) { c.Subject.CommonName, c.URIs = "system:site:A", uri("A") }, ""},
	}
	for name, tc := range cases {
		template := clientTemplate("system:site:berlin", "system:sites")
		template.URIs = uri("berlin")
		tc.change(template)
		v, err := VerifyClient([]*x509.Certificate{forge(t, w.site, template, public)}, w.site)
		if err != nil {
			t.Fatal(err)
		}
		got, err := SiteName(v)
		if got != tc.want || (err == nil) != (tc.want != "") {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if err != nil && fault.KindOf(err) != fault.Unauthenticated {
			t.Errorf("%s: kind %v", name, fault.KindOf(err))
		}
	}
	if _, err := SiteName(Verified[keys.SiteCA]{}); fault.KindOf(err) != fault.Unauthenticated {
		t.Errorf("zero value: %v", err)
	}
}

func TestDoorsDoNotConvert(t *testing.T) {
	t.Parallel()
	for _, pair := range [][2]reflect.Type{
		{reflect.TypeFor[Verified[keys.ClientCA]](), reflect.TypeFor[Verified[keys.SiteCA]]()},
		{reflect.TypeFor[*Authority[keys.ClientCA]](), reflect.TypeFor[*Authority[keys.SiteCA]]()},
		{reflect.TypeFor[*Prepared[keys.ClientCA]](), reflect.TypeFor[*Prepared[keys.SiteCA]]()},
	} {
		if pair[0].ConvertibleTo(pair[1]) || pair[1].ConvertibleTo(pair[0]) {
			t.Errorf("%v and %v convert into each other", pair[0], pair[1])
		}
	}
}

// FuzzSite proves that every site name that lint admits comes back from the
// certificate unchanged.
func FuzzSite(f *testing.F) {
	w := newWorld(f)
	public := newKey(f).Public()
	for _, name := range []string{"berlin", "a.b-c", "", "a:b", "A", "a/../b", "a%20b", "ä", "a\x00"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		p, err := PrepareSite(name, public, 0)
		if err != nil {
			if fault.KindOf(err) != fault.Invalid {
				t.Errorf("%q: %v", name, err)
			}
			return
		}
		cert, err := w.site.Issue(p)
		if err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		v, err := VerifyClient([]*x509.Certificate{cert}, w.site)
		if err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		if got, err := SiteName(v); err != nil || got != name {
			t.Errorf("%q comes back as %q, %v", name, got, err)
		}
	})
}

func BenchmarkVerifyClient(b *testing.B) {
	w := newWorld(b)
	p, err := PrepareClient(Client{User: "alice", Public: newKey(b).Public()})
	chain := []*x509.Certificate{issue(b, w.client, p, err)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := VerifyClient(chain, w.client); err != nil {
			b.Fatal(err)
		}
	}
}

package authn_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// authority is a CA of a test.
type authority struct {
	t           testing.TB
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
	clock       *clock
}

func newAuthority(t testing.TB, c *clock, name string, parent *authority) *authority {
	t.Helper()
	a := &authority{t: t, key: newKey(t), clock: c}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: c.now().Add(-time.Hour), NotAfter: c.now().Add(1000 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	signer, issuer := a.key, template
	if parent != nil {
		signer, issuer = parent.key, parent.certificate
	}
	a.certificate = create(t, template, issuer, &a.key.PublicKey, signer)
	return a
}

func create(t testing.TB, template, parent *x509.Certificate, public crypto.PublicKey, signer crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
	must(t, err)
	certificate, err := x509.ParseCertificate(der)
	must(t, err)
	return certificate
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

// issue makes a client certificate that lives an hour.
func (a *authority) issue(subject pkix.Name, change ...func(*x509.Certificate)) *x509.Certificate {
	a.t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: subject, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		NotBefore: a.clock.now().Add(-time.Minute), NotAfter: a.clock.now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	for _, f := range change {
		f(template)
	}
	return create(a.t, template, a.certificate, &newKey(a.t).PublicKey, a.key)
}

var oidUID = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57683, 2}

func uids(values ...any) pkix.Name {
	name := pkix.Name{CommonName: "client_cn", Organization: []string{"My Org"}}
	for _, value := range values {
		name.ExtraNames = append(name.ExtraNames, pkix.AttributeTypeAndValue{Type: oidUID, Value: value})
	}
	return name
}

func TestVerifyCertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ca := newAuthority(t, w.clock, "client CA", nil)
	intermediate := newAuthority(t, w.clock, "intermediate", ca)
	stranger := newAuthority(t, w.clock, "client CA", nil)
	siteCA := newAuthority(t, w.clock, "site CA", nil)
	w.chain.SetClientCAs(ca.pool())
	w.chain.SetSiteCAs(siteCA.pool())
	usage := func(usages ...x509.ExtKeyUsage) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.ExtKeyUsage = usages }
	}
	one := func(c *x509.Certificate) []*x509.Certificate { return []*x509.Certificate{c} }
	plain := pkix.Name{CommonName: "client_cn"}
	selfSigned := func() *x509.Certificate {
		key := newKey(t)
		template := &x509.Certificate{SerialNumber: big.NewInt(3), Subject: plain, NotBefore: w.clock.now().Add(-time.Hour), NotAfter: w.clock.now().Add(time.Hour)}
		return create(t, template, template, &key.PublicKey, key)
	}
	cases := map[string]struct {
		peer   []*x509.Certificate
		name   string
		uid    string
		groups []string
		reason authn.Reason
		detail string
	}{
		"tls, no certs":             {peer: nil, reason: authn.Malformed},
		"self signed":               {peer: one(selfSigned()), reason: authn.BadSignature},
		"server cert":               {peer: one(ca.issue(plain, usage(x509.ExtKeyUsageServerAuth))), reason: authn.BadSignature},
		"any usage":                 {peer: one(ca.issue(plain, usage(x509.ExtKeyUsageAny))), name: "client_cn", groups: []string{"system:authenticated"}},
		"common name":               {peer: one(ca.issue(plain)), name: "client_cn", groups: []string{"system:authenticated"}},
		"common name and UID":       {peer: one(ca.issue(uids("client_id"))), name: "client_cn", uid: "client_id", groups: []string{"My Org", "system:authenticated"}},
		"no common name":            {peer: one(ca.issue(pkix.Name{Organization: []string{"My Org"}})), reason: authn.ReservedName, detail: "names nobody"},
		"empty UID":                 {peer: one(ca.issue(uids(""))), reason: authn.Malformed, detail: "UID cannot be an empty string"},
		"multiple UIDs":             {peer: one(ca.issue(uids("a", "b"))), reason: authn.Malformed, detail: "expected 1 UID, but found multiple"},
		"multiple organizations":    {peer: one(ca.issue(pkix.Name{CommonName: "x", Organization: []string{"My Org", "My Org 1", "My Org 2"}})), name: "x", groups: []string{"My Org", "My Org 1", "My Org 2", "system:authenticated"}},
		"administrators":            {peer: one(ca.issue(pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}})), name: "admin", groups: []string{"system:masters", "system:authenticated"}},
		"anonymous gets no group":   {peer: one(ca.issue(pkix.Name{CommonName: "system:anonymous", Organization: []string{"system:unauthenticated"}})), name: "system:anonymous", groups: []string{"system:unauthenticated"}},
		"future cert":               {peer: one(ca.issue(plain, func(c *x509.Certificate) { c.NotBefore = w.clock.now().Add(time.Second) })), reason: authn.NotYetValid},
		"expired cert":              {peer: one(ca.issue(plain, func(c *x509.Certificate) { c.NotAfter = w.clock.now().Add(-time.Second) })), reason: authn.Expired},
		"multi-level, valid":        {peer: []*x509.Certificate{intermediate.issue(plain), intermediate.certificate}, name: "client_cn", groups: []string{"system:authenticated"}},
		"multi-level, expired":      {peer: []*x509.Certificate{intermediate.issue(plain, func(c *x509.Certificate) { c.NotAfter = w.clock.now().Add(-time.Second) }), intermediate.certificate}, reason: authn.Expired},
		"multi-level, not complete": {peer: one(intermediate.issue(plain)), reason: authn.BadSignature},
		"foreign CA of same name":   {peer: one(stranger.issue(plain)), reason: authn.BadSignature},
		"foreign CA sent along":     {peer: []*x509.Certificate{stranger.issue(plain), stranger.certificate}, reason: authn.BadSignature},
		"signed by a leaf":          {peer: signedByLeaf(t, ca), reason: authn.BadSignature},
		"the CA itself":             {peer: one(ca.certificate), reason: authn.BadSignature},
		"endless chain":             {peer: append(one(ca.issue(plain)), slices.Repeat(one(intermediate.certificate), 20)...), reason: authn.Malformed},
		"site CA's certificate":     {peer: one(siteCA.issue(authn.SiteSubject("one"))), reason: authn.BadSignature},
		"site CA names an admin":    {peer: one(siteCA.issue(pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}})), reason: authn.BadSignature},
		"site's name, client CA":    {peer: one(ca.issue(authn.SiteSubject("one"))), reason: authn.ReservedName},
		"site's user name":          {peer: one(ca.issue(pkix.Name{CommonName: "system:site:one"})), reason: authn.ReservedName},
		"site's user name, empty":   {peer: one(ca.issue(pkix.Name{CommonName: "system:site:"})), reason: authn.ReservedName},
		"group of sites":            {peer: one(ca.issue(pkix.Name{CommonName: "x", Organization: []string{"a", "system:sites"}})), reason: authn.ReservedName},
		"site's name as a group":    {peer: one(ca.issue(pkix.Name{CommonName: "x", Organization: []string{"system:site:one"}})), reason: authn.ReservedName},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for range 2 { // verified, then remembered
				id, err := w.chain.VerifyCertificate(context.Background(), tc.peer)
				if tc.reason != "" {
					if id.Valid() || authn.ReasonOf(err) != tc.reason || fault.KindOf(err) != fault.Unauthenticated || fault.Public(err) != "invalid client certificate" {
						t.Fatalf("got %q, %v (%s), want %s", id.Name(), err, authn.ReasonOf(err), tc.reason)
					}
					if !strings.Contains(err.Error(), tc.detail) {
						t.Errorf("detail %v, want %q", err, tc.detail)
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				sum := sha256.Sum256(tc.peer[0].Raw)
				credential := "X509SHA256=" + hex.EncodeToString(sum[:])
				if id.Name() != tc.name || id.UID() != tc.uid || !slices.Equal(id.Groups(), tc.groups) || id.CredentialID() != credential ||
					!reflect.DeepEqual(id.Extra(), map[string][]string{authn.ExtraCredentialID: {credential}}) || id.Method() != authn.Certificate ||
					!id.NotAfter().Equal(tc.peer[0].NotAfter) || id.Audiences() != nil {
					t.Errorf("got %q %q %q %q %v", id.Name(), id.UID(), id.Groups(), id.Extra(), id.Method())
				}
			}
		})
	}
}

// signedByLeaf abuses a client certificate as a CA.
func signedByLeaf(t *testing.T, ca *authority) []*x509.Certificate {
	key := newKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(9), Subject: pkix.Name{CommonName: "leaf"}, NotBefore: ca.clock.now().Add(-time.Hour), NotAfter: ca.clock.now().Add(time.Hour)}
	leaf := create(t, template, ca.certificate, &key.PublicKey, ca.key)
	bad := &authority{t: t, key: key, certificate: leaf, clock: ca.clock}
	return []*x509.Certificate{bad.issue(pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}}), leaf}
}

// TestCertificateUIDType reads a subject that the standard library would not
// make: a UID that is no string.
func TestCertificateUIDType(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ca := newAuthority(t, w.clock, "client CA", nil)
	w.chain.SetClientCAs(ca.pool())
	certificate := ca.issue(uids("x"))
	for i := range certificate.Subject.Names {
		if certificate.Subject.Names[i].Type.Equal(oidUID) {
			certificate.Subject.Names[i].Value = 7
		}
	}
	if _, err := w.chain.VerifyCertificate(context.Background(), []*x509.Certificate{certificate}); err == nil || !strings.Contains(err.Error(), "unable to parse UID into a string") {
		t.Errorf("got %v", err)
	}
}

func TestVerifySite(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ca := newAuthority(t, w.clock, "client CA", nil)
	siteCA := newAuthority(t, w.clock, "site CA", nil)
	w.chain.SetClientCAs(ca.pool())
	w.chain.SetSiteCAs(siteCA.pool())
	subject := func(name string, organizations ...string) pkix.Name {
		return pkix.Name{CommonName: name, Organization: organizations}
	}
	cases := map[string]struct {
		certificate *x509.Certificate
		name        string
		reason      authn.Reason
	}{
		"good":                      {siteCA.issue(authn.SiteSubject("one")), "one", ""},
		"client CA":                 {ca.issue(authn.SiteSubject("one")), "", authn.BadSignature},
		"no organization":           {siteCA.issue(subject("system:site:one")), "", authn.ReservedName},
		"further organization":      {siteCA.issue(subject("system:site:one", "system:sites", "system:masters")), "", authn.ReservedName},
		"other organization":        {siteCA.issue(subject("system:site:one", "sites")), "", authn.ReservedName},
		"no prefix":                 {siteCA.issue(subject("one", "system:sites")), "", authn.ReservedName},
		"no name":                   {siteCA.issue(authn.SiteSubject("")), "", authn.ReservedName},
		"name with a slash":         {siteCA.issue(authn.SiteSubject("one/../two")), "", authn.ReservedName},
		"name in upper case":        {siteCA.issue(authn.SiteSubject("ONE")), "", authn.ReservedName},
		"name too long":             {siteCA.issue(authn.SiteSubject(strings.Repeat("a", 50) + "-" + strings.Repeat("b", 13))), "", authn.ReservedName},
		"name begins with a hyphen": {siteCA.issue(authn.SiteSubject("-one")), "", authn.ReservedName},
		"expired":                   {siteCA.issue(authn.SiteSubject("one"), func(c *x509.Certificate) { c.NotAfter = w.clock.now().Add(-time.Second) }), "", authn.Expired},
	}
	for name, tc := range cases {
		for range 2 {
			site, err := w.chain.VerifySite(context.Background(), []*x509.Certificate{tc.certificate})
			if authn.ReasonOf(err) != tc.reason || site.Name() != tc.name || site.Valid() != (tc.reason == "") {
				t.Errorf("%s: site %q, %v", name, site.Name(), err)
			}
			if err == nil && (site.CredentialID() != authn.CertificateID(tc.certificate) || !site.NotAfter().Equal(tc.certificate.NotAfter)) {
				t.Errorf("%s: credential %q until %v", name, site.CredentialID(), site.NotAfter())
			}
		}
		// What is a site here is nobody there, remembered or not.
		if id, err := w.chain.VerifyCertificate(context.Background(), []*x509.Certificate{tc.certificate}); err == nil {
			t.Errorf("%s: accepted as user %q", name, id.Name())
		}
	}
	good := cases["good"].certificate
	must(t, w.bans.Replace([]authn.Ban{{Name: "b", Credential: authn.CertificateID(good)}}))
	if _, err := w.chain.VerifySite(context.Background(), []*x509.Certificate{good}); authn.ReasonOf(err) != authn.Banned {
		t.Errorf("banned site: %v", err)
	}
}

// A source's certificate makes a source and nothing else, and nothing else
// makes one.
func TestVerifySource(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ca, siteCA := newAuthority(t, w.clock, "client CA", nil), newAuthority(t, w.clock, "site CA", nil)
	w.chain.SetClientCAs(ca.pool())
	w.chain.SetSiteCAs(siteCA.pool())
	subject := func(name string, organizations ...string) pkix.Name {
		return pkix.Name{CommonName: name, Organization: organizations}
	}
	cases := map[string]struct {
		certificate *x509.Certificate
		name        string
		reason      authn.Reason
	}{
		"good":                 {siteCA.issue(authn.SourceSubject("web-1.example")), "web-1.example", ""},
		"client CA":            {ca.issue(authn.SourceSubject("web-1")), "", authn.BadSignature},
		"a site's":             {siteCA.issue(authn.SiteSubject("web-1")), "", authn.ReservedName},
		"of the sites' group":  {siteCA.issue(subject("system:audit-source:web-1", "system:sites")), "", authn.ReservedName},
		"further organization": {siteCA.issue(subject("system:audit-source:web-1", "system:audit-sources", "system:masters")), "", authn.ReservedName},
		"no name":              {siteCA.issue(authn.SourceSubject("")), "", authn.ReservedName},
		"an empty label":       {siteCA.issue(authn.SourceSubject("a..b")), "", authn.ReservedName},
		"a slash":              {siteCA.issue(authn.SourceSubject("a/b")), "", authn.ReservedName},
		"expired":              {siteCA.issue(authn.SourceSubject("a"), func(c *x509.Certificate) { c.NotAfter = w.clock.now().Add(-time.Second) }), "", authn.Expired},
	}
	for name, tc := range cases {
		peer := []*x509.Certificate{tc.certificate}
		for range 2 {
			got, err := w.chain.VerifySource(context.Background(), peer)
			if authn.ReasonOf(err) != tc.reason || got.Name() != tc.name || got.Valid() != (tc.reason == "") {
				t.Errorf("%s: source %q, %v", name, got.Name(), err)
			}
			if err == nil && (got.CredentialID() != authn.CertificateID(tc.certificate) || !authn.IsSource(tc.certificate)) {
				t.Errorf("%s: credential %q", name, got.CredentialID())
			}
		}
		if site, err := w.chain.VerifySite(context.Background(), peer); err == nil && name != "a site's" {
			t.Errorf("%s: accepted as site %q", name, site.Name())
		}
		if id, err := w.chain.VerifyCertificate(context.Background(), peer); err == nil {
			t.Errorf("%s: accepted as user %q", name, id.Name())
		}
	}
	good := cases["good"].certificate
	must(t, w.bans.Replace([]authn.Ban{{Name: "b", Credential: authn.CertificateID(good)}}))
	if _, err := w.chain.VerifySource(context.Background(), []*x509.Certificate{good}); authn.ReasonOf(err) != authn.Banned {
		t.Errorf("banned source: %v", err)
	}
}

// An intermediate authority that was revoked makes nobody anybody, on an open
// connection neither.
func TestRevokedIntermediate(t *testing.T) {
	t.Parallel()
	revoked := map[string]bool{}
	w := newWorld(t, func(c *authn.Config) {
		c.Revoked = func(certificate *x509.Certificate) bool { return revoked[certificate.Subject.CommonName] }
	})
	root := newAuthority(t, w.clock, "root CA", nil)
	between := newAuthority(t, w.clock, "intermediate CA", root)
	w.chain.SetForeignCAs(root.pool())
	peer := []*x509.Certificate{between.issue(pkix.Name{CommonName: "user"}), between.certificate}
	check := func(what string, want authn.Reason) {
		t.Helper()
		if _, err := w.chain.VerifyCertificate(t.Context(), peer); authn.ReasonOf(err) != want || (want == "") != (err == nil) {
			t.Errorf("%s: %v", what, err)
		}
	}
	check("good", "")
	revoked["intermediate CA"] = true
	check("remembered", authn.Ended)
	peer = []*x509.Certificate{between.issue(pkix.Name{CommonName: "another"}), between.certificate}
	check("new", authn.Ended)
	// What was refused is not remembered as good for want of a check.
	check("again", authn.Ended)
	revoked["intermediate CA"] = false
	check("no longer on the list", "")
	// A root that is trusted stays so, whatever its own list says.
	revoked["root CA"] = true
	check("the root on its list", "")
}

// TestOpenConnectionEndsAtOnce uses one certificate object over and over, as a
// connection does.
func TestOpenConnectionEndsAtOnce(t *testing.T) {
	t.Parallel()
	revoked := map[string]bool{}
	w := newWorld(t, func(c *authn.Config) {
		c.Revoked = func(certificate *x509.Certificate) bool { return revoked[certificate.SerialNumber.String()] }
	})
	ca := newAuthority(t, w.clock, "client CA", nil)
	w.chain.SetClientCAs(ca.pool())
	peer := []*x509.Certificate{ca.issue(pkix.Name{CommonName: "user", Organization: []string{"team"}})}
	check := func(what string, want authn.Reason) {
		t.Helper()
		if _, err := w.chain.VerifyCertificate(context.Background(), peer); authn.ReasonOf(err) != want || (want == "") != (err == nil) {
			t.Errorf("%s: %v", what, err)
		}
	}
	check("good", "")
	check("remembered", "")
	for name, ban := range map[string]authn.Ban{"credential": {Credential: authn.CertificateID(peer[0])}, "user": {User: "user"}, "group": {Group: "team"}} {
		must(t, w.bans.Replace([]authn.Ban{ban}))
		check(name+" banned", authn.Banned)
		must(t, w.bans.Replace(nil))
		check("ban lifted", "")
	}
	revoked["2"] = true
	check("revoked", authn.Ended)
	revoked["2"] = false
	check("no longer on the list", "")
	w.chain.SetClientCAs(newAuthority(t, w.clock, "next CA", nil).pool())
	check("CA replaced", authn.BadSignature)
	w.chain.SetClientCAs(ca.pool())
	check("CA back", "")
	w.chain.SetClientCAs(nil)
	check("no CA", authn.UnknownIssuer)
	w.chain.SetClientCAs(ca.pool())
	w.clock.advance(2 * time.Hour)
	check("expired", authn.Expired)
}

package crl

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"
)

var start = time.Unix(1_800_000_000, 0)

type ca struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newCA(t testing.TB, name string) ca {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: start, NotAfter: start.Add(time.Hour * 1000),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return ca{t, cert, key}
}

func (c ca) leaf(serial int64) *x509.Certificate {
	c.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: start, NotAfter: start.Add(time.Hour)}, c.cert, c.key.Public(), c.key)
	if err != nil {
		c.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		c.t.Fatal(err)
	}
	return cert
}

func (c ca) list(change func(*x509.RevocationList), serials ...int64) []byte {
	c.t.Helper()
	template := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: start, NextUpdate: start.Add(time.Hour)}
	for _, n := range serials {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(n), RevocationTime: start})
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, c.cert, c.key)
	if err != nil {
		c.t.Fatal(err)
	}
	return der
}

func read(t *testing.T, files ...[]byte) []*x509.RevocationList {
	t.Helper()
	var out []*x509.RevocationList
	for _, f := range files {
		lists, err := Parse(f)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, lists...)
	}
	return out
}

func TestRevoked(t *testing.T) {
	t.Parallel()
	now := start
	l := New(func() time.Time { return now })
	a, b := newCA(t, "a"), newCA(t, "b")
	if l.Revoked(a.leaf(7)) {
		t.Error("revoked without a list")
	}
	issuers := []*x509.Certificate{a.cert, b.cert}
	if err := l.Replace(read(t, a.list(nil, 7, 8)), issuers); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		cert *x509.Certificate
		want bool
	}{
		"in the list":                       {a.leaf(7), true},
		"not in the list":                   {a.leaf(9), false},
		"the same number of another issuer": {b.leaf(7), false},
	} {
		if got := l.Revoked(c.cert); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	// The later of two lists counts, in whatever order they come.
	later := a.list(func(r *x509.RevocationList) { r.Number, r.ThisUpdate = big.NewInt(2), start.Add(time.Minute) }, 9)
	for _, files := range [][][]byte{{a.list(nil, 7), later}, {later, a.list(nil, 7)}} {
		if err := l.Replace(read(t, files...), issuers); err != nil || l.Revoked(a.leaf(7)) || !l.Revoked(a.leaf(9)) {
			t.Errorf("two lists: %v", err)
		}
	}
	// Overdue, all of that authority are refused and nobody else.
	now = start.Add(time.Hour)
	if !l.Revoked(a.leaf(1)) || l.Revoked(b.leaf(1)) {
		t.Error("an overdue list")
	}
	// What cannot be believed changes nothing.
	now = start
	stranger := newCA(t, "a")
	if err := l.Replace(read(t, stranger.list(nil, 1)), issuers); err == nil || !l.Revoked(a.leaf(9)) {
		t.Errorf("a list signed by a stranger of the same name: %v", err)
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	a := newCA(t, "a")
	block := func(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}) }
	two := append(block(a.list(nil, 1)), block(newCA(t, "b").list(nil, 2))...)
	if got := read(t, two); len(got) != 2 {
		t.Errorf("%d lists", len(got))
	}
	extension := func(id []int, critical bool) func(*x509.RevocationList) {
		return func(r *x509.RevocationList) {
			r.ExtraExtensions = []pkix.Extension{{Id: id, Critical: critical, Value: []byte{5, 0}}}
		}
	}
	for name, data := range map[string][]byte{
		"nothing":         nil,
		"garbage":         []byte("garbage"),
		"cut short":       a.list(nil, 1)[:40],
		"a certificate":   pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}),
		"an open block":   []byte("-----BEGIN X509 CRL-----\n"),
		"a delta list":    a.list(extension([]int{2, 5, 29, 27}, true)),
		"a partial list":  a.list(extension([]int{2, 5, 29, 28}, true)),
		"too many":        bytes.Repeat(block(a.list(nil)), maxLists+1),
		"too large a one": make([]byte, MaxBytes+1),
	} {
		if lists, err := Parse(data); err == nil {
			t.Errorf("%s: %d lists", name, len(lists))
		}
	}
	if _, err := Parse(a.list(extension([]int{1, 2, 3}, false))); err != nil {
		t.Errorf("a further extension: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	a := newCA(f, "a")
	der := a.list(nil, 1, 2)
	f.Add(der)
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
	l := New(time.Now)
	f.Fuzz(func(t *testing.T, data []byte) {
		lists, err := Parse(data)
		if err == nil && len(lists) == 0 {
			t.Fatal("neither lists nor an error")
		}
		_ = l.Replace(lists, []*x509.Certificate{a.cert})
	})
}

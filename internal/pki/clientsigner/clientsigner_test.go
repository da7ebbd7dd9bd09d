package clientsigner

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"slices"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/authn/origin"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

const credential = "X509SHA256=00"

func request(t *testing.T, change func(*x509.CertificateRequest)) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "ada", Organization: []string{"dev", "ops"}}}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	hour := int32(3600)
	return &certificatesv1.CertificateSigningRequest{Spec: certificatesv1.CertificateSigningRequestSpec{
		Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), SignerName: Name, ExpirationSeconds: &hour,
		Usages:   []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth},
		Username: "ada", Groups: []string{"dev", "ops", "system:authenticated"},
		Extra: map[string]certificatesv1.ExtraValue{credentialKey: {credential}},
	}}
}

func TestOwn(t *testing.T) {
	t.Parallel()
	never := func(string) bool { return false }
	if !Own(request(t, nil), never) {
		t.Error("what one is already is not one's own")
	}
	long := int32(25 * 3600)
	for name, c := range map[string]struct {
		subject func(*x509.CertificateRequest)
		change  func(*certificatesv1.CertificateSigningRequest)
		given   bool
	}{
		"another user":  {subject: func(r *x509.CertificateRequest) { r.Subject.CommonName = "bob" }},
		"no user":       {subject: func(r *x509.CertificateRequest) { r.Subject.CommonName = "" }, change: func(c *certificatesv1.CertificateSigningRequest) { c.Spec.Username = "" }},
		"another group": {subject: func(r *x509.CertificateRequest) { r.Subject.Organization = []string{"dev", "ops", "admins"} }},
		// What is denied to ops would not be denied to that certificate.
		"a group less":       {subject: func(r *x509.CertificateRequest) { r.Subject.Organization = []string{"dev"} }},
		"no group":           {subject: func(r *x509.CertificateRequest) { r.Subject.Organization = nil }},
		"a name of a server": {subject: func(r *x509.CertificateRequest) { r.DNSNames = []string{"a.example"} }},
		"an address":         {subject: func(r *x509.CertificateRequest) { r.EmailAddresses = []string{"a@a.example"} }},
		"too long":           {change: func(c *certificatesv1.CertificateSigningRequest) { c.Spec.ExpirationSeconds = &long }},
		"another signer":     {change: func(c *certificatesv1.CertificateSigningRequest) { c.Spec.SignerName = "example.com/x" }},
		"a token":            {change: func(c *certificatesv1.CertificateSigningRequest) { c.Spec.Extra[credentialKey] = []string{"JTI=1"} }},
		"no credential":      {change: func(c *certificatesv1.CertificateSigningRequest) { c.Spec.Extra = nil }},
		"two credentials": {change: func(c *certificatesv1.CertificateSigningRequest) {
			c.Spec.Extra[credentialKey] = []string{credential, credential}
		}},
		"no request":            {change: func(c *certificatesv1.CertificateSigningRequest) { c.Spec.Request = []byte("x") }},
		"a certificate by rule": {given: true},
	} {
		csr := request(t, c.subject)
		if c.change != nil {
			c.change(csr)
		}
		if Own(csr, func(id string) bool { return c.given && id == credential }) {
			t.Errorf("%s is approved by rule", name)
		}
	}
}

func TestPrepare(t *testing.T) {
	t.Parallel()
	if p, err := Prepare(request(t, nil)); err != nil || p == nil {
		t.Errorf("%v", err)
	}
	for name, csr := range map[string]*certificatesv1.CertificateSigningRequest{
		"masters":    request(t, func(r *x509.CertificateRequest) { r.Subject.Organization = []string{"system:masters"} }),
		"a node":     request(t, func(r *x509.CertificateRequest) { r.Subject.CommonName = "system:node:a" }),
		"a site":     request(t, func(r *x509.CertificateRequest) { r.Subject.CommonName = "system:site:a" }),
		"nobody":     request(t, func(r *x509.CertificateRequest) { r.Subject.CommonName = "" }),
		"a DNS name": request(t, func(r *x509.CertificateRequest) { r.DNSNames = []string{"a.example"} }),
		"for servers": func() *certificatesv1.CertificateSigningRequest {
			c := request(t, nil)
			c.Spec.Usages = append(c.Spec.Usages, certificatesv1.UsageServerAuth)
			return c
		}(),
		"for nothing": func() *certificatesv1.CertificateSigningRequest {
			c := request(t, nil)
			c.Spec.Usages = []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature}
			return c
		}(),
		"no request": {Spec: certificatesv1.CertificateSigningRequestSpec{Request: []byte("x")}},
	} {
		if _, err := Prepare(csr); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLine(t *testing.T) {
	t.Parallel()
	csr := request(t, nil)
	if got := line(csr); !slices.Equal(got, []string{credential}) {
		t.Errorf("of a request that is older than lines: %q", got)
	}
	full := []string{"KEY=b", "JTI=a;kid=k"}
	csr.Spec.Extra[origin.Extra] = full
	if got := line(csr); !slices.Equal(got, full) {
		t.Errorf("got %q", got)
	}
	csr.Spec.Extra = nil
	if got := line(csr); got != nil {
		t.Errorf("of nothing: %q", got)
	}
}

func TestLifeOfRequests(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: now.Add(10 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	with := func(age time.Duration, signed bool, conditions ...certificatesv1.CertificateSigningRequestCondition) *certificatesv1.CertificateSigningRequest {
		csr := request(t, nil)
		csr.CreationTimestamp = metav1.NewTime(now.Add(-age))
		csr.Status.Conditions = conditions
		if signed {
			csr.Status.Certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		}
		return csr
	}
	is := func(kind certificatesv1.RequestConditionType, reason string) certificatesv1.CertificateSigningRequestCondition {
		return certificatesv1.CertificateSigningRequestCondition{Type: kind, Status: corev1.ConditionTrue, Reason: reason}
	}
	approved, denied, failed := is(certificatesv1.CertificateApproved, "Somebody"), is(certificatesv1.CertificateDenied, ""), is(certificatesv1.CertificateFailed, "")
	rule := is(certificatesv1.CertificateApproved, Reason)
	for name, c := range map[string]struct {
		csr                     *certificatesv1.CertificateSigningRequest
		undecided, waits, spent bool
	}{
		"new":                  {csr: with(0, false), undecided: true},
		"forgotten":            {csr: with(25*time.Hour, false), undecided: true, spent: true},
		"approved":             {csr: with(25*time.Hour, false, approved), waits: true},
		"approved and failed":  {csr: with(0, false, approved, failed)},
		"failed long ago":      {csr: with(2*time.Hour, false, approved, failed), spent: true},
		"denied":               {csr: with(0, false, denied)},
		"denied long ago":      {csr: with(2*time.Hour, false, denied), spent: true},
		"signed":               {csr: with(0, true, approved)},
		"signed long ago":      {csr: with(2*time.Hour, true, approved), spent: true},
		"by rule, still valid": {csr: with(2*time.Hour, true, rule)},
		"approved and denied":  {csr: with(0, false, approved, denied)},
	} {
		if Undecided(c.csr) != c.undecided || Waits(c.csr) != c.waits || Spent(c.csr, now) != c.spent {
			t.Errorf("%s: undecided %v, waits %v, spent %v", name, Undecided(c.csr), Waits(c.csr), Spent(c.csr, now))
		}
	}
	if !Spent(with(0, true, rule), now.Add(11*time.Hour)) {
		t.Error("a request by rule outlives its certificate")
	}
	if Given(with(0, true, approved)) != "" || Given(with(0, false, rule)) != "" || Given(with(0, true, rule)) != authn.CertificateID(leaf) {
		t.Error("which credentials came about by rule")
	}
	// Deleted, it would take its certificate out of the reach of bans.
	if got := Kept(with(0, true, rule)); !got.Equal(leaf.NotAfter) {
		t.Errorf("a request by rule is kept until %v", got)
	}
	for name, csr := range map[string]*certificatesv1.CertificateSigningRequest{
		"unsigned": with(0, false, rule), "approved by somebody": with(0, true, approved), "new": with(0, false),
	} {
		if got := Kept(csr); !got.IsZero() {
			t.Errorf("%s: kept until %v", name, got)
		}
	}
	other := with(100*time.Hour, false)
	other.Spec.SignerName = "example.com/x"
	if Undecided(other) || Waits(other) || Spent(other, now) {
		t.Error("requests of other signers are looked at")
	}
}

package certificatesigningrequest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

func request(t *testing.T, organizations ...string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "jane", Organization: organizations},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

func forSigner(name string, request []byte) *certificatesv1.CertificateSigningRequest {
	return &certificatesv1.CertificateSigningRequest{
		Spec: certificatesv1.CertificateSigningRequestSpec{SignerName: name, Request: request},
	}
}

func TestNobodyAsksForSystemMasters(t *testing.T) {
	t.Parallel()
	kind := New(nil, nil).(*resource.Stored)
	for _, c := range []struct {
		signer        string
		organizations []string
		refused       bool
	}{
		{certificatesv1.KubeAPIServerClientSignerName, []string{"developers"}, false},
		{certificatesv1.KubeAPIServerClientSignerName, []string{"developers", "system:masters"}, true},
		{certificatesv1.KubeletServingSignerName, []string{"system:masters"}, false},
	} {
		err := kind.Check(t.Context(), resource.Caller{}, forSigner(c.signer, request(t, c.organizations...)), nil)
		if c.refused != (err != nil) {
			t.Errorf("%s for %v: %v", c.signer, c.organizations, err)
		}
		if err != nil && fault.KindOf(err) != fault.Denied {
			t.Errorf("the refusal is %v", fault.KindOf(err))
		}
	}
}

func TestSignersAreGuarded(t *testing.T) {
	t.Parallel()
	refusal := errors.New("no")
	var verb, signer string
	kind := New(func(_ context.Context, _ resource.Caller, v, s string) error {
		verb, signer = v, s
		return refusal
	}, nil).(*resource.Stored)
	routes := map[string]resource.StoredSubresource{}
	for _, sub := range kind.Subresources {
		routes[sub.Name] = sub
	}
	check := func(route string, change func(csr *certificatesv1.CertificateSigningRequest)) error {
		old := forSigner("example.com/ca", nil)
		csr := old.DeepCopy()
		// A signer that the caller controls must not be the one that counts.
		csr.Spec.SignerName = "example.com/mine"
		change(csr)
		verb, signer = "", ""
		return routes[route].Check(t.Context(), resource.Caller{}, csr, old)
	}

	if err := check("approval", func(*certificatesv1.CertificateSigningRequest) {}); !errors.Is(err, refusal) || verb != "approve" || signer != "example.com/ca" {
		t.Errorf("approval: %v after asking for %q on %q", err, verb, signer)
	}
	if err := check("status", func(*certificatesv1.CertificateSigningRequest) {}); err != nil {
		t.Errorf("a status without a change: %v", err)
	}
	for name, change := range map[string]func(csr *certificatesv1.CertificateSigningRequest){
		"certificate": func(csr *certificatesv1.CertificateSigningRequest) { csr.Status.Certificate = []byte("x") },
		"condition": func(csr *certificatesv1.CertificateSigningRequest) {
			csr.Status.Conditions = append(csr.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{Type: certificatesv1.CertificateFailed})
		},
	} {
		if err := check("status", change); !errors.Is(err, refusal) || verb != "sign" || signer != "example.com/ca" {
			t.Errorf("status with another %s: %v after asking for %q on %q", name, err, verb, signer)
		}
	}
}

func TestConditionsAreStamped(t *testing.T) {
	t.Parallel()
	before, now := metav1.NewTime(time.Unix(1000, 0)), metav1.NewTime(time.Unix(2000, 0))
	old := &certificatesv1.CertificateSigningRequest{}
	old.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{
		{Type: "Same", Status: corev1.ConditionTrue, LastTransitionTime: before},
		{Type: "Turned", Status: corev1.ConditionTrue, LastTransitionTime: before},
	}
	csr := &certificatesv1.CertificateSigningRequest{}
	csr.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{
		{Type: "Same", Status: corev1.ConditionTrue},
		{Type: "Turned", Status: corev1.ConditionFalse},
		{Type: "Own", Status: corev1.ConditionTrue, LastUpdateTime: before, LastTransitionTime: before},
	}
	stampConditions(csr, old, now)
	for i, want := range []struct{ updated, turned metav1.Time }{{now, before}, {now, now}, {before, before}} {
		c := csr.Status.Conditions[i]
		if !c.LastUpdateTime.Equal(&want.updated) || !c.LastTransitionTime.Equal(&want.turned) {
			t.Errorf("%s: updated %v, turned %v", c.Type, c.LastUpdateTime, c.LastTransitionTime)
		}
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		request, err := parseRequest(data)
		if (request == nil) == (err == nil) {
			t.Errorf("request %v, error %v", request, err)
		}
		_ = parseCertificates(data)
	})
}

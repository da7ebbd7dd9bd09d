package server

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/clientcmd"

	auditapi "github.com/gatehouse-dev/gatehouse/api/audit/v1alpha1"
	federationapi "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/keys"
	"github.com/gatehouse-dev/gatehouse/internal/kubeapi"
	"github.com/gatehouse-dev/gatehouse/internal/kubeconfig"
	"github.com/gatehouse-dev/gatehouse/internal/pki"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// trust is the certificate authorities, one for each door.
type trust struct {
	serving       *pki.Authority[keys.ServingCA]
	client        *pki.Authority[keys.ClientCA]
	site          *pki.Authority[keys.SiteCA]
	requestHeader *pki.Authority[keys.RequestHeaderCA]
	agent         *pki.Authority[keys.AgentCA]
}

func openTrust(ctx context.Context, vault *keys.Vault, now func() time.Time) (*trust, error) {
	t := &trust{}
	var err error
	if t.serving, err = pki.Open[keys.ServingCA](ctx, vault, now); err != nil {
		return nil, err
	}
	if t.client, err = pki.Open[keys.ClientCA](ctx, vault, now); err != nil {
		return nil, err
	}
	if t.site, err = pki.Open[keys.SiteCA](ctx, vault, now); err != nil {
		return nil, err
	}
	if t.requestHeader, err = pki.Open[keys.RequestHeaderCA](ctx, vault, now); err != nil {
		return nil, err
	}
	t.agent, err = pki.Open[keys.AgentCA](ctx, vault, now)
	return t, err
}

// apply tells the authentication chain whom to trust at which door.
func (t *trust) apply(chain *authn.Chain) error {
	client, err := t.client.Pool()
	if err != nil {
		return fmt.Errorf("client authority: %w", err)
	}
	site, err := t.site.Pool()
	if err != nil {
		return fmt.Errorf("site authority: %w", err)
	}
	chain.SetClientCAs(client)
	chain.SetSiteCAs(site)
	return nil
}

// keyInterval is how often keys are looked at for their schedule; changes by
// other replicas are watched.
const keyInterval = time.Minute

// run keeps the authorities, and what the chain trusts, current.
func (t *trust) run(ctx context.Context, w *work, chain *authn.Chain) {
	w.start("serving authority", func() error { return t.serving.Run(ctx, keyInterval) })
	w.start("client authority", func() error { return t.client.Run(ctx, keyInterval) })
	w.start("site authority", func() error { return t.site.Run(ctx, keyInterval) })
	w.start("request header authority", func() error { return t.requestHeader.Run(ctx, keyInterval) })
	w.start("agent authority", func() error { return t.agent.Run(ctx, keyInterval) })
	w.start("client trust", func() error {
		return t.client.Follow(ctx, func(pool *x509.CertPool) error { chain.SetClientCAs(pool); return nil })
	})
	w.start("site trust", func() error {
		return t.site.Follow(ctx, func(pool *x509.CertPool) error { chain.SetSiteCAs(pool); return nil })
	})
}

// refreshers read each authority's keys again.
func (t *trust) refreshers() []func(context.Context) error {
	return []func(context.Context) error{t.serving.Refresh, t.client.Refresh, t.site.Refresh, t.requestHeader.Refresh, t.agent.Refresh}
}

// Names of the first administrator.
const (
	adminUser = "gatehouse-admin"
	adminFile = "admin.kubeconfig"
)

// writeAdmin keeps admin.kubeconfig usable: it is written on the first start,
// and again when its certificate is near its end, its authority is not trusted
// any more, or the server has moved.
func writeAdmin(dir string, at address, t *trust, now func() time.Time) error {
	path := filepath.Join(dir, adminFile)
	ca, err := t.serving.BundlePEM()
	if err != nil {
		return fmt.Errorf("write %s: %w", adminFile, err)
	}
	if adminUsable(path, at, ca, t, now()) {
		return nil
	}
	key, err := pki.NewLeafKey()
	if err != nil {
		return fmt.Errorf("write %s: %w", adminFile, err)
	}
	prepared, err := pki.PrepareAdmin(pki.Client{User: adminUser, Groups: []string{"system:masters"}, Public: key.Public()})
	if err != nil {
		return fmt.Errorf("write %s: %w", adminFile, err)
	}
	cert, err := t.client.Issue(prepared)
	if err != nil {
		return fmt.Errorf("write %s: %w", adminFile, err)
	}
	private, err := key.PEM()
	if err != nil {
		return fmt.Errorf("write %s: %w", adminFile, err)
	}
	return kubeconfig.Write(path, kubeconfig.Config{
		Cluster: "gatehouse", User: adminUser, Server: at.url(), CA: ca,
		Certificate: pki.CertificatePEM(cert), Key: private,
	})
}

func adminUsable(path string, at address, ca []byte, t *trust, now time.Time) bool {
	data, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	cfg, err := clientcmd.Load(data)
	if err != nil {
		return false
	}
	context := cfg.Contexts[cfg.CurrentContext]
	if context == nil || cfg.Clusters[context.Cluster] == nil || cfg.AuthInfos[context.AuthInfo] == nil {
		return false
	}
	if c := cfg.Clusters[context.Cluster]; c.Server != at.url() || string(c.CertificateAuthorityData) != string(ca) {
		return false
	}
	block, _ := pem.Decode(cfg.AuthInfos[context.AuthInfo].ClientCertificateData)
	if block == nil {
		return false
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil || !now.Before(pki.RenewAt(cert)) {
		return false
	}
	_, err = pki.VerifyClient([]*x509.Certificate{cert}, t.client)
	return err == nil
}

// siteCredentials issues the certificates by which sites are recognised.
type siteCredentials struct {
	trust *trust
	frame func() *kubeapi.Frame
}

// maxSiteCredentials is how many certificates a site keeps: the current one
// and some that are being replaced.
const maxSiteCredentials = 4

func (s siteCredentials) issue(ctx context.Context, _ resource.Caller, site *federationapi.Site, in *federationapi.SiteCredential, dryRun bool) (err error) {
	in.Name = site.Name
	in.Status, err = s.certify(ctx, in.Spec, dryRun, holder{
		kind: sites, name: site.Name, prepare: pki.PrepareSite,
		credentials: func(o resource.Object) *[]string { return &o.(*federationapi.Site).Spec.Credentials },
	})
	return err
}

// issueSource does the same for an audit source.
func (s siteCredentials) issueSource(ctx context.Context, _ resource.Caller, source *auditapi.AuditSource, in *auditapi.AuditSourceCredential, dryRun bool) error {
	status, err := s.certify(ctx, federationapi.SiteCredentialSpec(in.Spec), dryRun, holder{
		kind: auditSources, name: source.Name, prepare: pki.PrepareSource,
		credentials: func(o resource.Object) *[]string { return &o.(*auditapi.AuditSource).Spec.Credentials },
	})
	in.Name, in.Status = source.Name, auditapi.AuditSourceCredentialStatus(status)
	return err
}

// holder is the object whose certificate is issued.
type holder struct {
	kind    schema.GroupResource
	name    string
	prepare func(string, crypto.PublicKey, time.Duration) (*pki.Prepared[keys.SiteCA], error)
	// credentials is where the object lists the ids of its certificates.
	credentials func(resource.Object) *[]string
}

// certify issues a certificate for the key of a request.
func (s siteCredentials) certify(ctx context.Context, spec federationapi.SiteCredentialSpec, dryRun bool, to holder) (none federationapi.SiteCredentialStatus, _ error) {
	public, err := requestedKey(spec.Request)
	if err != nil {
		return none, fault.Wrap(fault.Invalid, "spec.request: "+err.Error(), err)
	}
	var validity time.Duration
	if spec.ExpirationSeconds != nil {
		validity = time.Duration(*spec.ExpirationSeconds) * time.Second
	}
	prepared, err := to.prepare(to.name, public, validity)
	if err != nil {
		return none, err
	}
	cert, err := s.trust.site.Issue(prepared)
	if err != nil {
		return none, err
	}
	ca, err := s.trust.serving.BundlePEM()
	if err != nil {
		return none, err
	}
	status := federationapi.SiteCredentialStatus{
		CredentialID: authn.CertificateID(cert), ExpirationTimestamp: metav1.NewTime(cert.NotAfter), ServingCA: ca,
	}
	if dryRun {
		return status, nil
	}
	// Listed before it is handed out: the certificate opens nothing until then.
	if err := s.frame().Modify(ctx, to.kind, "", "", to.name, func(o resource.Object) error {
		ids := to.credentials(o)
		*ids = listed(*ids, status.CredentialID, spec.Replace)
		return nil
	}); err != nil {
		return none, err
	}
	status.Certificate = pki.CertificatePEM(cert)
	return status, nil
}

// listed adds a certificate to those by which somebody is recognised.
func listed(ids []string, id string, replace bool) []string {
	if replace {
		ids = nil
	}
	ids = append(slices.Clone(ids), id)
	if n := len(ids); n > maxSiteCredentials {
		ids = ids[n-maxSiteCredentials:]
	}
	return ids
}

// requestedKey reads a PKCS#10 request and proves that its sender has the key.
func requestedKey(data []byte) (*ecdsa.PublicKey, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE REQUEST" || len(rest) > 0 {
		return nil, errors.New("must be one PEM block of type CERTIFICATE REQUEST")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, errors.New("is not a PKCS#10 request")
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, errors.New("is not signed by its key")
	}
	public, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return nil, errors.New("the key must be ECDSA")
	}
	return public, nil
}

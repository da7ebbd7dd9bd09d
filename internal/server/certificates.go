package server

import (
	"context"
	"encoding/pem"
	"log/slog"
	"sync"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/keys"
	"github.com/gatehouse-dev/gatehouse/internal/pki"
	"github.com/gatehouse-dev/gatehouse/internal/pki/clientsigner"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
	"github.com/gatehouse-dev/gatehouse/internal/resource/certificatesigningrequest"
)

const (
	// certificateRetry is how long a request waits that could not be dealt with.
	certificateRetry = 2 * time.Second
	// certificateSweep is how often requests that have served are removed.
	certificateSweep = time.Minute
)

// clientCertificates signs what was approved, approves by rule, and removes
// requests that have served. Every replica does so; the store lets one win.
// What it writes goes through the API, and so into the record.
type clientCertificates struct {
	client    kubernetes.Interface
	authority *pki.Authority[keys.ClientCA]
	access    *access.Authorizer
	now       func() time.Time
	log       *slog.Logger

	wake chan struct{}
	mu   sync.Mutex // guards what follows
	// held is every request of this signer, todo the names to look at.
	held map[string]*certificatesv1.CertificateSigningRequest
	todo map[string]bool
	// given are the credential ids of certificates that were given by rule.
	given map[string]bool
}

func newClientCertificates(client kubernetes.Interface, authority *pki.Authority[keys.ClientCA], access *access.Authorizer, now func() time.Time, log *slog.Logger) *clientCertificates {
	return &clientCertificates{
		client: client, authority: authority, access: access, now: now, log: log, wake: make(chan struct{}, 1),
		held: map[string]*certificatesv1.CertificateSigningRequest{}, todo: map[string]bool{}, given: map[string]bool{},
	}
}

// note remembers a certificate that was given by rule.
func (c *clientCertificates) note(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.given[id] = true
}

// Replace, Put and Delete follow the stored requests.
func (c *clientCertificates) Replace(all []*certificatesv1.CertificateSigningRequest) {
	c.mu.Lock()
	clear(c.held)
	clear(c.todo)
	clear(c.given)
	c.mu.Unlock()
	for _, csr := range all {
		c.Put(csr)
	}
}

func (c *clientCertificates) Put(csr *certificatesv1.CertificateSigningRequest) {
	if csr.Spec.SignerName != clientsigner.Name {
		return
	}
	if id := clientsigner.Given(csr); id != "" {
		c.note(id)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held[csr.Name] = csr
	if clientsigner.Waits(csr) || clientsigner.Undecided(csr) {
		c.todo[csr.Name] = true
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
}

func (c *clientCertificates) Delete(csr *certificatesv1.CertificateSigningRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.held, csr.Name)
	delete(c.todo, csr.Name)
	if id := clientsigner.Given(csr); id != "" {
		delete(c.given, id)
	}
}

// run deals with requests until ctx ends.
func (c *clientCertificates) run(ctx context.Context) error {
	sweep, retry := time.NewTicker(certificateSweep), time.NewTicker(certificateRetry)
	defer sweep.Stop()
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.wake:
		case <-retry.C:
		case <-sweep.C:
			c.sweep(ctx)
		}
		for _, csr := range c.take() {
			if err := c.handle(ctx, csr); err != nil && ctx.Err() == nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
				c.log.Warn("certificate request not dealt with", "request", csr.Name, "error", err)
				c.again(csr.Name)
			}
		}
	}
}

func (c *clientCertificates) take() []*certificatesv1.CertificateSigningRequest {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []*certificatesv1.CertificateSigningRequest
	for name := range c.todo {
		if csr := c.held[name]; csr != nil {
			all = append(all, csr.DeepCopy())
		}
	}
	clear(c.todo)
	return all
}

func (c *clientCertificates) again(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held[name] != nil {
		c.todo[name] = true
	}
}

func (c *clientCertificates) handle(ctx context.Context, csr *certificatesv1.CertificateSigningRequest) error {
	if clientsigner.Undecided(csr) {
		return c.approve(ctx, csr)
	}
	if !clientsigner.Waits(csr) {
		return nil
	}
	chain, err := c.sign(csr)
	switch {
	case fault.KindOf(err) == fault.Invalid:
		now := metav1.NewTime(c.now())
		csr.Status.Conditions = append(csr.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
			Type: certificatesv1.CertificateFailed, Status: corev1.ConditionTrue, Reason: "SignerValidationFailure",
			Message: fault.Public(err), LastUpdateTime: now,
		})
	case err != nil:
		return err
	default:
		csr.Status.Certificate = chain
	}
	_, err = c.client.CertificatesV1().CertificateSigningRequests().UpdateStatus(ctx, csr, metav1.UpdateOptions{})
	return err
}

func (c *clientCertificates) sign(csr *certificatesv1.CertificateSigningRequest) ([]byte, error) {
	prepared, err := clientsigner.Prepare(csr)
	if err != nil {
		return nil, err
	}
	leaf, err := c.authority.Issue(prepared)
	if err != nil {
		return nil, err
	}
	if clientsigner.ByRule(csr) {
		// Before its holder can show it, and before the watch tells.
		c.note(authn.CertificateID(leaf))
	}
	c.log.Info("client certificate issued", "request", csr.Name, "user", leaf.Subject.CommonName, "credential", authn.CertificateID(leaf), "until", leaf.NotAfter)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw}), nil
}

// approve approves what its sender may have for the asking. Everything else
// waits for somebody.
func (c *clientCertificates) approve(ctx context.Context, csr *certificatesv1.CertificateSigningRequest) error {
	if !clientsigner.Own(csr, c.wasGiven) {
		return nil
	}
	extra := make(map[string][]string, len(csr.Spec.Extra))
	for key, values := range csr.Spec.Extra {
		extra[key] = values
	}
	d, err := c.access.Decide(ctx, access.Subject{Name: csr.Spec.Username, UID: csr.Spec.UID, Groups: csr.Spec.Groups, Extra: extra}, authz.Request{
		ResourceRequest: true, Verb: "create", APIGroup: certificateRequests.Group, Resource: certificateRequests.Resource, Subresource: clientsigner.Subresource,
	})
	if err != nil || !d.Allowed() {
		return err
	}
	csr.Status.Conditions = append(csr.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: clientsigner.Reason,
		Message: "asks for what its sender is already, and its sender may have that", LastUpdateTime: metav1.NewTime(c.now()),
	})
	_, err = c.client.CertificatesV1().CertificateSigningRequests().UpdateApproval(ctx, csr.Name, csr, metav1.UpdateOptions{})
	return err
}

// keepGiven refuses to delete the request of a certificate that was given by
// rule and is still good: by the request it is known that it was.
func keepGiven(now func() time.Time) certificatesigningrequest.CheckDelete {
	return func(_ context.Context, _ resource.Caller, csr *certificatesv1.CertificateSigningRequest) error {
		if until := clientsigner.Kept(csr); now().Before(until) {
			return fault.Newf(fault.Denied, "the certificate was given by rule and is good until %s; a Ban ends it, and the request goes by itself then", until.UTC().Format(time.RFC3339))
		}
		return nil
	}
}

func (c *clientCertificates) wasGiven(credential string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.given[credential]
}

func (c *clientCertificates) sweep(ctx context.Context) {
	c.mu.Lock()
	var spent []*certificatesv1.CertificateSigningRequest
	for _, csr := range c.held {
		if clientsigner.Spent(csr, c.now()) {
			spent = append(spent, csr)
		}
	}
	c.mu.Unlock()
	for _, csr := range spent {
		uid := csr.UID
		err := c.client.CertificatesV1().CertificateSigningRequests().Delete(ctx, csr.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
		if err != nil && ctx.Err() == nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			c.log.Warn("certificate request not removed", "request", csr.Name, "error", err)
			return
		}
	}
}

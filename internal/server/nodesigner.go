package server

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access/nodegraph"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/kubeapi"
	"github.com/gatehouse-dev/gatehouse/internal/pki"
	"github.com/gatehouse-dev/gatehouse/internal/pki/noderequest"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

var certificateRequests = schema.GroupResource{Group: certificatesv1.GroupName, Resource: "certificatesigningrequests"}

// nodeSigner signs what was approved of the requests of nodes, and approves
// what policy lets a node have without a person: the renewal of its own
// certificate, and the first one, with the permissions of upstream (create on
// certificatesigningrequests/selfnodeclient and /nodeclient).
//
// Every replica may try; the first certificate that is written stays.
type nodeSigner struct {
	trust  *trust
	permit func(ctx context.Context, c resource.Caller, req *authz.Request) (bool, string, error)
	frame  func() *kubeapi.Frame
	now    func() time.Time
	log    *slog.Logger
	wake   chan struct{}

	mu      sync.Mutex // guards pending
	pending map[string]bool
}

var _ kubeapi.Sink = (*nodeSigner)(nil)

func newNodeSigner(t *trust, answers reviews, frame func() *kubeapi.Frame, now func() time.Time, log *slog.Logger) *nodeSigner {
	return &nodeSigner{trust: t, permit: answers.Permit, frame: frame, now: now, log: log, wake: make(chan struct{}, 1), pending: map[string]bool{}}
}

func (s *nodeSigner) Replace(objs []resource.Object) error {
	for _, o := range objs {
		_ = s.Put(o) // it never fails
	}
	return nil
}

func (s *nodeSigner) Delete(resource.Object) error { return nil }

func (s *nodeSigner) Put(o resource.Object) error {
	csr := o.(*certificatesv1.CertificateSigningRequest)
	if !noderequest.Of(csr.Spec.SignerName) || len(csr.Status.Certificate) > 0 || has(csr, certificatesv1.CertificateDenied) || has(csr, certificatesv1.CertificateFailed) {
		return nil
	}
	s.add(csr.Name)
	return nil
}

func (s *nodeSigner) add(name string) {
	s.mu.Lock()
	s.pending[name] = true
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func has(csr *certificatesv1.CertificateSigningRequest, kind certificatesv1.RequestConditionType) bool {
	return slices.ContainsFunc(csr.Status.Conditions, func(c certificatesv1.CertificateSigningRequestCondition) bool { return c.Type == kind })
}

func (s *nodeSigner) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		s.mu.Lock()
		names := s.pending
		s.pending = map[string]bool{}
		s.mu.Unlock()
		for name := range names {
			err := s.attend(ctx, name)
			if err == nil || ctx.Err() != nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) || apierrors.IsInvalid(err) {
				continue // gone, or another replica was first
			}
			s.log.Warn("certificate request of a node not attended to", "request", name, "error", err)
			time.AfterFunc(time.Second, func() { s.add(name) })
		}
	}
}

// attend takes a request one step further.
func (s *nodeSigner) attend(ctx context.Context, name string) error {
	o, err := s.frame().Get(ctx, certificateRequests, "", name)
	if err != nil {
		return err
	}
	csr := o.(*certificatesv1.CertificateSigningRequest)
	asked, refused := noderequest.Read(&csr.Spec)
	switch {
	case len(csr.Status.Certificate) > 0 || has(csr, certificatesv1.CertificateDenied) || has(csr, certificatesv1.CertificateFailed):
		return nil
	case has(csr, certificatesv1.CertificateApproved):
		return s.sign(ctx, csr, asked, refused)
	case refused != nil:
		return nil // whoever approves it learns why it fails
	}
	why, err := s.approvable(ctx, csr, asked)
	if err != nil || why == "" {
		return err
	}
	return s.frame().Modify(ctx, certificateRequests, "approval", "", name, func(o resource.Object) error {
		csr := o.(*certificatesv1.CertificateSigningRequest)
		if has(csr, certificatesv1.CertificateApproved) || has(csr, certificatesv1.CertificateDenied) {
			return nil
		}
		csr.Status.Conditions = append(csr.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
			Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "AutoApproved", Message: why, LastUpdateTime: metav1.NewTime(s.now()),
		})
		return nil
	})
}

// approvable says why a request needs no person, or nothing.
func (s *nodeSigner) approvable(ctx context.Context, csr *certificatesv1.CertificateSigningRequest, asked noderequest.Request) (string, error) {
	who := resource.Caller{Name: csr.Spec.Username, UID: csr.Spec.UID, Groups: csr.Spec.Groups, Extra: map[string][]string{}}
	for k, v := range csr.Spec.Extra {
		who.Extra[k] = v
	}
	may := func(sub string) (bool, error) {
		ok, _, err := s.permit(ctx, who, &authz.Request{
			ResourceRequest: true, Verb: "create", APIGroup: certificatesv1.GroupName, Resource: "certificatesigningrequests", Subresource: sub,
		})
		return ok, err
	}
	node, is := nodegraph.NodeOf(who.Name, who.Groups)
	switch {
	case is && asked.Renews(node, who.Groups):
		ok, err := may("selfnodeclient")
		if err != nil || !ok {
			return "", err
		}
		return "the node renews its own certificate, with the groups that it has", nil
	case !is && asked.Pool == "":
		// A pool is never given without a person: which one is for whoever may
		// approve for its signer.
		ok, err := may("nodeclient")
		if err != nil || !ok {
			return "", err
		}
		return "the first certificate of a node, asked by one who may", nil
	}
	return "", nil
}

func (s *nodeSigner) sign(ctx context.Context, csr *certificatesv1.CertificateSigningRequest, asked noderequest.Request, refused error) error {
	var certificate []byte
	if refused == nil {
		certificate, refused = s.issue(csr, asked)
	}
	if refused != nil && fault.KindOf(refused) != fault.Invalid {
		return refused
	}
	return s.frame().Modify(ctx, certificateRequests, "status", "", csr.Name, func(o resource.Object) error {
		now := o.(*certificatesv1.CertificateSigningRequest)
		switch {
		case len(now.Status.Certificate) > 0 || has(now, certificatesv1.CertificateFailed):
		case !bytes.Equal(now.Spec.Request, csr.Spec.Request):
			return errors.New("the request is another now")
		case refused != nil:
			now.Status.Conditions = append(now.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
				Type: certificatesv1.CertificateFailed, Status: corev1.ConditionTrue, Reason: "SignerValidationFailure", Message: fault.Public(refused), LastUpdateTime: metav1.NewTime(s.now()),
			})
		default:
			now.Status.Certificate = certificate
		}
		return nil
	})
}

func (s *nodeSigner) issue(csr *certificatesv1.CertificateSigningRequest, asked noderequest.Request) ([]byte, error) {
	var validity time.Duration
	if n := csr.Spec.ExpirationSeconds; n != nil {
		validity = min(time.Duration(*n)*time.Second, pki.LongestNode)
	}
	prepared, err := pki.PrepareNode(asked.Node, asked.Pool, asked.Public, validity)
	if err != nil {
		return nil, err
	}
	cert, err := s.trust.client.Issue(prepared)
	if err != nil {
		return nil, err
	}
	return pki.CertificatePEM(cert), nil
}

// Package noderequest reads the certificate signing requests by which nodes
// get the certificate that they authenticate with.
//
// It owns what such a request must be: that of the signer
// kubernetes.io/kube-apiserver-client-kubelet, as any kubelet makes it, or of a
// pool of nodes. A pool is a group that stands in the certificate: unlike a
// label, nothing that runs on a node or may write nodes can change it. Its
// signer is named after it, so that the permission to approve (on the signer's
// name) is one for each pool.
//
// It refuses to sign and to approve; package pki does the one, whoever holds
// the permission the other. Start at [Read].
package noderequest

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"

	"github.com/gatehouse-dev/gatehouse/internal/access/nodegraph"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

const (
	// PoolSigners begins the name of a pool's signer; the name of the pool
	// follows.
	PoolSigners = "node-pool.gatehouse.dev/"
	// PoolGroups begins the group of a pool's nodes; the name of the pool
	// follows. No identity provider and no other signer gives names that begin
	// with "system:".
	PoolGroups = "system:node-pool:"
)

// Request is what a node asks for.
type Request struct {
	Node string
	// Pool is empty for a node without one.
	Pool   string
	Public crypto.PublicKey
}

// Groups are what the certificate has to say beside the name of the node.
func (r *Request) Groups() []string {
	if r.Pool == "" {
		return []string{nodegraph.Group}
	}
	return []string{nodegraph.Group, PoolGroups + r.Pool}
}

// Renews reports whether a request asks for exactly what its sender, a node of
// these groups, is already. A node stays in its pool: in none, what is denied to
// the pool would not be denied to it.
func (r *Request) Renews(node string, groups []string) bool {
	asked := r.Groups()
	return node == r.Node &&
		!slices.ContainsFunc(asked, func(g string) bool { return !slices.Contains(groups, g) }) &&
		!slices.ContainsFunc(groups, func(g string) bool { return strings.HasPrefix(g, PoolGroups) && !slices.Contains(asked, g) })
}

// Of reports whether a signer is one for nodes.
func Of(signer string) bool {
	return signer == certificatesv1.KubeAPIServerClientKubeletSignerName || strings.HasPrefix(signer, PoolSigners)
}

// usages are what the certificate can be asked for.
var usages = []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageKeyEncipherment, certificatesv1.UsageClientAuth}

// Read checks a request of a signer for nodes. An error is of kind Invalid and
// says what the request must be; what is issued is then all that was asked.
func Read(spec *certificatesv1.CertificateSigningRequestSpec) (Request, error) {
	var r Request
	if pool, ok := strings.CutPrefix(spec.SignerName, PoolSigners); ok {
		r.Pool = pool
	}
	block, _ := pem.Decode(spec.Request)
	if block == nil {
		return r, fault.New(fault.Invalid, "spec.request: no PEM block")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return r, fault.Wrap(fault.Invalid, "spec.request: is not a PKCS#10 request", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return r, fault.Wrap(fault.Invalid, "spec.request: is not signed by its key", err)
	}
	r.Public = csr.PublicKey
	node, ok := strings.CutPrefix(csr.Subject.CommonName, nodegraph.UserPrefix)
	if !ok || node == "" {
		return r, fault.Newf(fault.Invalid, "spec.request: the common name must be %sNAME", nodegraph.UserPrefix)
	}
	r.Node = node
	asked := slices.Sorted(slices.Values(csr.Subject.Organization))
	if !slices.Equal(asked, slices.Sorted(slices.Values(r.Groups()))) {
		return r, fault.Newf(fault.Invalid, "spec.request: the organizations must be exactly %q", r.Groups())
	}
	if len(csr.DNSNames)+len(csr.EmailAddresses)+len(csr.IPAddresses)+len(csr.URIs) > 0 {
		return r, fault.New(fault.Invalid, "spec.request: must not have alternative names")
	}
	if !slices.Contains(spec.Usages, certificatesv1.UsageClientAuth) || slices.ContainsFunc(spec.Usages, func(u certificatesv1.KeyUsage) bool { return !slices.Contains(usages, u) }) {
		return r, fault.Newf(fault.Invalid, "spec.usages: must be client auth, and at most %q beside it", usages[:2])
	}
	return r, nil
}

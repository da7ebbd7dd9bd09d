// Package noderestriction keeps the node of a cluster to its own objects when
// it writes: what the Node authorizer cannot see, because it depends on the
// content of a change.
//
// It owns the rules for nodes (labels, taints and owners of their Node objects,
// mirror pods, pod status, evictions, leases, tokens, certificate requests),
// those of the NodeRestriction plugin of Kubernetes 1.36 with
// ServiceAccountNodeAudienceRestriction. Two are stricter: a node cannot delete
// its Node object, whatever else grants it, and cannot register it with owners.
// Rules for kinds that the control plane does not serve (persistent volume
// claims, CSINodes, CSIDrivers, resource slices, pod certificate requests) are
// left out.
//
// It refuses to look objects up by itself and to grant anything. Start at
// [Rules.Admit].
package noderestriction

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access/nodegraph"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// Rules looks at the changes of nodes. Every field is required.
type Rules struct {
	// Pod and Node read an object as it is stored now. What they return for
	// one that is not there is passed on to the caller.
	Pod  func(ctx context.Context, namespace, name string) (*corev1.Pod, error)
	Node func(ctx context.Context, name string) (*corev1.Node, error)
	// Permit answers whether policy grants a caller what a rule would refuse:
	// a token for an audience that the pod does not name.
	Permit func(ctx context.Context, caller resource.Caller, q *authz.Request) (allowed bool, reason string, err error)
}

var (
	pods            = schema.GroupResource{Resource: "pods"}
	nodes           = schema.GroupResource{Resource: "nodes"}
	serviceAccounts = schema.GroupResource{Resource: "serviceaccounts"}
	leases          = schema.GroupResource{Group: coordinationv1.GroupName, Resource: "leases"}
	requests        = schema.GroupResource{Group: certificatesv1.GroupName, Resource: "certificatesigningrequests"}
)

// Admit refuses, with an error of kind Denied, what a node may not write. Who is
// no node is not its business.
func (r *Rules) Admit(ctx context.Context, c *resource.Change) error {
	node, is := nodegraph.NodeOf(c.Caller.Name, c.Caller.Groups)
	switch {
	case !is:
		return nil
	case node == "":
		return fault.Newf(fault.Denied, "could not determine the node of user %q", c.Caller.Name)
	}
	switch c.Resource {
	case pods:
		return r.pod(ctx, node, c)
	case nodes:
		return ownNode(node, c)
	case serviceAccounts:
		return r.token(ctx, node, c)
	case leases:
		return lease(node, c)
	case requests:
		return request(node, c)
	}
	return nil
}

func denied(format string, args ...any) error { return fault.Newf(fault.Denied, format, args...) }

// object is c.Object, or an error where a decoder made something else of it.
func object[T any](o any) (out T, err error) {
	out, ok := o.(T)
	if !ok {
		return out, denied("unexpected type %T", o)
	}
	return out, nil
}

func unexpected(c *resource.Change) error {
	return denied("unexpected operation %q on %s/%s", c.Operation, c.Resource.Resource, c.Subresource)
}

func (r *Rules) pod(ctx context.Context, node string, c *resource.Change) error {
	switch c.Subresource {
	case "":
		switch c.Operation {
		case resource.Create:
			return r.mirrorPod(ctx, node, c)
		case resource.Delete:
			pod, err := r.existing(ctx, c)
			if err == nil && pod.Spec.NodeName != node {
				err = denied("node %q can only delete pods with spec.nodeName set to itself", node)
			}
			return err
		}
		return denied("unexpected operation %q, node %q can only create and delete mirror pods", c.Operation, node)
	case "status":
		return podStatus(node, c)
	case "eviction":
		if c.Operation != resource.Create {
			return unexpected(c)
		}
		pod, err := r.existing(ctx, c)
		if err == nil && pod.Spec.NodeName != node {
			err = denied("node %q can only evict pods with spec.nodeName set to itself", node)
		}
		return err
	}
	return denied("unexpected pod subresource %q, only status and eviction are allowed", c.Subresource)
}

// existing is the pod that a change is about. The name in the URL counts before
// that in the object.
func (r *Rules) existing(ctx context.Context, c *resource.Change) (*corev1.Pod, error) {
	if pod, ok := c.Old.(*corev1.Pod); ok && pod != nil {
		return pod, nil
	}
	name := c.Name
	if eviction, ok := c.Object.(*policyv1.Eviction); ok && name == "" {
		name = eviction.Name
	}
	if name == "" {
		return nil, denied("could not determine the pod from the request")
	}
	return r.Pod(ctx, c.Namespace, name)
}

// mirrorPod lets a node show the pods that it runs from files. They must not
// give it anything, so they refer to nothing.
func (r *Rules) mirrorPod(ctx context.Context, node string, c *resource.Change) error {
	pod, err := object[*corev1.Pod](c.Object)
	if err != nil {
		return err
	}
	if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; !mirror {
		return denied("pod does not have annotation %q, node %q can only create mirror pods", corev1.MirrorPodAnnotationKey, node)
	}
	if pod.Spec.NodeName != node {
		return denied("node %q can only create pods with spec.nodeName set to itself", node)
	}
	switch len(pod.OwnerReferences) {
	case 0:
		return denied("node %q can only create pods with an owner reference set to itself", node)
	case 1:
	default:
		return denied("node %q can only create pods with a single owner reference set to itself", node)
	}
	owner := pod.OwnerReferences[0]
	switch {
	case owner.APIVersion != "v1" || owner.Kind != "Node" || owner.Name != node:
		return denied("node %q can only create pods with an owner reference set to itself", node)
	case owner.Controller == nil || !*owner.Controller:
		return denied("node %q can only create pods with a controller owner reference set to itself", node)
	case owner.BlockOwnerDeletion != nil && *owner.BlockOwnerDeletion:
		return denied("node %q must not set blockOwnerDeletion on an owner reference", node)
	}
	self, err := r.Node(ctx, node)
	if err != nil {
		return err
	}
	if owner.UID != self.UID {
		return denied("node %q UID mismatch: the owner reference has %s, the node is %s", node, owner.UID, self.UID)
	}
	if kind := refersTo(pod); kind != "" {
		return denied("node %q can not create pods that reference %s", node, kind)
	}
	return nil
}

func podStatus(node string, c *resource.Change) error {
	if c.Operation != resource.Update {
		return unexpected(c)
	}
	old, err := object[*corev1.Pod](c.Old)
	if err != nil {
		return err
	}
	pod, err := object[*corev1.Pod](c.Object)
	if err != nil {
		return err
	}
	switch {
	case old.Spec.NodeName != node:
		return denied("node %q can only update pod status for pods with spec.nodeName set to itself", node)
	case !maps.Equal(old.Labels, pod.Labels):
		return denied("node %q cannot update labels through pod status", node)
	case !slices.EqualFunc(old.Status.ResourceClaimStatuses, pod.Status.ResourceClaimStatuses, sameClaim):
		// Claims in the status open the claims to the node.
		return denied("node %q cannot update resource claim statuses", node)
	case !apiequality.Semantic.DeepEqual(old.Status.ExtendedResourceClaimStatus, pod.Status.ExtendedResourceClaimStatus):
		return denied("node %q cannot update extended resource claim status", node)
	}
	return nil
}

func sameClaim(a, b corev1.PodResourceClaimStatus) bool {
	return a.Name == b.Name && (a.ResourceClaimName == nil) == (b.ResourceClaimName == nil) &&
		(a.ResourceClaimName == nil || *a.ResourceClaimName == *b.ResourceClaimName)
}

func lease(node string, c *resource.Change) error {
	name := c.Name
	if c.Operation == resource.Create {
		l, err := object[*coordinationv1.Lease](c.Object)
		if err != nil {
			return err
		}
		name = l.Name
	}
	switch {
	case c.Namespace != corev1.NamespaceNodeLease:
		return denied("can only access leases in the %q system namespace", corev1.NamespaceNodeLease)
	case name != node:
		return denied("can only access node lease with the same name as the requesting node")
	}
	return nil
}

// request keeps a node from asking for the certificate of another.
func request(node string, c *resource.Change) error {
	if c.Operation != resource.Create || c.Subresource != "" {
		return nil
	}
	csr, err := object[*certificatesv1.CertificateSigningRequest](c.Object)
	if err != nil {
		return err
	}
	if s := csr.Spec.SignerName; s != certificatesv1.KubeletServingSignerName && s != certificatesv1.KubeAPIServerClientKubeletSignerName {
		return nil
	}
	block, _ := pem.Decode(csr.Spec.Request)
	if block == nil {
		return denied("unable to parse csr: no PEM block")
	}
	asked, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return denied("unable to parse csr: %s", strings.TrimPrefix(err.Error(), "x509: "))
	}
	if asked.Subject.CommonName != nodegraph.UserPrefix+node {
		return denied("can only create a node CSR with CN=%s%s", nodegraph.UserPrefix, node)
	}
	return nil
}

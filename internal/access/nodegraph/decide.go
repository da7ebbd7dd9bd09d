package nodegraph

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gatehouse-dev/gatehouse/authz"
)

// What makes a caller a node: both, as authentication established them.
const (
	UserPrefix = "system:node:"
	Group      = "system:nodes"
)

// NodeOf returns the name of the node that a caller is. node is empty, and is
// true, for a caller with the prefix alone, who may do nothing.
func NodeOf(user string, groups []string) (node string, is bool) {
	node, is = strings.CutPrefix(user, UserPrefix)
	if !is || !slices.Contains(groups, Group) {
		return "", false
	}
	return node, true
}

// leases is the namespace of the leases of nodes.
const leases = "kube-node-lease"

// Verdict is what the rules of nodes say to a question. The zero Verdict has no
// opinion and no reason.
type Verdict uint8

const (
	noOpinion Verdict = iota

	// Allowed from here ...
	needsIt
	ownObject
	ownSelector
	byContent // admission looks at the object
	everyNode
	// ... to here.

	unnamedNode
	unrelated
	unnamed
	notNamespaced
	readOnly
	getOnly
	noSubresource
	tokensOnly
	leaseVerbs
	leaseNamespace
	otherLease
	csiNodeVerbs
	otherCSINode
	allNodes
	otherNode
	podSelector
	sliceSelector
	certificateSelector
	statusOnly
)

// Allowed reports whether the verdict grants.
func (v Verdict) Allowed() bool { return v >= needsIt && v <= everyNode }

var reasons = [...]string{
	needsIt:             "allowed to node %q: a pod of it needs this object",
	ownObject:           "allowed to node %q: the object is its own",
	ownSelector:         "allowed to node %q: the selector is limited to it",
	byContent:           "allowed to node %q where NodeRestriction admits the object",
	everyNode:           "allowed to every node, node %q among them",
	unnamedNode:         "the caller is a node without a name (%q)",
	unrelated:           "no relationship found between node %q and this object",
	unnamed:             "node %q must name the object",
	notNamespaced:       "node %q can read this resource in one namespace only",
	readOnly:            "node %q can only read this resource",
	getOnly:             "node %q can only get single objects of this resource",
	noSubresource:       "node %q cannot reach this subresource",
	tokensOnly:          "node %q can only get service accounts of its pods, and create tokens for them",
	leaseVerbs:          "node %q can only get, create, update, patch or delete its lease",
	leaseNamespace:      "node %q can only access leases in namespace " + leases,
	otherLease:          "node %q can only access the lease of its own name",
	csiNodeVerbs:        "node %q can only get, create, update, patch or delete its CSINode",
	otherCSINode:        "node %q can only access the CSINode of its own name",
	allNodes:            "node %q cannot read all nodes, only its own Node object",
	otherNode:           "node %q can only read its own Node object",
	podSelector:         "node %q can only list and watch pods with the field selector spec.nodeName of itself",
	sliceSelector:       "node %q can only list, watch and delete resource slices with the field selector spec.nodeName of itself",
	certificateSelector: "node %q can only list and watch pod certificate requests with the field selector spec.nodeName of itself",
	statusOnly:          "node %q can only update and patch the status of this resource",
}

// Reason says the verdict in words; it is empty where there is no opinion.
func (v Verdict) Reason(node string) string {
	if int(v) >= len(reasons) || reasons[v] == "" {
		return ""
	}
	return fmt.Sprintf(reasons[v], node)
}

// Decide answers what the rules of nodes say to q, asked by node. They grant or
// have no opinion; they never deny. The rules are those of the Node authorizer
// of Kubernetes 1.34 and later, with every selector checked.
func (g *Graph) Decide(node string, q *authz.Request) Verdict {
	switch {
	case node == "":
		return unnamedNode
	case !q.ResourceRequest:
		return noOpinion
	}
	switch q.APIGroup {
	case "":
		return g.core(node, q)
	case "coordination.k8s.io":
		if q.Resource == "leases" {
			return lease(node, q)
		}
	case "storage.k8s.io":
		switch q.Resource {
		case "volumeattachments":
			return g.get(node, Attachment, q)
		case "csinodes":
			return csiNode(node, q)
		case "csidrivers":
			return uniform(q, "get", "list", "watch")
		}
	case "resource.k8s.io":
		switch q.Resource {
		case "resourceclaims":
			return g.get(node, ResourceClaim, q)
		case "resourceslices":
			return g.slice(node, q)
		}
	case "certificates.k8s.io":
		switch q.Resource {
		case "podcertificaterequests":
			return g.podCertificate(node, q)
		case "certificatesigningrequests":
			return uniform(q, "create", "get", "list", "watch")
		case "clustertrustbundles":
			return uniform(q, "get", "list", "watch")
		}
	case "node.k8s.io":
		if q.Resource == "runtimeclasses" {
			return uniform(q, "get", "list", "watch")
		}
	case "events.k8s.io":
		if q.Resource == "events" {
			return uniform(q, "create", "update", "patch")
		}
	case "authentication.k8s.io":
		if q.Resource == "tokenreviews" {
			return uniform(q, "create")
		}
	case "authorization.k8s.io":
		if q.Resource == "subjectaccessreviews" || q.Resource == "localsubjectaccessreviews" {
			return uniform(q, "create")
		}
	}
	return noOpinion
}

func (g *Graph) core(node string, q *authz.Request) Verdict {
	switch q.Resource {
	case "secrets":
		return g.read(node, Secret, q)
	case "configmaps":
		return g.read(node, ConfigMap, q)
	case "persistentvolumeclaims":
		if q.Subresource == "status" {
			if q.Verb != "update" && q.Verb != "patch" {
				return statusOnly
			}
			return g.related(node, Claim, q)
		}
		return g.get(node, Claim, q)
	case "persistentvolumes":
		return g.get(node, Volume, q)
	case "serviceaccounts":
		return g.serviceAccount(node, q)
	case "nodes":
		return ownNode(node, q)
	case "pods":
		return g.pod(node, q)
	case "services":
		return uniform(q, "get", "list", "watch")
	case "endpoints":
		return uniform(q, "get")
	case "events":
		return uniform(q, "create", "update", "patch")
	}
	return noOpinion
}

// uniform grants verbs to every node.
func uniform(q *authz.Request, verbs ...string) Verdict {
	if q.Subresource == "" && slices.Contains(verbs, q.Verb) {
		return everyNode
	}
	return noOpinion
}

// related grants what node needs.
func (g *Graph) related(node string, kind Kind, q *authz.Request) Verdict {
	switch {
	case q.Name == "":
		return unnamed
	case !g.Needs(node, Object{kind, q.Namespace, q.Name}):
		return unrelated
	}
	return needsIt
}

func (g *Graph) get(node string, kind Kind, q *authz.Request) Verdict {
	switch {
	case q.Verb != "get":
		return getOnly
	case q.Subresource != "":
		return noSubresource
	}
	return g.related(node, kind, q)
}

// read grants single objects by any reading verb: a kubelet watches each
// secret by its name.
func (g *Graph) read(node string, kind Kind, q *authz.Request) Verdict {
	switch {
	case q.Verb != "get" && q.Verb != "list" && q.Verb != "watch":
		return readOnly
	case q.Subresource != "":
		return noSubresource
	case q.Namespace == "":
		return notNamespaced
	}
	return g.related(node, kind, q)
}

func (g *Graph) serviceAccount(node string, q *authz.Request) Verdict {
	if q.Verb == "get" && q.Subresource == "" {
		return g.read(node, ServiceAccount, q)
	}
	if q.Verb != "create" || q.Subresource != "token" || q.Name == "" {
		return tokensOnly
	}
	return g.related(node, ServiceAccount, q)
}

// ownNode compares names and asks no graph, so that a node can look for its
// object before that exists. Changes to it are looked at by admission.
func ownNode(node string, q *authz.Request) Verdict {
	switch q.Subresource {
	case "":
		switch q.Verb {
		case "create", "update", "patch":
			return byContent
		case "get", "list", "watch":
			switch q.Name {
			case node:
				return ownObject
			case "":
				return allNodes
			}
			return otherNode
		}
	case "status":
		if q.Verb == "update" || q.Verb == "patch" {
			return byContent
		}
	}
	return noOpinion
}

func (g *Graph) pod(node string, q *authz.Request) Verdict {
	switch q.Subresource {
	case "":
		switch q.Verb {
		case "get":
			return g.get(node, Pod, q)
		case "list", "watch":
			if selectsNode(node, q) {
				return ownSelector
			}
			if q.Name != "" {
				return g.related(node, Pod, q)
			}
			return podSelector
		case "create", "delete":
			return byContent // mirror pods
		}
	case "status":
		if q.Verb == "update" || q.Verb == "patch" {
			return byContent
		}
	case "eviction":
		if q.Verb == "create" {
			return byContent
		}
	}
	return noOpinion
}

func (g *Graph) slice(node string, q *authz.Request) Verdict {
	if q.Subresource != "" {
		return noSubresource
	}
	switch q.Verb {
	case "create":
		return byContent
	case "get", "update", "patch", "delete":
		return g.related(node, ResourceSlice, q)
	case "list", "watch", "deletecollection":
		if selectsNode(node, q) {
			return ownSelector
		}
		return sliceSelector
	}
	return noOpinion
}

func (g *Graph) podCertificate(node string, q *authz.Request) Verdict {
	if q.Subresource != "" {
		return noSubresource
	}
	switch q.Verb {
	case "create":
		return byContent
	case "get":
		return g.related(node, PodCertificate, q)
	case "list", "watch":
		if selectsNode(node, q) {
			return ownSelector
		}
		return certificateSelector
	}
	return noOpinion
}

// lease and csiNode cannot know the name of what is created; admission does.
func lease(node string, q *authz.Request) Verdict {
	switch {
	case !keeps(q.Verb):
		return leaseVerbs
	case q.Subresource != "":
		return noSubresource
	case q.Namespace != leases:
		return leaseNamespace
	case q.Verb == "create":
		return byContent
	case q.Name != node:
		return otherLease
	}
	return ownObject
}

func csiNode(node string, q *authz.Request) Verdict {
	switch {
	case !keeps(q.Verb):
		return csiNodeVerbs
	case q.Subresource != "":
		return noSubresource
	case q.Verb == "create":
		return byContent
	case q.Name != node:
		return otherCSINode
	}
	return ownObject
}

// keeps lists the verbs by which a node keeps an object of its own.
func keeps(verb string) bool {
	switch verb {
	case "get", "create", "update", "patch", "delete":
		return true
	}
	return false
}

// selectsNode reports whether the field selector limits a request to objects
// of the node.
func selectsNode(node string, q *authz.Request) bool {
	for i := range q.FieldSelector {
		r := &q.FieldSelector[i]
		if r.Key == "spec.nodeName" && r.Operator == authz.In && len(r.Values) == 1 && r.Values[0] == node {
			return true
		}
	}
	return false
}

// Content reports whether a verdict rests on admission to look at what is
// written. Where nobody promises that, it must not grant.
func (v Verdict) Content() bool { return v == byContent }

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Site is one connected platform: a Kubernetes cluster, an OpenStack region, a
// fleet of hosts, or a federated control plane. Its name is a part of the URL
// of its doors (/sites/NAME/...) and of its audience (gatehouse:site:NAME).
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type Site struct {
	metav1.TypeMeta `json:",inline"`
	// Standard object metadata. The name is a DNS label of at most 63
	// characters.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what the operator wants of the site.
	Spec SiteSpec `json:"spec"`
	// status is what the control plane has seen of the site.
	// +optional
	Status SiteStatus `json:"status,omitempty"`
}

// SiteSpec is what the operator wants of a site.
type SiteSpec struct {
	// kind of platform: Kubernetes, OpenStack, Fleet or Federated. It cannot
	// be changed.
	Kind SiteKind `json:"kind"`
	// mode says how far the control plane decides for the site: Observe only
	// records, Deny also refuses what is banned or denied, Full also grants.
	// Default: Observe.
	// +optional
	Mode SiteMode `json:"mode,omitempty"`
	// ownerNamespace is the namespace of the control plane to which everything
	// of the site belongs that namespaceMap does not assign elsewhere.
	OwnerNamespace string `json:"ownerNamespace"`
	// namespaceMap assigns namespaces or projects of the site to namespaces of
	// the control plane.
	// +optional
	NamespaceMap map[string]string `json:"namespaceMap,omitempty"`
	// authorization says what, beside policies scoped to the site, grants
	// there.
	// +optional
	Authorization SiteAuthorization `json:"authorization,omitempty"`
	// serviceAccountTokens says who signs the service-account tokens of the
	// site: Own, the site itself, or Gatehouse, through gatehouse-edge signer.
	// Default: Own, and then the doors for signing are closed.
	// +optional
	ServiceAccountTokens SiteTokens `json:"serviceAccountTokens,omitempty"`
	// failurePolicy is what the site is told to make of an unreachable control
	// plane: NoOpinion lets its own authorizers decide, Deny refuses. Deny is
	// for sites that run a local decision point. Default: NoOpinion.
	// +optional
	FailurePolicy SiteFailurePolicy `json:"failurePolicy,omitempty"`
	// credentials are the ids (X509SHA256=...) of the certificates of the site
	// CA by which the site is recognised. A certificate that is not listed
	// opens no door; an empty list opens none.
	// +optional
	// +listType=set
	Credentials []string `json:"credentials,omitempty"`
}

// SiteKind is the kind of platform that a site is.
// +enum
type SiteKind string

const (
	// SiteKubernetes is a Kubernetes cluster.
	SiteKubernetes SiteKind = "Kubernetes"
	// SiteOpenStack is an OpenStack region.
	SiteOpenStack SiteKind = "OpenStack"
	// SiteFleet is a fleet of hosts.
	SiteFleet SiteKind = "Fleet"
	// SiteFederated is a control plane of another operator.
	SiteFederated SiteKind = "Federated"
)

// SiteTokens says who signs the service-account tokens of a site.
// +enum
type SiteTokens string

const (
	// SiteTokensOwn has the site sign its own tokens.
	SiteTokensOwn SiteTokens = "Own"
	// SiteTokensGatehouse has the control plane sign them.
	SiteTokensGatehouse SiteTokens = "Gatehouse"
)

// SiteMode says how far the control plane decides for a site.
// +enum
type SiteMode string

const (
	// SiteObserve records and never decides.
	SiteObserve SiteMode = "Observe"
	// SiteDeny refuses what is banned or denied, and grants nothing.
	SiteDeny SiteMode = "Deny"
	// SiteFull refuses and grants.
	SiteFull SiteMode = "Full"
)

// SiteFailurePolicy is what a site makes of an unreachable control plane.
// +enum
type SiteFailurePolicy string

const (
	// SiteFailureNoOpinion lets the authorizers of the site decide.
	SiteFailureNoOpinion SiteFailurePolicy = "NoOpinion"
	// SiteFailureDeny refuses every request that has to ask.
	SiteFailureDeny SiteFailurePolicy = "Deny"
)

// SiteAuthorization says what grants at a site beside policies scoped to it.
type SiteAuthorization struct {
	// rbac is Shared when the RBAC objects of the control plane, without the
	// bootstrap "system:" ones, also answer the questions of the site.
	// Default: None.
	// +optional
	RBAC SiteRBAC `json:"rbac,omitempty"`
	// nodes is Needed when the nodes of a cluster may do there what the Node
	// authorizer of Kubernetes lets them: read what their pods need, and keep
	// their own objects. What pods need is known from gatehouse-edge watch; while
	// its report is missing or older than a minute, nothing is granted. The
	// cluster must run the admission plugin NodeRestriction. Only sites of kind
	// Kubernetes in mode Full are answered so. Default: None.
	// +optional
	Nodes SiteNodes `json:"nodes,omitempty"`
}

// SiteNodes says whether the nodes of a cluster have rights of their own.
// +enum
type SiteNodes string

const (
	// SiteNodesNone leaves nodes to the cluster's own authorizers.
	SiteNodesNone SiteNodes = "None"
	// SiteNodesNeeded grants nodes what their pods need.
	SiteNodesNeeded SiteNodes = "Needed"
)

// SiteRBAC says whether the RBAC objects of the control plane grant at a site.
// +enum
type SiteRBAC string

const (
	// SiteRBACNone keeps RBAC objects out of the decisions for the site.
	SiteRBACNone SiteRBAC = "None"
	// SiteRBACShared reads RBAC objects as if namespaces of the site were the
	// namespaces of the control plane with the same name.
	SiteRBACShared SiteRBAC = "Shared"
)

// SiteStatus is what the control plane has seen of a site.
type SiteStatus struct {
	// conditions sum up the state of the site.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// doors lists the doors that the site has used.
	// +optional
	// +listType=map
	// +listMapKey=name
	Doors []SiteDoor `json:"doors,omitempty"`
	// followers lists the local decision points of the site, and by which
	// policy each decides. One that was not heard of for a day is left out.
	// +optional
	// +listType=map
	// +listMapKey=name
	Followers []SiteFollower `json:"followers,omitempty"`
	// limits lists what the control plane cannot enforce at this site.
	// +optional
	// +listType=map
	// +listMapKey=reason
	Limits []SiteLimit `json:"limits,omitempty"`
}

// SiteDoor is the use that a site makes of one of its doors.
type SiteDoor struct {
	// name of the door as in its URL: authenticate, authorize/deny, authorize,
	// audit, audit/totals, admit, images, journal, keys, objects, reports, sign,
	// snapshot, snapshot/ack, v1/logs; or syslog, which has a listener of its
	// own.
	Name string `json:"name"`
	// lastHeard is when the site last used the door.
	// +optional
	LastHeard *metav1.Time `json:"lastHeard,omitempty"`
}

// SiteFollower is a local decision point of a site.
type SiteFollower struct {
	// name by which it follows, usually that of its host.
	Name string `json:"name"`
	// sequence of the policy that it decides by, as it said last. Sequences
	// only rise.
	// +optional
	Sequence int64 `json:"sequence,omitempty"`
	// policyTime is when that policy was signed.
	// +optional
	PolicyTime *metav1.Time `json:"policyTime,omitempty"`
	// lastHeard is when it said so.
	// +optional
	LastHeard *metav1.Time `json:"lastHeard,omitempty"`
}

// SiteLimit is something that the control plane cannot enforce at a site.
type SiteLimit struct {
	// reason names the limit in CamelCase.
	Reason string `json:"reason"`
	// message explains the limit to a person.
	// +optional
	Message string `json:"message,omitempty"`
}

// SiteList is a list of sites.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type SiteList struct {
	metav1.TypeMeta `json:",inline"`
	// Standard list metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	// items are the sites.
	Items []Site `json:"items"`
}

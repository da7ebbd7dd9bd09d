package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Ban turns a subject or one credential off, superusers of the control plane
// included. It comes before every other decision.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type Ban struct {
	metav1.TypeMeta `json:",inline"`
	// Standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says who or what is banned. It cannot be changed, except for
	// notAfter and reason.
	Spec BanSpec `json:"spec"`
	// status says where the ban is known to be in force.
	// +optional
	Status BanStatus `json:"status,omitempty"`
}

// BanSpec says who or what is banned: exactly one of subject, credentialID and
// issuerKey.
type BanSpec struct {
	// subject is banned by its exact name.
	// +optional
	Subject *BanSubject `json:"subject,omitempty"`
	// credentialID is the id of one credential, for example JTI=... or
	// X509SHA256=...; other credentials of the same subject keep working.
	// +optional
	CredentialID string `json:"credentialID,omitempty"`
	// issuerKey is the id (kid) of a key that signs tokens: every token that it
	// signed ends, wherever it is shown to the control plane or to one of its
	// doors. Such a ban holds at all sites.
	// +optional
	IssuerKey string `json:"issuerKey,omitempty"`
	// sites where the ban holds, as in an AccessPolicy. None are all.
	// +optional
	// +listType=set
	Sites []string `json:"sites,omitempty"`
	// made says what becomes of the tokens, access keys and certificates that
	// were made with the credential, or with one that the key signed, and of what
	// was made with those: End, the default, or Keep.
	// +optional
	Made BanMade `json:"made,omitempty"`
	// reason is recorded with every refusal.
	Reason string `json:"reason"`
	// notAfter ends the ban; without it the ban stays until it is deleted.
	// +optional
	NotAfter *metav1.Time `json:"notAfter,omitempty"`
}

// BanMade says what a ban does to what was made with the banned credential.
type BanMade string

// What it can do.
const (
	BanEndsMade  BanMade = "End"
	BanKeepsMade BanMade = "Keep"
)

// BanSubject is a subject by its exact name.
type BanSubject struct {
	// kind is User, Group, ServiceAccount or Site.
	Kind SubjectKind `json:"kind"`
	// name of the subject.
	Name string `json:"name"`
	// namespace of a service account.
	// +optional
	Namespace string `json:"namespace,omitempty"`
}

// BanStatus says where a ban is known to be in force.
type BanStatus struct {
	// sites lists the sites that the ban is meant for.
	// +optional
	// +listType=map
	// +listMapKey=name
	Sites []BanSite `json:"sites,omitempty"`
}

// BanSite is the state of a ban at one site.
type BanSite struct {
	// name of the site.
	Name string `json:"name"`
	// acknowledged is when it was first known that the site decides by the ban:
	// it asked since the ban came into force, and every local decision point
	// that may still decide there has policy with the ban. Absent while that
	// is not known.
	// +optional
	Acknowledged *metav1.Time `json:"acknowledged,omitempty"`
	// notHeardFrom lists the local decision points of the site that were not
	// heard from since and may go on deciding without the ban.
	// +optional
	// +listType=map
	// +listMapKey=name
	NotHeardFrom []BanDecisionPoint `json:"notHeardFrom,omitempty"`
	// limits say in CamelCase where the ban cannot hold at this site.
	// +optional
	// +listType=set
	Limits []string `json:"limits,omitempty"`
}

// BanDecisionPoint is a local decision point that is not known to decide by a
// ban.
type BanDecisionPoint struct {
	// name by which it follows policy, usually that of its host.
	Name string `json:"name"`
	// lastHeard is when it was heard from last.
	// +optional
	LastHeard *metav1.Time `json:"lastHeard,omitempty"`
	// decidesUntil is when the policy that it was given ends, and with it every
	// decision there.
	DecidesUntil metav1.Time `json:"decidesUntil"`
}

// BanList is a list of bans.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type BanList struct {
	metav1.TypeMeta `json:",inline"`
	// Standard list metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	// items are the bans.
	Items []Ban `json:"items"`
}

package v1alpha1

import (
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// AccessKey is an opaque secret with which somebody opens one door of the
// control plane that speaks another protocol: a Keystone password, a salt-api
// login, an import token. The control plane makes the secret, shows it once in
// the answer to the creation, and keeps a hash of it. The key belongs to its
// namespace and ends with it.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type AccessKey struct {
	metav1.TypeMeta `json:",inline"`
	// Standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what the key is for. Nothing of it changes later, except that a
	// key can be revoked.
	Spec AccessKeySpec `json:"spec"`
	// status is what the control plane keeps of the key.
	// +optional
	Status AccessKeyStatus `json:"status,omitempty"`
}

// AccessKeySpec is what a key is for.
type AccessKeySpec struct {
	// subject is who the key speaks for. Default: its creator, with those of
	// the creator's groups that a key can carry.
	// +optional
	Subject *AccessKeySubject `json:"subject,omitempty"`
	// audience is the one door that accepts the key, such as keystone or
	// salt-api; gatehouse is the API of the control plane itself.
	Audience string `json:"audience"`
	// expirationSeconds is how long the key is good for, from 60 to 31622400
	// (366 days). Default: 7776000 (90 days).
	// +optional
	ExpirationSeconds *int64 `json:"expirationSeconds,omitempty"`
	// description says what the key is for. It is for people.
	// +optional
	Description string `json:"description,omitempty"`
	// revoked ends the key for good: it can be set and never cleared.
	// +optional
	Revoked bool `json:"revoked,omitempty"`
}

// AccessKeySubject is who a key speaks for. Exactly one of user and
// serviceAccount is set.
type AccessKeySubject struct {
	// user is the name of a person or program. It does not begin with system:
	// or gatehouse:.
	// +optional
	User string `json:"user,omitempty"`
	// uid tells the user from a later one of the same name. For a service
	// account it is filled in.
	// +optional
	UID string `json:"uid,omitempty"`
	// groups are those of the user as long as the key lives; none begins with
	// system: or gatehouse:. A service account has its own.
	// +optional
	// +listType=atomic
	Groups []string `json:"groups,omitempty"`
	// extra is what else an identity provider said of the user, for conditions of
	// policies. Keys of Kubernetes and of the control plane itself are not
	// carried. A service account has none.
	// +optional
	Extra map[string][]string `json:"extra,omitempty"`
	// serviceAccount is the name of a service account of the key's namespace.
	// The key ends with the account.
	// +optional
	ServiceAccount string `json:"serviceAccount,omitempty"`
}

// AccessKeyStatus is what the control plane keeps of a key.
type AccessKeyStatus struct {
	// credentialID names the key in the record and in bans: KEY= and its id.
	// +optional
	CredentialID string `json:"credentialID,omitempty"`
	// hash is SHA-256 over the id and the secret, in hexadecimal. The secret
	// has 256 random bits and cannot be found from it.
	// +optional
	Hash string `json:"hash,omitempty"`
	// expires is when the key ends.
	// +optional
	Expires *metav1.Time `json:"expires,omitempty"`
	// lastUsed is when the key was last accepted, at most a minute late.
	// +optional
	LastUsed *metav1.Time `json:"lastUsed,omitempty"`
	// createdBy is the user who created the key.
	// +optional
	CreatedBy string `json:"createdBy,omitempty"`
	// origin lists the credentials that the key was made with: the one it was
	// asked for with, the one which that was asked for with, and so on to the
	// first, each with its end and the key that signed it where they are known.
	// A ban on any of them ends the key.
	// +optional
	// +listType=atomic
	Origin []string `json:"origin,omitempty"`
	// openedBy is the credential that a session was opened with; empty for a
	// key that is no session. The session ends with that credential.
	// +optional
	OpenedBy string `json:"openedBy,omitempty"`
	// secret is the key itself. It stands in the answer to the creation and
	// nowhere else.
	// +optional
	Secret string `json:"secret,omitempty"`
}

// AccessKeyList is a list of access keys.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type AccessKeyList struct {
	metav1.TypeMeta `json:",inline"`
	// Standard list metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`

	// items are the keys.
	Items []AccessKey `json:"items"`
}

// AccessKeyReach asks what a key can do. It is posted to the subresource reach
// of a key and answered at once.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type AccessKeyReach struct {
	metav1.TypeMeta `json:",inline"`
	// Standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// status is the answer.
	// +optional
	Status AccessKeyReachStatus `json:"status,omitempty"`
}

// AccessKeyReachStatus is what a key can do.
type AccessKeyReachStatus struct {
	// credentialID names the key.
	// +optional
	CredentialID string `json:"credentialID,omitempty"`
	// audience is the one door at which the key counts.
	// +optional
	Audience string `json:"audience,omitempty"`
	// origin is that of the key's status.
	// +optional
	// +listType=atomic
	Origin []string `json:"origin,omitempty"`
	// ended says why the key opens nothing any more; empty when it is good.
	// +optional
	Ended string `json:"ended,omitempty"`
	// user and groups are who the key speaks for.
	// +optional
	User string `json:"user,omitempty"`
	// groups are those of the user.
	// +optional
	// +listType=atomic
	Groups []string `json:"groups,omitempty"`
	// scopes are what its holder may do, everywhere first and then by
	// namespace.
	// +optional
	// +listType=atomic
	Scopes []AccessKeyScope `json:"scopes,omitempty"`
	// policies are the AccessPolicies that allow its holder more, each within
	// its own limits.
	// +optional
	// +listType=atomic
	Policies []string `json:"policies,omitempty"`
	// incomplete is set when there are more namespaces than are listed.
	// +optional
	Incomplete bool `json:"incomplete,omitempty"`
}

// AccessKeyScope is what the holder of a key may do in one place.
type AccessKeyScope struct {
	// namespace is where; empty is everywhere.
	// +optional
	Namespace string `json:"namespace,omitempty"`
	// rules are what may be done.
	// +optional
	// +listType=atomic
	Rules []rbacv1.PolicyRule `json:"rules,omitempty"`
}

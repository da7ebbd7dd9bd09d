package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// IdentityProvider is somebody whose tokens the control plane accepts: an
// OpenID Connect provider or another issuer of JWTs, or a token webhook. It
// takes effect without a restart. Whatever it says, it cannot make anybody a
// service account, a node, a site, or a member of a group that begins with
// system: or gatehouse:.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type IdentityProvider struct {
	metav1.TypeMeta `json:",inline"`
	// Standard object metadata. The name is a DNS label of at most 63
	// characters.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is whom to believe, and what.
	Spec IdentityProviderSpec `json:"spec"`
	// status is how the provider does.
	// +optional
	Status IdentityProviderStatus `json:"status,omitempty"`
}

// IdentityProviderSpec is whom to believe, and what. Exactly one of jwt and
// webhook is set.
type IdentityProviderSpec struct {
	// jwt is an issuer of JWTs, as in an AuthenticationConfiguration of
	// apiserver.config.k8s.io.
	// +optional
	JWT *JWTAuthenticator `json:"jwt,omitempty"`
	// webhook is asked about tokens with a TokenReview of
	// authentication.k8s.io/v1.
	// +optional
	Webhook *TokenWebhook `json:"webhook,omitempty"`
	// timeoutSeconds is how long one question to the provider may take, from
	// 1 to 30. Default: 5.
	// +optional
	TimeoutSeconds int32 `json:"timeoutSeconds,omitempty"`
}

// JWTAuthenticator is one issuer of JWTs.
type JWTAuthenticator struct {
	// issuer is whose tokens are accepted.
	Issuer Issuer `json:"issuer"`
	// claimValidationRules must all hold for a token to be accepted.
	// +optional
	// +listType=atomic
	ClaimValidationRules []ClaimValidationRule `json:"claimValidationRules,omitempty"`
	// claimMappings say which claims make the user.
	ClaimMappings ClaimMappings `json:"claimMappings"`
	// userValidationRules must all hold for the user that the mappings make.
	// +optional
	// +listType=atomic
	UserValidationRules []UserValidationRule `json:"userValidationRules,omitempty"`
}

// Issuer is whose tokens are accepted.
type Issuer struct {
	// url is the iss claim, an https URL without query and fragment.
	URL string `json:"url"`
	// discoveryURL is where the discovery document is, if not under url.
	// +optional
	DiscoveryURL string `json:"discoveryURL,omitempty"`
	// certificateAuthority is the PEM of the authorities that certify the
	// issuer's server. Default: those of the system.
	// +optional
	CertificateAuthority string `json:"certificateAuthority,omitempty"`
	// audiences are those of which a token must have one.
	// +listType=atomic
	Audiences []string `json:"audiences"`
	// audienceMatchPolicy must be MatchAny with more than one audience.
	// +optional
	AudienceMatchPolicy string `json:"audienceMatchPolicy,omitempty"`
}

// ClaimValidationRule is one condition on the claims of a token: a claim and
// its value, or an expression.
type ClaimValidationRule struct {
	// claim is the name of a claim.
	// +optional
	Claim string `json:"claim,omitempty"`
	// requiredValue is what the claim must be.
	// +optional
	RequiredValue string `json:"requiredValue,omitempty"`
	// expression is in CEL over claims and must be true.
	// +optional
	Expression string `json:"expression,omitempty"`
	// message says in the record why the expression refused a token.
	// +optional
	Message string `json:"message,omitempty"`
}

// ClaimMappings say which claims make the user.
type ClaimMappings struct {
	// username is the name. With a claim, the prefix is required, if only to
	// be empty.
	Username PrefixedClaimOrExpression `json:"username"`
	// groups are the groups.
	// +optional
	Groups PrefixedClaimOrExpression `json:"groups,omitempty"`
	// uid tells the user from a later one of the same name.
	// +optional
	UID ClaimOrExpression `json:"uid,omitempty"`
	// extra are further facts.
	// +optional
	// +listType=map
	// +listMapKey=key
	Extra []ExtraMapping `json:"extra,omitempty"`
}

// PrefixedClaimOrExpression is a claim with a prefix, or an expression.
type PrefixedClaimOrExpression struct {
	// claim is the name of a claim.
	// +optional
	Claim string `json:"claim,omitempty"`
	// prefix is put before the claim's value.
	// +optional
	Prefix *string `json:"prefix,omitempty"`
	// expression is in CEL over claims.
	// +optional
	Expression string `json:"expression,omitempty"`
}

// ClaimOrExpression is a claim, or an expression.
type ClaimOrExpression struct {
	// claim is the name of a claim.
	// +optional
	Claim string `json:"claim,omitempty"`
	// expression is in CEL over claims.
	// +optional
	Expression string `json:"expression,omitempty"`
}

// ExtraMapping is one further fact about the user.
type ExtraMapping struct {
	// key is a domain and a path, in lower case.
	Key string `json:"key"`
	// valueExpression is in CEL over claims.
	ValueExpression string `json:"valueExpression"`
}

// UserValidationRule is one condition on the user that the mappings made.
type UserValidationRule struct {
	// expression is in CEL over user and must be true.
	Expression string `json:"expression"`
	// message says in the record why the expression refused a token.
	// +optional
	Message string `json:"message,omitempty"`
}

// TokenWebhook is asked about tokens.
type TokenWebhook struct {
	// url is where TokenReviews are posted to: https, without user, query and
	// fragment.
	URL string `json:"url"`
	// certificateAuthority is the PEM of the authorities that certify the
	// webhook's server. Default: those of the system.
	// +optional
	CertificateAuthority string `json:"certificateAuthority,omitempty"`
	// issuers are the iss claims of the JWTs that the webhook is asked about.
	// Without any it is asked about tokens that are no JWTs and of no known
	// form.
	// +optional
	// +listType=set
	Issuers []string `json:"issuers,omitempty"`
	// usernamePrefix and groupPrefix are put before what the webhook says.
	// +optional
	UsernamePrefix string `json:"usernamePrefix,omitempty"`
	// groupPrefix is put before every group that the webhook names.
	// +optional
	GroupPrefix string `json:"groupPrefix,omitempty"`
}

// Types of conditions of identity providers.
const (
	// ConditionAccepted says whether tokens of the provider are accepted;
	// False names the fault.
	ConditionAccepted = "Accepted"
	// ConditionAvailable says whether the provider could tell about the last
	// token; Unknown before the first.
	ConditionAvailable = "Available"
)

// IdentityProviderStatus is how a provider does.
type IdentityProviderStatus struct {
	// conditions are Accepted and Available.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// IdentityProviderList is a list of identity providers.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type IdentityProviderList struct {
	metav1.TypeMeta `json:",inline"`
	// Standard list metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`

	// items are the identity providers.
	Items []IdentityProvider `json:"items"`
}

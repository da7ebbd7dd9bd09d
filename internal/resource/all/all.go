// Package all is the list of the kinds that the control plane serves. A kind
// that is not listed here does not exist; the generic tests range over the
// list. Start with [List].
package all

import (
	"github.com/gatehouse-dev/gatehouse/internal/resource"
	"github.com/gatehouse-dev/gatehouse/internal/resource/accesskey"
	"github.com/gatehouse-dev/gatehouse/internal/resource/accesspolicy"
	"github.com/gatehouse-dev/gatehouse/internal/resource/accessreview"
	"github.com/gatehouse-dev/gatehouse/internal/resource/auditpolicy"
	"github.com/gatehouse-dev/gatehouse/internal/resource/auditsink"
	"github.com/gatehouse-dev/gatehouse/internal/resource/auditsource"
	"github.com/gatehouse-dev/gatehouse/internal/resource/ban"
	"github.com/gatehouse-dev/gatehouse/internal/resource/certificatesigningrequest"
	"github.com/gatehouse-dev/gatehouse/internal/resource/clusterrole"
	"github.com/gatehouse-dev/gatehouse/internal/resource/clusterrolebinding"
	"github.com/gatehouse-dev/gatehouse/internal/resource/configmap"
	"github.com/gatehouse-dev/gatehouse/internal/resource/delegation"
	"github.com/gatehouse-dev/gatehouse/internal/resource/event"
	"github.com/gatehouse-dev/gatehouse/internal/resource/explainreview"
	"github.com/gatehouse-dev/gatehouse/internal/resource/identityprovider"
	"github.com/gatehouse-dev/gatehouse/internal/resource/impactreview"
	"github.com/gatehouse-dev/gatehouse/internal/resource/lease"
	"github.com/gatehouse-dev/gatehouse/internal/resource/localsubjectaccessreview"
	"github.com/gatehouse-dev/gatehouse/internal/resource/namespace"
	"github.com/gatehouse-dev/gatehouse/internal/resource/node"
	"github.com/gatehouse-dev/gatehouse/internal/resource/noderule"
	"github.com/gatehouse-dev/gatehouse/internal/resource/pod"
	"github.com/gatehouse-dev/gatehouse/internal/resource/proxycertificate"
	"github.com/gatehouse-dev/gatehouse/internal/resource/role"
	"github.com/gatehouse-dev/gatehouse/internal/resource/rolebinding"
	"github.com/gatehouse-dev/gatehouse/internal/resource/secret"
	"github.com/gatehouse-dev/gatehouse/internal/resource/selfsubjectaccessreview"
	"github.com/gatehouse-dev/gatehouse/internal/resource/selfsubjectreview"
	"github.com/gatehouse-dev/gatehouse/internal/resource/selfsubjectrulesreview"
	"github.com/gatehouse-dev/gatehouse/internal/resource/serviceaccount"
	"github.com/gatehouse-dev/gatehouse/internal/resource/site"
	"github.com/gatehouse-dev/gatehouse/internal/resource/subjectaccessreview"
	"github.com/gatehouse-dev/gatehouse/internal/resource/tokenkeyrotation"
	"github.com/gatehouse-dev/gatehouse/internal/resource/tokenreview"
	"github.com/gatehouse-dev/gatehouse/internal/resource/validatingadmissionpolicy"
	"github.com/gatehouse-dev/gatehouse/internal/resource/validatingadmissionpolicybinding"
	"github.com/gatehouse-dev/gatehouse/internal/resource/whatcanreview"
	"github.com/gatehouse-dev/gatehouse/internal/resource/whocanreview"
)

// Deps is what the kinds need from the rest of the program. Every function is
// required.
type Deps struct {
	// AssignDomain guards the domain label of namespaces.
	AssignDomain namespace.AssignDomain
	// IssueToken answers serviceaccounts/token.
	IssueToken serviceaccount.IssueToken
	// The escalation checks of the RBAC kinds.
	CheckRole               role.Check
	CheckClusterRole        clusterrole.Check
	CheckRoleBinding        rolebinding.Check
	CheckClusterRoleBinding clusterrolebinding.Check
	// CheckSigner guards the approval and the signing of certificate requests.
	CheckSigner certificatesigningrequest.CheckSigner
	// KeepRequest refuses to delete a certificate request that is still needed.
	KeepRequest certificatesigningrequest.CheckDelete
	// CompileExpressions, CheckPolicyParams and CheckBindingParams belong to
	// admission policies.
	CompileExpressions validatingadmissionpolicy.CompileExpressions
	CheckPolicyParams  validatingadmissionpolicy.CheckParams
	CheckBindingParams validatingadmissionpolicybinding.CheckParams
	// ValidateAccessPolicy knows the roles that exist and what conditions may
	// say.
	ValidateAccessPolicy accesspolicy.Validate
	// The escalation checks of access policies and bans.
	CheckAccessPolicy accesspolicy.Check
	CheckBan          ban.Check
	// ValidateDelegation, FillDelegation and CheckDelegation know the giver's
	// rights and the other delegations.
	ValidateDelegation delegation.Validate
	FillDelegation     delegation.Fill
	CheckDelegation    delegation.Check
	CheckNodeRule      noderule.Check
	// CheckAuditSink guards what a sink sees.
	CheckAuditSink auditsink.Check
	// IssueSourceCredential answers auditsources/credential.
	IssueSourceCredential auditsource.IssueCredential
	// ValidateJWT checks the issuer, mappings and expressions of an identity
	// provider.
	ValidateJWT identityprovider.ValidateJWT
	// CheckIdentityProvider guards the writing of identity providers.
	CheckIdentityProvider identityprovider.Check
	// IssueAccessKey, CheckAccessKey and ReachOfKey belong to access keys.
	IssueAccessKey accesskey.Issue
	CheckAccessKey accesskey.Check
	ReachOfKey     accesskey.Reach
	// IssueSiteCredential answers sites/credential.
	IssueSiteCredential site.IssueCredential
	// IssueProxyCertificate answers requests for certificates of proxies.
	IssueProxyCertificate proxycertificate.Issue
	// RotateTokenKeys answers rotations of token keys.
	RotateTokenKeys tokenkeyrotation.Rotate
	// RotateSiteKeys answers sites/keyrotation.
	RotateSiteKeys site.RotateKeys
	// ReviewToken, Decide and ListRules answer reviews.
	ReviewToken tokenreview.ReviewToken
	Decide      subjectaccessreview.Decide
	ListRules   selfsubjectrulesreview.ListRules
	// ReviewAccess, WhoCan and Explain answer the questions of
	// access.gatehouse.dev.
	ReviewAccess accessreview.Answer
	WhoCan       whocanreview.Answer
	Explain      explainreview.Answer
	WhatCan      whatcanreview.Answer
	Impact       impactreview.Answer
}

// List returns every kind that is served.
func List(d Deps) []resource.Kind {
	return []resource.Kind{
		namespace.New(d.AssignDomain),
		configmap.New(),
		secret.New(),
		serviceaccount.New(d.IssueToken),
		node.New(),
		pod.New(),
		event.New(),
		lease.New(),
		role.New(d.CheckRole),
		rolebinding.New(d.CheckRoleBinding),
		clusterrole.New(d.CheckClusterRole),
		clusterrolebinding.New(d.CheckClusterRoleBinding),
		certificatesigningrequest.New(d.CheckSigner, d.KeepRequest),
		validatingadmissionpolicy.New(d.CompileExpressions, d.CheckPolicyParams),
		validatingadmissionpolicybinding.New(d.CheckBindingParams),
		site.New(d.IssueSiteCredential, d.RotateSiteKeys),
		identityprovider.New(d.ValidateJWT, d.CheckIdentityProvider),
		accesskey.New(d.IssueAccessKey, d.CheckAccessKey, d.ReachOfKey),
		accesspolicy.New(d.ValidateAccessPolicy, d.CheckAccessPolicy),
		ban.New(d.CheckBan),
		delegation.New(d.ValidateDelegation, d.FillDelegation, d.CheckDelegation),
		noderule.New(d.CheckNodeRule),
		auditpolicy.New(),
		auditsink.New(d.CheckAuditSink),
		auditsource.New(d.IssueSourceCredential),

		proxycertificate.New(d.IssueProxyCertificate),
		tokenkeyrotation.New(d.RotateTokenKeys),
		tokenreview.New(d.ReviewToken),
		selfsubjectreview.New(),
		subjectaccessreview.New(d.Decide),
		localsubjectaccessreview.New(d.Decide),
		selfsubjectaccessreview.New(d.Decide),
		selfsubjectrulesreview.New(d.ListRules),
		accessreview.New(d.ReviewAccess),
		whocanreview.New(d.WhoCan),
		explainreview.New(d.Explain),
		whatcanreview.New(d.WhatCan),
		impactreview.New(d.Impact),
	}
}

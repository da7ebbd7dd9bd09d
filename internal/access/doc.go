// Package access decides what a caller may do in the control plane and what
// the control plane says to a site's questions.
//
// It stands between the objects of the API and the engine in package authz:
//
//   - [Policy] follows the RBAC objects and sites into the engine,
//   - [Authorizer] answers every door: [Authorizer.Decide] for requests,
//     [Authorizer.DecideForSite] for sites,
//   - [Checks] refuses grants beyond what their author holds,
//   - [Authorizer.CheckImpersonation] refuses names that a caller may not take.
//
// Beside it stand rbac (translation), bootstrap (the objects to start with),
// aggregate (rules of aggregated roles), sitename (names across the border)
// and review (SubjectAccessReview and its relatives).
//
// The package refuses to decide on incomplete policy: until every kind has
// been listed once, and whenever the feed is not fresh, it returns an error
// of kind Unavailable instead of a decision. It does not authenticate and
// does no I/O.
package access

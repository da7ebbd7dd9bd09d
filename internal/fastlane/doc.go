// Package fastlane serves the calls that machines make thousands of times a
// second: access reviews, token reviews, and the doors of sites.
//
// It stands before the frame on the same listener and asks the same
// authenticator, the same decision engine and the same record; it holds no
// rule of its own. A review in an unusual form (other media types, query
// parameters, impersonation) falls through to the frame. The doors of sites
// exist only here: a site is no caller of the frame.
//
// The lane itself keeps what the frame's chain would: limits on bodies and on
// requests in flight, deadlines, metrics, audit, draining.
//
// Start with [New]; lane.go dispatches, sar.go and token.go answer reviews,
// door.go the sites.
package fastlane

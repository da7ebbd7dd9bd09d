// Package federation owns what the control plane knows of connected sites:
// which there are, when each used its doors, and what a site may be told about
// the holder of a token.
//
// It refuses to decide access (package access) and to speak HTTP (package
// fastlane). Start with [Directory] and [TokenForSite].
package federation

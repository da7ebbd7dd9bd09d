package resource

import (
	"strings"

	apivalidation "k8s.io/apimachinery/pkg/api/validation"
)

// DNSSubdomain accepts names as most kinds have them (RFC 1123 subdomains).
func DNSSubdomain(name string, prefix bool) []string {
	return apivalidation.NameIsDNSSubdomain(name, prefix)
}

// DNSLabel accepts names of a single label, as namespaces have them (RFC 1123
// labels).
func DNSLabel(name string, prefix bool) []string {
	return apivalidation.NameIsDNSLabel(name, prefix)
}

// PathSegment accepts whatever fits into one segment of a URL path, as the
// names of roles and bindings do.
func PathSegment(name string, prefix bool) []string {
	var msgs []string
	// A generated name goes on after the prefix.
	if !prefix && (name == "." || name == "..") {
		msgs = append(msgs, "must not be '"+name+"'")
	}
	for _, c := range []string{"/", "%"} {
		if strings.Contains(name, c) {
			msgs = append(msgs, "must not contain '"+c+"'")
		}
	}
	return msgs
}

package authn

import (
	"errors"
	"strconv"
	"strings"

	"github.com/gatehouse-dev/gatehouse/internal/access/sitename"
)

// Names with a meaning of their own.
const (
	userAnonymous        = "system:anonymous"
	groupAuthenticated   = "system:authenticated"
	groupUnauthenticated = "system:unauthenticated"

	serviceAccountUser     = "system:serviceaccount:"
	groupServiceAccounts   = "system:serviceaccounts"
	groupServiceAccountsOf = "system:serviceaccounts:"

	reservedPrefix = "system:"
)

// Bounds on what another party may say about a caller.
const (
	maxName       = 1024
	maxGroups     = 1024
	maxExtraKeys  = 64
	maxExtraBytes = 16 << 10
)

var (
	errNoName    = errors.New("the credential names nobody")
	errSiteName  = errors.New("names of sites are given by the site CA only")
	errReserved  = errors.New("names that begin with system: or gatehouse: cannot come from an identity provider")
	errOversized = errors.New("a name or the number of groups is beyond the limits")
	errExtraKey  = errors.New("an extra key is malformed or belongs to Kubernetes or Gatehouse")
)

// allowedNames holds for every source: no credential but a certificate of the
// site CA makes its holder a site, and that certificate makes no Identity.
func allowedNames(name string, groups []string) error {
	if name == "" {
		return errNoName
	}
	if isSiteName(name) {
		return errSiteName
	}
	for _, group := range groups {
		if isSiteName(group) {
			return errSiteName
		}
	}
	return nil
}

func isSiteName(name string) bool {
	return sitename.Reserved(name) || name+":" == sitename.SiteUserPrefix || name+":" == sitename.SourceUserPrefix
}

// allowedForeign holds for names that another party chose: nothing that our
// own policy gives a meaning to.
func allowedForeign(name, uid string, groups []string, extra map[string][]string) error {
	if len(name) > maxName || len(uid) > maxName || len(groups) > maxGroups {
		return errOversized
	}
	if isReserved(name) {
		return errReserved
	}
	for _, group := range groups {
		if len(group) > maxName {
			return errOversized
		}
		if group == "" || isReserved(group) {
			return errReserved
		}
	}
	return allowedExtra(extra)
}

func isReserved(name string) bool {
	return strings.HasPrefix(name, reservedPrefix) || strings.HasPrefix(name, sitename.Prefix)
}

// allowedExtra refuses keys that this package or the platforms fill in
// themselves: a provider must not say which pod somebody is.
func allowedExtra(extra map[string][]string) error {
	if len(extra) > maxExtraKeys {
		return errOversized
	}
	size := 0
	for key, values := range extra {
		domain, _, _ := strings.Cut(key, "/")
		if key == "" || key != strings.ToLower(key) {
			return errExtraKey
		}
		for _, owned := range []string{"kubernetes.io", "k8s.io", "gatehouse.dev"} {
			if domain == owned || strings.HasSuffix(domain, "."+owned) {
				return errExtraKey
			}
		}
		size += len(key)
		for _, value := range values {
			size += len(value)
		}
	}
	if size > maxExtraBytes {
		return errOversized
	}
	return nil
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

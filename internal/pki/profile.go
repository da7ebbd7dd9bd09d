package pki

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/netip"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/access/sitename"
	"github.com/gatehouse-dev/gatehouse/internal/authn/origin"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/keys"
)

// Names and groups that have a meaning of their own, and the profile that
// alone may issue each.
const (
	mastersGroup   = "system:masters"
	nodeUserPrefix = "system:node:"
	nodesGroup     = "system:nodes"
	nodePoolPrefix = "system:node-pool:"
	siteURIPrefix  = "gatehouse:site:"
	// sourceURIPrefix begins the URI of an audit source.
	sourceURIPrefix = "gatehouse:audit-source:"
)

// Prepared is a certificate request that passed lint, for one signature by the
// authority of one door. Only the profiles below make one.
type Prepared[P keys.Authority] struct {
	_        [0]P // keeps doors from converting into each other
	template *x509.Certificate
	public   crypto.PublicKey
	validity time.Duration
	used     atomic.Bool
}

// Names is what a serving certificate is for.
type Names struct {
	DNS []string
	IPs []netip.Addr
}

// equal reports whether both hold the same names in the same order.
func (n Names) equal(other Names) bool {
	return slices.Equal(n.DNS, other.DNS) && slices.Equal(n.IPs, other.IPs)
}

func (n Names) clone() Names {
	return Names{DNS: slices.Clone(n.DNS), IPs: slices.Clone(n.IPs)}
}

// Client is a request for a certificate by which a person or a program
// authenticates. Validity zero means the profile's default.
type Client struct {
	User     string
	Groups   []string
	Public   crypto.PublicKey
	Validity time.Duration
	// Origin is the line of credentials that the certificate was asked for
	// with; see package origin. It is in the certificate.
	Origin []string
}

// PrepareServing is the profile of our own listeners: 30 days by default, 90
// at most, at least one name.
func PrepareServing(names Names, public crypto.PublicKey, validity time.Duration) (*Prepared[keys.ServingCA], error) {
	t := &x509.Certificate{Subject: pkix.Name{CommonName: "gatehouse"}, DNSNames: slices.Clone(names.DNS)}
	for _, ip := range names.IPs {
		t.IPAddresses = append(t.IPAddresses, ip.Unmap().AsSlice())
	}
	return prepare[keys.ServingCA](t, public, limits{validity, 30 * day, 90 * day}, servingNames(names))
}

// PrepareAdmin is the profile of administrators: like [PrepareClient], but the
// group system:masters is allowed, and a year is the default.
func PrepareAdmin(c Client) (*Prepared[keys.ClientCA], error) {
	return prepare[keys.ClientCA](subject(c.User, c.Groups), c.Public, limits{c.Validity, 365 * day, maxValidity},
		noReservedNames(mastersGroup))
}

// PrepareClient is the profile of what anybody may ask for: one day by
// default, a year at most, no reserved name or group.
func PrepareClient(c Client) (*Prepared[keys.ClientCA], error) {
	t := subject(c.User, c.Groups)
	if len(c.Origin) > 0 {
		if !origin.Check(c.Origin) {
			return nil, fault.New(fault.Invalid, "origin: is no line of credentials")
		}
		extension, err := origin.Extension(c.Origin)
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, "origin: cannot be written", err)
		}
		t.ExtraExtensions = append(t.ExtraExtensions, extension)
	}
	return prepare[keys.ClientCA](t, c.Public, limits{c.Validity, day, maxValidity}, noReservedNames())
}

// PrepareNode is the profile of the node of that name: 90 days by default, a
// year at most. pool is the pool of nodes that it belongs to, or empty.
func PrepareNode(node, pool string, public crypto.PublicKey, validity time.Duration) (*Prepared[keys.ClientCA], error) {
	user, groups, checks := nodeUserPrefix+node, []string{nodesGroup}, []check{objectName("node", node)}
	if pool != "" {
		groups = append(groups, nodePoolPrefix+pool)
		checks = append(checks, objectName("pool", pool))
	}
	return prepare[keys.ClientCA](subject(user, groups), public, limits{validity, 90 * day, maxValidity},
		append(checks, noReservedNames(append(groups, user)...))...)
}

// LongestNode is how long a node's certificate is good at most.
const LongestNode = maxValidity

// PrepareSite is the profile by which the site of that name is recognised, and
// nothing else: a year by default and at most.
func PrepareSite(site string, public crypto.PublicKey, validity time.Duration) (*Prepared[keys.SiteCA], error) {
	user := sitename.SiteUserPrefix + site
	t := subject(user, []string{sitename.SitesGroup})
	t.URIs = []*url.URL{{Scheme: "gatehouse", Opaque: "site:" + site}}
	return prepare[keys.SiteCA](t, public, limits{validity, 365 * day, maxValidity},
		siteLabel(site), noReservedNames(user, sitename.SitesGroup))
}

// PrepareSource is the profile by which the audit source of that name is
// recognised, and nothing else: a year by default and at most.
func PrepareSource(source string, public crypto.PublicKey, validity time.Duration) (*Prepared[keys.SiteCA], error) {
	user := sitename.SourceUserPrefix + source
	t := subject(user, []string{sitename.SourcesGroup})
	t.URIs = []*url.URL{{Scheme: "gatehouse", Opaque: "audit-source:" + source}}
	return prepare[keys.SiteCA](t, public, limits{validity, 365 * day, maxValidity},
		objectName("source", source), noReservedNames(user, sitename.SourcesGroup))
}

// PrepareFrontProxy is the profile of a proxy that names its callers in
// request headers: a year by default and at most, no reserved name.
func PrepareFrontProxy(name string, public crypto.PublicKey, validity time.Duration) (*Prepared[keys.RequestHeaderCA], error) {
	return prepare[keys.RequestHeaderCA](subject(name, nil), public, limits{validity, 365 * day, maxValidity},
		noReservedNames())
}

// subject is a template in the convention of Kubernetes: the common name is
// the user, the organizations are the groups.
func subject(user string, groups []string) *x509.Certificate {
	return &x509.Certificate{Subject: pkix.Name{CommonName: user, Organization: slices.Clone(groups)}}
}

// limits are the asked, default and longest validity of a request.
type limits struct{ asked, usual, longest time.Duration }

// prepare runs lint and makes the one value that [Authority.Issue] takes.
func prepare[P keys.Authority](t *x509.Certificate, public crypto.PublicKey, l limits, checks ...check) (*Prepared[P], error) {
	validity := l.asked
	if validity == 0 {
		validity = l.usual
	}
	if validity < time.Minute || validity > l.longest {
		return nil, fault.Newf(fault.Invalid, "validity: must be between 1m and %v", l.longest)
	}
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{doorOf[P]().usage}
	t.BasicConstraintsValid = true
	if err := lint(t, public, checks); err != nil {
		return nil, err
	}
	return &Prepared[P]{template: t, public: public, validity: validity}, nil
}

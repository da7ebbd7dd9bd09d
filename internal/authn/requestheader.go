package authn

import (
	"context"
	"crypto/x509"
	"maps"
	"slices"

	"github.com/gatehouse-dev/gatehouse/internal/authn/origin"
)

// Forwarded is whom an authenticating proxy says it speaks for, as the adapter
// found it in the request's headers (X-Remote-User and its kin), which it must
// have removed.
type Forwarded struct {
	Name, UID string
	Groups    []string
	Extra     map[string][]string
}

// proxies are who may forward.
type proxies struct {
	roots *x509.CertPool
	names []string
}

// SetProxyCAs sets the CAs whose certificates make authenticating proxies, and
// the common names they must have; without names every certificate of these
// CAs is a proxy's. A proxy can speak for any user but a site, so that these
// CAs must issue nothing else.
func (c *Chain) SetProxyCAs(pool *x509.CertPool, names []string) {
	if pool == nil {
		c.proxies.Store(nil)
		return
	}
	c.proxies.Store(&proxies{roots: pool, names: slices.Clone(names)})
}

// VerifyForwarded proves the client certificate of a proxy and returns the user
// that it speaks for. The credential id is the one that the proxy passes on,
// or else that of the proxy's own certificate; a ban on either ends it.
func (c *Chain) VerifyForwarded(ctx context.Context, peer []*x509.Certificate, f Forwarded) (Identity, error) {
	trusted := c.proxies.Load()
	if trusted == nil {
		return Identity{}, refuseCertificate(UnknownIssuer, "no proxy is trusted", nil)
	}
	now := c.now()
	v, err := c.verifyPeer(ctx, peer, trusted.roots, now)
	if err != nil {
		return Identity{}, err
	}
	c.certs.keep(peer[0], v)
	leaf := peer[0]
	if len(trusted.names) > 0 && !slices.Contains(trusted.names, leaf.Subject.CommonName) {
		return Identity{}, refuseCertificate(ReservedName, certificateText(leaf)+" is not that of an allowed proxy", nil)
	}
	proxy := CertificateID(leaf)
	if err := c.bans.refuseCredential(c.bans.current.Load(), proxy, now); err != nil {
		return Identity{}, err
	}
	a := account{name: f.Name, uid: f.UID, groups: f.Groups, extra: maps.Clone(f.Extra), credential: proxy}
	line := a.extra[ExtraOrigin]
	delete(a.extra, ExtraOrigin)
	if !origin.Check(line) {
		return Identity{}, refuseCertificate(Malformed, "forwarded by "+proxy+" with what is no line of credentials", nil)
	}
	if ids := a.extra[ExtraCredentialID]; len(ids) > 0 && ids[0] != "" {
		// What is made with it ends with the proxy's certificate, too, and with
		// whatever the proxy was told that it was made with itself.
		a.credential = ids[0]
		a.origin, err = origin.Extend(origin.Entry{ID: proxy, NotAfter: leaf.NotAfter}, line, now)
		if err != nil {
			return Identity{}, err
		}
	} else {
		a.origin = line
	}
	who, err := newAccount(a)
	if err != nil {
		return Identity{}, refuseCertificate(ReservedName, "forwarded by "+proxy, err)
	}
	id := Identity{v: &verified{who: who, src: &c.requestHeader, expires: leaf.NotAfter.Unix()}}
	if err := c.bans.refuse(id, now); err != nil {
		return Identity{}, err
	}
	return id, nil
}

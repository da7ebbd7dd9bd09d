// Package caller takes the credential out of an HTTP request and has it
// verified. Both lanes use it, so that a caller is the same whichever lane the
// request takes.
//
// It owns the reading of the TLS connection, the Authorization header and the
// headers of authenticating proxies (forwarded.go), and the short list of what
// may be asked without a credential. It refuses credentials anywhere else: not
// in a URL, a cookie or a form.
//
// Start with [From].
package caller

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/authn/accesskey"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// Names of whoever asks without a credential.
const (
	Anonymous       = "system:anonymous"
	Unauthenticated = "system:unauthenticated"
)

// IsPublic reports whether a path may be asked without a credential. Such paths
// tell nothing but that the process is alive; whether an anonymous caller may
// read even that is still up to authorization.
func IsPublic(path string) bool {
	switch path {
	case "/livez", "/readyz", "/healthz":
		return true
	}
	return false
}

// From verifies the credential of a request. ok is false when there is none.
// An error says that a credential was refused (kind Unauthenticated) or could
// not be verified now.
//
// What a proxy says counts first, if it proves to be one. Then a bearer token
// counts before a client certificate: who sends a token wants to be its holder,
// whatever the connection was opened with.
//
// A request with an access key in its URL is refused whatever else it carries:
// the key stands in logs by now.
//
// What has to be asked elsewhere is asked for as long as ctx allows, whose end
// need not be that of the request.
func From(ctx context.Context, chain *authn.Chain, r *http.Request) (id authn.Identity, ok bool, err error) {
	if accesskey.InURL(r.URL) {
		return authn.Identity{}, false, errKeyInURL
	}
	if id, ok, err := forwarded(ctx, chain, r); ok || err != nil {
		return id, ok, err
	}
	token, has, err := bearer(r)
	switch {
	case err != nil:
		return authn.Identity{}, false, err
	case has:
		id, err := chain.VerifyToken(ctx, token, nil)
		return id, err == nil, err
	case r.TLS != nil && len(r.TLS.PeerCertificates) > 0:
		id, err := chain.VerifyCertificate(ctx, r.TLS.PeerCertificates)
		return id, err == nil, err
	}
	return authn.Identity{}, false, nil
}

// Frame adapts [From] for the frame: without a credential, the public paths
// are asked by nobody in particular. seen is told of every verified identity,
// so that what the record and the caller should know of its credential can be
// noted.
func Frame(chain *authn.Chain, seen func(context.Context, authn.Identity)) func(r *http.Request) (resource.Caller, bool, error) {
	return func(r *http.Request) (resource.Caller, bool, error) {
		id, ok, err := From(r.Context(), chain, r)
		if err != nil {
			return resource.Caller{}, false, err
		}
		if ok {
			dropForwarded(r.Header)
			seen(r.Context(), id)
			c := Of(id)
			c.Made = func() ([]string, error) { return chain.Made(id) }
			return c, true, nil
		}
		if (r.Method == http.MethodGet || r.Method == http.MethodHead) && IsPublic(r.URL.Path) && r.URL.RawQuery == "" {
			return resource.Caller{Name: Anonymous, Groups: []string{Unauthenticated}}, true, nil
		}
		return resource.Caller{}, false, nil
	}
}

// Of describes an identity to the kinds. What it returns is shared and must
// not be changed.
func Of(id authn.Identity) resource.Caller {
	return resource.Caller{Name: id.Name(), UID: id.UID(), Groups: id.Groups(), Extra: id.Extra()}
}

var errKeyInURL = fault.New(fault.Unauthenticated, "an access key does not belong into a URL; revoke it")

var errAuthorization = fault.New(fault.Unauthenticated, "the Authorization header is not of the form \"Bearer TOKEN\"")

// bearer reads RFC 6750, section 2.1. A header of another scheme is refused
// rather than ignored: its sender believes to be somebody.
func bearer(r *http.Request) (token string, has bool, err error) {
	values := r.Header["Authorization"]
	if len(values) == 0 {
		return "", false, nil
	}
	scheme, token, ok := strings.Cut(strings.TrimSpace(values[0]), " ")
	token = strings.TrimSpace(token)
	if len(values) > 1 || !ok || !strings.EqualFold(scheme, "bearer") || token == "" || strings.ContainsAny(token, " \t") {
		return "", false, errAuthorization
	}
	return token, true, nil
}

// Detail is what the record may say about a refused credential; the caller
// itself learns less.
func Detail(err error) string {
	if err == nil {
		return "no credential"
	}
	if refusal, ok := errors.AsType[*authn.Refusal](err); ok {
		return refusal.Error()
	}
	return fault.Public(err)
}

package caller

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/gatehouse-dev/gatehouse/internal/authn"
)

// Headers in which an authenticating proxy names its caller, as those of
// Kubernetes do.
const (
	headerUser        = "X-Remote-User"
	headerUID         = "X-Remote-Uid"
	headerGroup       = "X-Remote-Group"
	headerExtraPrefix = "X-Remote-Extra-"
)

// forwarded verifies what an authenticating proxy says. From anybody else the
// headers mean nothing, and the sender is whom its own credential proves.
func forwarded(ctx context.Context, chain *authn.Chain, r *http.Request) (authn.Identity, bool, error) {
	names := r.Header[headerUser]
	if len(names) == 0 || r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return authn.Identity{}, false, nil
	}
	id, err := chain.VerifyForwarded(ctx, r.TLS.PeerCertificates, read(r.Header))
	if err == nil {
		return id, true, nil
	}
	switch authn.ReasonOf(err) {
	case authn.UnknownIssuer, authn.BadSignature:
		// The certificate is of no proxy authority.
		return authn.Identity{}, false, nil
	}
	return authn.Identity{}, false, err
}

// read takes the headers apart. A name that occurs twice is no name: which of
// them is meant is a guess.
func read(h http.Header) authn.Forwarded {
	f := authn.Forwarded{Groups: h[headerGroup]}
	if names := h[headerUser]; len(names) == 1 {
		f.Name = names[0]
	}
	if uids := h[headerUID]; len(uids) == 1 {
		f.UID = uids[0]
	}
	for name, values := range h {
		key, ok := strings.CutPrefix(name, headerExtraPrefix)
		if !ok {
			continue
		}
		// Keys are escaped where they hold what a header name cannot.
		key = strings.ToLower(key)
		if plain, err := url.PathUnescape(key); err == nil {
			key = plain
		}
		if f.Extra == nil {
			f.Extra = map[string][]string{}
		}
		f.Extra[key] = append(f.Extra[key], values...)
	}
	return f
}

// dropForwarded removes the headers once the caller is known, so that nothing
// behind this package can take them for proven.
func dropForwarded(h http.Header) {
	for name := range h {
		if name == headerUser || name == headerUID || name == headerGroup || strings.HasPrefix(name, headerExtraPrefix) {
			delete(h, name)
		}
	}
}

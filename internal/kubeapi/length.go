package kubeapi

import (
	"net/http"
	"net/url"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"

	"github.com/gatehouse-dev/gatehouse/internal/access/limit"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// withLengths answers 400 to a request that names something too long to be
// decided about. Who asks without a valid credential is told so first.
func (f *Frame) withLengths(next http.Handler, s runtime.NegotiatedSerializer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := lengths(r)
		if err == nil || r.Context().Value(loopbackKey{}) != nil {
			next.ServeHTTP(w, r)
			return
		}
		caller, ok, failed := f.cfg.Authenticate(r)
		if failed != nil || !ok {
			next.ServeHTTP(w, r)
			return
		}
		f.recordRefusal(r, &caller, apierrors.NewBadRequest(fault.Public(err)))
		if header, herr := utilnet.NewWarningHeader(warningCode, "-", fault.Public(err)); herr == nil {
			w.Header().Add("Warning", header)
		}
		responsewriters.ErrorNegotiated(apierrors.NewBadRequest(fault.Public(err)), s, schema.GroupVersion{Version: "v1"}, w, r)
	})
}

// warningCode is a persistent warning (RFC 7234, section 5.5.7).
const warningCode = 299

// lengths looks at what a request would be decided by.
func lengths(r *http.Request) error {
	api := strings.HasPrefix(r.URL.Path, "/api/") || strings.HasPrefix(r.URL.Path, "/apis/")
	if !api {
		if err := limit.TooLong("path", len(r.URL.Path), limit.Attribute); err != nil {
			return err
		}
	} else if len(r.URL.Path) > limit.Attribute {
		for part := range strings.SplitSeq(r.URL.Path, "/") {
			if err := limit.TooLong("name", len(part), limit.Attribute); err != nil {
				return err
			}
		}
	}
	if len(r.URL.RawQuery) > limit.Selector {
		// What cannot be parsed is for the frame to refuse.
		query, _ := url.ParseQuery(r.URL.RawQuery)
		for _, name := range []string{"labelSelector", "fieldSelector"} {
			for _, v := range query[name] {
				if err := limit.TooLong(name, len(v), limit.Selector); err != nil {
					return err
				}
			}
		}
	}
	for name, values := range r.Header {
		if !strings.HasPrefix(name, "Impersonate-") {
			continue
		}
		for _, v := range values {
			if err := limit.TooLong(name, len(v), limit.Attribute); err != nil {
				return err
			}
		}
	}
	return nil
}

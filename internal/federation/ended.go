package federation

import (
	"context"
	"fmt"
	"strings"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"

	"github.com/gatehouse-dev/gatehouse/authz/snapshot"
	"github.com/gatehouse-dev/gatehouse/internal/access/sitename"
	"github.com/gatehouse-dev/gatehouse/internal/authn"
)

// ExtraNotAfter tells a site, and through it the deny door, when a token ends.
const ExtraNotAfter = "authentication.gatehouse.dev/not-after"

// endLeeway is how long a token is good beyond its end, as where it is
// verified: clocks differ.
const endLeeway = time.Minute

// Objects tells what exists. Confirm asks the store itself, for when the memory
// may be old.
type Objects interface {
	authn.Objects
	Confirm(ctx context.Context, key authn.ObjectKey) (state authn.ObjectState, found bool, err error)
}

// Ended says why the credential behind a site's question is good no more, or
// nothing. A site remembers that a token was good, so what TokenReview put into
// extra is held against what exists now: the end of the token, and the service
// account, pod and node it is bound to. Only names that the control plane gave
// are looked up; what a site says of its own callers means nothing here.
func Ended(ctx context.Context, objects Objects, spec *authorizationv1.SubjectAccessReviewSpec, now time.Time) (reason string, err error) {
	return EndedBy(spec, now, func(key authn.ObjectKey, uid string) (gone bool, err error) {
		state, found, err := objects.Object(ctx, key)
		if err == nil && found && state.UID != uid {
			state, found, err = objects.Confirm(ctx, key)
		}
		return !found || state.UID != uid || !state.Deleted.IsZero() && !now.Before(state.Deleted), err
	})
}

// EndedBy is [Ended] where gone says whether an object with a UID is no more.
func EndedBy(spec *authorizationv1.SubjectAccessReviewSpec, now time.Time, gone func(key authn.ObjectKey, uid string) (bool, error)) (reason string, err error) {
	if end := one(spec.Extra[ExtraNotAfter]); end != "" {
		at, err := time.Parse(time.RFC3339, end)
		if err != nil || now.After(at.Add(endLeeway)) {
			return "the token has ended", nil
		}
	}
	user, ours := strings.CutPrefix(spec.User, sitename.Prefix)
	namespace, name, ok := strings.Cut(strings.TrimPrefix(user, "system:serviceaccount:"), ":")
	if !ours || !ok || !sitename.IsServiceAccount(user) {
		return "", nil
	}
	for _, bound := range []struct {
		what string
		key  authn.ObjectKey
		uid  string
	}{
		{"service account", authn.ObjectKey{Kind: authn.ServiceAccountObject, Namespace: namespace, Name: name}, spec.UID},
		{"pod", authn.ObjectKey{Kind: authn.PodObject, Namespace: namespace, Name: one(spec.Extra[authn.ExtraPodName])}, one(spec.Extra[authn.ExtraPodUID])},
		{"node", authn.ObjectKey{Kind: authn.NodeObject, Name: one(spec.Extra[authn.ExtraNodeName])}, one(spec.Extra[authn.ExtraNodeUID])},
	} {
		if bound.key.Name == "" || bound.uid == "" {
			continue
		}
		is, err := gone(bound.key, bound.uid)
		if err != nil {
			return "", fmt.Errorf("look up %s of a token: %w", bound.what, err)
		}
		// A token that names the node of its pod outlives the node.
		if is && !(bound.what == "node" && one(spec.Extra[authn.ExtraPodName]) != "") {
			return "the " + bound.what + " of the token is gone", nil
		}
	}
	return "", nil
}

// Fingerprint stands for an object of the control plane in policy that is
// shipped to a site; see [snapshot.FingerprintOf].
func Fingerprint(site string, key authn.ObjectKey, uid string) snapshot.Fingerprint {
	return snapshot.FingerprintOf(site, string(rune('0'+key.Kind)), key.Namespace, key.Name, uid)
}

func one(values authorizationv1.ExtraValue) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

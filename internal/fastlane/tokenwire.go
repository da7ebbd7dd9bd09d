package fastlane

import (
	"maps"
	"slices"

	authenticationv1 "k8s.io/api/authentication/v1"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
)

// appendTokenReview writes what encoding/json writes of a review whose
// metadata is empty. The answer to a webhook has no spec either.
func appendTokenReview(b []byte, r *authenticationv1.TokenReview) []byte {
	b = append(b, `{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","metadata":{},"spec":{`...)
	if r.Spec.Token != "" {
		b = audit.AppendString(append(b, `"token":`...), r.Spec.Token)
		b = appendStrings(b, `,"audiences":`, r.Spec.Audiences)
	}
	b = append(b, `},"status":{`...)
	if r.Status.Authenticated {
		b = append(b, `"authenticated":true,`...)
	}
	b = append(b, `"user":`...)
	b = appendUser(b, &r.Status.User)
	b = appendStrings(b, `,"audiences":`, r.Status.Audiences)
	if r.Status.Error != "" {
		b = append(b, `,"error":`...)
		b = audit.AppendString(b, r.Status.Error)
	}
	return append(b, "}}\n"...)
}

func appendUser(b []byte, u *authenticationv1.UserInfo) []byte {
	start := len(b)
	text := func(name, value string) {
		if value != "" {
			b = append(append(b, ',', '"'), name...)
			b = audit.AppendString(append(b, '"', ':'), value)
		}
	}
	text("username", u.Username)
	text("uid", u.UID)
	b = appendStrings(b, `,"groups":`, u.Groups)
	if len(u.Extra) > 0 {
		b = append(b, `,"extra":`...)
		for i, key := range slices.Sorted(maps.Keys(u.Extra)) {
			b = append(b, "{,"[min(i, 1)])
			b = append(audit.AppendString(b, key), ':')
			b = appendList(b, u.Extra[key])
		}
		b = append(b, '}')
	}
	if len(b) == start {
		return append(b, "{}"...)
	}
	b[start] = '{' // in the place of the first comma
	return append(b, '}')
}

func appendStrings(b []byte, name string, values []string) []byte {
	if len(values) == 0 {
		return b
	}
	return appendList(append(b, name...), values)
}

func appendList(b []byte, values []string) []byte {
	b = append(b, '[')
	for i, value := range values {
		if i > 0 {
			b = append(b, ',')
		}
		b = audit.AppendString(b, value)
	}
	return append(b, ']')
}

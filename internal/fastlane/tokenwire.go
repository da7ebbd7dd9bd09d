package fastlane

import (
	"maps"
	"slices"

	authenticationv1 "k8s.io/api/authentication/v1"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/authn/strictjson"
)

// quickTokenReview reads a TokenReview in the form that clients send: a token,
// audiences, and otherwise nothing. ok is false for any other text, which the
// general decoder then reads or refuses; what both read is the same.
func quickTokenReview(in string) (review authenticationv1.TokenReview, ok bool) {
	v, err := strictjson.Parse([]byte(in))
	if err != nil || v.Kind != strictjson.Object {
		return review, false
	}
	for _, m := range v.Members {
		switch m.Name {
		case "kind":
			review.Kind = m.Value.Text
		case "apiVersion":
			review.APIVersion = m.Value.Text
		case "metadata", "status":
			if !empty(m.Value) {
				return review, false
			}
		case "spec":
			if !quickSpec(m.Value, &review.Spec) {
				return review, false
			}
		default:
			return review, false
		}
	}
	return review, review.Spec.Token != "" && review.Kind == "TokenReview" && review.APIVersion == "authentication.k8s.io/v1" &&
		v.Get("kind").Kind == strictjson.String && v.Get("apiVersion").Kind == strictjson.String
}

func quickSpec(v strictjson.Value, spec *authenticationv1.TokenReviewSpec) bool {
	if v.Kind != strictjson.Object {
		return false
	}
	for _, m := range v.Members {
		switch {
		case m.Name == "token" && m.Value.Kind == strictjson.String:
			spec.Token = m.Value.Text
		case m.Name == "audiences" && m.Value.Kind == strictjson.Array:
			for _, audience := range m.Value.Items {
				if audience.Kind != strictjson.String {
					return false
				}
				spec.Audiences = append(spec.Audiences, audience.Text)
			}
		default:
			return false
		}
	}
	return true
}

// empty reports whether a part says nothing: clients write metadata and status
// though they are empty.
func empty(v strictjson.Value) bool {
	if v.Kind != strictjson.Object {
		return false
	}
	for _, m := range v.Members {
		nothing := m.Value.Kind == strictjson.Object && len(m.Value.Members) == 0 || m.Value.Kind == strictjson.Null
		if !nothing || m.Name != "creationTimestamp" && m.Name != "user" || m.Name == "user" && m.Value.Kind == strictjson.Null {
			return false
		}
	}
	return true
}

// appendTokenReview writes what encoding/json writes of a review whose
// metadata is empty.
func appendTokenReview(b []byte, r *authenticationv1.TokenReview) []byte {
	b = append(b, `{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","metadata":{},"spec":{"token":`...)
	b = audit.AppendString(b, r.Spec.Token)
	b = appendStrings(b, `,"audiences":`, r.Spec.Audiences)
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

package sarwire

import (
	authenticationv1 "k8s.io/api/authentication/v1"
)

// DecodeToken reads a TokenReview of authentication.k8s.io/v1 into spec.
// Strings in spec are parts of body. It reports false, with spec in any state,
// for a body that it leaves to the strict decoder, such as one without a token.
func DecodeToken(body string, spec *authenticationv1.TokenReviewSpec) bool {
	if len(body) > MaxBody {
		return false
	}
	d := decoder{in: body}
	return d.kind("TokenReview", "authentication.k8s.io/v1",
		func() bool { return d.tokenSpec(spec) }, d.tokenStatus) && d.end() && spec.Token != ""
}

func (d *decoder) tokenSpec(spec *authenticationv1.TokenReviewSpec) bool {
	var keys seen
	return d.object(func(key string) bool {
		switch key {
		case "token":
			return keys.first(0) && d.into(&spec.Token)
		case "audiences":
			var ok bool
			spec.Audiences, ok = d.texts()
			return keys.first(1) && ok
		}
		return false
	})
}

// tokenStatus is what a typed client sends for an answer that is not there yet.
func (d *decoder) tokenStatus() bool {
	var keys seen
	return d.object(func(key string) bool {
		return key == "user" && keys.first(0) && d.char('{') && d.char('}')
	})
}

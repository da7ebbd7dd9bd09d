package sarwire

import (
	"encoding/json"
	"slices"
	"unicode/utf8"

	authorizationv1 "k8s.io/api/authorization/v1"
)

// AppendReview appends a whole review, as the API answers it.
func AppendReview(b []byte, spec *authorizationv1.SubjectAccessReviewSpec, status *authorizationv1.SubjectAccessReviewStatus) []byte {
	b = append(b, `{"kind":"SubjectAccessReview","apiVersion":"authorization.k8s.io/v1","metadata":{},"spec":`...)
	b = appendSpec(b, spec)
	return appendStatus(b, status)
}

// AppendAnswer appends a review without its question, as webhooks answer it.
func AppendAnswer(b []byte, status *authorizationv1.SubjectAccessReviewStatus) []byte {
	b = append(b, `{"kind":"SubjectAccessReview","apiVersion":"authorization.k8s.io/v1","metadata":{},"spec":{}`...)
	return appendStatus(b, status)
}

func appendStatus(b []byte, s *authorizationv1.SubjectAccessReviewStatus) []byte {
	b = append(b, `,"status":{"allowed":`...)
	if s.Allowed {
		b = append(b, "true"...)
	} else {
		b = append(b, "false"...)
	}
	if s.Denied {
		b = append(b, `,"denied":true`...)
	}
	b = appendField(b, `,"reason":`, s.Reason)
	b = appendField(b, `,"evaluationError":`, s.EvaluationError)
	return append(b, "}}\n"...)
}

func appendField(b []byte, key, value string) []byte {
	if value == "" {
		return b
	}
	return appendText(append(b, key...), value)
}

func appendSpec(b []byte, s *authorizationv1.SubjectAccessReviewSpec) []byte {
	b = append(b, '{')
	first := len(b)
	if r := s.ResourceAttributes; r != nil {
		b = append(b, `"resourceAttributes":{`...)
		at := len(b)
		b = appendField(b, `,"namespace":`, r.Namespace)
		b = appendField(b, `,"verb":`, r.Verb)
		b = appendField(b, `,"group":`, r.Group)
		b = appendField(b, `,"version":`, r.Version)
		b = appendField(b, `,"resource":`, r.Resource)
		b = appendField(b, `,"subresource":`, r.Subresource)
		b = appendField(b, `,"name":`, r.Name)
		b = append(dropComma(b, at), '}')
	}
	if n := s.NonResourceAttributes; n != nil {
		b = append(b, `,"nonResourceAttributes":{`...)
		at := len(b)
		b = appendField(b, `,"path":`, n.Path)
		b = appendField(b, `,"verb":`, n.Verb)
		b = append(dropComma(b, at), '}')
	}
	b = appendField(b, `,"user":`, s.User)
	if len(s.Groups) > 0 {
		b = appendTexts(append(b, `,"groups":`...), s.Groups)
	}
	if len(s.Extra) > 0 {
		b = append(b, `,"extra":{`...)
		keys := make([]string, 0, len(s.Extra))
		for k := range s.Extra {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for i, k := range keys {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendText(b, k), ':')
			b = appendTexts(b, s.Extra[k])
		}
		b = append(b, '}')
	}
	b = appendField(b, `,"uid":`, s.UID)
	return append(dropComma(b, first), '}')
}

// dropComma removes the comma that an object would begin with.
func dropComma(b []byte, at int) []byte {
	if len(b) > at && b[at] == ',' {
		return slices.Delete(b, at, at+1)
	}
	return b
}

func appendTexts(b []byte, texts []string) []byte {
	b = append(b, '[')
	for i, s := range texts {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendText(b, s)
	}
	return append(b, ']')
}

// appendText appends a JSON string. Reasons quote names, so quotes are common
// and escaped here; everything rarer is left to the library.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= utf8.RuneSelf || c == '<' || c == '>' || c == '&' || c == 0x7f {
			quoted, _ := json.Marshal(s) // cannot fail for a string
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	start := 0
	for i := range len(s) {
		if c := s[i]; c == '"' || c == '\\' {
			b = append(append(b, s[start:i]...), '\\', c)
			start = i + 1
		}
	}
	return append(append(b, s[start:]...), '"')
}

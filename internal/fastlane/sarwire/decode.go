// Package sarwire reads and writes SubjectAccessReviews, and reads
// TokenReviews, in JSON at the speed of the machines that send them.
//
// It accepts the usual review and nothing else. Whatever is unusual (an
// escape, a selector, an unknown or repeated field, metadata) makes [Decode]
// and [DecodeToken] answer false, and the strict decoder of the frame, which
// gives precise errors, reads the body instead. Fuzz targets prove that what
// this package accepts means the same to that decoder.
package sarwire

import (
	"unicode/utf8"

	authorizationv1 "k8s.io/api/authorization/v1"
)

// MaxBody is the longest body that is read, in bytes.
const MaxBody = 64 << 10

// maxItems bounds groups, extra keys and extra values.
const maxItems = 256

// Decode reads a SubjectAccessReview of authorization.k8s.io/v1 into spec.
// Strings in spec are parts of body. It reports false, with spec in any state,
// for a body that it leaves to the strict decoder.
func Decode(body string, spec *authorizationv1.SubjectAccessReviewSpec) bool {
	if len(body) > MaxBody {
		return false
	}
	d := decoder{in: body}
	return d.review(spec) && d.end()
}

type decoder struct {
	in string
	at int
}

// seen is the set of keys of one object.
type seen uint16

func (s *seen) first(bit uint) bool {
	mask := seen(1) << bit
	was := *s & mask
	*s |= mask
	return was == 0
}

func (d *decoder) space() {
	for d.at < len(d.in) {
		switch d.in[d.at] {
		case ' ', '\t', '\n', '\r':
			d.at++
		default:
			return
		}
	}
}

func (d *decoder) end() bool {
	d.space()
	return d.at == len(d.in)
}

// char consumes c, with white space before it.
func (d *decoder) char(c byte) bool {
	d.space()
	if d.at < len(d.in) && d.in[d.at] == c {
		d.at++
		return true
	}
	return false
}

func (d *decoder) literal(s string) bool {
	d.space()
	if len(d.in)-d.at >= len(s) && d.in[d.at:d.at+len(s)] == s {
		d.at += len(s)
		return true
	}
	return false
}

// text reads a string without escapes, in valid UTF-8.
func (d *decoder) text() (string, bool) {
	if !d.char('"') {
		return "", false
	}
	start, ascii := d.at, true
	for ; d.at < len(d.in); d.at++ {
		switch c := d.in[d.at]; {
		case c == '"':
			s := d.in[start:d.at]
			d.at++
			return s, ascii || utf8.ValidString(s)
		case c == '\\' || c < ' ':
			return "", false
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return "", false
}

// object calls field for each key of an object.
func (d *decoder) object(field func(key string) bool) bool {
	if !d.char('{') {
		return false
	}
	if d.char('}') {
		return true
	}
	for {
		key, ok := d.text()
		if !ok || !d.char(':') || !field(key) {
			return false
		}
		if d.char('}') {
			return true
		}
		if !d.char(',') {
			return false
		}
	}
}

func (d *decoder) texts() ([]string, bool) {
	if !d.char('[') {
		return nil, false
	}
	if d.char(']') {
		return []string{}, true
	}
	out := make([]string, 0, 4)
	for {
		s, ok := d.text()
		if !ok || len(out) == maxItems {
			return nil, false
		}
		out = append(out, s)
		if d.char(']') {
			return out, true
		}
		if !d.char(',') {
			return nil, false
		}
	}
}

func (d *decoder) into(to *string) bool {
	s, ok := d.text()
	*to = s
	return ok
}

func (d *decoder) review(spec *authorizationv1.SubjectAccessReviewSpec) bool {
	return d.kind("SubjectAccessReview", "authorization.k8s.io/v1",
		func() bool { return d.spec(spec) }, d.status)
}

// kind reads an object of a kind that has a spec and may have a status.
func (d *decoder) kind(kind, apiVersion string, spec, status func() bool) bool {
	var keys seen
	ok := d.object(func(key string) bool {
		switch key {
		case "kind":
			s, ok := d.text()
			return keys.first(0) && ok && s == kind
		case "apiVersion":
			s, ok := d.text()
			return keys.first(1) && ok && s == apiVersion
		case "metadata":
			return keys.first(2) && d.metadata()
		case "spec":
			return keys.first(3) && spec()
		case "status":
			return keys.first(4) && status()
		}
		return false
	})
	const required = 1<<0 | 1<<1 | 1<<3
	return ok && keys&required == required
}

// metadata is what a typed client sends for an object that has none.
func (d *decoder) metadata() bool {
	var keys seen
	return d.object(func(key string) bool {
		return key == "creationTimestamp" && keys.first(0) && d.literal("null")
	})
}

// status is what a typed client sends for an answer that is not there yet.
func (d *decoder) status() bool {
	var keys seen
	return d.object(func(key string) bool {
		return key == "allowed" && keys.first(0) && d.literal("false")
	})
}

func (d *decoder) spec(spec *authorizationv1.SubjectAccessReviewSpec) bool {
	var keys seen
	return d.object(func(key string) bool {
		switch key {
		case "resourceAttributes":
			spec.ResourceAttributes = new(authorizationv1.ResourceAttributes)
			return keys.first(0) && d.resource(spec.ResourceAttributes)
		case "nonResourceAttributes":
			spec.NonResourceAttributes = new(authorizationv1.NonResourceAttributes)
			return keys.first(1) && d.nonResource(spec.NonResourceAttributes)
		case "user":
			return keys.first(2) && d.into(&spec.User)
		case "groups":
			var ok bool
			spec.Groups, ok = d.texts()
			return keys.first(3) && ok
		case "extra":
			return keys.first(4) && d.extra(spec)
		case "uid":
			return keys.first(5) && d.into(&spec.UID)
		}
		return false
	})
}

func (d *decoder) resource(to *authorizationv1.ResourceAttributes) bool {
	var keys seen
	return d.object(func(key string) bool {
		switch key {
		case "namespace":
			return keys.first(0) && d.into(&to.Namespace)
		case "verb":
			return keys.first(1) && d.into(&to.Verb)
		case "group":
			return keys.first(2) && d.into(&to.Group)
		case "version":
			return keys.first(3) && d.into(&to.Version)
		case "resource":
			return keys.first(4) && d.into(&to.Resource)
		case "subresource":
			return keys.first(5) && d.into(&to.Subresource)
		case "name":
			return keys.first(6) && d.into(&to.Name)
		}
		return false
	})
}

func (d *decoder) nonResource(to *authorizationv1.NonResourceAttributes) bool {
	var keys seen
	return d.object(func(key string) bool {
		switch key {
		case "path":
			return keys.first(0) && d.into(&to.Path)
		case "verb":
			return keys.first(1) && d.into(&to.Verb)
		}
		return false
	})
}

func (d *decoder) extra(spec *authorizationv1.SubjectAccessReviewSpec) bool {
	spec.Extra = make(map[string]authorizationv1.ExtraValue, 4)
	return d.object(func(key string) bool {
		if _, repeated := spec.Extra[key]; repeated || len(spec.Extra) == maxItems {
			return false
		}
		values, ok := d.texts()
		spec.Extra[key] = values
		return ok
	})
}

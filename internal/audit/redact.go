package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/gatehouse-dev/gatehouse/internal/authn/accesskey"
)

// Redacted replaces every value that was cut out.
const Redacted = "[redacted]"

// Bounds of the bodies that Redact parses. A larger one could not be recorded
// anyway (MaxEventBytes) and is dropped unparsed. What is cut out of kinds with
// secrets can leave little of much; others shrink by their white space alone.
const (
	maxSecretBody = 3 << 20
	maxBody       = 2 * MaxEventBytes
)

// RedactRule names the secret fields of one kind of object.
type RedactRule struct {
	// Group and Kind select objects by apiVersion (without its version) and
	// kind, wherever they stand in a body, list items included.
	Group string
	Kind  string
	// Resource is the plural. The body of a request to it that is no whole
	// object (a patch) is withheld as a whole, because the path at which a
	// patch carries the secret is the caller's choice. Subresource, when set,
	// confines that to one subresource.
	Resource    string
	Subresource string
	// Paths are the fields, dot separated; "*" matches every key or element.
	// A map or list at the end keeps its keys and loses its values.
	Paths []string
}

// builtinRules are the secrets of the Kubernetes API. They cannot be switched
// off: configuration adds to them.
var builtinRules = []RedactRule{
	{Group: "", Kind: "Secret", Resource: "secrets", Paths: []string{
		"data", "stringData",
		// kubectl apply copies the whole object in here.
		"metadata.annotations.kubectl.kubernetes.io/last-applied-configuration",
	}},
	{Group: "authentication.k8s.io", Kind: "TokenRequest", Resource: "serviceaccounts", Subresource: "token", Paths: []string{"status.token"}},
	{Group: "authentication.k8s.io", Kind: "TokenReview", Resource: "tokenreviews", Paths: []string{"spec.token"}},
	{Group: "identity.gatehouse.dev", Kind: "AccessKey", Resource: "accesskeys", Paths: []string{"status.secret"}},
	{Group: "client.authentication.k8s.io", Kind: "ExecCredential", Paths: []string{"status.token", "status.clientKeyData"}},
}

// secretParams are the query parameters that carry credentials.
var secretParams = map[string]bool{
	"access_token": true, "id_token": true, "refresh_token": true, "token": true, "code": true,
	"client_secret": true, "client_assertion": true, "password": true, "assertion": true, "saml_response": true,
	"samlresponse": true, "x-amz-signature": true, "x-amz-security-token": true, "sig": true, "signature": true, "key": true,
	"subject_token": true, "actor_token": true, "code_verifier": true, "api_key": true, "apikey": true, "secret": true,
}

// Redactor cuts secrets out of events. It is immutable and safe for
// concurrent use. Its zero value is not usable; build one with [NewRedactor].
type Redactor struct {
	byKind     map[string][][]string // "group/kind" → paths
	byResource map[string]string     // "group/resource/subresource" → kind
}

// NewRedactor returns the built-in rules with further ones added.
func NewRedactor(further ...RedactRule) (*Redactor, error) {
	r := &Redactor{byKind: map[string][][]string{}, byResource: map[string]string{}}
	for i, rule := range append(append([]RedactRule{}, builtinRules...), further...) {
		if rule.Kind == "" || len(rule.Paths) == 0 {
			return nil, fmt.Errorf("redact[%d]: kind and paths are required", i-len(builtinRules))
		}
		key := rule.Group + "/" + rule.Kind
		for _, p := range rule.Paths {
			path, err := splitPath(p)
			if err != nil {
				return nil, fmt.Errorf("redact[%d]: path %q: %w", i-len(builtinRules), p, err)
			}
			r.byKind[key] = append(r.byKind[key], path)
		}
		if rule.Resource != "" {
			group := rule.Group
			if rule.Subresource != "" && rule.Kind == "TokenRequest" {
				group = "" // serviceaccounts/token belongs to the core group, its body does not
			}
			r.byResource[group+"/"+rule.Resource+"/"+rule.Subresource] = key
		}
	}
	return r, nil
}

// splitPath splits at dots. The one annotation key of the built-in rules has
// dots of its own and ends the path.
func splitPath(p string) ([]string, error) {
	if prefix, key, ok := strings.Cut(p, ".annotations."); ok {
		return append(strings.Split(prefix, "."), "annotations", key), nil
	}
	parts := strings.Split(p, ".")
	for _, s := range parts {
		if s == "" {
			return nil, fmt.Errorf("empty step")
		}
	}
	return parts, nil
}

// Redact cuts every secret out of e's bodies and URI, in place, and leaves the
// bodies as compact JSON. A body that does not parse is withheld as a whole; one
// that no event could hold is dropped, and marked as by [Event.Fit].
func (r *Redactor) Redact(e *Event) {
	e.RequestURI = accesskey.CutFrom(redactURI(e.RequestURI), Redacted)
	if e.ResponseStatus != nil && len(e.ResponseStatus.Metadata)+len(e.ResponseStatus.Details) > 0 {
		s := *e.ResponseStatus
		s.Metadata, s.Details = compactOrNil(s.Metadata), compactOrNil(s.Details)
		e.ResponseStatus = &s
	}
	if len(e.RequestObject) == 0 && len(e.ResponseObject) == 0 {
		return
	}
	var kind string
	if o := e.ObjectRef; o != nil {
		kind = r.byResource[o.APIGroup+"/"+o.Resource+"/"+o.Subresource]
	}
	if tooLarge(e.ResponseObject, kind) {
		e.ResponseObject = nil
		e.dropped("responseObject")
	}
	if tooLarge(e.RequestObject, kind) {
		e.RequestObject = nil
		e.dropped("requestObject")
	}
	e.RequestObject = r.body(e.RequestObject, kind)
	e.ResponseObject = r.body(e.ResponseObject, kind)
}

// tooLarge says whether a body is not worth parsing. expected is as for body.
func tooLarge(raw json.RawMessage, expected string) bool {
	return len(raw) > maxSecretBody || expected == "" && len(raw) > maxBody
}

// withheld is what stands for a body that cannot be recorded.
func withheld(why string) json.RawMessage {
	return json.RawMessage(AppendString(nil, "[withheld: "+why+"]"))
}

// body redacts one body. expected is the "group/kind" that the request's
// resource holds when that kind has secrets, else "".
func (r *Redactor) body(raw json.RawMessage, expected string) json.RawMessage {
	if len(raw) == 0 {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil || dec.More() {
		return withheld("not JSON")
	}
	if expected != "" && !wholeObject(v, expected) {
		return withheld("a partial object of a kind with secrets")
	}
	r.walk(v, "")
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return withheld("not JSON")
	}
	return bytes.TrimRight(out.Bytes(), "\n")
}

// wholeObject says whether v says itself what it is: the expected kind, its
// list, or a Status or DeleteOptions, which hold none of its fields. Anything
// else under that resource (patches, tables with embedded rows) does not.
func wholeObject(v any, expected string) bool {
	m, ok := v.(map[string]any)
	if !ok {
		return false
	}
	kind := kindOf(m)
	return kind == expected || kind == expected+"List" || kind == "/Status" || kind == "meta.k8s.io/DeleteOptions" || kind == "/DeleteOptions"
}

// kindOf returns "group/kind" of an object, or "".
func kindOf(m map[string]any) string {
	kind, _ := m["kind"].(string)
	version, _ := m["apiVersion"].(string)
	if kind == "" {
		return ""
	}
	group, _, found := strings.Cut(version, "/")
	if !found {
		group = ""
	}
	return group + "/" + kind
}

// walk applies the rules to v and everything inside it. inherited is the kind
// of an item whose list told it.
func (r *Redactor) walk(v any, inherited string) {
	switch v := v.(type) {
	case map[string]any:
		kind := kindOf(v)
		if kind == "" {
			kind = inherited
		}
		for _, path := range r.byKind[kind] {
			cut(v, path)
		}
		item := strings.TrimSuffix(kind, "List")
		for key, child := range v {
			if key == "items" && item != kind {
				r.walk(child, item)
				continue
			}
			r.walk(child, "")
		}
	case []any:
		for _, child := range v {
			r.walk(child, inherited)
		}
	}
}

// cut replaces what path leads to.
func cut(v any, path []string) {
	switch v := v.(type) {
	case map[string]any:
		for key, child := range v {
			// encoding/json matches field names without regard to case, so a
			// reader might take "Data" for "data".
			if path[0] != "*" && !strings.EqualFold(path[0], key) {
				continue
			}
			if len(path) == 1 {
				v[key] = blank(child)
			} else {
				cut(child, path[1:])
			}
		}
	case []any:
		rest := path
		if path[0] == "*" {
			rest = path[1:]
		}
		for i, child := range v {
			if len(rest) == 0 {
				v[i] = blank(child)
			} else {
				cut(child, rest)
			}
		}
	}
}

// blank keeps the shape of a value and none of its content.
func blank(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = Redacted
		}
		return v
	case []any:
		for i := range v {
			v[i] = Redacted
		}
		return v
	case nil:
		return nil
	}
	return Redacted
}

// redactURI blanks the values of query parameters that carry credentials, and
// user information. A query that does not parse is cut off.
func redactURI(uri string) string {
	if !strings.ContainsAny(uri, "?@#") {
		return uri
	}
	path, query, hasQuery := strings.Cut(uri, "?")
	if scheme, rest, ok := strings.Cut(path, "://"); ok {
		host, tail, _ := strings.Cut(rest, "/")
		if at := strings.LastIndexByte(host, '@'); at >= 0 {
			path = scheme + "://" + Redacted + host[at:]
			if tail != "" {
				path += "/" + tail
			}
		}
	}
	if !hasQuery {
		return path
	}
	if !carriesSecret(query) {
		if strings.HasPrefix(uri, path) {
			return uri
		}
		return path + "?" + query
	}
	parts := strings.FieldsFunc(query, isSeparator)
	for i, part := range parts {
		if key, secret, ok := secretParam(part); !ok {
			return path + "?" + Redacted
		} else if secret {
			parts[i] = key + "=" + Redacted
		}
	}
	return path + "?" + strings.Join(parts, "&")
}

func isSeparator(r rune) bool { return r == '&' || r == ';' }

// carriesSecret looks at every parameter without taking the query apart, since
// hardly any query has a secret. What does not parse counts as one.
func carriesSecret(query string) bool {
	for query != "" {
		part := query
		if i := strings.IndexAny(query, "&;"); i >= 0 {
			part, query = query[:i], query[i+1:]
		} else {
			query = ""
		}
		if _, secret, ok := secretParam(part); secret || !ok {
			return true
		}
	}
	return false
}

// secretParam says whether a parameter with a value carries a credential; ok
// is false when its name does not parse.
func secretParam(part string) (key string, secret, ok bool) {
	key, _, hasValue := strings.Cut(part, "=")
	name, err := url.QueryUnescape(key)
	if err != nil {
		return key, true, false
	}
	return key, hasValue && secretParams[strings.ToLower(name)], true
}

func compactOrNil(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 || (len(raw) == 2 && raw[0] == '{' && raw[1] == '}') {
		return nil
	}
	var out bytes.Buffer
	if json.Compact(&out, raw) != nil {
		return nil
	}
	return out.Bytes()
}

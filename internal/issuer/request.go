package issuer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// AnnotationIssuedCredential carries, in the audit event of a token request,
// the credential id of the token that it made.
const AnnotationIssuedCredential = "authentication.kubernetes.io/issued-credential-id"

// Request is a TokenRequest as the API received it (authentication.k8s.io/v1).
type Request struct {
	// Namespace and Account come from the URL.
	Namespace, Account string
	// BodyName, BodyNamespace and BodyUID come from the body's metadata and
	// must agree when they are set.
	BodyName, BodyNamespace, BodyUID string
	// Audiences default to the API's own.
	Audiences []string
	// ExpirationSeconds defaults to an hour when nil.
	ExpirationSeconds *int64
	// Bound may be nil.
	Bound *BoundRef
	// Container narrows a pod's token; it is not part of the upstream type.
	Container string
	// Site and SiteNamespace say that the bound object is one of a connected
	// site; they are not part of the upstream type. SiteNamespace is the pod's
	// namespace there, by default of the name of Namespace.
	Site, SiteNamespace string
	// MayBind refuses to bind to a site, or to a pod of it in a namespace there or,
	// where that is empty, to a node. Without it no token is bound to a site.
	MayBind func(ctx context.Context, site, namespace string) error
	// Attestations are facts about the bearer by their well-known keys; only
	// [AttestAdmissionReview] is known.
	Attestations map[string][]string
	// Origin is the line of credentials of whoever asks; see package origin.
	Origin []string
	// MayMint refuses an audience to whoever asks, MayAttest an attestation to
	// the account. Without MayMint no
	// audience is refused, without MayAttest every attestation.
	MayMint   func(ctx context.Context, audience string) error
	MayAttest func(ctx context.Context, accountUID, group string) error
}

// AttestAdmissionReview is the attestation that the bearer of a token may ask
// admission webhooks about one API group, or about all with "*"
// (KEP-6060). Webhooks find it in the token as a claim of the same key behind
// [AttestationPrefix].
const (
	AttestAdmissionReview = "admissionReviewAPIGroups"
	AttestationPrefix     = authn.ExtraAttestationPrefix
)

// BoundRef is the boundObjectRef of a request.
type BoundRef struct {
	APIVersion, Kind, Name, UID string
}

// Response is the answer to a request.
type Response struct {
	Token
	// Requested is what the object's status says as its expiry. It is never
	// after that of the token.
	Requested time.Time
	// AccountUID, Audiences and ExpirationSeconds are what the answered object
	// says: the request with defaults and limits applied.
	AccountUID        string
	Audiences         []string
	ExpirationSeconds int64
	// Warnings are for the caller.
	Warnings []string
	// Annotations are for the audit event.
	Annotations map[string]string
}

// Pod is what minting needs of a pod.
type Pod struct {
	UID, ServiceAccount, NodeName string
	Containers                    []string
	// Ends is when a pod that is being deleted will be gone; zero otherwise.
	Ends time.Time
}

// Objects reads what tokens are minted for. Answers must be those of the
// store, not of a cache that may lag: a token for an object that was replaced
// would be refused from the start. A missing object is an error of kind
// fault.NotFound, with the text that the caller of the API shall read.
type Objects interface {
	ServiceAccount(ctx context.Context, namespace, name string) (uid string, err error)
	Pod(ctx context.Context, namespace, name string) (Pod, error)
	Secret(ctx context.Context, namespace, name string) (uid string, err error)
	Node(ctx context.Context, name string) (uid string, err error)
	Site(ctx context.Context, name string) (uid string, err error)
	// SitePod and SiteNode are of a connected site. An error of kind Unavailable
	// says that nobody tells of its objects now.
	SitePod(ctx context.Context, site, namespace, name string) (uid string, err error)
	SiteNode(ctx context.Context, site, name string) (uid string, err error)
}

// Requests answers token requests. Its fields are set once.
type Requests struct {
	Issuer  *Issuer
	Objects Objects
	// Audiences are the API's own, for requests without any.
	Audiences []string
	// ExtendForPods gives tokens of an hour for the API, when bound to a pod, a
	// longer life with a time to warn after, for clients that never reload
	// them. It is off unless the operator needs it.
	ExtendForPods bool
}

// What kubelets ask for, in seconds, when their pod's token shall be extended,
// and how long an extended one lives; both as in Kubernetes.
const (
	extendedAsk      = 60*60 + 7
	extendedLifetime = 365 * 24 * time.Hour

	defaultExpirationSeconds = 60 * 60
	maxExpirationSeconds     = 1 << 32
)

// FieldError is one invalid field of a request.
type FieldError struct {
	// Path is the field, such as "spec.expirationSeconds".
	Path  string
	Value any
	// Detail is the text of the API's error.
	Detail string
}

// FieldErrors is the cause inside the error for an invalid request; adapters
// render it field by field.
type FieldErrors []FieldError

func (e FieldErrors) Error() string {
	texts := make([]string, len(e))
	for i, f := range e {
		texts[i] = fmt.Sprintf("%s: Invalid value: %v: %s", f.Path, quoteValue(f.Value), f.Detail)
	}
	return strings.Join(texts, "; ")
}

func quoteValue(v any) string {
	if s, ok := v.(string); ok {
		return fmt.Sprintf("%q", s)
	}
	return fmt.Sprint(v)
}

func invalid(fields ...FieldError) error {
	e := FieldErrors(fields)
	return fault.Wrap(fault.Invalid, e.Error(), e)
}

// Create checks a request and mints its token. Errors: kind Invalid with
// [FieldErrors] inside for a bad field, plain Invalid for a binding that makes
// no sense, Conflict for a UID that is not the current one, NotFound and others
// from Objects.
func (r *Requests) Create(ctx context.Context, req Request) (Response, error) {
	if req.BodyName != "" && req.BodyName != req.Account {
		return Response{}, invalid(FieldError{"metadata.name", req.BodyName, "must match the service account name if specified"})
	}
	if req.BodyNamespace != "" && req.BodyNamespace != req.Namespace {
		return Response{}, invalid(FieldError{"metadata.namespace", req.BodyNamespace, "must match the service account namespace if specified"})
	}
	uid, err := r.Objects.ServiceAccount(ctx, req.Namespace, req.Account)
	if err != nil {
		return Response{}, err
	}
	if req.BodyUID != "" && req.BodyUID != uid {
		return Response{}, conflict("TokenRequest.authentication.k8s.io", req.Account, fmt.Sprintf(
			"the UID in the token request (%s) does not match the UID of the service account (%s)", req.BodyUID, uid))
	}
	if len(req.Audiences) == 0 {
		req.Audiences = r.Audiences
	}
	seconds := int64(defaultExpirationSeconds)
	if req.ExpirationSeconds != nil {
		seconds = *req.ExpirationSeconds
	}
	if errs := validate(req, seconds); len(errs) > 0 {
		return Response{}, invalid(errs...)
	}
	if err := permitted(ctx, req, uid); err != nil {
		return Response{}, err
	}
	claims := Claims{Attestations: req.Attestations, Namespace: req.Namespace, Account: Ref{Name: req.Account, UID: uid}, Audiences: slices.Clone(req.Audiences), Container: req.Container, Origin: req.Origin}
	ends, err := r.bind(ctx, req, &claims)
	if err != nil {
		return Response{}, err
	}
	return r.mint(ctx, claims, seconds, ends)
}

// permitted asks the policy about what the token would be good for.
func permitted(ctx context.Context, req Request, uid string) error {
	if req.MayMint != nil {
		for _, audience := range req.Audiences {
			if err := req.MayMint(ctx, audience); err != nil {
				return err
			}
		}
	}
	for _, group := range req.Attestations[AttestAdmissionReview] {
		if req.MayAttest == nil {
			return fault.New(fault.Denied, "attestations are not given here")
		}
		if err := req.MayAttest(ctx, uid, group); err != nil {
			return err
		}
	}
	return nil
}

// mint applies the limits on the lifetime: the least of what was asked, the
// cap, and what is left of the bound object.
func (r *Requests) mint(ctx context.Context, claims Claims, seconds int64, ends time.Time) (Response, error) {
	var warnings []string
	limit := int64(r.Issuer.maxLifetime / time.Second)
	if seconds > limit {
		warnings = append(warnings, fmt.Sprintf("requested expiration of %d seconds shortened to %d seconds", seconds, limit))
		seconds = limit
	}
	claims.Lifetime = time.Duration(seconds) * time.Second
	if r.extends(claims, seconds) {
		claims.WarnAfter, claims.Lifetime = claims.Lifetime, extendedLifetime
	}
	if !ends.IsZero() {
		left := ends.Sub(r.Issuer.now()).Truncate(time.Second)
		if left <= 0 {
			return Response{}, fault.New(fault.Conflict, "the bound object is being deleted and its time is over")
		}
		if left < claims.Lifetime {
			claims.Lifetime = left
			seconds = min(seconds, int64(left/time.Second))
		}
	}
	token, err := r.Issuer.Mint(ctx, claims)
	if err != nil {
		return Response{}, err
	}
	requested := token.IssuedAt.Add(time.Duration(seconds) * time.Second)
	if token.Expires.Before(requested) {
		requested = token.Expires
	}
	return Response{
		Token: token, Requested: requested, AccountUID: claims.Account.UID, Audiences: claims.Audiences,
		ExpirationSeconds: seconds, Warnings: warnings,
		Annotations: map[string]string{AnnotationIssuedCredential: token.CredentialID()},
	}, nil
}

// extends reports whether the request is one that Kubernetes extends: exactly
// what kubelets ask for, for a pod, for the API alone.
func (r *Requests) extends(c Claims, seconds int64) bool {
	if !r.ExtendForPods || c.Pod == nil || seconds != extendedAsk {
		return false
	}
	for _, audience := range c.Audiences {
		if !slices.Contains(r.Audiences, audience) {
			return false
		}
	}
	return true
}

// validate checks the fields that need nothing but themselves.
func validate(req Request, seconds int64) (errs []FieldError) {
	if seconds < int64(MinLifetime/time.Second) {
		errs = append(errs, FieldError{"spec.expirationSeconds", seconds, "may not specify a duration less than 10 minutes"})
	}
	if seconds > maxExpirationSeconds {
		errs = append(errs, FieldError{"spec.expirationSeconds", seconds, "may not specify a duration larger than 2^32 seconds"})
	}
	if len(req.Audiences) > maxAudiences {
		errs = append(errs, FieldError{"spec.audiences", len(req.Audiences), fmt.Sprintf("must have at most %d items", maxAudiences)})
	}
	for i, audience := range req.Audiences {
		if detail := badAudience(audience); detail != "" {
			errs = append(errs, FieldError{fmt.Sprintf("spec.audiences[%d]", i), shorten(audience), detail})
		}
	}
	if req.Container != "" && (req.Bound == nil || req.Bound.Kind != "Pod") {
		errs = append(errs, FieldError{"spec.boundObjectRef", req.Container, "a token for a container must be bound to its pod"})
	}
	return append(errs, validateAttestations(req)...)
}

// validateAttestations holds an attestation to one audience, the URL of the
// webhook, so that a webhook cannot use the token it was sent at another one
// or at the API itself.
func validateAttestations(req Request) (errs []FieldError) {
	const path = "spec.attestations"
	for key, values := range req.Attestations {
		at := path + "[" + shorten(key) + "]"
		switch {
		case key != AttestAdmissionReview:
			errs = append(errs, FieldError{path, shorten(key), "may not specify an unknown key"})
		case len(values) != 1:
			errs = append(errs, FieldError{at, len(values), "must specify a single value"})
		case values[0] == "":
			errs = append(errs, FieldError{at, "", "may not be an empty string"})
		case values[0] != "*" && badAudience(values[0]) != "" || len(values[0]) > maxGroup:
			errs = append(errs, FieldError{at, shorten(values[0]), "must be the name of an API group, or \"*\""})
		}
	}
	if len(req.Attestations) == 0 {
		return errs
	}
	if len(req.Audiences) != 1 || checkURL(req.Audiences[0]) != nil {
		errs = append(errs, FieldError{"spec.audiences", len(req.Audiences), "a token with attestations needs exactly one audience, the https URL of the webhook"})
	}
	return errs
}

// maxGroup is the length of the longest name of an API group.
const maxGroup = 253

func badAudience(audience string) string {
	switch {
	case audience == "":
		return "must not be empty"
	case len(audience) > maxAudience:
		return fmt.Sprintf("must be at most %d bytes", maxAudience)
	case strings.ContainsFunc(audience, func(r rune) bool { return r == unicode.ReplacementChar || unicode.IsControl(r) }):
		return "must not contain control characters or invalid UTF-8"
	}
	return ""
}

func shorten(s string) string {
	if len(s) > 64 {
		return strings.ToValidUTF8(s[:64], "") + "…"
	}
	return s
}

// bind looks up the object that the token shall be bound to, completes the
// claims and returns when the object ends.
func (r *Requests) bind(ctx context.Context, req Request, claims *Claims) (ends time.Time, err error) {
	ref := req.Bound
	switch {
	case ref == nil && req.Site == "":
		return ends, nil
	case ref == nil:
		return ends, invalid(FieldError{"spec.boundObjectRef", shorten(req.Site), "an object of the site must be named, or the site itself as kind Site"})
	case req.Site != "" || ref.Kind == "Site":
		return ends, r.bindSite(ctx, req, claims)
	}
	if ref.APIVersion != "v1" && ref.APIVersion != "" {
		return ends, unbindable(ref)
	}
	var uid string
	switch ref.Kind {
	case "Pod":
		pod, err := r.Objects.Pod(ctx, req.Namespace, ref.Name)
		if err != nil {
			return ends, err
		}
		if pod.ServiceAccount != req.Account {
			return ends, fault.Newf(fault.Invalid, "cannot bind token for serviceaccount %q to pod running with different serviceaccount name.", req.Account)
		}
		if req.Container != "" && !slices.Contains(pod.Containers, req.Container) {
			return ends, fault.Newf(fault.Invalid, "cannot bind token to container %q, which pod %q does not have", shorten(req.Container), ref.Name)
		}
		uid, ends = pod.UID, pod.Ends
		claims.Pod = &Ref{Name: ref.Name, UID: uid}
		if claims.Node, err = r.nodeOf(ctx, pod); err != nil {
			return ends, err
		}
	case "Node":
		if uid, err = r.Objects.Node(ctx, ref.Name); err != nil {
			return ends, err
		}
		claims.Node = &Ref{Name: ref.Name, UID: uid}
	case "Secret":
		if uid, err = r.Objects.Secret(ctx, req.Namespace, ref.Name); err != nil {
			return ends, err
		}
		claims.Secret = &Ref{Name: ref.Name, UID: uid}
	default:
		return ends, unbindable(ref)
	}
	if ref.UID != "" && ref.UID != uid {
		return ends, conflict(ref.Kind, ref.Name, fmt.Sprintf(
			"the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", ref.UID))
	}
	return ends, nil
}

// nodeOf says where a pod runs. A node that was never registered is named
// without a UID, as Kubernetes does.
func (r *Requests) nodeOf(ctx context.Context, pod Pod) (*Ref, error) {
	if pod.NodeName == "" {
		return nil, nil
	}
	uid, err := r.Objects.Node(ctx, pod.NodeName)
	if err != nil && fault.KindOf(err) != fault.NotFound {
		return nil, fmt.Errorf("node of the pod: %w", err)
	}
	return &Ref{Name: pod.NodeName, UID: uid}, nil
}

func unbindable(ref *BoundRef) error {
	group, version, found := strings.Cut(ref.APIVersion, "/")
	if !found {
		group, version = "", ref.APIVersion
	}
	return fault.Newf(fault.Invalid, "cannot bind token to object of type %s/%s, Kind=%s", shorten(group), shorten(version), shorten(ref.Kind))
}

// conflict words an error as the Kubernetes API does.
func conflict(resource, name, why string) error {
	return fault.Newf(fault.Conflict, "Operation cannot be fulfilled on %s %q: %s", resource, name, why)
}

// Fields returns the invalid fields that err tells of, or nil.
func Fields(err error) FieldErrors {
	if e, ok := errors.AsType[FieldErrors](err); ok {
		return e
	}
	return nil
}

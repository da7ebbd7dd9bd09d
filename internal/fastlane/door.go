package fastlane

import (
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kjson "sigs.k8s.io/json"

	federation "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/fastlane/sarwire"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// maxEventListBody bounds one post of a site's audit webhook: kube-apiserver
// sends at most 400 events at once as we configure it, and truncates each.
const maxEventListBody = 64 << 20

// door is one thing that a site may do.
type door struct {
	maxBody int64
	serve   func(*Lane, *turn, *federation.Site, string) int
	// serves tells for which modes of a site the door stands open.
	serves func(federation.SiteMode) bool
}

func always(federation.SiteMode) bool { return true }
func full(m federation.SiteMode) bool { return m == federation.SiteFull }
func deciding(m federation.SiteMode) bool {
	return m == federation.SiteFull || m == federation.SiteDeny
}

// doors are the doors under /sites/NAME/.
var doors = map[string]door{
	"authenticate":   {maxReviewBody, (*Lane).doorAuthenticate, full},
	"authorize":      {maxReviewBody, (*Lane).doorAuthorize, full},
	"authorize/deny": {maxReviewBody, (*Lane).doorDeny, deciding},
	"audit":          {maxEventListBody, (*Lane).doorAudit, always},
}

// door serves /sites/NAME/DOOR. Who is no site learns nothing about which
// sites and doors there are: authentication comes first.
func (l *Lane) door(w http.ResponseWriter, r *http.Request) int {
	t := l.begin(w, r)
	t.ev.Verb = strings.ToLower(r.Method)
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return t.unauthenticated(nil)
	}
	if len(r.Header["Authorization"]) > 0 {
		// A site is recognised by its certificate and by nothing else.
		return t.unauthenticated(fault.New(fault.Unauthenticated, "a token came with a site's certificate"))
	}
	id, err := l.Sites.Verify(r.Context(), r.TLS.PeerCertificates)
	if err != nil {
		return t.unauthenticated(err)
	}
	t.ev.User = audit.UserInfo{Username: "system:site:" + id.Name(), Groups: []string{"system:sites"}}
	t.ev.Annotate(audit.AnnotationCredential, id.CredentialID())
	for k := range r.Header {
		if strings.HasPrefix(k, "Impersonate-") {
			return t.fail(fault.New(fault.Denied, "a site cannot impersonate"))
		}
	}
	name, which, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, pathSites), "/")
	if name != id.Name() {
		t.ev.Annotate(audit.AnnotationReason, "the certificate belongs to another site")
		return t.fail(fault.Newf(fault.Denied, "site %q may use only its own doors", id.Name()))
	}
	site, known := l.Sites.Get(name)
	if !known {
		return t.fail(fault.Newf(fault.Denied, "site %q is not connected", name))
	}
	if !listed(site, id.CredentialID()) {
		return t.fail(fault.Newf(fault.Denied, "this certificate is not listed for site %q", name))
	}
	d, exists := doors[which]
	switch {
	case !ok || !exists:
		return t.refuse(http.StatusNotFound, metav1.StatusReasonNotFound, "no such door")
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		return t.refuse(http.StatusMethodNotAllowed, metav1.StatusReasonMethodNotAllowed, "doors are posted to")
	case !d.serves(site.Spec.Mode):
		return t.fail(fault.Newf(fault.Denied, "site %q is connected in mode %s, which does not include %s", name, site.Spec.Mode, which))
	case r.Header.Get("Content-Encoding") != "" || !isJSON(r.Header.Get("Content-Type")):
		return t.refuse(http.StatusUnsupportedMediaType, metav1.StatusReasonUnsupportedMediaType, "the body must be application/json")
	case r.ContentLength > d.maxBody:
		return t.tooLarge(d.maxBody)
	}
	in, ok := body(r, d.maxBody)
	if !ok {
		if int64(len(in)) > d.maxBody {
			return t.tooLarge(d.maxBody)
		}
		return t.fail(fault.New(fault.Invalid, "the body broke off"))
	}
	if !utf8.ValidString(in) {
		return t.fail(fault.New(fault.Invalid, "the body is not UTF-8"))
	}
	l.Sites.Heard(name, which, l.Now())
	t.ev.Verb, t.durability = "create", audit.Buffered
	return d.serve(l, t, site, in)
}

func (t *turn) tooLarge(limit int64) int {
	return t.refuse(http.StatusRequestEntityTooLarge, metav1.StatusReasonRequestEntityTooLarge, "the body is over the limit")
}

func isJSON(contentType string) bool {
	if contentType == "application/json" {
		return true
	}
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && media == "application/json"
}

func listed(site *federation.Site, credential string) bool {
	for _, c := range site.Spec.Credentials {
		if c == credential {
			return true
		}
	}
	return false
}

func (l *Lane) doorAuthorize(t *turn, site *federation.Site, in string) int {
	return l.siteAccess(t, site, in, false)
}

func (l *Lane) doorDeny(t *turn, site *federation.Site, in string) int {
	return l.siteAccess(t, site, in, true)
}

func (l *Lane) siteAccess(t *turn, site *federation.Site, in string, denials bool) int {
	var review authorizationv1.SubjectAccessReview
	if !sarwire.Decode(in, &review.Spec) {
		review = authorizationv1.SubjectAccessReview{}
		if err := decodeReview(in, &review, &review.TypeMeta, "authorization.k8s.io/v1", "SubjectAccessReview"); err != nil {
			return t.fail(err)
		}
	}
	status, err := l.Reviews.AccessAtSite(t.r.Context(), site, denials, &review.Spec)
	if err != nil {
		return t.fail(err)
	}
	if denials && !status.Denied {
		l.Metrics.noOpinion.WithLabelValues(site.Name).Inc()
		t.silent = true
	}
	t.ev.ObjectRef = objectOf(&review.Spec)
	t.describeAccess(&review.Spec, &status)
	if status.Allowed || status.Denied {
		t.decided(status.Allowed, status.Reason)
	}
	return t.answer(http.StatusOK, func(b []byte) []byte { return sarwire.AppendAnswer(b, &status) })
}

// objectOf is what a question is about, so that the record can be searched by
// it.
func objectOf(spec *authorizationv1.SubjectAccessReviewSpec) *audit.ObjectReference {
	a := spec.ResourceAttributes
	if a == nil {
		return nil
	}
	return &audit.ObjectReference{Resource: a.Resource, Subresource: a.Subresource, APIGroup: a.Group, APIVersion: a.Version, Namespace: a.Namespace, Name: a.Name}
}

func (l *Lane) doorAuthenticate(t *turn, site *federation.Site, in string) int {
	var review authenticationv1.TokenReview
	if err := decodeReview(in, &review, &review.TypeMeta, "authentication.k8s.io/v1", "TokenReview"); err != nil {
		return t.fail(err)
	}
	status, err := l.Reviews.TokenAtSite(t.r.Context(), site, &review.Spec)
	if err != nil {
		return t.fail(err)
	}
	t.describeToken(&status)
	// The token is not sent back: the answer is the status alone.
	return t.answerObject(http.StatusOK, &authenticationv1.TokenReview{TypeMeta: review.TypeMeta, Status: status})
}

// doorAudit takes the events of a site. It answers 200 only when all of them
// are on disk, because the sender then forgets them.
func (l *Lane) doorAudit(t *turn, site *federation.Site, in string) int {
	var list audit.EventList
	// Unknown fields pass: a newer kube-apiserver must not lose its record to
	// an older control plane.
	if err := kjson.UnmarshalCaseSensitivePreserveInts([]byte(in), &list); err != nil {
		return t.fail(fault.Newf(fault.Invalid, "the body is not an EventList: %s", printable(err)))
	}
	if list.Kind != "EventList" || list.APIVersion != "audit.k8s.io/v1" {
		return t.fail(fault.New(fault.Invalid, "the body must be an EventList of audit.k8s.io/v1"))
	}
	result, err := l.Batch.AppendBatch(t.r.Context(), site.Name, list.Items)
	if err != nil {
		return t.fail(err)
	}
	l.Metrics.ingested(site.Name, result.Recorded, result.Duplicates)
	// The events are the record; one more about their arrival would say less.
	t.silent = true
	return t.answer(http.StatusOK, func(b []byte) []byte { return b })
}

package fastlane

import (
	"mime"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	federation "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/access/limit"
	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/fastlane/sarwire"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/federation/objectwire"
	"github.com/gatehouse-dev/gatehouse/internal/federation/totalwire"
)

// door is one thing that a site may do.
type door struct {
	maxBody int64
	serve   func(*turn, *federation.Site) int
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
	"authenticate":   {maxReviewBody, (*turn).doorAuthenticate, full},
	"authorize":      {maxReviewBody, (*turn).doorAuthorize, full},
	"authorize/deny": {maxReviewBody, (*turn).doorDeny, deciding},
	"audit":          {maxEventListBody, (*turn).doorAudit, always},
	"audit/totals":   {totalwire.MaxBody, (*turn).doorTotals, always},
	"sign":           {maxClaimsBody, (*turn).doorSign, always},
	"keys":           {maxClaimsBody, (*turn).doorKeys, always},
	"objects":        {objectwire.MaxBody, (*turn).doorObjects, always},
	"snapshot":       {maxFollowBody, (*turn).doorSnapshot, deciding},
	"snapshot/ack":   {maxFollowBody, (*turn).doorAck, deciding},
}

// door serves /sites/NAME/DOOR. Who is no site learns nothing about which
// sites and doors there are: authentication comes first.
func (t *turn) door() int {
	l, r := t.lane, t.r
	t.ev.Verb = strings.ToLower(r.Method)
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return t.unauthenticated(nil)
	}
	if len(r.Header["Authorization"]) > 0 {
		// A site is recognised by its certificate and by nothing else.
		return t.unauthenticated(fault.New(fault.Unauthenticated, "a token came with a site's certificate"))
	}
	id, err := l.Sites.Verify(t.ctx, r.TLS.PeerCertificates)
	if err != nil {
		return t.unauthenticated(err)
	}
	t.ev.User = audit.UserInfo{Username: "system:site:" + id.Name(), Groups: groupsOfSites}
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
	if !slices.Contains(site.Spec.Credentials, id.CredentialID()) {
		return t.fail(fault.Newf(fault.Denied, "this certificate is not listed for site %q", name))
	}
	if code, ok := t.claim(t.ev.User.Username); !ok {
		return code
	}
	d, exists := doors[which]
	switch {
	case !ok || !exists || r.URL.RawPath != "":
		// A path in an unusual encoding is no door either: who stands before
		// us may have read it otherwise.
		return t.refuse(http.StatusNotFound, metav1.StatusReasonNotFound, "no such door")
	case r.Method != http.MethodPost:
		t.w.Header().Set("Allow", http.MethodPost)
		return t.refuse(http.StatusMethodNotAllowed, metav1.StatusReasonMethodNotAllowed, "doors are posted to")
	case !d.serves(site.Spec.Mode):
		return t.fail(fault.Newf(fault.Denied, "site %q is connected in mode %s, which does not include %s", name, site.Spec.Mode, which))
	case r.Header.Get("Content-Encoding") != "" || !isJSON(r.Header["Content-Type"]):
		return t.refuse(http.StatusUnsupportedMediaType, metav1.StatusReasonUnsupportedMediaType, "the body must be application/json")
	case r.ContentLength > d.maxBody:
		return t.tooLarge()
	}
	if which == "audit" || which == "objects" {
		if !l.ingest.take(name) {
			return t.fail(fault.New(fault.Exhausted, "too many large posts are being read; try again"))
		}
		defer l.ingest.give(name)
	}
	if !t.body(d.maxBody) {
		if int64(len(t.read)) > d.maxBody {
			return t.tooLarge()
		}
		return t.fail(fault.New(fault.Invalid, "the body broke off"))
	}
	if !utf8.ValidString(t.read) {
		return t.fail(fault.New(fault.Invalid, "the body is not UTF-8"))
	}
	l.Sites.Heard(name, which, l.Now())
	t.ev.Verb, t.durability = "create", audit.Buffered
	return d.serve(t, site)
}

// groupsOfSites is shared and never changed.
var groupsOfSites = []string{"system:sites"}

func (t *turn) tooLarge() int {
	return t.refuse(http.StatusRequestEntityTooLarge, metav1.StatusReasonRequestEntityTooLarge, "the body is over the limit")
}

func isJSON(contentType []string) bool {
	if len(contentType) != 1 {
		return false
	}
	if contentType[0] == "application/json" {
		return true
	}
	media, _, err := mime.ParseMediaType(contentType[0])
	return err == nil && media == "application/json"
}

func (t *turn) doorAuthorize(site *federation.Site) int { return t.siteAccess(site, false) }

func (t *turn) doorDeny(site *federation.Site) int { return t.siteAccess(site, true) }

func (t *turn) siteAccess(site *federation.Site, denials bool) int {
	if !sarwire.Decode(t.read, &t.spec) {
		var review authorizationv1.SubjectAccessReview
		if err := decodeReview(t.read, &review, &review.TypeMeta, "authorization.k8s.io/v1", "SubjectAccessReview"); err != nil {
			return t.fail(err)
		}
		t.spec = review.Spec
	}
	status, err := t.lane.Reviews.AccessAtSite(t.ctx, site, denials, &t.spec)
	if e, ok := limit.Of(err); ok && denials {
		// An error would be no opinion to a site that is not fail-closed.
		t.warnOfLength(err)
		status, err = authorizationv1.SubjectAccessReviewStatus{Denied: true, Reason: e.Error()}, nil
	}
	if err != nil {
		return t.fail(err)
	}
	if denials && !status.Denied {
		t.lane.Metrics.noOpinion.WithLabelValues(site.Name).Inc()
		t.silent = true
	}
	t.ev.ObjectRef = objectOf(&t.spec)
	t.describeAccess(&t.spec, &status)
	if status.Allowed || status.Denied {
		t.decided(status.Allowed, status.Reason)
	}
	t.bodies = true
	return t.answer(http.StatusOK, func(_ *turn, b []byte) []byte { return sarwire.AppendAnswer(b, &status) })
}

func (t *turn) doorAuthenticate(site *federation.Site) int {
	var review authenticationv1.TokenReview
	if !sarwire.DecodeToken(t.read, &review.Spec) {
		review = authenticationv1.TokenReview{}
		if err := decodeReview(t.read, &review, &review.TypeMeta, "authentication.k8s.io/v1", "TokenReview"); err != nil {
			// The text may quote the body, in which a token may stand anywhere.
			t.recordAs = "the body is not a TokenReview"
			return t.fail(err)
		}
	}
	status, err := t.lane.Reviews.TokenAtSite(t.ctx, site, &review.Spec)
	if err != nil {
		return t.fail(err)
	}
	t.describeToken(&status)
	t.bodies = true
	// The token is not sent back: the answer is the status alone.
	review = authenticationv1.TokenReview{Status: status}
	return t.answer(http.StatusOK, func(_ *turn, b []byte) []byte { return appendTokenReview(b, &review) })
}

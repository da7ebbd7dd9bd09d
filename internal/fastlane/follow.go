package fastlane

import (
	"context"
	"crypto/x509"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	kjson "sigs.k8s.io/json"

	federation "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz/snapshot"
	"github.com/gatehouse-dev/gatehouse/internal/fastlane/followwire"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/federation/policystream"
)

const (
	pathFollow    = "/snapshot"
	maxFollowBody = 4 << 10
	// recheck is how often it is looked whether a follower may still follow.
	recheck = time.Second
	// A message must be taken within sendTimeout and a second for each
	// slowestBytes of it. Deadlines of connections are of this machine's clock.
	sendTimeout  = 15 * time.Second
	slowestBytes = 1 << 20
)

var errNotFollowed = fault.New(fault.Unavailable, "policy is not signed here")

// stream is a follower that was let in.
type stream struct {
	site string
	mode federation.SiteMode
	peer []*x509.Certificate
	sub  *policystream.Subscription
}

// snapshot serves a site's stream of policy. The follower is let in by a turn
// like any other; it then holds no place of the lane, only one of the
// publisher's.
func (l *Lane) snapshot(w http.ResponseWriter, r *http.Request) {
	var s *stream
	l.limited(w, r, routeSite, l.times.request, func(t *turn) int {
		code := t.door()
		s = t.stream
		return code
	})
	if s != nil {
		l.follow(w, r, s)
	}
}

// doorSnapshot lets a follower in. The answer begins after the turn.
func (t *turn) doorSnapshot(site *federation.Site) int {
	if t.lane.Snapshots == nil {
		return t.fail(errNotFollowed)
	}
	var in followwire.Request
	if err := decodeFollower(t.read, &in, &in.Follower); err != nil {
		return t.fail(err)
	}
	if len(in.Digest) > followwire.MaxDigest {
		return t.fail(fault.New(fault.Invalid, "digest: too long"))
	}
	sub, err := t.lane.Snapshots.Follow(site.Name, in.Follower, policystream.Held{Sequence: in.Sequence, Digest: in.Digest})
	if err != nil {
		return t.fail(err)
	}
	t.ev.Verb = "watch"
	t.ev.Annotate(annotationFollower, in.Follower)
	t.status.Code = http.StatusOK
	if !t.record(nil) {
		sub.Close()
		return refuse(t.w, http.StatusServiceUnavailable, "ServiceUnavailable", unrecorded)
	}
	t.stream = &stream{site.Name, site.Spec.Mode, t.r.TLS.PeerCertificates, sub}
	return http.StatusOK
}

const annotationFollower = "snapshot.gatehouse.dev/follower"

// doorAck takes note of what a follower decides by.
func (t *turn) doorAck(site *federation.Site) int {
	if t.lane.Snapshots == nil {
		return t.fail(errNotFollowed)
	}
	var in followwire.Ack
	if err := decodeFollower(t.read, &in, &in.Follower); err != nil {
		return t.fail(err)
	}
	policyOf, ok := t.lane.Snapshots.Acknowledge(site.Name, in.Follower, in.Sequence)
	if !ok {
		return t.fail(fault.New(fault.NotFound, "no follower of this name was told such a sequence here"))
	}
	if t.lane.Acknowledged != nil && !policyOf.IsZero() {
		t.lane.Acknowledged(site.Name, policyOf)
	}
	// Every beat is acknowledged; the status of the site sums them up.
	t.silent = true
	return t.answer(http.StatusOK, func(_ *turn, b []byte) []byte { return append(b, '{', '}', '\n') })
}

func decodeFollower(in string, into any, name *string) error {
	if strict, err := kjson.UnmarshalStrict([]byte(in), into); err != nil || len(strict) > 0 {
		return fault.New(fault.Invalid, `the body must be {"follower": "...", "sequence": ...}`)
	}
	if err := followwire.CheckName(*name); err != nil {
		return fault.New(fault.Invalid, err.Error())
	}
	return nil
}

// follow sends until the follower goes, may not follow any more, or there is
// nothing to follow.
func (l *Lane) follow(w http.ResponseWriter, r *http.Request, s *stream) {
	defer s.sub.Close()
	gauge := l.Metrics.followers.WithLabelValues(s.site)
	gauge.Inc()
	defer gauge.Dec()
	c := http.NewResponseController(w)
	// Another request may come by the same connection.
	defer func() { _ = c.SetWriteDeadline(time.Time{}) }()
	h := w.Header()
	h["Content-Type"] = streamType
	h["Cache-Control"] = noStore
	h.Set(followwire.HeaderMode, string(s.mode))
	w.WriteHeader(http.StatusOK)
	for {
		update, err := s.next(r.Context())
		late := errors.Is(err, context.DeadlineExceeded)
		if err != nil && !late || !l.mayFollow(r.Context(), s) {
			return
		}
		if late {
			continue
		}
		if err := l.send(w, c, update); err != nil {
			return // the follower's loss: it comes back
		}
	}
}

// next waits for an update for as long as may pass without a look at who asks.
func (s *stream) next(ctx context.Context) (policystream.Update, error) {
	ctx, cancel := context.WithTimeout(ctx, recheck)
	defer cancel()
	return s.sub.Next(ctx)
}

var streamType = []string{"application/octet-stream"}

func (l *Lane) send(w http.ResponseWriter, c *http.ResponseController, u policystream.Update) error {
	message := u.Frame
	if u.Keys != nil {
		keys := make([]followwire.Key, len(u.Keys))
		for i, k := range u.Keys {
			keys[i] = followwire.Key{ID: k.ID, Public: k.Public}
		}
		var err error
		if message, err = followwire.AppendKeys(nil, keys); err != nil {
			return err
		}
	}
	by := sendTimeout + time.Duration(len(message)/slowestBytes)*time.Second
	if err := c.SetWriteDeadline(time.Now().Add(by)); err != nil {
		return err
	}
	if err := snapshot.WriteFrame(w, message); err != nil {
		return err
	}
	return c.Flush()
}

// mayFollow asks again what was asked at the door: a ban, a deleted site, another
// mode and a certificate that is not listed any more end the stream.
func (l *Lane) mayFollow(ctx context.Context, s *stream) bool {
	id, err := l.Sites.Verify(ctx, s.peer)
	if err != nil || id.Name() != s.site {
		return false
	}
	site, known := l.Sites.Get(s.site)
	return known && deciding(site.Spec.Mode) && site.Spec.Mode == s.mode && slices.Contains(site.Spec.Credentials, id.CredentialID())
}

// isFollow tells the stream from the other doors.
func isFollow(path string) bool { return strings.HasSuffix(path, pathFollow) }

package authn

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/authn/strictjson"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// boundSite is what of a connected site a token is bound to: the site, and
// perhaps one pod or node of it.
type boundSite struct {
	name, uid string
	// kind is PodObject or NodeObject; 0 for the site alone.
	kind                         ObjectKind
	namespace, object, objectUID string
}

// readSite reads the member site of our own claim.
func (r *claimReader) readSite(ours strictjson.Value) *boundSite {
	v := r.optional(ours, "site")
	if v.Kind == strictjson.None {
		return nil
	}
	s := &boundSite{name: r.text(v, "name"), uid: r.text(v, "uid")}
	pod, node := r.optional(v, "pod"), r.optional(v, "node")
	switch {
	case pod.Kind != strictjson.None && node.Kind != strictjson.None:
		r.fail("site")
	case pod.Kind != strictjson.None:
		s.kind, s.namespace, s.object, s.objectUID = PodObject, r.text(v, "namespace"), r.text(pod, "name"), r.text(pod, "uid")
	case node.Kind != strictjson.None:
		s.kind, s.object, s.objectUID = NodeObject, r.text(node, "name"), r.text(node, "uid")
	}
	return s
}

// key stands for the binding among those of other tokens.
func (s *boundSite) key() string {
	if s == nil {
		return ""
	}
	return joinKey(s.name, s.uid, itoa(int64(s.kind)), s.namespace, s.object, s.objectUID)
}

// clone keeps nothing of the token's text in memory.
func (s *boundSite) clone() *boundSite {
	if s == nil {
		return nil
	}
	return &boundSite{
		name: strings.Clone(s.name), uid: strings.Clone(s.uid), kind: s.kind,
		namespace: strings.Clone(s.namespace), object: strings.Clone(s.object), objectUID: strings.Clone(s.objectUID),
	}
}

func (s *boundSite) addTo(extra map[string][]string) {
	extra[ExtraSiteName], extra[ExtraSiteUID] = []string{s.name}, []string{s.uid}
	switch s.kind {
	case PodObject:
		extra[ExtraSiteNamespace] = []string{s.namespace}
		extra[ExtraSitePodName], extra[ExtraSitePodUID] = []string{s.object}, []string{s.objectUID}
	case NodeObject:
		extra[ExtraSiteNodeName], extra[ExtraSiteNodeUID] = []string{s.object}, []string{s.objectUID}
	}
}

// checkSite ends a token with the site that it is bound to, with the object
// there, and while nobody tells whether the object is still there.
func (c *Chain) checkSite(ctx context.Context, s *boundSite, now time.Time) error {
	key := ObjectKey{Kind: SiteObject, Name: s.name}
	if c.exists != nil {
		there, err := c.exists(ctx, key, s.uid)
		switch {
		case err != nil:
			return err
		case !there || s.kind != 0:
			return refuse(Ended, "what the service account token is bound to at site %q is not known to exist", s.name)
		}
		return nil
	}
	state, found, err := c.objects.Object(ctx, key)
	if err == nil && found && state.UID != s.uid {
		state, found, err = c.confirmObject(ctx, key, state)
	}
	switch {
	case err != nil:
		return err
	case !found, c.gone(state, now), state.UID != s.uid:
		return refuse(Ended, "site %q of the service account token is connected no more", s.name)
	case s.kind == 0:
		return nil
	case c.sites == nil:
		return refuse(Ended, "nothing is known of the objects of site %q", s.name)
	}
	uids, current := c.sites.SiteObject(s.name, s.kind, s.namespace, s.object)
	switch {
	case !current:
		return refuse(Ended, "the objects of site %q are not current: gatehouse-edge watch has confirmed nothing lately", s.name)
	case !slices.Contains(uids, s.objectUID):
		return refuse(Ended, "service account token has been invalidated: what it is bound to at site %q is gone", s.name)
	}
	return nil
}

// SiteEnded says why what a token was bound to at a connected site has ended,
// or nothing. extra is what this package once said of the holder: it is for
// whoever remembers a token longer than the chain does.
func (c *Chain) SiteEnded(ctx context.Context, extra func(key string) string) (reason string, err error) {
	s := &boundSite{name: extra(ExtraSiteName), uid: extra(ExtraSiteUID)}
	if s.name == "" {
		return "", nil
	}
	if pod := extra(ExtraSitePodName); pod != "" {
		s.kind, s.namespace, s.object, s.objectUID = PodObject, extra(ExtraSiteNamespace), pod, extra(ExtraSitePodUID)
	} else if node := extra(ExtraSiteNodeName); node != "" {
		s.kind, s.object, s.objectUID = NodeObject, node, extra(ExtraSiteNodeUID)
	}
	now := c.now()
	if ban, banned := c.bans.current.Load().sites[s.name]; banned && ban.inForce(now) {
		return ban.refusal("site").Error(), nil
	}
	err = c.checkSite(ctx, s, now)
	if fault.KindOf(err) == fault.Unauthenticated {
		return err.Error(), nil
	}
	return "", err
}

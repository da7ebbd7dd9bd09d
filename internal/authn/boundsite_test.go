package authn_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/authn"
)

// siteReports is what one connected site tells of itself.
type siteReports struct {
	uids   map[string][]string
	silent bool
}

func (s *siteReports) SiteObject(site string, kind authn.ObjectKind, namespace, name string) ([]string, bool) {
	if site != "blue" || s.silent {
		return nil, false
	}
	if kind == authn.NodeObject {
		return s.uids["node "+name], true
	}
	return s.uids["pod "+namespace+"/"+name], true
}

// A token that is bound to a pod or node of a connected site ends with it, with
// the site, with a ban of the site, and while the site tells nothing.
func TestTokensEndWithTheirSite(t *testing.T) {
	t.Parallel()
	pod := object{"name": "blue", "uid": "blueuid", "namespace": "shop", "pod": object{"name": "web", "uid": "u1"}}
	node := object{"name": "blue", "uid": "blueuid", "node": object{"name": "worker", "uid": "u2"}}
	whole := object{"name": "blue", "uid": "blueuid"}
	type change func(*world, *siteReports)
	for name, tc := range map[string]struct {
		site   object
		end    change
		back   change
		reason string
	}{
		"pod deleted": {pod, func(_ *world, s *siteReports) { delete(s.uids, "pod shop/web") }, func(_ *world, s *siteReports) { s.uids["pod shop/web"] = []string{"u1"} }, "is gone"},
		"pod replaced": {pod, func(_ *world, s *siteReports) { s.uids["pod shop/web"] = []string{"u9"} },
			func(_ *world, s *siteReports) { s.uids["pod shop/web"] = []string{"u9", "u1"} }, "is gone"},
		"node deleted": {node, func(_ *world, s *siteReports) { delete(s.uids, "node worker") }, func(_ *world, s *siteReports) { s.uids["node worker"] = []string{"u2"} }, "is gone"},
		"silence":      {pod, func(_ *world, s *siteReports) { s.silent = true }, func(_ *world, s *siteReports) { s.silent = false }, "not current"},
		"site removed": {whole, func(w *world, _ *siteReports) { w.delete(authn.SiteObject, "", "blue") },
			func(w *world, _ *siteReports) { w.put(authn.SiteObject, "", "blue", "blueuid", time.Time{}) }, "connected no more"},
		"site replaced": {node, func(w *world, _ *siteReports) { w.put(authn.SiteObject, "", "blue", "other", time.Time{}) },
			func(w *world, _ *siteReports) { w.put(authn.SiteObject, "", "blue", "blueuid", time.Time{}) }, "connected no more"},
		"site banned": {whole, func(w *world, _ *siteReports) { must(w.t, w.bans.Replace([]authn.Ban{{Name: "b", Site: "blue"}})) },
			func(w *world, _ *siteReports) { must(w.t, w.bans.Replace([]authn.Ban{{Name: "b", Site: "red"}})) }, "banned"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reports := &siteReports{uids: map[string][]string{"pod shop/web": {"u1"}, "node worker": {"u2"}}}
			w := newWorld(t, func(c *authn.Config) { c.Sites = reports })
			w.put(authn.SiteObject, "", "blue", "blueuid", time.Time{})
			token := w.token(w.with(object{"gatehouse.dev": object{"site": tc.site}}))
			extra := w.accepted(token).Extra()
			if extra[authn.ExtraPodName] != nil || extra[authn.ExtraNodeName] != nil || extra[authn.ExtraSiteName][0] != "blue" {
				t.Errorf("extra %v", extra)
			}
			ended := func() string {
				reason, err := w.chain.SiteEnded(context.Background(), func(key string) string { return strings.Join(extra[key], "") })
				must(t, err)
				return reason
			}
			if got := ended(); got != "" {
				t.Errorf("ended before its time: %s", got)
			}
			tc.end(w, reports)
			_, err := w.verify(token)
			if err == nil || !strings.Contains(err.Error(), tc.reason) {
				t.Errorf("refused with %v, want %q", err, tc.reason)
			}
			if got := ended(); !strings.Contains(got, tc.reason) {
				t.Errorf("ended with %q, want %q", got, tc.reason)
			}
			tc.back(w, reports)
			w.clock.advance(2 * time.Second)
			w.accepted(token)
		})
	}
	w := newWorld(t)
	w.put(authn.SiteObject, "", "blue", "blueuid", time.Time{})
	w.refused(w.token(w.with(object{"gatehouse.dev": object{"site": pod}})), authn.Ended)
	for name, site := range map[string]any{
		"text": "blue", "no name": object{"uid": "u"}, "no uid": object{"name": "blue"},
		"both":          object{"name": "blue", "uid": "u", "namespace": "n", "pod": object{"name": "p", "uid": "u"}, "node": object{"name": "p", "uid": "u"}},
		"pod nowhere":   object{"name": "blue", "uid": "u", "pod": object{"name": "p", "uid": "u"}},
		"nameless node": object{"name": "blue", "uid": "u", "node": object{"uid": "u"}},
	} {
		if err := w.refused(w.token(w.with(object{"gatehouse.dev": object{"site": site}})), authn.Malformed); err == nil {
			t.Errorf("%s: passes", name)
		}
	}
	two := w.bound(object{"pod": object{"name": "p", "uid": "u"}})
	two["gatehouse.dev"] = object{"site": whole}
	w.refused(w.token(two), authn.Malformed)
}

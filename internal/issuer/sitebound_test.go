package issuer_test

import (
	"context"
	"reflect"
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/issuer"
)

func (c cluster) Site(_ context.Context, name string) (string, error) {
	return lookup(c, map[string]string{"blue": "blue-uid", "silent": "silent-uid"}, "sites", name)
}

func (c cluster) SitePod(_ context.Context, site, namespace, name string) (string, error) {
	if site == "silent" {
		return "", fault.New(fault.Unavailable, "the objects are not current")
	}
	return lookup(c, map[string]string{"blue/ns/web": "web-uid", "blue/shop/web": "shop-web-uid"}, "pods", site+"/"+namespace+"/"+name)
}

func (c cluster) SiteNode(_ context.Context, site, name string) (string, error) {
	return lookup(c, map[string]string{"blue/worker": "worker-uid"}, "sitenodes", site+"/"+name)
}

func TestTokensOfSites(t *testing.T) {
	t.Parallel()
	ref := func(kind, name string) *issuer.BoundRef {
		return &issuer.BoundRef{APIVersion: "v1", Kind: kind, Name: name}
	}
	whole := func(name string) *issuer.BoundRef {
		return &issuer.BoundRef{APIVersion: "federation.gatehouse.dev/v1alpha1", Kind: "Site", Name: name}
	}
	type dict = map[string]any
	for name, tc := range map[string]struct {
		change func(*issuer.Request)
		want   dict
		kind   fault.Kind
		text   string
	}{
		"site":               {change: func(r *issuer.Request) { r.Bound = whole("blue") }, want: dict{"name": "blue", "uid": "blue-uid"}},
		"site named twice":   {change: func(r *issuer.Request) { r.Bound, r.Site = whole("blue"), "blue" }, want: dict{"name": "blue", "uid": "blue-uid"}},
		"two sites":          {change: func(r *issuer.Request) { r.Bound, r.Site = whole("blue"), "red" }, kind: fault.Invalid, text: "another site"},
		"site with its uid":  {change: func(r *issuer.Request) { r.Bound = whole("blue"); r.Bound.UID = "blue-uid" }, want: dict{"name": "blue", "uid": "blue-uid"}},
		"site, another uid":  {change: func(r *issuer.Request) { r.Bound = whole("blue"); r.Bound.UID = "old" }, kind: fault.Conflict, text: `on Site "blue": the UID`},
		"unknown site":       {change: func(r *issuer.Request) { r.Bound = whole("red") }, kind: fault.NotFound, text: "red"},
		"site of no version": {change: func(r *issuer.Request) { r.Bound = ref("Site", "blue") }, kind: fault.Invalid, text: "cannot bind token to object of type v1, Kind=Site"},
		"pod":                {change: func(r *issuer.Request) { r.Bound, r.Site = ref("Pod", "web"), "blue" }, want: dict{"name": "blue", "uid": "blue-uid", "namespace": "ns", "pod": dict{"name": "web", "uid": "web-uid"}}},
		"pod elsewhere": {change: func(r *issuer.Request) { r.Bound, r.Site, r.SiteNamespace = ref("Pod", "web"), "blue", "shop" },
			want: dict{"name": "blue", "uid": "blue-uid", "namespace": "shop", "pod": dict{"name": "web", "uid": "shop-web-uid"}}},
		"pod, another uid":    {change: func(r *issuer.Request) { r.Bound, r.Site = ref("Pod", "web"), "blue"; r.Bound.UID = "old" }, kind: fault.Conflict, text: `on Pod "web": the UID`},
		"unknown pod":         {change: func(r *issuer.Request) { r.Bound, r.Site = ref("Pod", "db"), "blue" }, kind: fault.NotFound, text: "db"},
		"forbidden namespace": {change: func(r *issuer.Request) { r.Bound, r.Site, r.SiteNamespace = ref("Pod", "web"), "blue", "kube-system" }, kind: fault.Denied, text: "not kube-system"},
		"silent site":         {change: func(r *issuer.Request) { r.Bound, r.Site = ref("Pod", "web"), "silent" }, kind: fault.Unavailable, text: "not current"},
		"node":                {change: func(r *issuer.Request) { r.Bound, r.Site = ref("Node", "worker"), "blue" }, want: dict{"name": "blue", "uid": "blue-uid", "node": dict{"name": "worker", "uid": "worker-uid"}}},
		"unknown node":        {change: func(r *issuer.Request) { r.Bound, r.Site = ref("Node", "x"), "blue" }, kind: fault.NotFound, text: "x"},
		"node in a namespace": {change: func(r *issuer.Request) { r.Bound, r.Site, r.SiteNamespace = ref("Node", "worker"), "blue", "ns" }, kind: fault.Invalid, text: "only a pod"},
		"secret":              {change: func(r *issuer.Request) { r.Bound, r.Site = ref("Secret", "s"), "blue" }, kind: fault.Invalid, text: "pods and nodes are known"},
		"nothing of a site":   {change: func(r *issuer.Request) { r.Site = "blue" }, kind: fault.Invalid, text: "must be named"},
		"container":           {change: func(r *issuer.Request) { r.Bound, r.Site, r.Container = ref("Pod", "web"), "blue", "main" }, kind: fault.Invalid, text: "containers of a site's pods"},
		"no policy":           {change: func(r *issuer.Request) { r.Bound, r.MayBind = whole("blue"), nil }, kind: fault.Denied, text: "not bound to sites"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requests := &issuer.Requests{Issuer: newIssuer(t), Objects: newCluster(), Audiences: []string{"api"}}
			req := issuer.Request{Namespace: "ns", Account: "sa", MayBind: func(_ context.Context, _, namespace string) error {
				if namespace == "kube-system" {
					return fault.New(fault.Denied, "not kube-system")
				}
				return nil
			}}
			tc.change(&req)
			res, err := requests.Create(context.Background(), req)
			if tc.want == nil {
				if fault.KindOf(err) != tc.kind || !strings.Contains(fault.Public(err), tc.text) || res.ID != "" {
					t.Errorf("got %v (%v), want %v with %q", err, fault.KindOf(err), tc.kind, tc.text)
				}
				return
			}
			must(t, err)
			body := payloadOf(t, res.Text.Reveal())
			if ours, _ := body["gatehouse.dev"].(dict); !reflect.DeepEqual(ours["site"], tc.want) {
				t.Errorf("site %v, want %v", ours["site"], tc.want)
			}
			if own, _ := body["kubernetes.io"].(dict); own["pod"] != nil || own["node"] != nil {
				t.Errorf("an object of a site stands where those of the control plane do: %v", own)
			}
		})
	}
}

package issuer_test

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/issuer"
)

// cluster holds the objects that tokens are asked for.
type cluster struct {
	accounts, secrets, nodes map[string]string
	pods                     map[string]issuer.Pod
	broken                   error
}

func lookup[V any](c cluster, objects map[string]V, kind, name string) (V, error) {
	v, ok := objects[name]
	if c.broken != nil && kind == "nodes" {
		return v, c.broken
	}
	if !ok {
		return v, fault.Newf(fault.NotFound, "%s %q not found", kind, name)
	}
	return v, nil
}

func (c cluster) ServiceAccount(_ context.Context, namespace, name string) (string, error) {
	return lookup(c, c.accounts, "serviceaccounts", namespace+"/"+name)
}
func (c cluster) Secret(_ context.Context, namespace, name string) (string, error) {
	return lookup(c, c.secrets, "secrets", namespace+"/"+name)
}
func (c cluster) Node(_ context.Context, name string) (string, error) {
	return lookup(c, c.nodes, "nodes", name)
}
func (c cluster) Pod(_ context.Context, namespace, name string) (issuer.Pod, error) {
	return lookup(c, c.pods, "pods", namespace+"/"+name)
}

func newCluster() cluster {
	return cluster{
		accounts: map[string]string{"ns/sa": "correct-sa-uid-123"},
		secrets:  map[string]string{"ns/secret": "secret-uid"},
		nodes:    map[string]string{"node": "node-uid"},
		pods: map[string]issuer.Pod{
			"ns/pod":    {UID: "pod-uid", ServiceAccount: "sa", NodeName: "node", Containers: []string{"main", "sidecar"}},
			"ns/plain":  {UID: "plain-uid", ServiceAccount: "sa"},
			"ns/lost":   {UID: "lost-uid", ServiceAccount: "sa", NodeName: "unregistered"},
			"ns/other":  {UID: "other-uid", ServiceAccount: "other"},
			"ns/ending": {UID: "ending-uid", ServiceAccount: "sa", Ends: start.Add(90 * time.Second)},
			"ns/ended":  {UID: "ended-uid", ServiceAccount: "sa", Ends: start.Add(-time.Second)},
		},
	}
}

func seconds(n int64) *int64 { return &n }

func pod(name string) *issuer.BoundRef {
	return &issuer.BoundRef{APIVersion: "v1", Kind: "Pod", Name: name}
}

func attest(audience string, groups ...string) func(*issuer.Request) {
	return func(r *issuer.Request) {
		r.Audiences = []string{audience}
		r.Attestations = map[string][]string{"admissionReviewAPIGroups": groups}
	}
}

func TestCreate(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		change   func(*issuer.Request)
		lifetime time.Duration  // 0 means an hour
		bound    map[string]any // further members of kubernetes.io
		kind     fault.Kind     // of the error; Internal means success
		text     string         // public text of the error
		fields   []string
	}{
		"plain":            {change: func(*issuer.Request) {}},
		"names in body":    {change: func(r *issuer.Request) { r.BodyName, r.BodyNamespace = "sa", "ns" }},
		"other name":       {change: func(r *issuer.Request) { r.BodyName = "x" }, kind: fault.Invalid, fields: []string{"metadata.name"}, text: `metadata.name: Invalid value: "x": must match the service account name if specified`},
		"other namespace":  {change: func(r *issuer.Request) { r.BodyNamespace = "x" }, kind: fault.Invalid, fields: []string{"metadata.namespace"}, text: "must match the service account namespace if specified"},
		"unknown account":  {change: func(r *issuer.Request) { r.Account = "x" }, kind: fault.NotFound, text: `serviceaccounts "ns/x" not found`},
		"matching UID":     {change: func(r *issuer.Request) { r.BodyUID = "correct-sa-uid-123" }},
		"mismatched UID":   {change: func(r *issuer.Request) { r.BodyUID = "wrong-sa-uid-456" }, kind: fault.Conflict, text: `Operation cannot be fulfilled on TokenRequest.authentication.k8s.io "sa": the UID in the token request (wrong-sa-uid-456) does not match the UID of the service account (correct-sa-uid-123)`},
		"ten minutes":      {change: func(r *issuer.Request) { r.ExpirationSeconds = seconds(600) }, lifetime: 10 * time.Minute},
		"less":             {change: func(r *issuer.Request) { r.ExpirationSeconds = seconds(599) }, kind: fault.Invalid, fields: []string{"spec.expirationSeconds"}, text: "spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes"},
		"zero":             {change: func(r *issuer.Request) { r.ExpirationSeconds = seconds(0) }, kind: fault.Invalid, fields: []string{"spec.expirationSeconds"}, text: "less than 10 minutes"},
		"negative":         {change: func(r *issuer.Request) { r.ExpirationSeconds = seconds(-1 << 62) }, kind: fault.Invalid, fields: []string{"spec.expirationSeconds"}, text: "less than 10 minutes"},
		"2^32 seconds":     {change: func(r *issuer.Request) { r.ExpirationSeconds = seconds(1 << 32) }, lifetime: 24 * time.Hour},
		"more":             {change: func(r *issuer.Request) { r.ExpirationSeconds = seconds(1<<32 + 1) }, kind: fault.Invalid, fields: []string{"spec.expirationSeconds"}, text: "may not specify a duration larger than 2^32 seconds"},
		"no audience":      {change: func(r *issuer.Request) { r.Audiences = nil }},
		"empty audience":   {change: func(r *issuer.Request) { r.Audiences = []string{"a", ""} }, kind: fault.Invalid, fields: []string{"spec.audiences[1]"}, text: "must not be empty"},
		"long audience":    {change: func(r *issuer.Request) { r.Audiences = []string{strings.Repeat("a", 513)} }, kind: fault.Invalid, fields: []string{"spec.audiences[0]"}, text: "at most 512 bytes"},
		"control audience": {change: func(r *issuer.Request) { r.Audiences = []string{"a\nb", "\xff"} }, kind: fault.Invalid, fields: []string{"spec.audiences[0]", "spec.audiences[1]"}, text: "control characters"},
		"many audiences":   {change: func(r *issuer.Request) { r.Audiences = slices.Repeat([]string{"a"}, 17) }, kind: fault.Invalid, fields: []string{"spec.audiences"}, text: "at most 16 items"},
		"refused audience": {change: func(r *issuer.Request) { r.Audiences = []string{"ok", "forbidden"} }, kind: fault.Denied, text: "not for ns/sa"},
		"pod": {change: func(r *issuer.Request) { r.Bound = pod("pod") }, bound: map[string]any{
			"pod": map[string]any{"name": "pod", "uid": "pod-uid"}, "node": map[string]any{"name": "node", "uid": "node-uid"}}},
		"pod without apiVersion": {change: func(r *issuer.Request) { r.Bound = &issuer.BoundRef{Kind: "Pod", Name: "plain"} }, bound: map[string]any{
			"pod": map[string]any{"name": "plain", "uid": "plain-uid"}}},
		"pod on an unregistered node": {change: func(r *issuer.Request) { r.Bound = pod("lost") }, bound: map[string]any{
			"pod": map[string]any{"name": "lost", "uid": "lost-uid"}, "node": map[string]any{"name": "unregistered"}}},
		"unknown pod":          {change: func(r *issuer.Request) { r.Bound = pod("x") }, kind: fault.NotFound, text: `pods "ns/x" not found`},
		"pod of another":       {change: func(r *issuer.Request) { r.Bound = pod("other") }, kind: fault.Invalid, text: `cannot bind token for serviceaccount "sa" to pod running with different serviceaccount name.`},
		"pod with its uid":     {change: func(r *issuer.Request) { r.Bound = pod("plain"); r.Bound.UID = "plain-uid" }, bound: map[string]any{"pod": map[string]any{"name": "plain", "uid": "plain-uid"}}},
		"pod with another uid": {change: func(r *issuer.Request) { r.Bound = pod("plain"); r.Bound.UID = "old" }, kind: fault.Conflict, text: `Operation cannot be fulfilled on Pod "plain": the UID in the bound object reference (old) does not match the UID in record. The object might have been deleted and then recreated`},
		"pod being deleted":    {change: func(r *issuer.Request) { r.Bound = pod("ending") }, lifetime: 90 * time.Second, bound: map[string]any{"pod": map[string]any{"name": "ending", "uid": "ending-uid"}}},
		"pod at its end":       {change: func(r *issuer.Request) { r.Bound = pod("ended") }, kind: fault.Conflict, text: "is being deleted"},
		"node": {change: func(r *issuer.Request) { r.Bound = &issuer.BoundRef{APIVersion: "v1", Kind: "Node", Name: "node"} }, bound: map[string]any{
			"node": map[string]any{"name": "node", "uid": "node-uid"}}},
		"unknown node": {change: func(r *issuer.Request) { r.Bound = &issuer.BoundRef{APIVersion: "v1", Kind: "Node", Name: "x"} }, kind: fault.NotFound, text: `nodes "x" not found`},
		"node with another uid": {change: func(r *issuer.Request) {
			r.Bound = &issuer.BoundRef{APIVersion: "v1", Kind: "Node", Name: "node", UID: "old"}
		}, kind: fault.Conflict, text: `on Node "node": the UID`},
		"secret":         {change: func(r *issuer.Request) { r.Bound = &issuer.BoundRef{APIVersion: "v1", Kind: "Secret", Name: "secret"} }, bound: map[string]any{"secret": map[string]any{"name": "secret", "uid": "secret-uid"}}},
		"unknown secret": {change: func(r *issuer.Request) { r.Bound = &issuer.BoundRef{APIVersion: "v1", Kind: "Secret", Name: "x"} }, kind: fault.NotFound, text: `secrets "ns/x" not found`},
		"secret, another uid": {change: func(r *issuer.Request) {
			r.Bound = &issuer.BoundRef{APIVersion: "v1", Kind: "Secret", Name: "secret", UID: "old"}
		}, kind: fault.Conflict, text: `on Secret "secret": the UID`},
		"config map":             {change: func(r *issuer.Request) { r.Bound = &issuer.BoundRef{APIVersion: "v1", Kind: "ConfigMap", Name: "x"} }, kind: fault.Invalid, text: "cannot bind token to object of type /v1, Kind=ConfigMap"},
		"pod of another group":   {change: func(r *issuer.Request) { r.Bound = &issuer.BoundRef{APIVersion: "apps/v1", Kind: "Pod", Name: "pod"} }, kind: fault.Invalid, text: "cannot bind token to object of type apps/v1, Kind=Pod"},
		"pod of another version": {change: func(r *issuer.Request) { r.Bound = &issuer.BoundRef{APIVersion: "v2", Kind: "Pod", Name: "pod"} }, kind: fault.Invalid, text: "cannot bind token to object of type /v2, Kind=Pod"},
		"empty reference":        {change: func(r *issuer.Request) { r.Bound = &issuer.BoundRef{} }, kind: fault.Invalid, text: "cannot bind token to object of type /, Kind="},
		"container": {change: func(r *issuer.Request) { r.Bound, r.Container = pod("pod"), "sidecar" }, bound: map[string]any{
			"pod": map[string]any{"name": "pod", "uid": "pod-uid"}, "node": map[string]any{"name": "node", "uid": "node-uid"}}},
		"attestation": {change: attest("https://hook.example/check", "apps"), bound: map[string]any{
			"attestations": map[string]any{"attestation.authentication.kubernetes.io/admissionReviewAPIGroups": []any{"apps"}}}},
		"attestation refused":      {change: attest("https://hook.example", "*"), kind: fault.Denied, text: "not * for correct-sa-uid-123"},
		"attestation for the API":  {change: attest("api-1", "apps"), kind: fault.Invalid, fields: []string{"spec.audiences"}, text: "https URL"},
		"attestation of nothing":   {change: attest("https://hook.example", ""), kind: fault.Invalid, fields: []string{"spec.attestations[admissionReviewAPIGroups]"}, text: "empty string"},
		"attestation of two":       {change: attest("https://hook.example", "a", "b"), kind: fault.Invalid, fields: []string{"spec.attestations[admissionReviewAPIGroups]"}, text: "single value"},
		"attestation without one":  {change: attest("https://hook.example"), kind: fault.Invalid, fields: []string{"spec.attestations[admissionReviewAPIGroups]"}, text: "single value"},
		"attestation by other key": {change: func(r *issuer.Request) { attest("https://hook.example", "a")(r); r.Attestations["x"] = []string{"a"} }, kind: fault.Invalid, fields: []string{"spec.attestations"}, text: "unknown key"},
		"attestation, no policy":   {change: func(r *issuer.Request) { attest("https://hook.example", "a")(r); r.MayAttest = nil }, kind: fault.Denied, text: "not given"},
		"unknown container":        {change: func(r *issuer.Request) { r.Bound, r.Container = pod("pod"), "x" }, kind: fault.Invalid, text: `cannot bind token to container "x", which pod "pod" does not have`},
		"container without pod":    {change: func(r *issuer.Request) { r.Container = "main" }, kind: fault.Invalid, fields: []string{"spec.boundObjectRef"}, text: "must be bound to its pod"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requests := &issuer.Requests{Issuer: newIssuer(t), Objects: newCluster(), Audiences: []string{"api-1", "api-2"}}
			req := issuer.Request{Namespace: "ns", Account: "sa", Audiences: []string{"vault"},
				MayMint: func(_ context.Context, audience string) error {
					if audience == "forbidden" {
						return fault.New(fault.Denied, "not for ns/sa")
					}
					return nil
				},
				MayAttest: func(_ context.Context, uid, group string) error {
					if uid != "correct-sa-uid-123" || group == "*" {
						return fault.Newf(fault.Denied, "not %s for %s", group, uid)
					}
					return nil
				}}
			tc.change(&req)
			res, err := requests.Create(context.Background(), req)
			if tc.kind != fault.Internal {
				if fault.KindOf(err) != tc.kind || !strings.Contains(fault.Public(err), tc.text) || res.ID != "" {
					t.Errorf("got %v (%v), want %v with %q", err, fault.KindOf(err), tc.kind, tc.text)
				}
				var fields []string
				for _, f := range issuer.Fields(err) {
					fields = append(fields, f.Path)
				}
				if !slices.Equal(fields, tc.fields) {
					t.Errorf("fields %q, want %q", fields, tc.fields)
				}
				return
			}
			must(t, err)
			want := req.Audiences
			if want == nil {
				want = []string{"api-1", "api-2"}
			}
			lifetime := tc.lifetime
			if lifetime == 0 {
				lifetime = time.Hour
			}
			if !slices.Equal(res.Audiences, want) || res.AccountUID != "correct-sa-uid-123" || !res.Expires.Equal(start.Add(lifetime)) || !res.Requested.Equal(res.Expires) || res.ExpirationSeconds != int64(lifetime/time.Second) {
				t.Errorf("audiences %q, expires %v, requested %v, seconds %d", res.Audiences, res.Expires.Sub(start), res.Requested.Sub(start), res.ExpirationSeconds)
			}
			if !maps.Equal(res.Annotations, map[string]string{"authentication.kubernetes.io/issued-credential-id": "JTI=" + res.ID}) {
				t.Errorf("annotations %q", res.Annotations)
			}
			body := payloadOf(t, res.Text.Reveal())
			own := map[string]any{"namespace": "ns", "serviceaccount": map[string]any{"name": "sa", "uid": "correct-sa-uid-123"}}
			maps.Copy(own, tc.bound)
			if !reflect.DeepEqual(body["kubernetes.io"], own) {
				t.Errorf("kubernetes.io %v, want %v", body["kubernetes.io"], own)
			}
			if req.Container != "" && !reflect.DeepEqual(body["gatehouse.dev"], map[string]any{"container": req.Container}) {
				t.Errorf("gatehouse.dev %v", body["gatehouse.dev"])
			}
		})
	}
}

// TestExpiryCap has upstream's table. Where upstream lets an extended token
// outlive the operator's cap, ours does not: the least of both counts.
func TestExpiryCap(t *testing.T) {
	t.Parallel()
	const ask = 3607
	hours := func(n int) time.Duration { return time.Duration(n) * time.Hour }
	cases := map[string]struct {
		extend    bool
		cap       time.Duration
		audiences []string
		unbound   bool
		ask       int64
		lives     time.Duration
		warn      bool
		warning   string
	}{
		"respected if less than cap":       {cap: hours(5), lives: ask * time.Second},
		"extended up to the cap":           {extend: true, cap: hours(5), lives: hours(5), warn: true},
		"extended to a year":               {extend: true, cap: hours(366 * 24), lives: hours(365 * 24), warn: true},
		"cap honoured, no extension":       {cap: 30 * time.Minute, lives: 30 * time.Minute, warning: "requested expiration of 3607 seconds shortened to 1800 seconds"},
		"cap below what would extend":      {extend: true, cap: 30 * time.Minute, lives: 30 * time.Minute, warning: "requested expiration of 3607 seconds shortened to 1800 seconds"},
		"other seconds are not extended":   {extend: true, cap: hours(5), ask: 3600, lives: time.Hour},
		"other audiences are not extended": {extend: true, cap: hours(5), audiences: []string{"aud-1", "vault"}, lives: ask * time.Second},
		"one of ours is extended":          {extend: true, cap: hours(5), audiences: []string{"aud-2"}, lives: hours(5), warn: true},
		"without a pod it is not extended": {extend: true, cap: hours(5), unbound: true, lives: ask * time.Second},
		"a hundred hours are cut to a day": {cap: 0, ask: 360_000, lives: hours(24), warning: "requested expiration of 360000 seconds shortened to 86400 seconds"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requests := &issuer.Requests{Issuer: newIssuer(t, func(c *issuer.Config) { c.MaxLifetime = tc.cap }), Objects: newCluster(),
				Audiences: []string{"aud-1", "aud-2"}, ExtendForPods: tc.extend}
			req := issuer.Request{Namespace: "ns", Account: "sa", Audiences: []string{"aud-1", "aud-2"}, Bound: pod("plain"), ExpirationSeconds: seconds(ask)}
			if tc.audiences != nil {
				req.Audiences = tc.audiences
			}
			if tc.unbound {
				req.Bound = nil
			}
			if tc.ask != 0 {
				req.ExpirationSeconds = seconds(tc.ask)
			}
			res, err := requests.Create(context.Background(), req)
			must(t, err)
			if got := res.Expires.Sub(start); got != tc.lives {
				t.Errorf("lives %v, want %v", got, tc.lives)
			}
			own := payloadOf(t, res.Text.Reveal())["kubernetes.io"].(map[string]any)
			if at, has := own["warnafter"]; has != tc.warn || has && at != float64(start.Unix()+ask) {
				t.Errorf("warnafter %v", at)
			}
			if tc.warn && !res.Requested.Equal(start.Add(ask*time.Second)) {
				t.Errorf("status says %v", res.Requested.Sub(start))
			}
			if strings.Join(res.Warnings, ";") != tc.warning {
				t.Errorf("warnings %q, want %q", res.Warnings, tc.warning)
			}
		})
	}
}

func TestNodeLookupFails(t *testing.T) {
	t.Parallel()
	objects := newCluster()
	objects.broken = errors.New("store is gone")
	requests := &issuer.Requests{Issuer: newIssuer(t), Objects: objects, Audiences: []string{"api"}}
	if _, err := requests.Create(context.Background(), issuer.Request{Namespace: "ns", Account: "sa", Bound: pod("pod")}); !errors.Is(err, objects.broken) {
		t.Errorf("got %v", err)
	}
}

package federation_test

import (
	"context"
	"errors"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"

	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/federation"
)

func TestEnded(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	index := authn.NewIndex(nil)
	put := func(kind authn.ObjectKind, namespace, name, uid string, deleted time.Time) {
		index.Put(authn.ObjectKey{Kind: kind, Namespace: namespace, Name: name}, authn.ObjectState{UID: uid, Deleted: deleted})
	}
	put(authn.ServiceAccountObject, "web", "robot", "sa-1", time.Time{})
	put(authn.PodObject, "web", "pod", "pod-1", time.Time{})
	put(authn.PodObject, "web", "leaving", "pod-2", now.Add(time.Minute))
	put(authn.PodObject, "web", "left", "pod-3", now)
	put(authn.NodeObject, "", "node", "node-1", time.Time{})
	const robot = "gatehouse:system:serviceaccount:web:robot"
	extra := func(kv ...string) map[string]authorizationv1.ExtraValue {
		m := map[string]authorizationv1.ExtraValue{}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i]] = authorizationv1.ExtraValue{kv[i+1]}
		}
		return m
	}
	at := func(d time.Duration) string { return now.Add(d).Format(time.RFC3339) }
	for name, tc := range map[string]struct {
		user, uid string
		extra     map[string]authorizationv1.ExtraValue
		want      string
	}{
		"a good token":                       {robot, "sa-1", extra(federation.ExtraNotAfter, at(time.Hour), authn.ExtraPodName, "pod", authn.ExtraPodUID, "pod-1"), ""},
		"a person":                           {"ada", "", nil, ""},
		"ended":                              {"ada", "", extra(federation.ExtraNotAfter, at(-61*time.Second)), "the token has ended"},
		"just ended":                         {robot, "sa-1", extra(federation.ExtraNotAfter, at(-59*time.Second)), ""},
		"an end that is no time":             {robot, "sa-1", extra(federation.ExtraNotAfter, "soon"), "the token has ended"},
		"another service account":            {robot, "sa-2", nil, "the service account of the token is gone"},
		"no such service account":            {"gatehouse:system:serviceaccount:web:gone", "sa-1", nil, "the service account of the token is gone"},
		"no such pod":                        {robot, "sa-1", extra(authn.ExtraPodName, "gone", authn.ExtraPodUID, "x"), "the pod of the token is gone"},
		"another pod":                        {robot, "sa-1", extra(authn.ExtraPodName, "pod", authn.ExtraPodUID, "x"), "the pod of the token is gone"},
		"a pod in its grace period":          {robot, "sa-1", extra(authn.ExtraPodName, "leaving", authn.ExtraPodUID, "pod-2"), ""},
		"a pod after its grace period":       {robot, "sa-1", extra(authn.ExtraPodName, "left", authn.ExtraPodUID, "pod-3"), "the pod of the token is gone"},
		"no such node":                       {robot, "sa-1", extra(authn.ExtraNodeName, "gone", authn.ExtraNodeUID, "x"), "the node of the token is gone"},
		"the node of a pod":                  {robot, "sa-1", extra(authn.ExtraNodeName, "gone", authn.ExtraNodeUID, "x", authn.ExtraPodName, "pod", authn.ExtraPodUID, "pod-1"), ""},
		"a service account of the site":      {"system:serviceaccount:web:robot", "sa-9", extra(authn.ExtraPodName, "gone", authn.ExtraPodUID, "x"), ""},
		"a name that only looks like one":    {"gatehouse:system:serviceaccount:web:a:b", "sa-9", nil, ""},
		"a prefix without a service account": {"gatehouse:ada", "sa-9", nil, ""},
	} {
		got, err := federation.Ended(t.Context(), index, &authorizationv1.SubjectAccessReviewSpec{User: tc.user, UID: tc.uid, Extra: tc.extra}, now)
		if err != nil || got != tc.want {
			t.Errorf("%s: %q %v", name, got, err)
		}
	}
	// The memory may be older than the token.
	fresh := authn.NewIndex(func(context.Context, authn.ObjectKey) (authn.ObjectState, bool, error) {
		return authn.ObjectState{UID: "sa-2"}, true, nil
	})
	fresh.Put(authn.ObjectKey{Kind: authn.ServiceAccountObject, Namespace: "web", Name: "robot"}, authn.ObjectState{UID: "sa-1"})
	if got, err := federation.Ended(t.Context(), fresh, &authorizationv1.SubjectAccessReviewSpec{User: robot, UID: "sa-2"}, now); got != "" || err != nil {
		t.Errorf("a service account that was made anew: %q %v", got, err)
	}
	broken := authn.NewIndex(func(context.Context, authn.ObjectKey) (authn.ObjectState, bool, error) {
		return authn.ObjectState{}, false, errors.New("etcd is away")
	})
	if _, err := federation.Ended(t.Context(), broken, &authorizationv1.SubjectAccessReviewSpec{User: robot, UID: "sa-1"}, now); err == nil {
		t.Error("an unknown state is no answer")
	}
}

package authn_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

func TestServiceAccountIdentity(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(authn.PodObject, "ns", "podname", "3f1c2f5e-7d4b-4a7e-9c57-0123456789ab", time.Time{})
	w.put(authn.NodeObject, "", "nodename", "nodeuid", time.Time{})
	w.put(authn.SecretObject, "ns", "secretname", "secretuid", time.Time{})
	pod := object{"name": "podname", "uid": "3f1c2f5e-7d4b-4a7e-9c57-0123456789ab"}
	credential := []string{"JTI=0a0b0c0d-0000-4000-8000-00000000002a"}
	onContainer := w.bound(object{"pod": pod})
	onContainer["gatehouse.dev"] = object{"container": "main"}
	noID := w.claims()
	delete(noID, "jti")
	cases := map[string]struct {
		claims object
		extra  map[string][]string
	}{
		"unbound": {w.claims(), map[string][]string{authn.ExtraCredentialID: credential}},
		"no id":   {noID, map[string][]string{}},
		"id of another form": {w.with(object{"jti": strings.Repeat("j", 300)}), map[string][]string{
			authn.ExtraCredentialID: {"JTI=" + strings.Repeat("j", 300)}}},
		"upper case UUID is kept as it is": {w.with(object{"jti": "0A0B0C0D-0000-4000-8000-00000000002A"}), map[string][]string{
			authn.ExtraCredentialID: {"JTI=0A0B0C0D-0000-4000-8000-00000000002A"}}},
		"pod": {w.bound(object{"pod": pod}), map[string][]string{
			authn.ExtraCredentialID: credential, authn.ExtraPodName: {"podname"}, authn.ExtraPodUID: {"3f1c2f5e-7d4b-4a7e-9c57-0123456789ab"}}},
		"pod on a node": {w.bound(object{"pod": pod, "node": object{"name": "anynode", "uid": "anyuid"}}), map[string][]string{
			authn.ExtraCredentialID: credential, authn.ExtraPodName: {"podname"}, authn.ExtraPodUID: {"3f1c2f5e-7d4b-4a7e-9c57-0123456789ab"},
			authn.ExtraNodeName: {"anynode"}, authn.ExtraNodeUID: {"anyuid"}}},
		"pod on a node never registered": {w.bound(object{"pod": pod, "node": object{"name": "anynode"}}), map[string][]string{
			authn.ExtraCredentialID: credential, authn.ExtraPodName: {"podname"}, authn.ExtraPodUID: {"3f1c2f5e-7d4b-4a7e-9c57-0123456789ab"},
			authn.ExtraNodeName: {"anynode"}}},
		"node": {w.bound(object{"node": object{"name": "nodename", "uid": "nodeuid"}}), map[string][]string{
			authn.ExtraCredentialID: credential, authn.ExtraNodeName: {"nodename"}, authn.ExtraNodeUID: {"nodeuid"}}},
		"secret": {w.bound(object{"secret": object{"name": "secretname", "uid": "secretuid"}}), map[string][]string{
			authn.ExtraCredentialID: credential}},
		"container": {onContainer, map[string][]string{
			authn.ExtraCredentialID: credential, authn.ExtraPodName: {"podname"}, authn.ExtraPodUID: {"3f1c2f5e-7d4b-4a7e-9c57-0123456789ab"},
			authn.ExtraContainerName: {"main"}}},
	}
	for name, tc := range cases {
		token := w.token(tc.claims)
		for _, pass := range []string{"verified", "remembered"} {
			id := w.accepted(token)
			if id.Name() != "system:serviceaccount:ns:saname" || id.UID() != "sauid" || id.String() != id.Name() {
				t.Errorf("%s, %s: name %q, uid %q", name, pass, id.Name(), id.UID())
			}
			if want := []string{"system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"}; !slices.Equal(id.Groups(), want) {
				t.Errorf("%s, %s: groups %q", name, pass, id.Groups())
			}
			if !reflect.DeepEqual(id.Extra(), tc.extra) {
				t.Errorf("%s, %s: extra %q, want %q", name, pass, id.Extra(), tc.extra)
			}
			if want := strings.Join(tc.extra[authn.ExtraCredentialID], ""); id.CredentialID() != want {
				t.Errorf("%s, %s: credential %q, want %q", name, pass, id.CredentialID(), want)
			}
			namespace, account, ok := id.ServiceAccount()
			if namespace != "ns" || account != "saname" || !ok {
				t.Errorf("%s, %s: account %s/%s, %v", name, pass, namespace, account, ok)
			}
			if id.Method() != authn.ServiceAccountToken || id.Source() != issuerURL || id.IssuerKey() != w.signer.Key().ID() {
				t.Errorf("%s, %s: method %v, source %q, key %q", name, pass, id.Method(), id.Source(), id.IssuerKey())
			}
			if want := w.clock.now().Add(time.Hour); !id.NotAfter().Equal(want) {
				t.Errorf("%s, %s: not after %v, want %v", name, pass, id.NotAfter(), want)
			}
		}
	}
}

func TestNobody(t *testing.T) {
	t.Parallel()
	var id authn.Identity
	if _, _, ok := id.ServiceAccount(); id.Valid() || ok || id.Name() != "" || id.UID() != "" || id.Groups() != nil || id.Extra() != nil || id.CredentialID() != "" ||
		id.Audiences() != nil || id.Method() != authn.NoMethod || id.Source() != "" || id.IssuerKey() != "" || !id.NotAfter().IsZero() || id.Annotations(time.Now()) != nil {
		t.Error("the zero identity says something")
	}
}

func TestClaimsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	own := func(members object) object {
		out := maps.Clone(w.claims()["kubernetes.io"].(object))
		for name, value := range members {
			if value == nil {
				delete(out, name)
			} else {
				out[name] = value
			}
		}
		return object{"kubernetes.io": out}
	}
	now := w.clock.now().Unix()
	cases := map[string]struct {
		change object
		reason authn.Reason
		detail string
	}{
		"expired":                  {object{"exp": now - 61}, authn.Expired, "service account token has expired"},
		"expired long ago":         {object{"exp": now - 3_600_000}, authn.Expired, "service account token has expired"},
		"not yet valid":            {object{"nbf": now + 61}, authn.NotYetValid, "service account token is not valid yet"},
		"valid in a far future":    {object{"nbf": now + 3_600_000}, authn.NotYetValid, "service account token is not valid yet"},
		"valid beyond all times":   {object{"nbf": 1e300}, authn.Malformed, `claim "nbf"`},
		"issued in the future":     {object{"iat": now + 61}, authn.NotYetValid, "service account token is issued in the future"},
		"no expiry":                {object{"exp": nil}, authn.Malformed, "never expires"},
		"expiry zero":              {object{"exp": 0}, authn.Malformed, "never expires"},
		"expiry negative":          {object{"exp": -1}, authn.Malformed, `claim "exp"`},
		"expiry a string":          {object{"exp": "never"}, authn.Malformed, `claim "exp"`},
		"expiry beyond all times":  {object{"exp": 1e300}, authn.Malformed, `claim "exp"`},
		"other issuer":             {object{"iss": "https://other.example"}, authn.UnknownIssuer, "is not trusted"},
		"issuer with a slash":      {object{"iss": issuerURL + "/"}, authn.UnknownIssuer, "is not trusted"},
		"issuer in upper case":     {object{"iss": strings.ToUpper(issuerURL)}, authn.UnknownIssuer, "is not trusted"},
		"issuer a list":            {object{"iss": []string{issuerURL}}, authn.UnknownIssuer, "names no issuer"},
		"no issuer":                {object{"iss": nil}, authn.UnknownIssuer, "names no issuer"},
		"no audience":              {object{"aud": nil}, authn.Malformed, `claim "aud"`},
		"empty audiences":          {object{"aud": []string{}}, authn.Malformed, `claim "aud"`},
		"empty audience":           {object{"aud": []string{audience, ""}}, authn.Malformed, `claim "aud"`},
		"audience a number":        {object{"aud": []any{audience, 1}}, authn.Malformed, `claim "aud"`},
		"audience an object":       {object{"aud": object{"a": audience}}, authn.Malformed, `claim "aud"`},
		"too many audiences":       {object{"aud": append(slices.Repeat([]string{"x"}, 64), audience)}, authn.Malformed, `claim "aud"`},
		"other audience":           {object{"aud": []string{"elsewhere"}}, authn.WrongAudience, `token audiences ["elsewhere"] is invalid`},
		"no kubernetes claim":      {object{"kubernetes.io": nil}, authn.Malformed, `claim "kubernetes.io"`},
		"kubernetes a string":      {object{"kubernetes.io": "x"}, authn.Malformed, `claim "kubernetes.io"`},
		"no namespace":             {own(object{"namespace": nil}), authn.Malformed, `claim "namespace"`},
		"no account":               {own(object{"serviceaccount": nil}), authn.Malformed, `claim "serviceaccount"`},
		"account without name":     {own(object{"serviceaccount": object{"uid": "sauid"}}), authn.Malformed, `claim "name"`},
		"account without uid":      {own(object{"serviceaccount": object{"name": "saname"}}), authn.Malformed, `claim "uid"`},
		"pod without uid":          {own(object{"pod": object{"name": "p"}}), authn.Malformed, `claim "uid"`},
		"pod null":                 {own(object{"pod": []string{}}), authn.Malformed, `claim "pod"`},
		"secret without name":      {own(object{"secret": object{"uid": "p"}}), authn.Malformed, `claim "name"`},
		"node without name":        {own(object{"node": object{"uid": "p"}}), authn.Malformed, `claim "name"`},
		"warnafter a string":       {own(object{"warnafter": "soon"}), authn.Malformed, `claim "warnafter"`},
		"pod and secret":           {own(object{"pod": object{"name": "p", "uid": "u"}, "secret": object{"name": "s", "uid": "u"}}), authn.Malformed, "more than one object"},
		"node and secret":          {own(object{"node": object{"name": "p", "uid": "u"}, "secret": object{"name": "s", "uid": "u"}}), authn.Malformed, "more than one object"},
		"container without a pod":  {object{"gatehouse.dev": object{"container": "c"}}, authn.Malformed, "container of no pod"},
		"container of no name":     {object{"gatehouse.dev": object{"container": ""}}, authn.Malformed, `claim "container"`},
		"id a number":              {object{"jti": 7}, authn.Malformed, `claim "jti"`},
		"id too long":              {object{"jti": strings.Repeat("j", 2000)}, authn.Malformed, `claim "jti"`},
		"subject of another":       {object{"sub": "system:serviceaccount:ns:other"}, authn.Malformed, "subject is not the account"},
		"subject an administrator": {object{"sub": "system:admin"}, authn.Malformed, "subject is not the account"},
		"no subject":               {object{"sub": nil}, authn.Malformed, "subject is not the account"},
		"namespace with a colon": {object{"sub": "system:serviceaccount:ns:x:saname", "kubernetes.io": object{
			"namespace": "ns:x", "serviceaccount": object{"name": "saname", "uid": "sauid"}}}, authn.Malformed, "subject is not the account"},
		"missing account": {object{"sub": "system:serviceaccount:ns:gone", "kubernetes.io": object{
			"namespace": "ns", "serviceaccount": object{"name": "gone", "uid": "sauid"}}}, authn.Ended, `serviceaccounts "gone" not found`},
		"other uid of the account": {own(object{"serviceaccount": object{"name": "saname", "uid": "sauidold"}}), authn.Ended, "service account UID (sauid) does not match claim (sauidold)"},
		"missing secret":           {own(object{"secret": object{"name": "secretname", "uid": "secretuid"}}), authn.Ended, "service account token has been invalidated"},
		"missing pod":              {own(object{"pod": object{"name": "podname", "uid": "poduid"}}), authn.Ended, "service account token has been invalidated"},
		"missing node":             {own(object{"node": object{"name": "nodename", "uid": "nodeuid"}}), authn.Ended, "service account token has been invalidated"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := *w
			v.t = t
			token := v.token(v.with(tc.change))
			err := v.refused(token, tc.reason)
			if !strings.Contains(err.Error(), tc.detail) {
				t.Errorf("detail %q, want one with %q", err, tc.detail)
			}
			if strings.Contains(err.Error(), token[len(token)-40:]) || len(err.Error()) > 1500 {
				t.Errorf("the error repeats the token: %v", err)
			}
			// The same again, with whatever is remembered by now.
			v.refused(token, tc.reason)
		})
	}
	for name, change := range map[string]object{
		"expired within the leeway":   {"exp": now - 60},
		"valid within the leeway":     {"nbf": now + 60},
		"issued within the leeway":    {"iat": now + 60},
		"fraction of a second":        {"exp": float64(now) + 100.5},
		"neither nbf nor iat":         {"nbf": nil, "iat": nil},
		"audience a string":           {"aud": audience},
		"further claims":              {"email": "x@example.org", "kubernetes.io/extra": object{"a": 1}},
		"further audiences":           {"aud": []string{"elsewhere", audience}},
		"as long as a request can be": {"exp": now + 1<<32},
	} {
		if _, err := w.verify(w.token(w.with(change))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOtherUID has the cases in which the bound object was replaced.
func TestOtherUID(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(authn.PodObject, "ns", "podname", "poduid", time.Time{})
	w.put(authn.SecretObject, "ns", "secretname", "secretuid", time.Time{})
	w.put(authn.NodeObject, "", "nodename", "nodeuid", time.Time{})
	for kind, want := range map[string]string{
		"pod":    "pod UID (poduid) does not match service account pod ref claim (poduidold)",
		"secret": "secret UID (secretuid) does not match service account secret ref claim (secretuidold)",
		"node":   "node UID (nodeuid) does not match service account node ref claim (nodeuidold)",
	} {
		err := w.refused(w.token(w.bound(object{kind: object{"name": kind + "name", "uid": kind + "uidold"}})), authn.Ended)
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", kind, err)
		}
	}
	w.refused(w.token(w.bound(object{"node": object{"name": "nodename"}})), authn.Ended)
}

// TestDeletionTimestamp has upstream's table with upstream's leeway, and the
// same objects without leeway.
func TestDeletionTimestamp(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name             string
		seconds          int64
		deleted          bool
		upstream, strict bool // whether the token still holds
	}{
		{"not deleted", 0, false, true, true},
		{"deleted now", 0, true, true, true},
		{"deleted near past", -1, true, true, false},
		{"deleted near future", 1, true, true, true},
		{"deleted now-leeway", -60, true, true, false},
		{"deleted now-leeway-1", -61, true, false, false},
	}
	kinds := map[authn.ObjectKind]struct{ claim, want string }{
		authn.ServiceAccountObject: {"", "service account ns/saname has been deleted"},
		authn.SecretObject:         {"secret", "service account token has been invalidated"},
		authn.PodObject:            {"pod", "service account token has been invalidated"},
		authn.NodeObject:           {"node", "service account token has been invalidated"},
	}
	for _, leeway := range []time.Duration{time.Minute, 0} {
		for _, tc := range cases {
			for kind, k := range kinds {
				t.Run(fmt.Sprintf("%s %s leeway %v", tc.name, k.claim, leeway), func(t *testing.T) {
					t.Parallel()
					w := newWorld(t, func(c *authn.Config) { c.DeletionLeeway = leeway })
					var deleted time.Time
					if tc.deleted {
						deleted = w.clock.now().Add(time.Duration(tc.seconds) * time.Second)
					}
					claims := w.claims()
					if k.claim == "" {
						w.put(kind, "ns", "saname", "sauid", deleted)
					} else {
						namespace := "ns"
						if kind == authn.NodeObject {
							namespace = ""
						}
						w.put(kind, namespace, k.claim+"name", k.claim+"uid", deleted)
						claims = w.bound(object{k.claim: object{"name": k.claim + "name", "uid": k.claim + "uid"}})
					}
					holds := tc.strict
					if leeway != 0 {
						holds = tc.upstream
					}
					if holds {
						w.accepted(w.token(claims))
						return
					}
					if err := w.refused(w.token(claims), authn.Ended); !strings.Contains(err.Error(), k.want) {
						t.Errorf("detail %v", err)
					}
				})
			}
		}
	}
}

// TestRememberedTokenEndsAtOnce changes everything that can end a token while
// it is remembered.
func TestRememberedTokenEndsAtOnce(t *testing.T) {
	t.Parallel()
	pod := object{"pod": object{"name": "podname", "uid": "poduid"}}
	cases := map[string]struct {
		end    func(w *world)
		reason authn.Reason
	}{
		"pod deleted":           {func(w *world) { w.delete(authn.PodObject, "ns", "podname") }, authn.Ended},
		"pod replaced":          {func(w *world) { w.put(authn.PodObject, "ns", "podname", "other", time.Time{}) }, authn.Ended},
		"pod's grace over":      {func(w *world) { w.put(authn.PodObject, "ns", "podname", "poduid", w.clock.now().Add(-time.Second)) }, authn.Ended},
		"account deleted":       {func(w *world) { w.delete(authn.ServiceAccountObject, "ns", "saname") }, authn.Ended},
		"account replaced":      {func(w *world) { w.put(authn.ServiceAccountObject, "ns", "saname", "other", time.Time{}) }, authn.Ended},
		"key withdrawn":         {func(w *world) { must(w.t, w.ring.Replace(nil)) }, authn.UnknownKey},
		"key replaced, same id": {func(w *world) { must(w.t, w.ring.Replace(sameID(w.t, w.signer.Key().ID()))) }, authn.BadSignature},
		"expired":               {func(w *world) { w.clock.advance(time.Hour + time.Minute + time.Second) }, authn.Expired},
		"credential banned": {func(w *world) {
			must(w.t, w.bans.Replace([]authn.Ban{{Name: "b", Credential: "JTI=0a0b0c0d-0000-4000-8000-00000000002a"}}))
		}, authn.Banned},
		"account banned": {func(w *world) {
			must(w.t, w.bans.Replace([]authn.Ban{{Name: "b", User: "system:serviceaccount:ns:saname"}}))
		}, authn.Banned},
		"group banned": {func(w *world) {
			must(w.t, w.bans.Replace([]authn.Ban{{Name: "b", Group: "system:serviceaccounts:ns"}}))
		}, authn.Banned},
		"key banned": {func(w *world) { must(w.t, w.bans.Replace([]authn.Ban{{Name: "b", IssuerKey: w.signer.Key().ID()}})) }, authn.Banned},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.put(authn.PodObject, "ns", "podname", "poduid", time.Time{})
			token := w.token(w.bound(pod))
			w.accepted(token)
			w.accepted(token)
			tc.end(w)
			// What is remembered says that it ended; a second later the token is
			// looked at afresh.
			first := tc.reason
			if first == authn.UnknownKey || first == authn.BadSignature {
				first = authn.Ended
			}
			w.refused(token, first)
			w.clock.advance(time.Second)
			w.refused(token, tc.reason)
		})
	}
}

func TestBansEndAndReplace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	token := w.token(w.claims())
	until := w.clock.now().Add(time.Minute)
	user := "system:serviceaccount:ns:saname"
	must(t, w.bans.Replace([]authn.Ban{{Name: "long", User: user, Until: until}, {Name: "short", User: user, Until: until.Add(-30 * time.Second)}}))
	if err := w.refused(token, authn.Banned); !strings.Contains(err.Error(), `user is banned by "long"`) {
		t.Error(err)
	}
	w.clock.advance(45 * time.Second)
	w.refused(token, authn.Banned)
	w.clock.advance(15 * time.Second)
	w.accepted(token)
	must(t, w.bans.Replace([]authn.Ban{{Name: "short", User: user, Until: until}, {Name: "forever", User: user}}))
	w.refused(token, authn.Banned)
	for _, bad := range []authn.Ban{{Name: "nothing"}, {Name: "two", User: "a", Group: "b"}} {
		if err := w.bans.Replace([]authn.Ban{bad}); err == nil {
			t.Errorf("ban %q was accepted", bad.Name)
		}
	}
	w.refused(token, authn.Banned)
	must(t, w.bans.Replace(nil))
	w.accepted(token)
}

func TestAudiences(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *authn.Config) { c.Audiences = []string{"api", audience} })
	token := w.token(w.with(object{"aud": []string{"site", audience, "other"}}))
	cases := []struct {
		want, got []string
	}{
		{nil, []string{audience}},
		{[]string{audience}, []string{audience}},
		{[]string{"site"}, []string{"site"}},
		{[]string{"other", "nobody", "site"}, []string{"other", "site"}},
		{[]string{"site", "site"}, []string{"site"}},
		{[]string{"nobody"}, nil},
		{[]string{"sit"}, nil},
		{[]string{"SITE"}, nil},
		{[]string{""}, nil},
	}
	for range 2 { // verified, then remembered
		for _, tc := range cases {
			if tc.got == nil {
				w.refused(token, authn.WrongAudience, tc.want...)
				continue
			}
			if id := w.accepted(token, tc.want...); !slices.Equal(id.Audiences(), tc.got) {
				t.Errorf("asked %q: got %q, want %q", tc.want, id.Audiences(), tc.got)
			}
		}
	}
	// A token refused for one audience is not refused for another.
	other := w.token(w.with(object{"aud": []string{"site"}, "jti": "another"}))
	w.refused(other, authn.WrongAudience)
	w.accepted(other, "site")
	if _, err := w.verify(token, slices.Repeat([]string{"x"}, 65)...); fault.KindOf(err) != fault.Invalid {
		t.Errorf("65 audiences: %v", err)
	}
}

func TestStaleTokenIsAnnotated(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	token := w.token(w.bound(object{"warnafter": w.clock.now().Unix() + 60}))
	if notes := w.accepted(token).Annotations(w.clock.now()); notes != nil {
		t.Errorf("noted before its time: %q", notes)
	}
	w.clock.advance(75 * time.Second)
	want := map[string]string{"authentication.k8s.io/stale-token": "subject: system:serviceaccount:ns:saname, seconds after warning threshold: 15"}
	if notes := w.accepted(token).Annotations(w.clock.now()); !maps.Equal(notes, want) {
		t.Errorf("noted %q, want %q", notes, want)
	}
	if notes := w.accepted(w.token(w.claims())).Annotations(w.clock.now()); notes != nil {
		t.Errorf("a token without warnafter: %q", notes)
	}
}

func TestObjectsUnavailableIsNoRefusal(t *testing.T) {
	t.Parallel()
	down := fault.New(fault.Unavailable, "not synced")
	var fail error
	index := authn.NewIndex(func(context.Context, authn.ObjectKey) (authn.ObjectState, bool, error) {
		return authn.ObjectState{UID: "sauid"}, fail == nil, fail
	})
	w := newWorld(t, func(c *authn.Config) { c.Objects = index })
	token := w.token(w.claims())
	fail = down
	if _, err := w.verify(token); !errors.Is(err, down) || authn.ReasonOf(err) != "" {
		t.Errorf("got %v", err)
	}
	// Nothing of it is remembered, and the index asks before it refuses.
	fail = nil
	w.accepted(token)
}

// TestIndexBehindTheStore uses tokens for objects that were recreated under
// their names a moment ago, before the index heard of it.
func TestIndexBehindTheStore(t *testing.T) {
	t.Parallel()
	store := map[authn.ObjectKey]string{}
	asked := 0
	index := authn.NewIndex(func(_ context.Context, key authn.ObjectKey) (authn.ObjectState, bool, error) {
		asked++
		uid, ok := store[key]
		return authn.ObjectState{UID: uid}, ok, nil
	})
	w := newWorld(t, func(c *authn.Config) { c.Objects = index })
	account := authn.ObjectKey{Kind: authn.ServiceAccountObject, Namespace: "ns", Name: "saname"}
	pod := authn.ObjectKey{Kind: authn.PodObject, Namespace: "ns", Name: "podname"}
	store[account], store[pod] = "sauid", "poduid"
	index.Put(account, authn.ObjectState{UID: "before"})
	index.Put(pod, authn.ObjectState{UID: "before"})
	token := w.token(w.bound(object{"pod": object{"name": "podname", "uid": "poduid"}}))
	w.accepted(token)
	index.Put(account, authn.ObjectState{UID: "sauid"})
	index.Put(pod, authn.ObjectState{UID: "poduid"})
	asked = 0
	w.accepted(token)
	if asked != 0 {
		t.Errorf("the store was asked %d times although the index knows", asked)
	}
	// A token of the object before is refused, and the store asked once.
	store[pod] = "next"
	index.Put(pod, authn.ObjectState{UID: "next"})
	for range 10 {
		w.refused(token, authn.Ended)
	}
	if asked != 1 {
		t.Errorf("the store was asked %d times for ten uses within a second", asked)
	}
}

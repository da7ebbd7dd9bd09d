package authn_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/authn/accesskey"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

type bootstrapSecrets map[string]authn.BootstrapSecret

func (b bootstrapSecrets) BootstrapSecret(_ context.Context, id string) (authn.BootstrapSecret, bool, error) {
	if id == "offlin" {
		return authn.BootstrapSecret{}, false, fault.New(fault.Unavailable, "not synced")
	}
	s, ok := b[id]
	return s, ok, nil
}

// TestBootstrapTokens has the eleven cases of Kubernetes v1.36.3,
// plugin/pkg/auth/authenticator/token/bootstrap, and more. A secret of another
// name ("invalid secret name") is one that is not found by the token's id.
func TestBootstrapTokens(t *testing.T) {
	t.Parallel()
	const token = "foobar.abcdefghijklmnop"
	clockNow := newClock().now()
	good := map[string]string{"token-id": "foobar", "token-secret": "abcdefghijklmnop", "usage-bootstrap-authentication": "true"}
	with := func(changes map[string]string) map[string]string {
		out := maps.Clone(good)
		maps.Copy(out, changes)
		return out
	}
	cases := map[string]struct {
		data    map[string]string
		typ     string
		deleted bool
		token   string
		groups  []string
		reason  authn.Reason
	}{
		"valid": {data: good, groups: []string{"system:bootstrappers", "system:authenticated"}},
		"valid with extra group": {data: with(map[string]string{"auth-extra-groups": "system:bootstrappers:foo"}),
			groups: []string{"system:bootstrappers", "system:bootstrappers:foo", "system:authenticated"}},
		"valid with two groups": {data: with(map[string]string{"auth-extra-groups": "system:bootstrappers:foo,system:bootstrappers:bar"}),
			groups: []string{"system:bootstrappers", "system:bootstrappers:bar", "system:bootstrappers:foo", "system:authenticated"}},
		"invalid group":        {data: with(map[string]string{"auth-extra-groups": "foo"}), reason: authn.ReservedName},
		"masters":              {data: with(map[string]string{"auth-extra-groups": "system:masters"}), reason: authn.ReservedName},
		"upper case group":     {data: with(map[string]string{"auth-extra-groups": "system:bootstrappers:FOO"}), reason: authn.ReservedName},
		"group ends in colon":  {data: with(map[string]string{"auth-extra-groups": "system:bootstrappers:foo:"}), reason: authn.ReservedName},
		"empty group name":     {data: with(map[string]string{"auth-extra-groups": "system:bootstrappers:"}), reason: authn.ReservedName},
		"long group":           {data: with(map[string]string{"auth-extra-groups": "system:bootstrappers:" + strings.Repeat("a", 257)}), reason: authn.ReservedName},
		"other secret":         {data: with(map[string]string{"token-secret": "xbcdefghijklmnop"}), reason: authn.UnknownKey},
		"short secret stored":  {data: with(map[string]string{"token-secret": ""}), reason: authn.UnknownKey},
		"secret of another id": {data: with(map[string]string{"token-id": "fedcba"}), reason: authn.Malformed},
		"not for signing in":   {data: with(map[string]string{"usage-bootstrap-authentication": "false"}), reason: authn.Refused},
		"usage not said":       {data: map[string]string{"token-id": "foobar", "token-secret": "abcdefghijklmnop"}, reason: authn.Refused},
		"other type of secret": {data: good, typ: "Opaque", reason: authn.Ended},
		"deleted":              {data: good, deleted: true, reason: authn.Ended},
		"expired":              {data: with(map[string]string{"expiration": clockNow.Add(-time.Hour).UTC().Format(time.RFC3339)}), reason: authn.Expired},
		"expires now":          {data: with(map[string]string{"expiration": clockNow.UTC().Format(time.RFC3339)}), reason: authn.Expired},
		"not expired": {data: with(map[string]string{"expiration": clockNow.Add(time.Hour).UTC().Format(time.RFC3339)}),
			groups: []string{"system:bootstrappers", "system:authenticated"}},
		"expiration unreadable": {data: with(map[string]string{"expiration": "tomorrow"}), reason: authn.Malformed},
		"id of a wrong length":  {data: good, token: "foo.abcdefghijklmnop", reason: authn.Malformed},
		"other token":           {data: good, token: "barfoo.abcdefghijklmnop", reason: authn.Ended},
		"upper case":            {data: good, token: "FOOBAR.abcdefghijklmnop", reason: authn.Malformed},
		"too short":             {data: good, token: "foobar.abcdefghijklmno", reason: authn.Malformed},
		"no dot":                {data: good, token: "foobar-abcdefghijklmnop", reason: authn.Malformed},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			typ := tc.typ
			if typ == "" {
				typ = authn.BootstrapSecretType
			}
			data := map[string][]byte{}
			for key, value := range tc.data {
				data[key] = []byte(value)
			}
			secrets := bootstrapSecrets{"foobar": {Type: typ, Deleted: tc.deleted, Data: data}}
			w := newWorld(t, func(c *authn.Config) { c.BootstrapTokens = secrets })
			given := tc.token
			if given == "" {
				given = token
			}
			if tc.reason != "" {
				w.refused(given, tc.reason)
				return
			}
			id := w.accepted(given)
			if id.Name() != "system:bootstrap:foobar" || !slices.Equal(id.Groups(), tc.groups) || id.Method() != authn.BootstrapToken || id.CredentialID() != "BOOTSTRAP=foobar" {
				t.Errorf("got %q %q %q", id.Name(), id.Groups(), id.CredentialID())
			}
			w.refused(given, authn.WrongAudience, "gatehouse:site:one")
			must(t, w.bans.Replace([]authn.Ban{{Name: "b", Credential: "BOOTSTRAP=foobar"}}))
			w.refused(given, authn.Banned)
			must(t, w.bans.Replace(nil))
			// Deleting the secret ends the token at once.
			delete(secrets, "foobar")
			w.refused(given, authn.Ended)
		})
	}
	w := newWorld(t, func(c *authn.Config) { c.BootstrapTokens = bootstrapSecrets{} })
	if _, err := w.verify("offlin.abcdefghijklmnop"); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("without an answer: %v", err)
	}
}

type keyring struct {
	records map[string]accesskey.Record
	uses    accesskey.Uses
}

func (k *keyring) AccessKey(_ context.Context, id string) (accesskey.Record, bool, error) {
	r, ok := k.records[id]
	if r.Namespace == "offline" {
		return r, false, errors.New("database is gone")
	}
	return r, ok, nil
}

func (k *keyring) Used(id string, now time.Time) { k.uses.Touch(id, now) }

func TestAccessKeys(t *testing.T) {
	t.Parallel()
	keys := &keyring{records: map[string]accesskey.Record{}}
	w := newWorld(t, func(c *authn.Config) { c.AccessKeys = keys })
	add := func(r accesskey.Request) (string, accesskey.Record) {
		t.Helper()
		if r.Audience == "" {
			r.Audience = "keystone"
		}
		if r.Namespace == "" {
			r.Namespace = "project"
		}
		r.Lifetime = time.Hour
		text, record, err := accesskey.New(r, w.clock.now())
		must(t, err)
		keys.records[record.ID] = record
		return text.Reveal(), record
	}
	text, record := add(accesskey.Request{User: "jane", UID: "7", Groups: []string{"team"}})
	id := w.accepted(text, "keystone")
	if id.Name() != "jane" || id.UID() != "7" || !slices.Equal(id.Groups(), []string{"team", "system:authenticated"}) || id.CredentialID() != "KEY="+record.ID ||
		id.Method() != authn.AccessKey || !slices.Equal(id.Audiences(), []string{"keystone"}) {
		t.Errorf("got %q %q %q %q", id.Name(), id.Groups(), id.CredentialID(), id.Audiences())
	}
	if uses := keys.uses.Drain(); len(uses) != 1 || !uses[record.ID].Equal(w.clock.now()) {
		t.Errorf("uses %v", uses)
	}
	w.refused(text, authn.WrongAudience)
	w.refused(text, authn.WrongAudience, "salt")
	if uses := keys.uses.Drain(); len(uses) != 0 {
		t.Errorf("a refused key counts as used: %v", uses)
	}
	w.put(authn.ServiceAccountObject, "ns", "robot", "robot-uid", time.Time{})
	robot, _ := add(accesskey.Request{User: "system:serviceaccount:ns:robot", UID: "robot-uid", Groups: []string{"ignored"}})
	earlier, _ := add(accesskey.Request{User: "system:serviceaccount:ns:robot", UID: "earlier-uid"})
	w.refused(earlier, authn.Ended, "keystone")
	gone, _ := add(accesskey.Request{User: "system:serviceaccount:ns:gone", UID: "gone-uid"})
	w.refused(gone, authn.Ended, "keystone")
	if id := w.accepted(robot, "keystone"); !slices.Equal(id.Groups(), []string{"system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"}) {
		t.Errorf("groups %q", id.Groups())
	}
	for name, r := range map[string]accesskey.Request{
		"administrator":       {User: "system:admin"},
		"masters":             {User: "x", Groups: []string{"system:masters"}},
		"site":                {User: "system:site:one"},
		"half an account":     {User: "system:serviceaccount:ns"},
		"account with colons": {User: "system:serviceaccount:ns:a:b"},
	} {
		bad, _ := add(r)
		if err := w.refused(bad, authn.ReservedName, "keystone"); err == nil {
			t.Error(name)
		}
	}
	offline, _ := add(accesskey.Request{User: "x", Namespace: "offline"})
	if _, err := w.verify(offline, "keystone"); authn.ReasonOf(err) != "" || fault.KindOf(err) != fault.Internal {
		t.Errorf("without an answer: %v", err)
	}
	wrong := "a"
	if text[21] == 'a' {
		wrong = "b"
	}
	w.refused(text[:21]+wrong+text[22:], authn.UnknownKey, "keystone")
	w.refused("ghk_"+strings.Repeat("a", 16)+"_"+strings.Repeat("a", 52), authn.UnknownKey, "keystone")
	record.Revoked = true
	keys.records[record.ID] = record
	w.refused(text, authn.Ended, "keystone")
	w.clock.advance(time.Hour)
	w.refused(robot, authn.Expired, "keystone")
}

// A session ends with what it was opened with: revoked, deleted, expired or
// banned, however many sessions lie between.
func TestSessionsEndWithTheirOpener(t *testing.T) {
	t.Parallel()
	keys := &keyring{records: map[string]accesskey.Record{}}
	w := newWorld(t, func(c *authn.Config) { c.AccessKeys = keys })
	open := func(by string, lifetime time.Duration) (string, accesskey.Record) {
		t.Helper()
		text, record, err := accesskey.New(accesskey.Request{User: "jane", Audience: "keystone", Namespace: "project", OpenedBy: by, Lifetime: lifetime}, w.clock.now())
		must(t, err)
		keys.records[record.ID] = record
		return text.Reveal(), record
	}
	_, key := open("", time.Hour)
	first, session := open(key.CredentialID(), 2*time.Hour)
	second, _ := open(session.CredentialID(), 2*time.Hour)
	byToken, _ := open("JTI=1", 2*time.Hour)
	all := func(check func(text string)) {
		t.Helper()
		for _, text := range []string{first, second} {
			check(text)
		}
	}
	good := func(text string) { t.Helper(); w.accepted(text, "keystone") }
	// A refusal is remembered for a second.
	forget := func() { w.clock.advance(2 * time.Second) }
	all(good)
	good(byToken)

	must(t, w.bans.Replace([]authn.Ban{{Name: "b", Credential: key.CredentialID()}}))
	all(func(text string) { t.Helper(); w.refused(text, authn.Banned, "keystone") })
	must(t, w.bans.Replace([]authn.Ban{{Name: "b", Credential: "JTI=1"}}))
	all(good)
	w.refused(byToken, authn.Banned, "keystone")
	must(t, w.bans.Replace(nil))
	good(byToken)

	revoked := key
	revoked.Revoked = true
	keys.records[key.ID] = revoked
	all(func(text string) { t.Helper(); w.refused(text, authn.Ended, "keystone") })
	keys.records[key.ID] = key
	forget()
	all(good)
	delete(keys.records, key.ID)
	all(func(text string) { t.Helper(); w.refused(text, authn.Ended, "keystone") })
	keys.records[key.ID] = key
	forget()
	w.clock.advance(time.Hour)
	all(func(text string) { t.Helper(); w.refused(text, authn.Ended, "keystone") })

	// A ring of sessions that name each other is no opener.
	a, ra := open("", time.Hour)
	rb := ra
	rb.ID, rb.OpenedBy = strings.Repeat("b", 16), ra.CredentialID()
	ra.OpenedBy = rb.CredentialID()
	keys.records[ra.ID], keys.records[rb.ID] = ra, rb
	w.refused(a, authn.Malformed, "keystone")
}

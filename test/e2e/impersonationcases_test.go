package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// impersonators are who asks, by what they may do; each is a service account.
var impersonators = map[string]string{
	"tester": ``,
	// The plain verb.
	"users":      `{apiGroups: [""], resources: [users], verbs: [impersonate]}`,
	"groups":     `{apiGroups: [""], resources: [users, groups], verbs: [impersonate]}`,
	"project":    `{apiGroups: [""], resources: [users, groups], verbs: [impersonate]}, {apiGroups: [authentication.k8s.io], resources: [userextras/project], verbs: [impersonate]}`,
	"particular": `{apiGroups: [""], resources: [users], verbs: [impersonate]}, {apiGroups: [authentication.k8s.io], resources: [userextras/scopes], resourceNames: [scope-a], verbs: [impersonate]}`,
	"scopes":     `{apiGroups: [""], resources: [users], verbs: [impersonate]}, {apiGroups: [authentication.k8s.io], resources: [userextras/scopes], verbs: [impersonate]}`,
	"escaped":    `{apiGroups: [""], resources: [users], verbs: [impersonate]}, {apiGroups: [authentication.k8s.io], resources: ["userextras/example.com/escapedᛄscopes", "userextras/almost%zzpercent%xxencoded"], verbs: [impersonate]}`,
	"accounts":   `{apiGroups: [""], resources: [serviceaccounts], verbs: [impersonate]}`,
	"everything": `{apiGroups: [""], resources: [users, groups], verbs: [impersonate]}, {apiGroups: [authentication.k8s.io], resources: [userextras/scopes], verbs: [impersonate]}, {apiGroups: [authentication.k8s.io], resources: [uids], resourceNames: [some-uid], verbs: [impersonate]}`,
	// The constrained ones. All may ask who they are then, and nothing else.
	"c-user":        constrained("user-info", `{apiGroups: [authentication.k8s.io], resources: [users, uids], verbs: ["impersonate:user-info"]}`),
	"c-user-only":   `{apiGroups: [authentication.k8s.io], resources: [users], verbs: ["impersonate:user-info"]}`,
	"c-account":     constrained("serviceaccount", `{apiGroups: [authentication.k8s.io], resources: [serviceaccounts], verbs: ["impersonate:serviceaccount"]}`),
	"c-node":        constrained("arbitrary-node", `{apiGroups: [authentication.k8s.io], resources: [nodes], verbs: ["impersonate:arbitrary-node"]}`),
	"c-node-only":   `{apiGroups: [authentication.k8s.io], resources: [nodes], verbs: ["impersonate:arbitrary-node"]}`,
	"c-associated":  constrained("associated-node", `{apiGroups: [authentication.k8s.io], resources: [nodes], verbs: ["impersonate:associated-node"]}`),
	"c-groups":      constrained("user-info", `{apiGroups: [authentication.k8s.io], resources: [users, groups], verbs: ["impersonate:user-info"]}`),
	"c-some-groups": constrained("user-info", `{apiGroups: [authentication.k8s.io], resources: [users], verbs: ["impersonate:user-info"]}, {apiGroups: [authentication.k8s.io], resources: [groups], resourceNames: [group1, group2, group3, group4], verbs: ["impersonate:user-info"]}`),
	"c-extras":      constrained("user-info", `{apiGroups: [authentication.k8s.io], resources: [users, "userextras/*"], verbs: ["impersonate:user-info"]}`),
	"c-scopes":      constrained("user-info", `{apiGroups: [authentication.k8s.io], resources: [users, userextras/pandas.io/scopes], verbs: ["impersonate:user-info"]}`),
	"c-both":        `{apiGroups: [authentication.k8s.io], resources: [users], verbs: ["impersonate:user-info"]}, {apiGroups: [""], resources: [users], verbs: [impersonate]}`,
}

// constrained adds what may be done as somebody else: to ask who that is.
func constrained(mode, rules string) string {
	return rules + fmt.Sprintf(`, {apiGroups: [authentication.k8s.io], resources: [selfsubjectreviews], verbs: ["impersonate-on:%s:create"]}`, mode)
}

// TestImpersonationCases has the cases of k8s.io/apiserver v0.36.3,
// pkg/endpoints/filters/impersonation: the plain table whole, and of the
// constrained one those in which an answer is decided. Both servers are asked
// in the same words. Left out are the cases about the filter's cache, metrics
// and errors, and about selectors, which roles do not look at.
func TestImpersonationCases(t *testing.T) {
	onEither(t, func(t *testing.T, server hasKubectl) {
		k, admin := as(t, server), adminClient(t, server)
		const ns = "impersonation"
		k.namespace(ns)
		var objects strings.Builder
		for _, name := range slices.Sorted(maps.Keys(impersonators)) {
			fmt.Fprintf(&objects, `
{apiVersion: v1, kind: ServiceAccount, metadata: {name: %[1]s, namespace: %[2]s}}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: imp-%[1]s}, rules: [%[3]s]}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: imp-%[1]s}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: imp-%[1]s}, subjects: [{kind: ServiceAccount, name: %[1]s, namespace: %[2]s}]}
---`, name, ns, impersonators[name])
		}
		objects.WriteString("\n{apiVersion: v1, kind: Node, metadata: {name: imp-node1}}\n")
		k.feed(objects.String(), "create", "-f", "-")

		headers := map[string]http.Header{"administrator": {}}
		for name := range impersonators {
			bound := ""
			if name == "c-associated" {
				bound = `"boundObjectRef":{"apiVersion":"v1","kind":"Node","name":"imp-node1"}`
			}
			code, answer := admin.send(http.MethodPost, "/api/v1/namespaces/"+ns+"/serviceaccounts/"+name+"/token", nil,
				[]byte(`{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{`+bound+`}}`))
			var made tokenReply
			if err := json.Unmarshal(answer, &made); code != http.StatusCreated || err != nil {
				t.Fatalf("token of %s: %d %s", name, code, answer)
			}
			headers[name] = bearerOf(made.Status.Token)
		}
		bare := bareClient(t, server)
		type target struct {
			user, uid string
			groups    []string
			extra     map[string][]string
		}
		send := func(who string, to target) (int, target, string) {
			t.Helper()
			header, c := headers[who].Clone(), bare
			if who == "administrator" {
				c = admin
			}
			set := func(name string, values ...string) {
				if len(values) > 0 && values[0] != "" {
					header[name] = values
				}
			}
			set("Impersonate-User", to.user)
			set("Impersonate-Uid", to.uid)
			set("Impersonate-Group", to.groups...)
			for key, values := range to.extra {
				set("Impersonate-Extra-"+key, values...)
			}
			code, body := c.send(http.MethodPost, "/apis/authentication.k8s.io/v1/selfsubjectreviews", header, []byte(selfReview))
			var answer struct {
				Message string
				Status  json.RawMessage
			}
			if err := json.Unmarshal(body, &answer); err != nil {
				t.Fatalf("%s: %d %s", who, code, body)
			}
			var status struct {
				UserInfo struct {
					Username, UID string
					Groups        []string
					Extra         map[string][]string
				}
			}
			if code == http.StatusCreated {
				if err := json.Unmarshal(answer.Status, &status); err != nil {
					t.Fatal(err)
				}
			}
			u := status.UserInfo
			return code, target{u.Username, u.UID, u.Groups, u.Extra}, answer.Message
		}
		eventually(t, commandWithin, "the bindings count", func() bool {
			for who, to := range map[string]target{"users": {user: "x"}, "c-user": {user: "x"}, "c-scopes": {user: "x"}, "everything": {user: "x"}} {
				if code, _, _ := send(who, to); code != http.StatusCreated {
					return false
				}
			}
			return true
		})

		const authenticated, unauthenticated = "system:authenticated", "system:unauthenticated"
		scopeA, scopes := map[string][]string{"Scopes": {"scope-a"}}, map[string][]string{"Scopes": {"scope-a", "scope-b"}}
		pandas := map[string][]string{"Pandas.io%2fscopes": {"scope-a", "scope-b", "5", "4", "3", "2", "1"}}
		for _, tc := range []struct {
			name, who string
			to        target
			want      target // without user: refused
			code      int
			says      string
		}{
			{"not impersonating", "tester", target{}, target{user: "system:serviceaccount:" + ns + ":tester"}, 201, ""},
			{"impersonating-error", "tester", target{user: "anyone"}, target{}, 403, "cannot impersonate"},
			{"group without user", "tester", target{groups: []string{"some-group"}}, target{}, 400, ""},
			{"extra without user", "tester", target{extra: scopeA}, target{}, 400, ""},
			{"uid without user", "tester", target{uid: "some-uid"}, target{}, 400, ""},
			{"disallowed-group", "users", target{user: "system:admin", groups: []string{"some-group"}}, target{}, 403, ""},
			{"allowed-group", "groups", target{user: "system:admin", groups: []string{"some-group"}}, target{user: "system:admin", groups: []string{"some-group", authenticated}}, 201, ""},
			{"disallowed-userextra-1", "groups", target{user: "system:admin", groups: []string{"some-group"}, extra: scopeA}, target{}, 403, ""},
			{"disallowed-userextra-2", "project", target{user: "system:admin", groups: []string{"some-group"}, extra: scopeA}, target{}, 403, ""},
			{"disallowed-userextra-3", "particular", target{user: "system:admin", extra: scopes}, target{}, 403, ""},
			{"allowed-userextras", "scopes", target{user: "system:admin", extra: scopes}, target{user: "system:admin", groups: []string{authenticated}, extra: map[string][]string{"scopes": {"scope-a", "scope-b"}}}, 201, ""},
			{"percent-escaped-userextras", "escaped", target{user: "system:admin", extra: map[string][]string{"Example.com%2fescaped%e1%9b%84scopes": {"a", "b"}}},
				target{user: "system:admin", groups: []string{authenticated}, extra: map[string][]string{"example.com/escapedᛄscopes": {"a", "b"}}}, 201, ""},
			{"almost-percent-escaped-userextras", "escaped", target{user: "system:admin", extra: map[string][]string{"Almost%zzpercent%xxencoded": {"a", "b"}}},
				target{user: "system:admin", groups: []string{authenticated}, extra: map[string][]string{"almost%zzpercent%xxencoded": {"a", "b"}}}, 201, ""},
			{"allowed-users-impersonation", "users", target{user: "tester"}, target{user: "tester", groups: []string{authenticated}}, 201, ""},
			{"disallowed-impersonating", "accounts", target{user: "tester"}, target{}, 403, ""},
			{"allowed-sa-impersonating", "accounts", target{user: "system:serviceaccount:foo:default"},
				target{user: "system:serviceaccount:foo:default", groups: []string{"system:serviceaccounts", "system:serviceaccounts:foo", authenticated}}, 201, ""},
			// Who is not authenticated may not even ask who that is.
			{"anonymous", "administrator", target{user: "system:anonymous"}, target{}, 403, `User "system:anonymous" cannot create`},
			{"anonymous, group given", "administrator", target{user: "system:anonymous", groups: []string{unauthenticated}}, target{}, 403, `User "system:anonymous" cannot create`},
			{"unauthenticated", "administrator", target{user: "unknown", groups: []string{unauthenticated}}, target{}, 403, `User "unknown" cannot create`},
			{"authenticated once", "administrator", target{user: "unknown", groups: []string{authenticated}}, target{user: "unknown", groups: []string{authenticated}}, 201, ""},
			{"authenticated once, beside another", "groups", target{user: "system:admin", groups: []string{"some-group", authenticated}}, target{user: "system:admin", groups: []string{"some-group", authenticated}}, 201, ""},
			{"uid", "everything", target{user: "tester", uid: "some-uid"}, target{user: "tester", uid: "some-uid", groups: []string{authenticated}}, 201, ""},
			{"disallowed uid", "everything", target{user: "tester", uid: "disallowed-uid"}, target{}, 403, ""},
			{"all headers", "everything", target{user: "tester", uid: "some-uid", groups: []string{authenticated}, extra: scopes},
				target{user: "tester", uid: "some-uid", groups: []string{authenticated}, extra: map[string][]string{"scopes": {"scope-a", "scope-b"}}}, 201, ""},

			{"constrained: user", "c-user", target{user: "anyone"}, target{user: "anyone", groups: []string{authenticated}}, 201, ""},
			{"constrained: user with uid", "c-user", target{user: "anyone", uid: "1"}, target{user: "anyone", uid: "1", groups: []string{authenticated}}, 201, ""},
			{"constrained: not this action", "c-user-only", target{user: "anyone"}, target{}, 403, "cannot impersonate-on:user-info:create"},
			{"constrained: a user is no account", "c-user", target{user: "system:serviceaccount:foo:default"}, target{}, 403, "cannot impersonate-on:serviceaccount:create"},
			{"constrained: account", "c-account", target{user: "system:serviceaccount:foo:default"},
				target{user: "system:serviceaccount:foo:default", groups: []string{"system:serviceaccounts", "system:serviceaccounts:foo", authenticated}}, 201, ""},
			{"constrained: an account is no node", "c-account", target{user: "system:node:imp-node1"}, target{}, 403, "cannot impersonate-on:arbitrary-node:create"},
			{"constrained: node", "c-node", target{user: "system:node:imp-node1"}, target{user: "system:node:imp-node1", groups: []string{"system:nodes", authenticated}}, 201, ""},
			{"constrained: node, not this action", "c-node-only", target{user: "system:node:imp-node1"}, target{}, 403, "cannot impersonate-on:arbitrary-node:create"},
			{"constrained: associated node", "c-associated", target{user: "system:node:imp-node1"}, target{user: "system:node:imp-node1", groups: []string{"system:nodes", authenticated}}, 201, ""},
			{"constrained: another node", "c-associated", target{user: "system:node:imp-node2"}, target{}, 403, "cannot impersonate-on:arbitrary-node:create"},
			{"constrained: a group not given", "c-user", target{user: "bob", groups: []string{"group1"}}, target{}, 403, `resource "groups"`},
			{"constrained: many groups", "c-groups", target{user: "bob", groups: []string{"group1", "group2", "group3", "group4"}},
				target{user: "bob", groups: []string{"group1", "group2", "group3", "group4", authenticated}}, 201, ""},
			{"constrained: each group by name", "c-some-groups", target{user: "bob", groups: []string{"group1", "group2", "group3", "group4"}},
				target{user: "bob", groups: []string{"group1", "group2", "group3", "group4", authenticated}}, 201, ""},
			{"constrained: one group too many", "c-some-groups", target{user: "bob", groups: []string{"group1", "group2", "group3", "group5"}}, target{}, 403, `resource "groups"`},
			{"constrained: system:masters", "c-groups", target{user: "admin-user", groups: []string{"system:masters"}}, target{}, 403, `"system:masters" is forbidden`},
			{"constrained: extra not given", "c-groups", target{user: "bob", groups: []string{"group1"}, extra: pandas}, target{}, 403, "userextras"},
			{"constrained: extra", "c-scopes", target{user: "system:admin", extra: pandas},
				target{user: "system:admin", groups: []string{authenticated}, extra: map[string][]string{"pandas.io/scopes": {"scope-a", "scope-b", "5", "4", "3", "2", "1"}}}, 201, ""},
			{"constrained: any extra", "c-extras", target{user: "alice", extra: pandas},
				target{user: "alice", groups: []string{authenticated}, extra: map[string][]string{"pandas.io/scopes": {"scope-a", "scope-b", "5", "4", "3", "2", "1"}}}, 201, ""},
			{"legacy-fallback", "c-both", target{user: "anyone"}, target{user: "anyone", groups: []string{authenticated}}, 201, ""},
		} {
			code, got, message := send(tc.who, tc.to)
			if code != tc.code || !strings.Contains(message, tc.says) {
				t.Errorf("%s: %d %s, want %d with %q", tc.name, code, message, tc.code, tc.says)
				continue
			}
			if got.user != tc.want.user || got.uid != tc.want.uid && tc.want.uid != "" ||
				tc.to.user != "" && (!slices.Equal(got.groups, tc.want.groups) || !maps.EqualFunc(got.extra, tc.want.extra, slices.Equal)) {
				t.Errorf("%s: got %+v, want %+v", tc.name, got, tc.want)
			}
		}
		admin.send(http.MethodDelete, "/api/v1/nodes/imp-node1", nil, nil)
	})
}

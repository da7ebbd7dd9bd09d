package sitename_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/internal/access/sitename"
)

func TestOutgoing(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		user   string
		groups []string
		want   sitename.Caller
		err    error
	}{
		{
			name:   "a person keeps name and ordinary groups",
			user:   "alice",
			groups: []string{"dev", "system:authenticated", "ops"},
			want:   sitename.Caller{User: "alice", Groups: []string{"dev", "system:authenticated", "ops"}},
		},
		{
			name:   "an administrator here is nobody special there",
			user:   "alice",
			groups: []string{"system:masters", "system:authenticated", "system:monitoring"},
			want:   sitename.Caller{User: "alice", Groups: []string{"system:authenticated"}},
		},
		{
			name:   "a service account and its groups are prefixed",
			user:   "system:serviceaccount:prod:deployer",
			groups: []string{"system:serviceaccounts", "system:serviceaccounts:prod", "system:authenticated"},
			want: sitename.Caller{User: "gatehouse:system:serviceaccount:prod:deployer", Groups: []string{
				"gatehouse:system:serviceaccounts", "gatehouse:system:serviceaccounts:prod", "system:authenticated"}},
		},
		{
			name:   "a service account cannot bring the group of another namespace",
			user:   "system:serviceaccount:prod:deployer",
			groups: []string{"system:serviceaccounts:kube-system", "system:serviceaccountsprod"},
			want:   sitename.Caller{User: "gatehouse:system:serviceaccount:prod:deployer"},
		},
		{
			name:   "a person cannot bring the groups of service accounts",
			user:   "alice",
			groups: []string{"system:serviceaccounts", "system:serviceaccounts:prod"},
			want:   sitename.Caller{User: "alice"},
		},
		{
			name:   "groups that imitate the prefix are dropped",
			user:   "alice",
			groups: []string{"gatehouse:system:serviceaccounts", "gatehouse:x", ""},
			want:   sitename.Caller{User: "alice"},
		},
		{name: "no name", user: "", err: sitename.ErrWithheld},
		{name: "anonymous", user: "system:anonymous", err: sitename.ErrWithheld},
		{name: "a node", user: "system:node:n1", err: sitename.ErrWithheld},
		{name: "a site", user: "system:site:other", err: sitename.ErrWithheld},
		{name: "a person who imitates a prefixed service account", user: "gatehouse:system:serviceaccount:prod:deployer", err: sitename.ErrWithheld},
		{name: "a malformed service account", user: "system:serviceaccount:prod", err: sitename.ErrWithheld},
		{name: "a service account with a name outside the grammar", user: "system:serviceaccount:prod:a:b", err: sitename.ErrWithheld},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := sitename.Outgoing(tc.user, tc.groups)
			if !errors.Is(err, tc.err) {
				t.Fatalf("error %v, want %v", err, tc.err)
			}
			if got.User != tc.want.User || !slices.Equal(got.Groups, tc.want.Groups) {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}

func TestIncomingAttacks(t *testing.T) {
	t.Parallel()
	own := sitename.Caller{}
	for _, tc := range []struct {
		name   string
		user   string
		groups []string
		want   sitename.Caller
		known  bool
	}{
		{
			name: "a person", user: "alice", groups: []string{"dev", "system:authenticated"},
			want: sitename.Caller{User: "alice", Groups: []string{"dev", "system:authenticated"}}, known: true,
		},
		{
			name: "a service account that we told the site about", user: "gatehouse:system:serviceaccount:prod:deployer",
			groups: []string{"gatehouse:system:serviceaccounts", "gatehouse:system:serviceaccounts:prod", "system:authenticated"},
			want: sitename.Caller{User: "system:serviceaccount:prod:deployer",
				Groups: []string{"system:serviceaccounts", "system:serviceaccounts:prod", "system:authenticated"}}, known: true,
		},
		{
			name: "the site's own service account of the same name", user: "system:serviceaccount:kube-system:x",
			groups: []string{"system:serviceaccounts", "system:authenticated"}, want: own,
		},
		{name: "the site's own administrator", user: "kubernetes-admin", groups: []string{"system:masters"},
			want: sitename.Caller{User: "kubernetes-admin"}, known: true},
		{name: "prefixed administrator group", user: "mallory", groups: []string{"gatehouse:system:masters"},
			want: sitename.Caller{User: "mallory"}, known: true},
		{name: "prefixed administrator user", user: "gatehouse:system:masters", want: own},
		{name: "prefixed node", user: "gatehouse:system:node:n1", want: own},
		{name: "prefixed site", user: "gatehouse:system:site:other", want: own},
		{name: "prefixed anonymous", user: "gatehouse:system:anonymous", want: own},
		{name: "prefixed person", user: "gatehouse:alice", groups: []string{"dev"}, want: own},
		{name: "double prefix on a user", user: "gatehouse:gatehouse:system:serviceaccount:prod:deployer", want: own},
		{name: "double prefix on a group", user: "gatehouse:system:serviceaccount:prod:deployer",
			groups: []string{"gatehouse:gatehouse:system:serviceaccounts"},
			want:   sitename.Caller{User: "system:serviceaccount:prod:deployer"}, known: true},
		{name: "another site", user: "system:site:other", groups: []string{"system:sites"}, want: own},
		{name: "the group of sites", user: "mallory", groups: []string{"system:sites", "dev"},
			want: sitename.Caller{User: "mallory", Groups: []string{"dev"}}, known: true},
		{name: "anonymous", user: "system:anonymous", groups: []string{"system:unauthenticated"}, want: own},
		{name: "unauthenticated beside a person", user: "alice", groups: []string{"system:unauthenticated", "system:authenticated"},
			want: sitename.Caller{User: "alice", Groups: []string{"system:authenticated"}}, known: true},
		{name: "no user at all", groups: []string{"dev", "system:masters"},
			want: sitename.Caller{Groups: []string{"dev"}}, known: true},
		{name: "service account groups without a service account", user: "mallory",
			groups: []string{"gatehouse:system:serviceaccounts", "gatehouse:system:serviceaccounts:prod", "dev"},
			want:   sitename.Caller{User: "mallory", Groups: []string{"dev"}}, known: true},
		{name: "service account groups without a user",
			groups: []string{"gatehouse:system:serviceaccounts:prod"}, known: true},
		{name: "the group of another namespace", user: "gatehouse:system:serviceaccount:prod:deployer",
			groups: []string{"gatehouse:system:serviceaccounts:kube-system"},
			want:   sitename.Caller{User: "system:serviceaccount:prod:deployer"}, known: true},
		{name: "the group of a namespace whose name continues", user: "gatehouse:system:serviceaccount:prod:deployer",
			groups: []string{"gatehouse:system:serviceaccounts:prod2", "gatehouse:system:serviceaccounts:", "gatehouse:system:serviceaccountsprod"},
			want:   sitename.Caller{User: "system:serviceaccount:prod:deployer"}, known: true},
		{name: "unprefixed groups beside a prefixed service account", user: "gatehouse:system:serviceaccount:prod:deployer",
			groups: []string{"system:serviceaccounts", "system:serviceaccounts:prod"},
			want:   sitename.Caller{User: "system:serviceaccount:prod:deployer"}, known: true},
		{name: "prefixed authenticated is not the group", user: "alice", groups: []string{"gatehouse:system:authenticated"},
			want: sitename.Caller{User: "alice"}, known: true},
		{name: "a service account name with a second colon", user: "gatehouse:system:serviceaccount:prod:deployer:x", want: own},
		{name: "a service account name in capitals", user: "gatehouse:system:serviceaccount:prod:Deployer", want: own},
		{name: "a service account without a name", user: "gatehouse:system:serviceaccount:prod:", want: own},
		{name: "a service account without a namespace", user: "gatehouse:system:serviceaccount::deployer", want: own},
		{name: "a namespace over 63 bytes", user: "gatehouse:system:serviceaccount:" + strings.Repeat("a", 64) + ":x", want: own},
		{name: "a name over 253 bytes", user: "gatehouse:system:serviceaccount:prod:" + strings.Repeat("a", 254), want: own},
		{name: "the prefix alone", user: "gatehouse:", want: own},
		{name: "reserved alone", user: "system:", want: own},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			groups := slices.Clone(tc.groups)
			got, known := sitename.Incoming(tc.user, tc.groups)
			if known != tc.known || got.User != tc.want.User || !slices.Equal(got.Groups, tc.want.Groups) {
				t.Errorf("got %+v %v, want %+v %v", got, known, tc.want, tc.known)
			}
			for _, group := range tc.groups {
				want := strings.HasPrefix(group, "gatehouse:") && !slices.Contains(tc.want.Groups, strings.TrimPrefix(group, "gatehouse:"))
				if forged := sitename.Forged(tc.user, group); forged != want {
					t.Errorf("Forged(%q, %q) = %v", tc.user, group, forged)
				}
			}
			if !slices.Equal(groups, tc.groups) {
				t.Errorf("the question was changed to %q", tc.groups)
			}
		})
	}
}

func TestReserved(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"system:sites": true, "system:site:a": true, "system:site:": true,
		"system:sites2": false, "system:site": false, "alice": false, "gatehouse:system:sites": false,
	} {
		if got := sitename.Reserved(name); got != want {
			t.Errorf("Reserved(%q) = %v, want %v", name, got, want)
		}
	}
}

func TestIncomingUsualQuestionAllocatesNothing(t *testing.T) {
	groups := []string{"dev", "system:authenticated"}
	if n := testing.AllocsPerRun(100, func() { sitename.Incoming("alice", groups) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzRoundTrip holds the two directions together: what Outgoing tells, Incoming
// reads back as the same user; and whatever a site asks, nothing reserved but
// the caller's own service-account names and system:authenticated comes out.
func FuzzRoundTrip(f *testing.F) {
	f.Add("alice", "dev", "system:masters")
	f.Add("system:serviceaccount:prod:deployer", "system:serviceaccounts:prod", "system:authenticated")
	f.Add("gatehouse:gatehouse:system:serviceaccount:a:b", "gatehouse:system:sites", "")
	f.Fuzz(func(t *testing.T, user, g1, g2 string) {
		groups := []string{g1, g2}
		if told, err := sitename.Outgoing(user, groups); err == nil {
			if strings.HasPrefix(told.User, "system:") {
				t.Fatalf("told a site about user %q", told.User)
			}
			for _, g := range told.Groups {
				if strings.HasPrefix(g, "system:") && g != "system:authenticated" {
					t.Fatalf("told a site about group %q", g)
				}
			}
			back, known := sitename.Incoming(told.User, told.Groups)
			if !known || back.User != user {
				t.Fatalf("%q was told as %q and came back as %q", user, told.User, back.User)
			}
			for _, g := range back.Groups {
				if !slices.Contains(groups, g) {
					t.Fatalf("group %q appeared on the way", g)
				}
			}
		}
		asked, known := sitename.Incoming(user, groups)
		if !known && (asked.User != "" || asked.Groups != nil) {
			t.Fatalf("an unknown caller has names: %+v", asked)
		}
		if strings.HasPrefix(asked.User, "system:") && "gatehouse:"+asked.User != user {
			t.Fatalf("%q was read as %q", user, asked.User)
		}
		for _, g := range asked.Groups {
			if strings.HasPrefix(g, "system:") && g != "system:authenticated" &&
				!(slices.Contains(groups, "gatehouse:"+g) && strings.HasPrefix(asked.User, "system:serviceaccount:")) {
				t.Fatalf("%q in %q was read as group %q", user, groups, g)
			}
		}
	})
}

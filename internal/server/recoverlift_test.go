package server

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	accessapi "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/access"
)

var recoveringAdmin = access.Subject{Name: "gatehouse-recovery-1", Groups: []string{"system:masters", "system:authenticated"}}

func TestWhatHindersARecovery(t *testing.T) {
	t.Parallel()
	j, err := newJudge()
	if err != nil {
		t.Fatal(err)
	}
	past := &metav1.Time{Time: time.Now().Add(-time.Hour)}
	for name, tc := range map[string]struct {
		ban  accessapi.BanSpec
		want bool
	}{
		"superusers":           {accessapi.BanSpec{Subject: &accessapi.BanSubject{Kind: "Group", Name: "system:masters"}}, true},
		"everybody, here":      {accessapi.BanSpec{Subject: &accessapi.BanSubject{Kind: "Group", Name: "system:authenticated"}, Sites: []string{"gatehouse"}}, true},
		"superusers of a site": {accessapi.BanSpec{Subject: &accessapi.BanSubject{Kind: "Group", Name: "system:masters"}, Sites: []string{"blue"}}, false},
		"another":              {accessapi.BanSpec{Subject: &accessapi.BanSubject{Kind: "User", Name: "ada"}}, false},
		"over":                 {accessapi.BanSpec{Subject: &accessapi.BanSubject{Kind: "Group", Name: "system:masters"}, NotAfter: past}, false},
		"a credential":         {accessapi.BanSpec{CredentialID: "JTI=1"}, false},
	} {
		hit, err := j.banned(t.Context(), &accessapi.Ban{ObjectMeta: metav1.ObjectMeta{Name: "b"}, Spec: tc.ban}, recoveringAdmin)
		if err != nil || hit != tc.want {
			t.Errorf("ban of %s: %v %v", name, hit, err)
		}
	}
	masters := []accessapi.Subject{{Kind: "Group", Name: "system:masters"}}
	future := &metav1.Time{Time: time.Now().Add(time.Hour)}
	for name, tc := range map[string]struct {
		spec accessapi.AccessPolicySpec
		want bool
	}{
		"a deny":                {accessapi.AccessPolicySpec{Effect: "Deny", Subjects: masters, Sites: []string{"*"}}, true},
		"under a condition":     {accessapi.AccessPolicySpec{Effect: "Deny", Subjects: masters, Sites: []string{"gate*"}, Condition: "false"}, true},
		"that has yet to begin": {accessapi.AccessPolicySpec{Effect: "Deny", Subjects: masters, Sites: []string{"gatehouse"}, NotBefore: future}, true},
		"by a prefix":           {accessapi.AccessPolicySpec{Effect: "Deny", Subjects: []accessapi.Subject{{Kind: "User", NamePrefix: "gate"}}, Sites: []string{"gatehouse"}}, true},
		"that is over":          {accessapi.AccessPolicySpec{Effect: "Deny", Subjects: masters, Sites: []string{"*"}, NotAfter: past}, false},
		"at a site":             {accessapi.AccessPolicySpec{Effect: "Deny", Subjects: masters, Sites: []string{"blue"}}, false},
		"of another":            {accessapi.AccessPolicySpec{Effect: "Deny", Subjects: []accessapi.Subject{{Kind: "Group", Name: "staff"}}, Sites: []string{"*"}}, false},
		"an allow":              {accessapi.AccessPolicySpec{Effect: "Allow", Subjects: masters, Sites: []string{"*"}}, false},
	} {
		hit, err := j.denied(t.Context(), &accessapi.AccessPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: tc.spec}, recoveringAdmin)
		if err != nil || hit != tc.want {
			t.Errorf("policy, %s: %v %v", name, hit, err)
		}
	}
}

package access

import (
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/authz"
)

// Standing is everything said of one subject in one namespace. Superuser comes
// after bans and denials and before everything that grants.
type Standing struct {
	authz.Standing
	Superuser bool
	// Given are the rules of all delegations to the subject, as far as their
	// givers hold them. Only [Authorizer.Standing] fills it in.
	Given []authz.Rule
}

// Standing returns everything said of subject in a namespace of the control
// plane at this time; an empty namespace asks for what is allowed everywhere
// and denied anywhere.
func (a *Authorizer) Standing(subject Subject, namespace string) (Standing, error) {
	if err := a.Ready(); err != nil {
		return Standing{}, err
	}
	snapshot := a.config.Policy.Snapshot()
	s := a.StandingIn(snapshot, subject, namespace)
	for i := range s.Handed {
		s.Given = append(s.Given, a.Handed(snapshot, &s.Handed[i], "", namespace)...)
	}
	return s, nil
}

// StandingIn is [Authorizer.Standing] in one state of the policy.
func (a *Authorizer) StandingIn(snapshot *authz.Snapshot, subject Subject, namespace string) Standing {
	return a.StandingAt(snapshot, subject, "", namespace)
}

// StandingAt is StandingIn at a site, with the names as the site sends them.
func (a *Authorizer) StandingAt(snapshot *authz.Snapshot, subject Subject, site, namespace string) Standing {
	q := authz.Request{User: subject.Name, Groups: subject.Groups, Site: site, Namespace: namespace, Time: a.config.Now(), Origins: originsOf(subject.Extra)}
	ids := subject.Extra[CredentialIDExtra]
	if len(ids) > 0 {
		q.CredentialID, ids = ids[0], ids[1:]
	}
	out := Standing{Standing: snapshot.StandingOf(&q), Superuser: subject.isSuperuser()}
	// As in ask, a ban of any one credential holds.
	for _, id := range ids {
		q.CredentialID = id
		out.Bans = append(out.Bans, snapshot.StandingOf(&q).Bans...)
	}
	slices.SortFunc(out.Bans, func(x, y authz.Ban) int { return strings.Compare(x.Name, y.Name) })
	out.Bans = slices.CompactFunc(out.Bans, func(x, y authz.Ban) bool { return x.Name == y.Name })
	return out
}

// DecideIn is [Authorizer.Decide] in one state of the policy.
func (a *Authorizer) DecideIn(snapshot *authz.Snapshot, subject Subject, q authz.Request) Decision {
	q.Time = a.config.Now()
	return decide(snapshot, &subject, q)
}

// Everything returns the rules of a superuser.
func Everything() []authz.Rule { return everything() }

// Now is the time by which the authorizer decides.
func (a *Authorizer) Now() time.Time { return a.config.Now() }

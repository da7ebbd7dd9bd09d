package access

import (
	"context"
	"slices"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access/grant"
)

// Ban checks a ban of a subject: its author must hold everywhere what the
// subject is known to hold everywhere by its name, or the verb escalate on the
// ban, so that nobody turns off somebody above them. What a credential or a key
// holds cannot be told from its id; whoever may write bans may ban it.
func (c Checks) Ban(ctx context.Context, author Subject, obj, old *accessv1alpha1.Ban) error {
	if obj.Spec.Subject == nil || old != nil && onlyCollected(obj, old) {
		return nil
	}
	if s := obj.Spec.Sites; len(s) > 0 && !slices.ContainsFunc(s, func(p string) bool { return grant.Pattern(p).Matches(grant.ControlPlane) }) {
		// At sites the control plane does not know who is above whom.
		return nil
	}
	may, err := c.may(ctx, author, authz.Request{
		Verb:     "escalate",
		APIGroup: accessv1alpha1.GroupVersion.Group,
		Resource: "bans",
		Name:     nameForEscalate(obj, old != nil),
	})
	if err != nil || may {
		return err
	}
	subject := bannedSubject(obj.Spec.Subject)
	snapshot := c.Access.config.Policy.Snapshot()
	held, _ := rulesOf(snapshot, &subject, "")
	if err := c.confirm(author, &authz.Policy{Rules: held, Sites: []string{authz.ControlPlane}}); err != nil {
		return err
	}
	q := c.authorOf(subject)
	for _, p := range snapshot.StandingOf(&q).Allows {
		allowed := p.Policy
		allowed.Sites = []string{authz.ControlPlane}
		if err := c.confirm(author, &allowed); err != nil {
			return err
		}
	}
	return nil
}

// bannedSubject is a subject with the groups that follow from its kind.
func bannedSubject(s *accessv1alpha1.BanSubject) Subject {
	switch s.Kind {
	case accessv1alpha1.SubjectGroup:
		return Subject{Groups: []string{s.Name}}
	case accessv1alpha1.SubjectServiceAccount:
		return Subject{Name: serviceAccountUser + s.Namespace + ":" + s.Name,
			Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + s.Namespace}}
	case accessv1alpha1.SubjectUser:
		return Subject{Name: s.Name}
	default:
		return Subject{}
	}
}

// Banned reports whether a ban holds for subject at a site, by the names that
// the site knows, or in the control plane when site is empty. reason is fit
// for the record.
func (a *Authorizer) Banned(_ context.Context, subject Subject, site string) (reason string, banned bool, err error) {
	if err := a.Ready(); err != nil {
		return "", false, err
	}
	reason, banned = BannedAtSite(a.config.Policy.Snapshot(), site, subject, a.config.Now())
	return reason, banned, nil
}

// ClusterRole returns the rules of a ClusterRole, for validation.
func (p *Policy) ClusterRole(name string) ([]authz.Rule, bool) { return p.roleRules("", name) }

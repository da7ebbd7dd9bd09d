package access

import (
	"context"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access/grant"
	"github.com/gatehouse-dev/gatehouse/internal/access/rbac"
	"github.com/gatehouse-dev/gatehouse/internal/authn/origin"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// putDelegation feeds a delegation, unless its giver is a service account that
// is gone, or another by now.
func (g *Grants) putDelegation(tx *authz.Tx, d *accessv1alpha1.Delegation) {
	g.forgetDelegation(d.Name)
	g.given[d.Name] = d
	giver := &d.Spec.From
	if strings.HasPrefix(giver.User, serviceAccountUser) {
		if g.givers[giver.User] == nil {
			g.givers[giver.User] = map[string]struct{}{}
		}
		g.givers[giver.User][d.Name] = struct{}{}
		if uid, ok := g.accounts[giver.User]; !ok || giver.UID != "" && string(uid) != giver.UID {
			tx.DeleteDelegation(d.Name)
			return
		}
	}
	tx.PutDelegation(g.translator.Delegation(d, slices.Contains(giver.Groups, SuperuserGroup)))
}

func (g *Grants) forgetDelegation(name string) {
	d, ok := g.given[name]
	if !ok {
		return
	}
	delete(g.given, name)
	if of := g.givers[d.Spec.From.User]; of != nil {
		if delete(of, name); len(of) == 0 {
			delete(g.givers, d.Spec.From.User)
		}
	}
}

// account notes a service account; an empty uid is one that is gone.
func (g *Grants) account(tx *authz.Tx, user string, uid types.UID) {
	if old, ok := g.accounts[user]; ok && old == uid {
		return
	}
	if uid == "" {
		delete(g.accounts, user)
	} else {
		g.accounts[user] = uid
	}
	for name := range g.givers[user] {
		g.putDelegation(tx, g.given[name])
	}
}

// Delegation checks a new Delegation: its giver must hold what it hands on,
// here and now; nothing replaces that, the verb escalate neither. Of one with a
// parent the first giver of the chain must hold it and no giver may be denied
// it; that it lies inside of its parent is said by its validation. The giver is
// the author, or somebody whom the author may impersonate by every name given.
// find returns a stored delegation.
func (c Checks) Delegation(ctx context.Context, author Subject, obj *accessv1alpha1.Delegation, find func(string) (*accessv1alpha1.Delegation, bool)) error {
	if err := c.Access.Ready(); err != nil {
		return err
	}
	if obj.Spec.From.User != author.Name {
		target := Subject{Name: obj.Spec.From.User, UID: obj.Spec.From.UID, Groups: withoutImplied(obj.Spec.From), Extra: obj.Spec.From.Extra}
		if err := c.Access.CheckImpersonation(ctx, author, target); err != nil {
			return fault.Wrap(fault.Denied, "on behalf of another giver: "+fault.Public(err), err)
		}
	}
	asked := grant.Translator{}.Delegation(obj, false)
	scope := authz.Policy{Rules: asked.Rules, Roles: asked.Roles, Sites: asked.Sites, Namespaces: asked.Namespaces,
		NamespaceLabels: asked.NamespaceLabels, NotBefore: asked.NotBefore, NotAfter: asked.NotAfter}
	snapshot := c.Access.config.Policy.Snapshot()
	for link, depth := obj, 1; ; depth++ {
		giver := giverOf(&link.Spec.From)
		q := c.authorOf(giver)
		var missing []authz.Rule
		if link.Spec.Parent == "" {
			if err := c.narrow(scope.Roles, scope.Rules); err != nil {
				return err
			}
			missing = snapshot.Shortfall(&q, &scope, giver.isSuperuser())
		} else {
			missing = snapshot.Denied(&q, &scope)
		}
		if len(missing) > 0 {
			return fault.Newf(fault.Denied, "user %q (groups=%q) is attempting to delegate permissions not currently held at %q:\n%s",
				giver.Name, giver.Groups, scope.Sites, rbac.DescribeAll(missing))
		}
		if link.Spec.Parent == "" {
			return nil
		}
		next, ok := find(link.Spec.Parent)
		if !ok || next.UID != link.Spec.ParentUID || depth == authz.MaxChain {
			return fault.Newf(fault.Denied, "delegation %q, by which %q has what it hands on, is gone", link.Spec.Parent, giver.Name)
		}
		link = next
	}
}

// ReceiverName is the user name of a subject.
func ReceiverName(s authz.Subject) string {
	if s.Kind == authz.ServiceAccount {
		return serviceAccountUser + s.Namespace + ":" + s.Name
	}
	return s.Name
}

// Giver is the author of a delegation as the object records it.
func Giver(author Subject) accessv1alpha1.DelegationGiver {
	giver := accessv1alpha1.DelegationGiver{User: author.Name, UID: author.UID, Groups: distinct(author.Groups)}
	if ids := author.Extra[CredentialIDExtra]; len(ids) > 0 {
		giver.CredentialID = ids[0]
	}
	giver.Origins = originsOf(author.Extra)
	for key, values := range author.Extra {
		if key == CredentialIDExtra || key == origin.Extra {
			continue
		}
		if giver.Extra == nil {
			giver.Extra = map[string][]string{}
		}
		giver.Extra[key] = values
	}
	return giver
}

// WrittenWith adds to who gives the credentials of the request that writes the
// delegation, as package origin writes them: where the author is
// impersonated, they are not those that are said of the author.
func WrittenWith(giver accessv1alpha1.DelegationGiver, line []string) accessv1alpha1.DelegationGiver {
	origins := slices.Clone(giver.Origins)
	for _, text := range line {
		if id := origin.ID(text); id != giver.CredentialID && !slices.Contains(origins, id) {
			origins = append(origins, id)
		}
	}
	giver.Origins = origins
	return giver
}

// credentialExtra adds to extra, which may be nil, what says the credential of
// its holder and what that was made with.
func credentialExtra(extra map[string][]string, credential string, origins []string) map[string][]string {
	if credential == "" && len(origins) == 0 {
		return extra
	}
	if extra == nil {
		extra = map[string][]string{}
	}
	if credential != "" {
		extra[CredentialIDExtra] = []string{credential}
	}
	if len(origins) > 0 {
		line := make([]string, len(origins))
		for i, id := range origins {
			line[i] = origin.Entry{ID: id}.String()
		}
		extra[origin.Extra] = line
	}
	return extra
}

// OnBehalf is the giver that an author named, with the groups that everybody of
// that name is in. The credential is the author's.
func OnBehalf(author Subject, named accessv1alpha1.DelegationGiver) accessv1alpha1.DelegationGiver {
	own := Giver(author)
	named.CredentialID, named.Origins = own.CredentialID, own.Origins
	named.Groups = distinct(append(slices.Clone(named.Groups), impliedGroups(named.User)...))
	return named
}

func distinct(list []string) []string {
	out := slices.Clone(list)
	slices.Sort(out)
	return slices.Compact(out)
}

func impliedGroups(user string) []string {
	groups := []string{"system:authenticated"}
	if namespace, _, ok := splitServiceAccount(user); ok {
		groups = append(groups, "system:serviceaccounts", "system:serviceaccounts:"+namespace)
	}
	return groups
}

func withoutImplied(giver accessv1alpha1.DelegationGiver) []string {
	implied := impliedGroups(giver.User)
	return slices.DeleteFunc(slices.Clone(giver.Groups), func(g string) bool { return slices.Contains(implied, g) })
}

func giverOf(from *accessv1alpha1.DelegationGiver) Subject {
	return Subject{
		Name: from.User, UID: from.UID, Groups: from.Groups,
		Extra: credentialExtra(maps.Clone(from.Extra), from.CredentialID, from.Origins),
	}
}

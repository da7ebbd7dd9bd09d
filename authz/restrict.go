package authz

import (
	"slices"
	"strings"
)

// Restriction is the questions that restricted policy must still answer:
// those of one site (Site is [ControlPlane] for the control plane's own);
// where Namespace is set, only those inside that namespace; and where Object
// is set, only those about that one object, which is what a host asks: who may
// do what to itself.
type Restriction struct {
	Site, Namespace string
	Object          Object
}

// Object is one object of a namespace, or of none. Questions about it name its
// group, resource and name, and any verb and subresource.
type Object struct{ APIGroup, Resource, Name string }

// Restrict returns what of the policy can influence the questions of r: an
// engine filled with it answers them exactly as s does. Of the rest it tells
// as little as that allows: other sites' names, labels that no policy reads,
// and roles that nothing names are left out, and with them what rules, names of
// objects and names of namespaces r is not about.
func (s *Snapshot) Restrict(r Restriction) Content {
	all := s.Content()
	var out Content
	usesRBAC := r.Site == ControlPlane || s.sites[r.Site].SharedRBAC
	if site, ok := s.sites[r.Site]; ok {
		out.Sites = append(out.Sites, site)
	}
	roles := map[[2]string]bool{}
	bootstrap := map[[2]string]bool{}
	void := map[[2]string]bool{} // roles that say nothing of r
	for i := range all.Roles {
		all.Roles[i].Rules = r.rules(all.Roles[i].Rules)
		void[[2]string{all.Roles[i].Namespace, all.Roles[i].Name}] = len(all.Roles[i].Rules) == 0
		bootstrap[[2]string{all.Roles[i].Namespace, all.Roles[i].Name}] = all.Roles[i].Bootstrap
	}
	for _, b := range all.Bindings {
		role := [2]string{"", b.RoleName}
		if b.RoleKind == RoleKind {
			role[0] = b.Namespace
		}
		atSite := r.Site != ControlPlane
		if !usesRBAC || r.Namespace != "" && b.Namespace != "" && b.Namespace != r.Namespace || atSite && (b.Bootstrap || bootstrap[role]) || r.Object != (Object{}) && void[role] {
			continue
		}
		roles[role] = true
		out.Bindings = append(out.Bindings, b)
	}
	// Which labels are read: of namespaces that are asked about, of those the
	// site's own subjects are in, and of those the control plane's are in.
	spaces, own, domains := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, p := range all.Policies {
		p.Subjects = r.subjects(p.Subjects, p.Sites)
		if len(p.Subjects) == 0 || !anyGlob(p.Sites, r.Site) || !r.touches(p.Namespaces) {
			continue
		}
		p.Roles = r.roles(p.Roles, void)
		if p.Rules = r.rules(p.Rules); r.Object != (Object{}) && len(p.Rules)+len(p.Roles) == 0 {
			continue
		}
		p.Sites, p.Namespaces = []string{r.Site}, r.namespaces(p.Namespaces)
		for _, name := range p.Roles {
			roles[[2]string{"", name}] = true
		}
		for i := range p.NamespaceLabels {
			spaces[p.NamespaceLabels[i].Key] = true
		}
		readLabels(p.Subjects, own, domains)
		out.Policies = append(out.Policies, p)
	}
	for _, d := range all.Delegations {
		if !anyGlob(d.Sites, r.Site) || !r.touches(d.Namespaces) {
			continue
		}
		d.Roles = r.roles(d.Roles, void)
		if d.Rules = r.rules(d.Rules); r.Object != (Object{}) && len(d.Rules)+len(d.Roles) == 0 {
			continue
		}
		d.Sites, d.Namespaces = []string{r.Site}, r.namespaces(d.Namespaces)
		for _, name := range d.Roles {
			roles[[2]string{"", name}] = true
		}
		for i := range d.NamespaceLabels {
			spaces[d.NamespaceLabels[i].Key] = true
		}
		out.Delegations = append(out.Delegations, d)
	}
	for _, b := range all.Bans {
		b.Subjects = r.subjects(b.Subjects, b.Sites)
		if len(b.Subjects)+len(b.CredentialIDs) == 0 || !anyGlob(b.Sites, r.Site) {
			continue
		}
		b.Sites = []string{r.Site}
		readLabels(b.Subjects, own, domains)
		out.Bans = append(out.Bans, b)
	}
	for _, x := range all.Roles {
		if roles[[2]string{x.Namespace, x.Name}] {
			out.Roles = append(out.Roles, x)
		}
	}
	for _, n := range all.Namespaces {
		keys := map[string]bool{}
		if n.Site == r.Site {
			keys = own
			if r.Namespace == "" || r.Namespace == n.Name {
				keys = union(own, spaces)
			}
		}
		if n.Site == ControlPlane && len(domains) > 0 {
			keys = union(keys, domains)
		}
		if len(keys) == 0 {
			continue
		}
		kept := map[string]string{}
		for k, v := range n.Labels {
			if keys[k] {
				kept[k] = v
			}
		}
		n.Labels = kept
		out.Namespaces = append(out.Namespaces, n)
	}
	return out
}

func union(a, b map[string]bool) map[string]bool {
	out := map[string]bool{}
	for k := range a {
		out[k] = true
	}
	for k := range b {
		out[k] = true
	}
	return out
}

// subjects leaves out a site's own names that cannot be this site's: they count
// only in policies for one site.
func (r Restriction) subjects(list []PolicySubject, sites []string) []PolicySubject {
	only := len(sites) == 1 && sites[0] == r.Site && r.Site != ControlPlane
	return slices.DeleteFunc(slices.Clone(list), func(s PolicySubject) bool { return s.SitesOwn && !only })
}

// touches reports whether policy with these namespaces is for questions inside
// the namespace.
func (r Restriction) touches(namespaces []string) bool {
	return r.Namespace == "" || len(namespaces) == 0 || anyGlob(namespaces, r.Namespace)
}

// namespaces says of namespaces that r touches no more than that it does.
func (r Restriction) namespaces(list []string) []string {
	if r.Namespace == "" || len(list) == 0 {
		return list
	}
	return []string{r.Namespace}
}

// rules returns what rules say of the object.
func (r Restriction) rules(list []Rule) []Rule {
	if r.Object == (Object{}) {
		return list
	}
	o := &r.Object
	var out []Rule
	for _, x := range list {
		x.NonResourceURLs = nil
		x.APIGroups = only(x.APIGroups, func(s string) bool { return s == "*" || s == o.APIGroup })
		x.Resources = only(x.Resources, func(s string) bool {
			res, _, _ := strings.Cut(s, "/")
			return res == "*" || res == o.Resource
		})
		unnamed := len(x.ResourceNames) == 0
		x.ResourceNames = only(x.ResourceNames, func(s string) bool { return s == o.Name })
		if len(x.APIGroups) > 0 && len(x.Resources) > 0 && (unnamed || len(x.ResourceNames) > 0) {
			out = append(out, x)
		}
	}
	return out
}

// roles leaves out roles that say nothing of the object. One that does not
// exist stays: what that means is for whoever decides.
func (r Restriction) roles(list []string, void map[[2]string]bool) []string {
	if r.Object == (Object{}) {
		return list
	}
	return only(list, func(name string) bool { return !void[[2]string{"", name}] })
}

func only(list []string, keep func(string) bool) (out []string) {
	for _, s := range list {
		if keep(s) {
			out = append(out, s)
		}
	}
	return out
}

// readLabels notes which labels the subjects read, of namespaces of the site
// and of the control plane.
func readLabels(list []PolicySubject, own, controlPlane map[string]bool) {
	for i := range list {
		for j := range list[i].NamespaceLabels {
			key := list[i].NamespaceLabels[j].Key
			if list[i].SitesOwn {
				own[key] = true
			} else {
				controlPlane[key] = true
			}
		}
	}
}

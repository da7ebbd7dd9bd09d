package authz

import "slices"

// Restriction is the questions that restricted policy must still answer:
// those of one site (Site is [ControlPlane] for the control plane's own) and,
// where Namespace is set, only those inside that namespace, which is what a
// host of it asks.
type Restriction struct{ Site, Namespace string }

// Restrict returns what of the policy can influence the questions of r: an
// engine filled with it answers them exactly as s does. Of the rest it tells
// as little as that allows: other sites' names, labels that no policy reads,
// and roles that nothing names are left out.
func (s *Snapshot) Restrict(r Restriction) Content {
	all := s.Content()
	var out Content
	usesRBAC := r.Site == ControlPlane || s.sites[r.Site].SharedRBAC
	if site, ok := s.sites[r.Site]; ok {
		out.Sites = append(out.Sites, site)
	}
	roles := map[[2]string]bool{}
	bootstrap := map[[2]string]bool{}
	for i := range all.Roles {
		bootstrap[[2]string{all.Roles[i].Namespace, all.Roles[i].Name}] = all.Roles[i].Bootstrap
	}
	for _, b := range all.Bindings {
		role := [2]string{"", b.RoleName}
		if b.RoleKind == RoleKind {
			role[0] = b.Namespace
		}
		atSite := r.Site != ControlPlane
		if !usesRBAC || r.Namespace != "" && b.Namespace != "" && b.Namespace != r.Namespace || atSite && (b.Bootstrap || bootstrap[role]) {
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
		p.Sites = []string{r.Site}
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
		d.Sites = []string{r.Site}
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

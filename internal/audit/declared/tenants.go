package declared

import (
	"maps"
	"slices"
	"strings"
	"sync"

	auditapi "github.com/gatehouse-dev/gatehouse/api/audit/v1alpha1"
	federationapi "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/audit"
)

// defaultDomain is the domain of a namespace that names none.
const defaultDomain = "default"

// siteUser is the name of a site as a caller. No other credential yields it.
const siteUser = "system:site:"

// Tenants knows to whom namespaces and sites belong, from the watch. It is
// safe for concurrent use.
type Tenants struct {
	mu      sync.RWMutex
	domains map[string]string         // guarded by mu; of each namespace
	sites   map[string]siteNamespaces // guarded by mu
}

type siteNamespaces struct {
	owner  string
	mapped map[string]string
}

// NewTenants returns a tracker that knows nobody.
func NewTenants() *Tenants {
	return &Tenants{domains: map[string]string{}, sites: map[string]siteNamespaces{}}
}

// SetNamespace notes the domain of a namespace; "" is the default one.
func (t *Tenants) SetNamespace(name, domain string) {
	if domain == "" {
		domain = defaultDomain
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.domains[name] = domain
}

// RemoveNamespace forgets a namespace.
func (t *Tenants) RemoveNamespace(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.domains, name)
}

// KeepNamespaces forgets all but these.
func (t *Tenants) KeepNamespaces(names map[string]bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.domains, func(name, _ string) bool { return !names[name] })
}

// Sites is the feed of sites.
type Sites struct{ *Tenants }

// Replace sets all sites.
func (s Sites) Replace(all []*federationapi.Site) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.sites)
	for _, site := range all {
		s.put(site)
	}
}

// Put adds or changes one site.
func (s Sites) Put(site *federationapi.Site) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(site)
}

// Delete removes one site.
func (s Sites) Delete(site *federationapi.Site) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sites, site.Name)
}

func (s Sites) put(site *federationapi.Site) {
	s.sites[site.Name] = siteNamespaces{owner: site.Spec.OwnerNamespace, mapped: maps.Clone(site.Spec.NamespaceMap)}
}

// place is whose an event is: a namespace of the control plane and its domain.
// Both are empty for what concerns no namespace.
func (t *Tenants) place(site string, e *audit.Event) (namespace, domain string) {
	object := ""
	if e.ObjectRef != nil {
		object = e.ObjectRef.Namespace
		if object == "" && e.ObjectRef.APIGroup == "" && e.ObjectRef.Resource == "namespaces" {
			object = e.ObjectRef.Name
		}
	}
	// What a site asks at its doors is recorded by the control plane itself,
	// and the namespace in the question is one of the site.
	if asking, ok := strings.CutPrefix(e.User.Username, siteUser); ok && site == "" {
		site = asking
	}
	if site == "" && object == "" {
		return "", ""
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if site != "" {
		s, known := t.sites[site]
		if !known {
			return "", ""
		}
		if namespace = s.mapped[object]; object == "" || namespace == "" {
			namespace = s.owner
		}
		return namespace, t.domains[namespace]
	}
	return object, t.domains[object]
}

// Attribute notes on an event, when it is recorded, to whom it belongs: a
// namespace may have gone, or changed hands, when somebody reads the event.
func (t *Tenants) Attribute(site string, e *audit.Event) {
	namespace, domain := t.place(site, e)
	if namespace == "" && e.Annotations[audit.AnnotationNamespace] == "" && e.Annotations[audit.AnnotationDomain] == "" {
		return
	}
	out := make(map[string]string, len(e.Annotations)+2)
	maps.Copy(out, e.Annotations)
	set := func(key, value string) {
		if delete(out, key); value != "" {
			out[key] = value
		}
	}
	set(audit.AnnotationDomain, domain)
	if e.ObjectRef != nil && e.ObjectRef.Namespace == namespace && site == "" && !strings.HasPrefix(e.User.Username, siteUser) {
		namespace = "" // it stands there already
	}
	set(audit.AnnotationNamespace, namespace)
	e.Annotations = out
}

// Of returns the namespace and the domain that a recorded event belongs to. A
// domain that was not known when the event was recorded (a namespace that was
// just being made) is the one it is now.
func (t *Tenants) Of(site string, e *audit.Event) (namespace, domain string) {
	namespace, domain = t.place(site, e)
	if recorded := e.Annotations[audit.AnnotationNamespace]; recorded != "" {
		namespace = recorded
	}
	if recorded := e.Annotations[audit.AnnotationDomain]; recorded != "" {
		domain = recorded
	}
	return namespace, domain
}

// Scope is what a sink, or a question, may see.
type Scope struct {
	Domain     string
	Namespaces []string
}

// ScopeOf returns the scope of a sink; nil is the whole record.
func ScopeOf(spec *auditapi.AuditSinkSpec) *Scope {
	if spec.Scope == nil {
		return nil
	}
	return &Scope{Domain: spec.Scope.Domain, Namespaces: slices.Clone(spec.Scope.Namespaces)}
}

// Allow returns the filter of a scope: what belongs to nobody, or to somebody
// else, is not let through.
func (t *Tenants) Allow(s Scope) func(site string, e *audit.Event) bool {
	return func(site string, e *audit.Event) bool {
		namespace, domain := t.Of(site, e)
		return (s.Domain != "" && domain == s.Domain) || (namespace != "" && slices.Contains(s.Namespaces, namespace))
	}
}

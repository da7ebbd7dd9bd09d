package kubeapi

import (
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// restMapper knows the resource of every kind. The kinds are fixed when the
// program is built, so nothing has to be discovered.
func restMapper(kinds []resource.Kind) meta.RESTMapper {
	m := meta.NewDefaultRESTMapper(nil)
	for _, k := range kinds {
		n := resource.NamesOf(k)
		scope := meta.RESTScopeRoot
		if n.Namespaced {
			scope = meta.RESTScopeNamespace
		}
		m.AddSpecific(n.GroupVersion.WithKind(n.Kind), n.GroupVersion.WithResource(n.Resource), n.GroupVersion.WithResource(n.Singular), scope)
	}
	return m
}

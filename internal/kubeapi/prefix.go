package kubeapi

import (
	"path"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// StoragePrefix is where the objects of a kind lie in etcd, for a recovery that
// has no server to ask.
func StoragePrefix(gr schema.GroupResource) string {
	return path.Join(etcdPrefix, gr.Group, gr.Resource) + "/"
}

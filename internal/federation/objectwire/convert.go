package objectwire

import (
	"strings"

	"github.com/gatehouse-dev/gatehouse/internal/access/nodegraph"
)

// kinds are the names of kinds on the wire.
var kinds = map[string]nodegraph.Kind{
	"Pod": nodegraph.Pod, "VolumeAttachment": nodegraph.Attachment, "PersistentVolume": nodegraph.Volume,
	"Secret": nodegraph.Secret, "ConfigMap": nodegraph.ConfigMap, "ServiceAccount": nodegraph.ServiceAccount,
	"PersistentVolumeClaim": nodegraph.Claim, "ResourceClaim": nodegraph.ResourceClaim,
}

var names = func() map[nodegraph.Kind]string {
	out := map[nodegraph.Kind]string{}
	for name, kind := range kinds {
		out[kind] = name
	}
	return out
}()

// From writes a source as it is sent; its node is that of the group.
func From(s *nodegraph.Source) Source {
	out := Source{Kind: names[s.Kind], Namespace: s.Namespace, Name: s.Name, UID: s.UID}
	if s.Through != (nodegraph.Object{}) {
		out.Claim = s.Through.Namespace + "/" + s.Through.Name
	}
	for _, o := range s.Needs {
		out.Needs = append(out.Needs, names[o.Kind]+"/"+o.Namespace+"/"+o.Name)
	}
	return out
}

// Source reads one that passed [Post.Check]; node is that of its group.
func (s *Source) Source(node string) (out nodegraph.Source, ok bool) {
	out = nodegraph.Source{Object: nodegraph.Object{Kind: kinds[s.Kind], Namespace: s.Namespace, Name: s.Name}, Node: node, UID: s.UID}
	if s.Claim != "" {
		namespace, name, _ := strings.Cut(s.Claim, "/")
		out.Node, out.Through = "", nodegraph.Object{Kind: nodegraph.Claim, Namespace: namespace, Name: name}
	}
	for _, need := range s.Needs {
		kind, rest, _ := strings.Cut(need, "/")
		namespace, name, _ := strings.Cut(rest, "/")
		out.Needs = append(out.Needs, nodegraph.Object{Kind: kinds[kind], Namespace: namespace, Name: name})
	}
	return out, out.Kind != 0
}

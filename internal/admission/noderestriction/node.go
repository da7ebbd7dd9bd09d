package noderestriction

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"

	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// ownNode lets a node register and keep its own Node object, without what
// steers workloads to it.
func ownNode(node string, c *resource.Change) error {
	name := c.Name
	if n, ok := c.Object.(*corev1.Node); ok && name == "" {
		name = n.Name
	}
	if name != node {
		return denied("node %q is not allowed to modify node %q", node, name)
	}
	switch c.Operation {
	case resource.Create:
		n, err := object[*corev1.Node](c.Object)
		if err != nil {
			return err
		}
		return registered(node, n)
	case resource.Update:
		n, err := object[*corev1.Node](c.Object)
		if err != nil {
			return err
		}
		old, err := object[*corev1.Node](c.Old)
		if err != nil {
			return err
		}
		return kept(node, n, old)
	case resource.Delete:
		// Upstream's admission leaves this to its authorizer. A node that could
		// delete its object and create it again would get rid of what it must
		// not change: taints and reserved labels.
		return denied("node %q is not allowed to delete its Node object", node)
	}
	return unexpected(c)
}

func registered(node string, n *corev1.Node) error {
	switch {
	//lint:ignore SA1019 the field is not used any more, but still accepted
	case n.Spec.ConfigSource != nil:
		// A config map named there would be readable to the node.
		return denied("node %q is not allowed to register with a configSource", node)
	case len(n.OwnerReferences) > 0:
		return denied("node %q is not allowed to modify ownerReferences", node)
	}
	if labels := reserved(changedKeys(n.Labels, nil)); len(labels) > 0 {
		return denied("node %q is not allowed to set the following labels: %s", node, strings.Join(labels, ", "))
	}
	return nil
}

func kept(node string, n, old *corev1.Node) error {
	switch {
	//lint:ignore SA1019 as in registered
	case n.Spec.ConfigSource != nil && !apiequality.Semantic.DeepEqual(n.Spec.ConfigSource, old.Spec.ConfigSource):
		return denied("node %q is not allowed to update configSource to a new non-nil configSource", node)
	case !apiequality.Semantic.DeepEqual(n.Spec.Taints, old.Spec.Taints):
		return denied("node %q is not allowed to modify taints", node)
	case !apiequality.Semantic.DeepEqual(n.OwnerReferences, old.OwnerReferences):
		// An owner that is gone has its dependents deleted.
		return denied("node %q is not allowed to modify ownerReferences", node)
	}
	if labels := reserved(changedKeys(n.Labels, old.Labels)); len(labels) > 0 {
		return denied("node %q is not allowed to modify labels: %s", node, strings.Join(labels, ", "))
	}
	return nil
}

// changedKeys are the keys that were added, removed or changed, in order.
func changedKeys(a, b map[string]string) []string {
	changed := map[string]bool{}
	for k, v := range a {
		if w, ok := b[k]; !ok || v != w {
			changed[k] = true
		}
	}
	for k := range b {
		if _, ok := a[k]; !ok {
			changed[k] = true
		}
	}
	return slices.Sorted(maps.Keys(changed))
}

// reserved are those of the label keys that a node may not touch.
func reserved(keys []string) []string {
	return slices.DeleteFunc(keys, func(key string) bool {
		prefix, _, ok := strings.Cut(key, "/")
		switch {
		case !ok:
			return true
		case within(prefix, corev1.LabelNamespaceNodeRestriction):
			return false
		case within(prefix, "kubernetes.io"), within(prefix, "k8s.io"):
			return slices.Contains(kubeletLabels, key) ||
				within(prefix, corev1.LabelNamespaceSuffixKubelet) || within(prefix, corev1.LabelNamespaceSuffixNode)
		}
		return true
	})
}

// within reports whether a prefix is domain or lies below it.
func within(prefix, domain string) bool {
	return prefix == domain || strings.HasSuffix(prefix, "."+domain)
}

// kubeletLabels are labels of the reserved prefixes that a kubelet sets.
var kubeletLabels = []string{
	corev1.LabelHostname,
	corev1.LabelTopologyZone, corev1.LabelTopologyRegion,
	corev1.LabelFailureDomainBetaZone, corev1.LabelFailureDomainBetaRegion,
	corev1.LabelInstanceType, corev1.LabelInstanceTypeStable,
	corev1.LabelOSStable, corev1.LabelArchStable,
	"beta.kubernetes.io/os", "beta.kubernetes.io/arch",
}

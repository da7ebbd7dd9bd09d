// Package node describes nodes: the machines of clusters and fleets, as their
// agents report them. It schedules nothing, and which node may write which
// node is decided elsewhere. Start with [New].
package node

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

const (
	rolePrefix = "node-role.kubernetes.io/"
	roleLabel  = "kubernetes.io/role"
)

// New describes nodes.
func New() resource.Kind {
	return resource.Definition[*corev1.Node]{
		Names: resource.Names{
			GroupVersion: corev1.SchemeGroupVersion,
			Kind:         "Node",
			Resource:     "nodes",
			Singular:     "node",
			ShortNames:   []string{"no"},
		},
		New:     func() *corev1.Node { return &corev1.Node{} },
		NewList: func() runtime.Object { return &corev1.NodeList{} },
		Default: func(n *corev1.Node) {
			if n.Status.Allocatable == nil && n.Status.Capacity != nil {
				n.Status.Allocatable = n.Status.Capacity.DeepCopy()
			}
			// Older clients know a single range, which is authoritative.
			switch {
			case n.Spec.PodCIDR != "" && (len(n.Spec.PodCIDRs) == 0 || n.Spec.PodCIDRs[0] != n.Spec.PodCIDR):
				n.Spec.PodCIDRs = []string{n.Spec.PodCIDR}
			case len(n.Spec.PodCIDRs) > 0:
				n.Spec.PodCIDR = n.Spec.PodCIDRs[0]
			}
		},
		PrepareUpdate:       func(_ resource.Caller, n, old *corev1.Node) { n.Status = old.Status },
		Validate:            validate,
		ValidateUpdate:      validateUpdate,
		UnconditionalUpdate: true,
		Fields: []resource.Field[*corev1.Node]{
			{Path: "spec.unschedulable", Value: func(n *corev1.Node) string {
				if n.Spec.Unschedulable {
					return "true"
				}
				return "false"
			}},
		},
		Columns: columns,
		Subresources: []resource.Subresource[*corev1.Node]{{
			Name: "status",
			Prepare: func(_ resource.Caller, n, old *corev1.Node) {
				n.Spec = old.Spec
				// The feature that wrote it is gone upstream.
				if old.Status.Config == nil {
					n.Status.Config = nil
				}
			},
			Validate: validateUpdate,
			Fields:   []string{"status"},
			Ignored:  []string{"spec"},
		}},
	}.Kind()
}

var columns = []resource.Column[*corev1.Node]{
	{Name: "Status", Description: "The status of the node.", Value: func(n *corev1.Node) any { return status(n) }},
	{Name: "Roles", Description: "The roles of the node.", Value: func(n *corev1.Node) any { return roles(n) }},
	resource.Age[*corev1.Node](),
	{Name: "Version", Description: "The version of the kubelet.", Value: func(n *corev1.Node) any { return n.Status.NodeInfo.KubeletVersion }},
	{
		Name: "Internal-IP", Priority: 1, Description: "The address inside the cluster.",
		Value: func(n *corev1.Node) any { return address(n, corev1.NodeInternalIP) },
	},
	{
		Name: "External-IP", Priority: 1, Description: "The address outside the cluster.",
		Value: func(n *corev1.Node) any { return address(n, corev1.NodeExternalIP) },
	},
	{
		Name: "OS-Image", Priority: 1, Description: "The operating system.",
		Value: func(n *corev1.Node) any { return orUnknown(n.Status.NodeInfo.OSImage) },
	},
	{
		Name: "Kernel-Version", Priority: 1, Description: "The kernel.",
		Value: func(n *corev1.Node) any {
			kernel := orUnknown(n.Status.NodeInfo.KernelVersion)
			if arch := n.Status.NodeInfo.Architecture; arch != "" {
				kernel += " (" + arch + ")"
			}
			return kernel
		},
	},
	{
		Name: "Container-Runtime", Priority: 1, Description: "The container runtime.",
		Value: func(n *corev1.Node) any { return orUnknown(n.Status.NodeInfo.ContainerRuntimeVersion) },
	},
}

func status(n *corev1.Node) string {
	sum := "Unknown"
	for _, c := range n.Status.Conditions {
		if c.Type != corev1.NodeReady {
			continue
		}
		sum = "NotReady"
		if c.Status == corev1.ConditionTrue {
			sum = "Ready"
		}
	}
	if n.Spec.Unschedulable {
		sum += ",SchedulingDisabled"
	}
	return sum
}

func roles(n *corev1.Node) string {
	var found []string
	for key, value := range n.Labels {
		role, ok := strings.CutPrefix(key, rolePrefix)
		if key == roleLabel {
			role, ok = value, true
		}
		if ok && role != "" {
			found = append(found, role)
		}
	}
	if len(found) == 0 {
		return "<none>"
	}
	slices.Sort(found)
	return strings.Join(slices.Compact(found), ",")
}

func address(n *corev1.Node, kind corev1.NodeAddressType) string {
	for _, a := range n.Status.Addresses {
		if a.Type == kind {
			return a.Address
		}
	}
	return "<none>"
}

func orUnknown(s string) string {
	if s == "" {
		return "<unknown>"
	}
	return s
}

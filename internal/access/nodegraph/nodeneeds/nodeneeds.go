// Package nodeneeds reads in objects of the Kubernetes API what a node needs
// because of them. It is apart from package nodegraph so that programs can do
// without those types; internal/edge/watch reads the same in JSON, and its test
// compares the two. Start at [FromPod].
package nodeneeds

import (
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/gatehouse-dev/gatehouse/internal/access/nodegraph"
)

// FromPod returns what the node of a pod needs because of it; ok is false while
// the pod is on no node. A mirror pod gives its node nothing but itself: the
// node wrote it, and must not write itself permissions.
func FromPod(pod *corev1.Pod) (s nodegraph.Source, ok bool) {
	if pod.Spec.NodeName == "" {
		return nodegraph.Source{}, false
	}
	s = nodegraph.Source{Object: nodegraph.Object{Kind: nodegraph.Pod, Namespace: pod.Namespace, Name: pod.Name}, Node: pod.Spec.NodeName, UID: string(pod.UID)}
	if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; !mirror {
		n := needs{namespace: pod.Namespace, seen: map[nodegraph.Object]bool{}}
		n.pod(pod)
		s.Needs = n.list
	}
	return s, true
}

// FromVolume returns what nodes need because of a volume that is bound to a
// claim; ok is false while it is not.
func FromVolume(pv *corev1.PersistentVolume) (s nodegraph.Source, ok bool) {
	claim := pv.Spec.ClaimRef
	if claim == nil {
		return nodegraph.Source{}, false
	}
	n := needs{namespace: claim.Namespace, seen: map[nodegraph.Object]bool{}}
	n.volume(&pv.Spec)
	return nodegraph.Source{
		Object:  nodegraph.Object{Kind: nodegraph.Volume, Name: pv.Name},
		UID:     string(pv.UID),
		Through: nodegraph.Object{Kind: nodegraph.Claim, Namespace: claim.Namespace, Name: claim.Name},
		Needs:   n.list,
	}, true
}

// FromAttachment returns the attachment of a volume to a node.
func FromAttachment(a *storagev1.VolumeAttachment) (s nodegraph.Source, ok bool) {
	return nodegraph.Source{Object: nodegraph.Object{Kind: nodegraph.Attachment, Name: a.Name}, Node: a.Spec.NodeName, UID: string(a.UID)}, a.Spec.NodeName != ""
}

// needs collects, without repetition, what a pod or a volume names.
type needs struct {
	namespace string
	list      []nodegraph.Object
	seen      map[nodegraph.Object]bool
}

func (n *needs) add(kind nodegraph.Kind, name string) { n.addIn(kind, n.namespace, name) }

func (n *needs) addIn(kind nodegraph.Kind, namespace, name string) {
	if name == "" {
		return
	}
	if namespace == "" {
		namespace = n.namespace
	}
	if o := (nodegraph.Object{Kind: kind, Namespace: namespace, Name: name}); !n.seen[o] {
		n.seen[o] = true
		n.list = append(n.list, o)
	}
}

func (n *needs) pod(pod *corev1.Pod) {
	spec := &pod.Spec
	n.add(nodegraph.ServiceAccount, spec.ServiceAccountName)
	for i := range spec.ImagePullSecrets {
		n.add(nodegraph.Secret, spec.ImagePullSecrets[i].Name)
	}
	for i := range spec.InitContainers {
		n.environment(spec.InitContainers[i].Env, spec.InitContainers[i].EnvFrom)
	}
	for i := range spec.Containers {
		n.environment(spec.Containers[i].Env, spec.Containers[i].EnvFrom)
	}
	for i := range spec.EphemeralContainers {
		n.environment(spec.EphemeralContainers[i].Env, spec.EphemeralContainers[i].EnvFrom)
	}
	for i := range spec.Volumes {
		n.source(pod.Name, &spec.Volumes[i])
	}
	for i := range spec.ResourceClaims {
		n.resourceClaim(&spec.ResourceClaims[i], pod.Status.ResourceClaimStatuses)
	}
	if extended := pod.Status.ExtendedResourceClaimStatus; extended != nil {
		n.add(nodegraph.ResourceClaim, extended.ResourceClaimName)
	}
}

func (n *needs) environment(env []corev1.EnvVar, from []corev1.EnvFromSource) {
	for i := range from {
		if ref := from[i].SecretRef; ref != nil {
			n.add(nodegraph.Secret, ref.Name)
		}
		if ref := from[i].ConfigMapRef; ref != nil {
			n.add(nodegraph.ConfigMap, ref.Name)
		}
	}
	for i := range env {
		value := env[i].ValueFrom
		if value == nil {
			continue
		}
		if ref := value.SecretKeyRef; ref != nil {
			n.add(nodegraph.Secret, ref.Name)
		}
		if ref := value.ConfigMapKeyRef; ref != nil {
			n.add(nodegraph.ConfigMap, ref.Name)
		}
	}
}

func (n *needs) source(pod string, v *corev1.Volume) {
	local := func(ref *corev1.LocalObjectReference) {
		if ref != nil {
			n.add(nodegraph.Secret, ref.Name)
		}
	}
	switch {
	case v.Secret != nil:
		n.add(nodegraph.Secret, v.Secret.SecretName)
	case v.ConfigMap != nil:
		n.add(nodegraph.ConfigMap, v.ConfigMap.Name)
	case v.Projected != nil:
		for i := range v.Projected.Sources {
			if ref := v.Projected.Sources[i].Secret; ref != nil {
				n.add(nodegraph.Secret, ref.Name)
			}
			if ref := v.Projected.Sources[i].ConfigMap; ref != nil {
				n.add(nodegraph.ConfigMap, ref.Name)
			}
		}
	case v.PersistentVolumeClaim != nil:
		n.add(nodegraph.Claim, v.PersistentVolumeClaim.ClaimName)
	case v.Ephemeral != nil:
		n.add(nodegraph.Claim, pod+"-"+v.Name)
	case v.AzureFile != nil:
		n.add(nodegraph.Secret, v.AzureFile.SecretName)
	case v.CephFS != nil:
		local(v.CephFS.SecretRef)
	case v.Cinder != nil:
		local(v.Cinder.SecretRef)
	case v.FlexVolume != nil:
		local(v.FlexVolume.SecretRef)
	case v.RBD != nil:
		local(v.RBD.SecretRef)
	case v.ScaleIO != nil:
		local(v.ScaleIO.SecretRef)
	case v.ISCSI != nil:
		local(v.ISCSI.SecretRef)
	case v.StorageOS != nil:
		local(v.StorageOS.SecretRef)
	case v.CSI != nil:
		local(v.CSI.NodePublishSecretRef)
	}
}

// resourceClaim follows a template to the claim that was made from it, once
// there is one.
func (n *needs) resourceClaim(c *corev1.PodResourceClaim, made []corev1.PodResourceClaimStatus) {
	if c.ResourceClaimName != nil {
		n.add(nodegraph.ResourceClaim, *c.ResourceClaimName)
		return
	}
	for i := range made {
		if made[i].Name == c.Name && made[i].ResourceClaimName != nil {
			n.add(nodegraph.ResourceClaim, *made[i].ResourceClaimName)
		}
	}
}

// volume names the secrets that a node mounts a volume with; those of the
// controllers are none of its business.
func (n *needs) volume(spec *corev1.PersistentVolumeSpec) {
	secret := func(ref *corev1.SecretReference) {
		if ref != nil {
			n.addIn(nodegraph.Secret, ref.Namespace, ref.Name)
		}
	}
	switch {
	case spec.AzureFile != nil:
		namespace := ""
		if spec.AzureFile.SecretNamespace != nil {
			namespace = *spec.AzureFile.SecretNamespace
		}
		n.addIn(nodegraph.Secret, namespace, spec.AzureFile.SecretName)
	case spec.CephFS != nil:
		secret(spec.CephFS.SecretRef)
	case spec.Cinder != nil:
		secret(spec.Cinder.SecretRef)
	case spec.FlexVolume != nil:
		secret(spec.FlexVolume.SecretRef)
	case spec.RBD != nil:
		secret(spec.RBD.SecretRef)
	case spec.ScaleIO != nil:
		secret(spec.ScaleIO.SecretRef)
	case spec.ISCSI != nil:
		secret(spec.ISCSI.SecretRef)
	case spec.StorageOS != nil:
		if ref := spec.StorageOS.SecretRef; ref != nil {
			n.addIn(nodegraph.Secret, ref.Namespace, ref.Name)
		}
	case spec.CSI != nil:
		secret(spec.CSI.NodePublishSecretRef)
		secret(spec.CSI.NodeStageSecretRef)
		secret(spec.CSI.NodeExpandSecretRef)
	}
}

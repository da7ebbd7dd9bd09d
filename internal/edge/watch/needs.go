package watch

import (
	"github.com/gatehouse-dev/gatehouse/internal/access/nodegraph"
)

// What is read of objects: names, and where they stand. The rest of a pod is
// not even decoded. Package nodeneeds reads the same where the types of the API
// are at hand; they would make up a third of this program.

type meta struct {
	Namespace       string            `json:"namespace"`
	Name            string            `json:"name"`
	UID             string            `json:"uid"`
	ResourceVersion string            `json:"resourceVersion"`
	Annotations     map[string]string `json:"annotations"`
}

// mirror marks a pod that its node wrote.
const mirror = "kubernetes.io/config.mirror"

type reference struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

type pod struct {
	Metadata meta `json:"metadata"`
	Spec     struct {
		NodeName            string      `json:"nodeName"`
		ServiceAccountName  string      `json:"serviceAccountName"`
		ImagePullSecrets    []reference `json:"imagePullSecrets"`
		InitContainers      []container `json:"initContainers"`
		Containers          []container `json:"containers"`
		EphemeralContainers []container `json:"ephemeralContainers"`
		Volumes             []podVolume `json:"volumes"`
		ResourceClaims      []claim     `json:"resourceClaims"`
	} `json:"spec"`
	Status struct {
		ResourceClaimStatuses       []claim `json:"resourceClaimStatuses"`
		ExtendedResourceClaimStatus struct {
			ResourceClaimName string `json:"resourceClaimName"`
		} `json:"extendedResourceClaimStatus"`
	} `json:"status"`
}

type container struct {
	Env []struct {
		ValueFrom struct {
			SecretKeyRef    reference `json:"secretKeyRef"`
			ConfigMapKeyRef reference `json:"configMapKeyRef"`
		} `json:"valueFrom"`
	} `json:"env"`
	EnvFrom []struct {
		SecretRef    reference `json:"secretRef"`
		ConfigMapRef reference `json:"configMapRef"`
	} `json:"envFrom"`
}

type claim struct {
	Name              string  `json:"name"`
	ResourceClaimName *string `json:"resourceClaimName"`
}

// withSecret is a source of volumes that names a secret and nothing else.
type withSecret struct {
	SecretRef *reference `json:"secretRef"`
}

type podVolume struct {
	Name   string `json:"name"`
	Secret *struct {
		SecretName string `json:"secretName"`
	} `json:"secret"`
	ConfigMap *reference `json:"configMap"`
	Projected *struct {
		Sources []struct {
			Secret    reference `json:"secret"`
			ConfigMap reference `json:"configMap"`
		} `json:"sources"`
	} `json:"projected"`
	PersistentVolumeClaim *struct {
		ClaimName string `json:"claimName"`
	} `json:"persistentVolumeClaim"`
	Ephemeral *struct{} `json:"ephemeral"`
	AzureFile *struct {
		SecretName string `json:"secretName"`
	} `json:"azureFile"`
	CephFS     withSecret `json:"cephfs"`
	Cinder     withSecret `json:"cinder"`
	FlexVolume withSecret `json:"flexVolume"`
	RBD        withSecret `json:"rbd"`
	ScaleIO    withSecret `json:"scaleIO"`
	ISCSI      withSecret `json:"iscsi"`
	StorageOS  withSecret `json:"storageos"`
	CSI        struct {
		NodePublishSecretRef *reference `json:"nodePublishSecretRef"`
	} `json:"csi"`
}

type volume struct {
	Metadata meta `json:"metadata"`
	Spec     struct {
		ClaimRef  *reference `json:"claimRef"`
		AzureFile struct {
			SecretName      string `json:"secretName"`
			SecretNamespace string `json:"secretNamespace"`
		} `json:"azureFile"`
		CephFS     withSecret `json:"cephfs"`
		Cinder     withSecret `json:"cinder"`
		FlexVolume withSecret `json:"flexVolume"`
		RBD        withSecret `json:"rbd"`
		ScaleIO    withSecret `json:"scaleIO"`
		ISCSI      withSecret `json:"iscsi"`
		StorageOS  withSecret `json:"storageos"`
		CSI        struct {
			NodePublishSecretRef *reference `json:"nodePublishSecretRef"`
			NodeStageSecretRef   *reference `json:"nodeStageSecretRef"`
			NodeExpandSecretRef  *reference `json:"nodeExpandSecretRef"`
		} `json:"csi"`
	} `json:"spec"`
}

type attachment struct {
	Metadata meta `json:"metadata"`
	Spec     struct {
		NodeName string `json:"nodeName"`
	} `json:"spec"`
}

// needs collects names without repetition.
type needs struct {
	namespace string
	list      []nodegraph.Object
	seen      map[nodegraph.Object]bool
}

func (n *needs) add(kind nodegraph.Kind, namespace, name string) {
	if namespace == "" {
		namespace = n.namespace
	}
	if o := (nodegraph.Object{Kind: kind, Namespace: namespace, Name: name}); name != "" && !n.seen[o] {
		n.seen[o] = true
		n.list = append(n.list, o)
	}
}

// secret adds a reference; within a pod a namespace in it does not count.
func (n *needs) secret(r *reference, across bool) {
	switch {
	case r == nil:
	case across:
		n.add(nodegraph.Secret, r.Namespace, r.Name)
	default:
		n.add(nodegraph.Secret, "", r.Name)
	}
}

func (p *pod) source() (s nodegraph.Source, ok bool) {
	if p.Spec.NodeName == "" {
		return s, false
	}
	s = nodegraph.Source{Object: nodegraph.Object{Kind: nodegraph.Pod, Namespace: p.Metadata.Namespace, Name: p.Metadata.Name}, Node: p.Spec.NodeName, UID: p.Metadata.UID}
	if _, is := p.Metadata.Annotations[mirror]; is {
		return s, true
	}
	n := needs{namespace: p.Metadata.Namespace, seen: map[nodegraph.Object]bool{}}
	n.add(nodegraph.ServiceAccount, "", p.Spec.ServiceAccountName)
	for i := range p.Spec.ImagePullSecrets {
		n.secret(&p.Spec.ImagePullSecrets[i], false)
	}
	for _, list := range [][]container{p.Spec.InitContainers, p.Spec.Containers, p.Spec.EphemeralContainers} {
		for i := range list {
			n.container(&list[i])
		}
	}
	for i := range p.Spec.Volumes {
		n.podVolume(p.Metadata.Name, &p.Spec.Volumes[i])
	}
	for _, c := range p.Spec.ResourceClaims {
		if c.ResourceClaimName != nil {
			n.add(nodegraph.ResourceClaim, "", *c.ResourceClaimName)
			continue
		}
		for _, made := range p.Status.ResourceClaimStatuses {
			if made.Name == c.Name && made.ResourceClaimName != nil {
				n.add(nodegraph.ResourceClaim, "", *made.ResourceClaimName)
			}
		}
	}
	n.add(nodegraph.ResourceClaim, "", p.Status.ExtendedResourceClaimStatus.ResourceClaimName)
	s.Needs = n.list
	return s, true
}

func (n *needs) container(c *container) {
	for i := range c.EnvFrom {
		n.add(nodegraph.Secret, "", c.EnvFrom[i].SecretRef.Name)
		n.add(nodegraph.ConfigMap, "", c.EnvFrom[i].ConfigMapRef.Name)
	}
	for i := range c.Env {
		n.add(nodegraph.Secret, "", c.Env[i].ValueFrom.SecretKeyRef.Name)
		n.add(nodegraph.ConfigMap, "", c.Env[i].ValueFrom.ConfigMapKeyRef.Name)
	}
}

func (n *needs) podVolume(pod string, v *podVolume) {
	if v.Secret != nil {
		n.add(nodegraph.Secret, "", v.Secret.SecretName)
	}
	if v.ConfigMap != nil {
		n.add(nodegraph.ConfigMap, "", v.ConfigMap.Name)
	}
	if v.Projected != nil {
		for i := range v.Projected.Sources {
			n.add(nodegraph.Secret, "", v.Projected.Sources[i].Secret.Name)
			n.add(nodegraph.ConfigMap, "", v.Projected.Sources[i].ConfigMap.Name)
		}
	}
	if v.PersistentVolumeClaim != nil {
		n.add(nodegraph.Claim, "", v.PersistentVolumeClaim.ClaimName)
	}
	if v.Ephemeral != nil {
		n.add(nodegraph.Claim, "", pod+"-"+v.Name)
	}
	if v.AzureFile != nil {
		n.add(nodegraph.Secret, "", v.AzureFile.SecretName)
	}
	for _, w := range []withSecret{v.CephFS, v.Cinder, v.FlexVolume, v.RBD, v.ScaleIO, v.ISCSI, v.StorageOS, {v.CSI.NodePublishSecretRef}} {
		n.secret(w.SecretRef, false)
	}
}

func (v *volume) source() (s nodegraph.Source, ok bool) {
	c := v.Spec.ClaimRef
	if c == nil {
		return s, false
	}
	n := needs{namespace: c.Namespace, seen: map[nodegraph.Object]bool{}}
	n.add(nodegraph.Secret, v.Spec.AzureFile.SecretNamespace, v.Spec.AzureFile.SecretName)
	for _, w := range []withSecret{
		v.Spec.CephFS, v.Spec.Cinder, v.Spec.FlexVolume, v.Spec.RBD, v.Spec.ScaleIO, v.Spec.ISCSI, v.Spec.StorageOS,
		{v.Spec.CSI.NodePublishSecretRef}, {v.Spec.CSI.NodeStageSecretRef}, {v.Spec.CSI.NodeExpandSecretRef},
	} {
		n.secret(w.SecretRef, true)
	}
	return nodegraph.Source{
		Object: nodegraph.Object{Kind: nodegraph.Volume, Name: v.Metadata.Name}, UID: v.Metadata.UID,
		Through: nodegraph.Object{Kind: nodegraph.Claim, Namespace: c.Namespace, Name: c.Name}, Needs: n.list,
	}, true
}

func (a *attachment) source() (nodegraph.Source, bool) {
	return nodegraph.Source{Object: nodegraph.Object{Kind: nodegraph.Attachment, Name: a.Metadata.Name}, Node: a.Spec.NodeName, UID: a.Metadata.UID}, a.Spec.NodeName != ""
}

package noderestriction

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/gatehouse-dev/gatehouse/internal/access/nodegraph"
	"github.com/gatehouse-dev/gatehouse/internal/access/nodegraph/nodeneeds"
)

// refersTo returns the resource that a pod refers to, or nothing. A source of a
// volume that is not known to need no object counts as one that does.
func refersTo(pod *corev1.Pod) string {
	// What the graph would give the node for such a pod, were it none of its
	// own: the two lists cannot drift apart.
	plain := pod.DeepCopy()
	delete(plain.Annotations, corev1.MirrorPodAnnotationKey)
	source, _ := nodeneeds.FromPod(plain)
	for _, o := range source.Needs {
		switch o.Kind {
		case nodegraph.ServiceAccount:
			return "serviceaccounts"
		case nodegraph.Secret:
			return "secrets"
		case nodegraph.ConfigMap:
			return "configmaps"
		case nodegraph.Claim:
			return "persistentvolumeclaims"
		case nodegraph.ResourceClaim:
			return "resourceclaims"
		}
	}
	if len(pod.Spec.ResourceClaims) > 0 {
		return "resourceclaims"
	}
	for i := range pod.Spec.Volumes {
		if kind := volumeRefersTo(&pod.Spec.Volumes[i]); kind != "" {
			return kind
		}
	}
	return ""
}

func volumeRefersTo(v *corev1.Volume) string {
	s := &v.VolumeSource
	switch {
	case s.Projected != nil:
		for i := range s.Projected.Sources {
			p := &s.Projected.Sources[i]
			switch {
			case p.DownwardAPI != nil:
			case p.ServiceAccountToken != nil:
				return "serviceaccounts (via projected volumes)"
			case p.ClusterTrustBundle != nil:
				return "clustertrustbundles"
			case p.PodCertificate != nil:
				return "podcertificates"
			case p.Secret != nil:
				return "secrets (via projected volumes)"
			case p.ConfigMap != nil:
				return "configmaps (via projected volumes)"
			default:
				return "an unknown source of a projected volume"
			}
		}
		return ""
	case s.Secret != nil:
		return "secrets (via secret volumes)"
	case s.ConfigMap != nil:
		return "configmaps (via configmap volumes)"
	case s.CSI != nil:
		return "csidrivers (via CSI volumes)"
	case s.Glusterfs != nil:
		return "endpoints (via glusterFS volumes)"
	case s.PersistentVolumeClaim != nil:
		return "persistentvolumeclaims"
	case s.Ephemeral != nil:
		return "persistentvolumeclaims (via ephemeral volumes)"
	case s.AzureFile != nil:
		return "secrets (via azureFile volumes)"
	case s.AWSElasticBlockStore != nil, s.AzureDisk != nil, s.CephFS != nil, s.Cinder != nil, s.DownwardAPI != nil,
		s.EmptyDir != nil, s.FC != nil, s.FlexVolume != nil, s.Flocker != nil, s.GCEPersistentDisk != nil, s.GitRepo != nil,
		s.HostPath != nil, s.Image != nil, s.ISCSI != nil, s.NFS != nil, s.PhotonPersistentDisk != nil, s.PortworxVolume != nil,
		s.Quobyte != nil, s.RBD != nil, s.ScaleIO != nil, s.StorageOS != nil, s.VsphereVolume != nil:
		return ""
	}
	return "an unknown type of volume"
}

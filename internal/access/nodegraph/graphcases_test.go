package nodegraph_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	. "github.com/gatehouse-dev/gatehouse/internal/access/nodegraph"
	. "github.com/gatehouse-dev/gatehouse/internal/access/nodegraph/nodeneeds"
)

// kinds by the short names that the cases use.
var kinds = map[string]Kind{
	"pod": Pod, "cm": ConfigMap, "secret": Secret, "sa": ServiceAccount, "pvc": Claim, "pv": Volume, "rc": ResourceClaim,
	"va": Attachment, "slice": ResourceSlice, "pcr": PodCertificate,
}

// apply plays one step: "+pod/NAME@NODE KIND" is a pod that names three objects
// of a kind, "+va/NAME@NODE" something that belongs to a node,
// "+pv/NAME=CLAIM[,SECRET]" a volume, and "-KIND/[NAMESPACE/]NAME" a deletion.
func apply(t *testing.T, g *Graph, step string) {
	t.Helper()
	what, more, _ := strings.Cut(step[1:], " ")
	kind, name, _ := strings.Cut(what, "/")
	namespace := map[string]string{"pod": "ns", "pcr": "ns"}[kind]
	if within, rest, has := strings.Cut(name, "/"); has {
		namespace, name = within, rest
	}
	if step[0] == '-' {
		g.Delete("", Object{Kind: kinds[kind], Namespace: namespace, Name: name})
		return
	}
	name, node, _ := strings.Cut(name, "@")
	switch kind {
	case "pod":
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}, Spec: corev1.PodSpec{NodeName: node}}
		for i := range 3 {
			n := fmt.Sprintf("%s%d", more, i+1)
			switch more {
			case "cm":
				pod.Spec.ServiceAccountName = "sa1"
				pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: n}}}})
			case "secret":
				pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: n}}})
			case "pvc":
				pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: n}}})
			case "rc":
				pod.Spec.ResourceClaims = append(pod.Spec.ResourceClaims, corev1.PodResourceClaim{ResourceClaimName: &n})
				pod.Status.ExtendedResourceClaimStatus = &corev1.PodExtendedResourceClaimStatus{ResourceClaimName: "rc4"}
			}
		}
		put(g)(FromPod(pod))
	case "va":
		put(g)(FromAttachment(&storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: storagev1.VolumeAttachmentSpec{NodeName: node}}))
	case "pv":
		name, claim, _ := strings.Cut(name, "=")
		claim, secret, _ := strings.Cut(claim, ",")
		pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}}
		pv.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "ns", Name: claim}
		if secret != "" {
			pv.Spec.CSI = &corev1.CSIPersistentVolumeSource{NodePublishSecretRef: &corev1.SecretReference{Namespace: "ns", Name: secret}}
		}
		put(g)(FromVolume(pv))
	default:
		g.Put(Source{Object: Object{Kind: kinds[kind], Namespace: namespace, Name: name}, Node: node})
	}
}

// TestUpstreamGraphCases has the cases of graph_test.go of Kubernetes v1.36.3,
// plugin/pkg/auth/authorizer/node: TestIndex, TestIndex2, and what
// TestDeleteEdgesLocked means for who may read. Its graph and index are an
// implementation; what must hold is which node needs what after which events,
// whether few or many need it, and that nothing is kept for nobody. Expected is
// "object: nodes" for every object that anybody needs, beside the pods.
func TestUpstreamGraphCases(t *testing.T) {
	t.Parallel()
	three := func(kind string) []string {
		return []string{"+pod/pod1@node1 " + kind, "+pod/pod2@node2 " + kind, "+pod/pod3@node3 " + kind}
	}
	all := func(nodes string, objects ...string) (out []string) {
		for _, o := range objects {
			out = append(out, o+": "+nodes)
		}
		return out
	}
	maps := []string{"cm/ns/cm1", "cm/ns/cm2", "cm/ns/cm3", "sa/ns/sa1"}
	secrets := []string{"secret/ns/secret1", "secret/ns/secret2", "secret/ns/secret3"}
	claims := []string{"pvc/ns/pvc1", "pvc/ns/pvc2", "pvc/ns/pvc3"}
	devices := []string{"rc/ns/rc1", "rc/ns/rc2", "rc/ns/rc3", "rc/ns/rc4"}
	for name, tc := range map[string]struct{ steps, want []string }{
		"empty graph":                 {nil, nil},
		"outdeg below the threshold":  {three("cm")[:2], all("node1 node2", maps...)},
		"configmaps and accounts":     {three("cm"), all("node1 node2 node3", maps...)},
		"configmaps, dropping below":  {append(three("cm"), "-pod/pod1"), all("node2 node3", maps...)},
		"above, one node twice":       {append(three("cm"), "+pod/pod4@node1 cm"), all("node1 node2 node3", maps...)},
		"removing but staying above":  {append(three("cm"), "+pod/pod4@node1 cm", "-pod/pod1"), all("node1 node2 node3", maps...)},
		"removing and adding again":   {append(three("cm"), "-pod/pod1", "+pod/pod1@node1 cm", "+pod/pod4@node1 cm", "-pod/pod1"), all("node1 node2 node3", maps...)},
		"secrets":                     {three("secret"), all("node1 node2 node3", secrets...)},
		"secrets, dropping below":     {append(three("secret"), "-pod/pod1"), all("node2 node3", secrets...)},
		"pvcs":                        {three("pvc"), all("node1 node2 node3", claims...)},
		"pvcs, dropping below":        {append(three("pvc"), "-pod/pod1"), all("node2 node3", claims...)},
		"resourceclaims":              {three("rc"), all("node1 node2 node3", devices...)},
		"resourceclaims, below":       {append(three("rc"), "-pod/pod1"), all("node2 node3", devices...)},
		"resourceslices adding":       {[]string{"+slice/s1@node1", "+slice/s2@node2", "+slice/s3@node3"}, []string{"slice/s1: node1", "slice/s2: node2", "slice/s3: node3"}},
		"resourceslices deleting":     {[]string{"+slice/s1@node1", "+slice/s2@node2", "+slice/s3@node3", "-slice/s1"}, []string{"slice/s2: node2", "slice/s3: node3"}},
		"volumeattachments adding":    {[]string{"+va/va1@node1", "+va/va2@node2", "+va/va3@node3"}, []string{"va/va1: node1", "va/va2: node2", "va/va3: node3"}},
		"volumeattachments deleting":  {[]string{"+va/va1@node1", "+va/va2@node2", "+va/va3@node3", "-va/va1"}, []string{"va/va2: node2", "va/va3: node3"}},
		"persistentvolumes adding":    {[]string{"+pv/pv1=pvc1", "+pv/pv2=pvc2", "+pv/pv3=pvc3"}, nil},
		"persistentvolumes, needed":   {append(three("pvc")[:1], "+pv/pv1=pvc1", "+pv/pv4=pvc4"), append(all("node1", claims...), "pv/pv1: node1")},
		"persistentvolumes deleting":  {append(three("pvc")[:1], "+pv/pv1=pvc1", "+pv/pv2=pvc2", "-pv/pv1"), append(all("node1", claims...), "pv/pv2: node1")},
		"persistentvolumes' secrets":  {append(three("pvc")[:2], "+pv/pv1=pvc1,s1", "+pv/pv4=pvc4,s4"), append(all("node1 node2", claims...), "pv/pv1: node1 node2", "secret/ns/s1: node1 node2")},
		"podcertificates adding":      {[]string{"+pcr/foo/pcr1@node1", "+pcr/foo/pcr2@node1", "+pcr/foo/pcr4@node2"}, []string{"pcr/foo/pcr1: node1", "pcr/foo/pcr2: node1", "pcr/foo/pcr4: node2"}},
		"podcertificates deleting":    {[]string{"+pcr/foo/pcr1@node1", "+pcr/foo/pcr3@node1", "+pcr/foo/pcr4@node2", "-pcr/foo/pcr3", "-pcr/foo/pcr4"}, []string{"pcr/foo/pcr1: node1"}},
		"namespace and name ordering": {[]string{"+pcr/foo/bar@node1", "+pcr/bar/foo@node2", "-pcr/foo/bar"}, []string{"pcr/bar/foo: node2"}},
		"an edge that is not there":   {append(three("cm")[:1], "-pod/pod9", "-cm/ns/cm1", "-pv/pv1"), all("node1", maps...)},
		"the last edge":               {append(three("cm")[:1], "-pod/pod1"), nil},
		"a pod moved":                 {append(three("cm")[:1], "+pod/pod1@node2 cm"), all("node2", maps...)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := &Graph{}
			for _, step := range tc.steps {
				apply(t, g, step)
			}
			objects := slices.Concat(maps, secrets, claims, devices, []string{"secret/ns/s1", "secret/ns/s4", "pv/pv1", "pv/pv2", "pv/pv3", "pv/pv4", "va/va1", "va/va2", "va/va3",
				"slice/s1", "slice/s2", "slice/s3", "pcr/foo/pcr1", "pcr/foo/pcr2", "pcr/foo/pcr3", "pcr/foo/pcr4", "pcr/foo/bar", "pcr/bar/foo"})
			var got []string
			for _, o := range objects {
				parts := strings.Split(o, "/")
				object := Object{Kind: kinds[parts[0]], Name: parts[len(parts)-1]}
				if len(parts) == 3 {
					object.Namespace = parts[1]
				}
				var nodes []string
				for n := range 4 {
					if node := fmt.Sprintf("node%d", n+1); g.Needs(node, object) {
						nodes = append(nodes, node)
					}
				}
				if len(nodes) > 0 {
					got = append(got, o+": "+strings.Join(nodes, " "))
				}
			}
			slices.Sort(got)
			want := slices.Sorted(slices.Values(tc.want))
			if !slices.Equal(got, want) {
				t.Errorf("got  %q\nwant %q", got, want)
			}
			for _, step := range tc.steps {
				if step[0] == '+' {
					what, _, _ := strings.Cut(step[1:], " ")
					what, _, _ = strings.Cut(what, "@")
					what, _, _ = strings.Cut(what, "=")
					apply(t, g, "-"+what)
				}
			}
			if sources, objects := g.Len(), g.Held(); sources+objects > 0 {
				t.Errorf("%d sources and %d objects are kept for nobody", sources, objects)
			}
		})
	}
}

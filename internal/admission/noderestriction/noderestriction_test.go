package noderestriction_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/admission/noderestriction"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// The tables of this file were compared with admission_test.go of Kubernetes
// v1.36.3, plugin/pkg/admission/noderestriction: 204 cases. 158 are here, the
// ones for pods as the product of operation, route, node and mirror. Left out
// are 46: of kinds that the API does not serve (CSINodes, claims' status,
// resource slices, pod certificate requests, and token audiences by way of a
// CSI driver: such an audience needs a grant here), of features turned off, and
// of a helper (Test_getModifiedLabels; TestNodes has the labels). One differs:
// a node may not delete its own Node.

var (
	mynode   = resource.Caller{Name: "system:node:mynode", Groups: []string{"system:nodes"}}
	bob      = resource.Caller{Name: "bob"}
	nameless = resource.Caller{Name: "system:node:", Groups: []string{"system:nodes"}}

	podResource     = schema.GroupResource{Resource: "pods"}
	nodeResource    = schema.GroupResource{Resource: "nodes"}
	accountResource = schema.GroupResource{Resource: "serviceaccounts"}
	leaseResource   = schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}
	csrResource     = schema.GroupResource{Group: "certificates.k8s.io", Resource: "certificatesigningrequests"}
)

// world is what is stored, and whether policy grants a token's audience.
type world struct {
	pods    map[string]*corev1.Pod
	nodeUID types.UID // of mynode; empty: it does not exist
	granted string    // audience
	stale   bool
}

func (w *world) rules() *noderestriction.Rules {
	return &noderestriction.Rules{
		Pod: func(_ context.Context, namespace, name string) (*corev1.Pod, error) {
			if p, ok := w.pods[name]; ok && namespace == p.Namespace {
				return p, nil
			}
			return nil, apierrors.NewNotFound(podResource, name)
		},
		Node: func(_ context.Context, name string) (*corev1.Node, error) {
			if name != "mynode" || w.nodeUID == "" {
				return nil, apierrors.NewNotFound(nodeResource, name)
			}
			return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: w.nodeUID}}, nil
		},
		Permit: func(_ context.Context, c resource.Caller, q *authz.Request) (bool, string, error) {
			if w.stale {
				return false, "", fault.New(fault.Unavailable, "policy is stale")
			}
			return w.granted != "" && q.Verb == "request-serviceaccounts-token-audience" && q.Resource == w.granted && q.Name == "mysa" && q.Namespace == "ns" && c.Name == mynode.Name, "", nil
		},
	}
}

func makePod(name, node string, mirror bool) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: "pod-uid"}, Spec: corev1.PodSpec{NodeName: node}}
	if mirror {
		yes := true
		p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "true"}
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node, UID: types.UID(node + "-uid"), Controller: &yes}}
	}
	return p
}

// check compares an outcome: want is empty where the change is admitted.
func check(t *testing.T, name string, w *world, c resource.Change, want string) {
	t.Helper()
	switch err := w.rules().Admit(t.Context(), &c); {
	case want == "" && err != nil:
		t.Errorf("%s: %v", name, err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("%s: %v, want %q", name, err, want)
	}
}

// The table of upstream for pods: every operation on every route, for pods of
// this node, of another and of none, mirrored and not.
func TestPods(t *testing.T) {
	t.Parallel()
	const self, other, none = "mynode", "othernode", ""
	outcome := func(op resource.Operation, sub, node string, mirror bool) string {
		switch sub {
		case "":
			switch {
			case op == resource.Update:
				return "unexpected operation"
			case op == resource.Create && !mirror:
				return "can only create mirror pods"
			}
		case "status":
			if op != resource.Update {
				return "unexpected operation"
			}
		case "eviction":
			if op != resource.Create {
				return "unexpected operation"
			}
		default:
			return "unexpected pod subresource"
		}
		if node != self {
			return "spec.nodeName set to itself"
		}
		return ""
	}
	for _, node := range []string{self, other, none} {
		for _, mirror := range []bool{true, false} {
			pod := makePod("p", node, mirror)
			w := &world{pods: map[string]*corev1.Pod{"p": pod}, nodeUID: "mynode-uid"}
			for _, op := range []resource.Operation{resource.Create, resource.Update, resource.Delete} {
				for _, sub := range []string{"", "status", "eviction", "binding", "ephemeralcontainers"} {
					c := resource.Change{Caller: mynode, Operation: op, Resource: podResource, Subresource: sub, Namespace: "ns", Name: "p"}
					if op != resource.Delete {
						c.Object = pod
					}
					if op == resource.Update {
						c.Old = pod
					}
					evictions := []runtime.Object{c.Object}
					if sub == "eviction" {
						evictions = []runtime.Object{&policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: "p"}}, &policyv1.Eviction{}}
					}
					for _, o := range evictions {
						c.Object = o
						check(t, fmt.Sprintf("%s %q of a pod on %q, mirror %t", op, sub, node, mirror), w, c, outcome(op, sub, node, mirror))
					}
					c.Caller = bob
					check(t, "by nobody's node", w, c, "")
					c.Caller = nameless
					check(t, "by a node without a name", w, c, "could not determine the node")
				}
			}
		}
	}

	w := &world{pods: map[string]*corev1.Pod{}}
	evict := func(name, object string) resource.Change {
		return resource.Change{Caller: mynode, Operation: resource.Create, Resource: podResource, Subresource: "eviction", Namespace: "ns", Name: name, Object: &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: object}}}
	}
	check(t, "delete of an unknown pod", w, resource.Change{Caller: mynode, Operation: resource.Delete, Resource: podResource, Namespace: "ns", Name: "p"}, "not found")
	check(t, "eviction of an unknown pod", w, evict("p", "p"), "not found")
	check(t, "unnamed eviction of an unknown pod", w, evict("p", ""), "not found")
	check(t, "eviction that names the pod in its object only", &world{pods: map[string]*corev1.Pod{"p": makePod("p", self, false)}}, evict("", "p"), "")
	check(t, "eviction that names no pod", w, evict("", ""), "could not determine the pod")
	// The URL counts, whatever the object says.
	check(t, "eviction of another's pod under the name of an own one", &world{pods: map[string]*corev1.Pod{"mine": makePod("mine", self, false), "p": makePod("p", other, false)}}, evict("p", "mine"), "spec.nodeName set to itself")
}

func TestPodStatus(t *testing.T) {
	t.Parallel()
	name, another := "claim", "another"
	with := func(change func(*corev1.Pod)) *corev1.Pod {
		p := makePod("p", "mynode", false)
		change(p)
		return p
	}
	plain := with(func(*corev1.Pod) {})
	a := with(func(p *corev1.Pod) { p.Labels = map[string]string{"label-a": "value-a"} })
	ab := with(func(p *corev1.Pod) { p.Labels = map[string]string{"label-a": "value-a", "label-b": "value-b"} })
	claim := func(of string, name *string) *corev1.Pod {
		return with(func(p *corev1.Pod) {
			p.Status.ResourceClaimStatuses = []corev1.PodResourceClaimStatus{{Name: of, ResourceClaimName: name}}
		})
	}
	extended := with(func(p *corev1.Pod) {
		p.Status.ExtendedResourceClaimStatus = &corev1.PodExtendedResourceClaimStatus{ResourceClaimName: "theirs"}
	})
	for what, c := range map[string]struct {
		pod, old *corev1.Pod
		want     string
	}{
		"no label":              {a, a.DeepCopy(), ""},
		"a label more":          {ab, a, "cannot update labels through pod status"},
		"a label less":          {a, ab, "cannot update labels through pod status"},
		"the first label":       {a, plain, "cannot update labels through pod status"},
		"the last label":        {plain, a, "cannot update labels through pod status"},
		"the same claims":       {claim("x", &name), claim("x", &name), ""},
		"a claim more":          {claim("x", &name), plain, "cannot update resource claim statuses"},
		"another claim":         {claim("x", &another), claim("x", &name), "cannot update resource claim statuses"},
		"a claim for another":   {claim("y", &name), claim("x", &name), "cannot update resource claim statuses"},
		"a claim that was open": {claim("x", &name), claim("x", nil), "cannot update resource claim statuses"},
		"an extended claim":     {extended, plain, "cannot update extended resource claim status"},
	} {
		check(t, what, &world{}, resource.Change{Caller: mynode, Operation: resource.Update, Resource: podResource, Subresource: "status", Namespace: "ns", Name: "p", Object: c.pod, Old: c.old}, c.want)
	}
}

func TestMirrorPods(t *testing.T) {
	t.Parallel()
	yes, no := true, false
	valid := metav1.OwnerReference{APIVersion: "v1", Kind: "Node", Name: "mynode", UID: "mynode-uid", Controller: &yes}
	owner := func(change func(*metav1.OwnerReference)) []metav1.OwnerReference {
		o := valid
		change(&o)
		return []metav1.OwnerReference{o}
	}
	create := func(p *corev1.Pod) resource.Change {
		return resource.Change{Caller: mynode, Operation: resource.Create, Resource: podResource, Namespace: "ns", Name: p.Name, Object: p}
	}
	registered := &world{nodeUID: "mynode-uid"}
	for name, c := range map[string]struct {
		owners []metav1.OwnerReference
		world  *world
		want   string
	}{
		"none":                {nil, registered, `node "mynode" can only create pods with an owner reference set to itself`},
		"valid":               {[]metav1.OwnerReference{valid}, registered, ""},
		"two":                 {[]metav1.OwnerReference{valid, valid}, registered, "a single owner reference set to itself"},
		"other name":          {owner(func(o *metav1.OwnerReference) { o.Name = "other" }), registered, "with an owner reference set to itself"},
		"other kind":          {owner(func(o *metav1.OwnerReference) { o.Kind = "Pod" }), registered, "with an owner reference set to itself"},
		"other version":       {owner(func(o *metav1.OwnerReference) { o.APIVersion = "v2" }), registered, "with an owner reference set to itself"},
		"other uid":           {[]metav1.OwnerReference{valid}, &world{nodeUID: "mynode-unexpected-uid"}, "UID mismatch"},
		"of no node":          {[]metav1.OwnerReference{valid}, &world{}, "not found"},
		"controller unset":    {owner(func(o *metav1.OwnerReference) { o.Controller = nil }), registered, "a controller owner reference set to itself"},
		"controller false":    {owner(func(o *metav1.OwnerReference) { o.Controller = &no }), registered, "a controller owner reference set to itself"},
		"that blocks":         {owner(func(o *metav1.OwnerReference) { o.BlockOwnerDeletion = &yes }), registered, "must not set blockOwnerDeletion"},
		"that does not block": {owner(func(o *metav1.OwnerReference) { o.BlockOwnerDeletion = &no }), registered, ""},
	} {
		p := makePod("p", "mynode", true)
		p.OwnerReferences = c.owners
		check(t, "owner "+name, c.world, create(p), c.want)
	}

	claim := "c"
	for want, change := range map[string]func(*corev1.PodSpec){
		"reference serviceaccounts": func(s *corev1.PodSpec) { s.ServiceAccountName = "foo" },
		"reference secrets":         func(s *corev1.PodSpec) { s.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "foo"}} },
		"reference configmaps": func(s *corev1.PodSpec) {
			s.Containers = []corev1.Container{{EnvFrom: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "foo"}}}}}}
		},
		"reference persistentvolumeclaims": volume(corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "foo"}}),
		"reference resourceclaims":         func(s *corev1.PodSpec) { s.ResourceClaims = []corev1.PodResourceClaim{{ResourceClaimName: &claim}} },
		"serviceaccounts (via projected":   projected(corev1.VolumeProjection{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{}}),
		"reference clustertrustbundles":    projected(corev1.VolumeProjection{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{}}),
		"reference podcertificates":        projected(corev1.VolumeProjection{PodCertificate: &corev1.PodCertificateProjection{}}),
		"secrets (via projected":           projected(corev1.VolumeProjection{Secret: &corev1.SecretProjection{}}),
		"configmaps (via projected":        projected(corev1.VolumeProjection{ConfigMap: &corev1.ConfigMapProjection{}}),
		"an unknown source":                projected(corev1.VolumeProjection{}),
		"secrets (via secret volumes)":     volume(corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{}}),
		"configmaps (via configmap":        volume(corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{}}),
		"csidrivers":                       volume(corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{}}),
		"endpoints":                        volume(corev1.VolumeSource{Glusterfs: &corev1.GlusterfsVolumeSource{}}),
		"persistentvolumeclaims":           volume(corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}),
		"secrets (via azureFile":           volume(corev1.VolumeSource{AzureFile: &corev1.AzureFileVolumeSource{}}),
		"an unknown type of volume":        volume(corev1.VolumeSource{}),
		"":                                 volume(corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}),
	} {
		p := makePod("p", "mynode", true)
		change(&p.Spec)
		check(t, "pod that refers to "+want, registered, create(p), want)
	}
	p := makePod("p", "mynode", true)
	projected(corev1.VolumeProjection{DownwardAPI: &corev1.DownwardAPIProjection{}})(&p.Spec)
	check(t, "pod with the downward API", registered, create(p), "")
	template := "t"
	p.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "x", ResourceClaimTemplateName: &template}}
	check(t, "pod with a template of a claim", registered, create(p), "reference resourceclaims")
	check(t, "something else under the name of a pod", registered, resource.Change{Caller: mynode, Operation: resource.Create, Resource: podResource, Object: &corev1.Node{}}, "unexpected type")
}

func volume(v corev1.VolumeSource) func(*corev1.PodSpec) {
	return func(s *corev1.PodSpec) { s.Volumes = []corev1.Volume{{Name: "v", VolumeSource: v}} }
}

func projected(p corev1.VolumeProjection) func(*corev1.PodSpec) {
	return volume(corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{p}}})
}

// allowedLabels are what a kubelet may say of its node, forbiddenLabels what
// would steer workloads to it.
func allowedLabels(value string) map[string]string {
	m := map[string]string{}
	for _, k := range []string{
		"foo", "example.com/foo", "kubernetes.io/hostname", "kubernetes.io/os", "kubernetes.io/arch",
		"failure-domain.beta.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/region",
		"topology.kubernetes.io/zone", "topology.kubernetes.io/region",
		"beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type", "beta.kubernetes.io/os", "beta.kubernetes.io/arch",
		"kubelet.kubernetes.io/foo", "foo.kubelet.kubernetes.io/foo", "node.kubernetes.io/foo", "foo.node.kubernetes.io/foo",
	} {
		m[k] = value
	}
	return m
}

func forbiddenLabels(value string) map[string]string {
	return map[string]string{
		"node-restriction.kubernetes.io/foo": value, "foo.node-restriction.kubernetes.io/foo": value,
		"other.kubernetes.io/foo": value, "other.k8s.io/foo": value,
	}
}

const forbiddenList = "labels: foo.node-restriction.kubernetes.io/foo, node-restriction.kubernetes.io/foo, other.k8s.io/foo, other.kubernetes.io/foo"

func merged(maps ...map[string]string) map[string]string {
	out := map[string]string{}
	for _, m := range maps {
		for k, v := range m {
			out[k] = v
		}
	}
	return out
}

func TestNodes(t *testing.T) {
	t.Parallel()
	node := func(name string, labels map[string]string) *corev1.Node {
		return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: "mynode-uid", Labels: labels}}
	}
	config := func(name string) *corev1.Node {
		n := node("mynode", nil)
		//lint:ignore SA1019 what is deprecated must be refused all the same
		n.Spec.ConfigSource = &corev1.NodeConfigSource{ConfigMap: &corev1.ConfigMapNodeConfigSource{Name: name, Namespace: "bar", UID: "u", KubeletConfigKey: "kubelet"}}
		return n
	}
	tainted := func(value string) *corev1.Node {
		n := node("mynode", nil)
		n.Spec.Taints = []corev1.Taint{{Key: "mykey", Value: value}}
		return n
	}
	owned := func(by string) *corev1.Node {
		n := node("mynode", nil)
		n.OwnerReferences = []metav1.OwnerReference{{Name: by}}
		return n
	}
	plain, other := node("mynode", nil), node("othernode", nil)
	allowed, forbidden := allowedLabels("x"), forbiddenLabels("x")
	for name, c := range map[string]struct {
		op       resource.Operation
		url      string
		node     *corev1.Node
		old      *corev1.Node
		sub      string
		want     string
		notANode bool
	}{
		"create":                                  {op: resource.Create, url: "mynode", node: plain},
		"create, named by the object":             {op: resource.Create, node: plain},
		"create with taints":                      {op: resource.Create, node: tainted("A")},
		"create with labels":                      {op: resource.Create, node: node("mynode", allowed)},
		"create with forbidden labels":            {op: resource.Create, node: node("mynode", merged(allowed, forbidden)), want: "is not allowed to set the following " + forbiddenList},
		"create with an owner":                    {op: resource.Create, node: owned("a"), want: "modify ownerReferences"},
		"create with a config source":             {op: resource.Create, node: config("foo"), want: "configSource"},
		"update":                                  {op: resource.Update, url: "mynode", node: plain, old: plain},
		"update of the status":                    {op: resource.Update, url: "mynode", sub: "status", node: plain, old: plain},
		"delete":                                  {op: resource.Delete, url: "mynode", old: plain, want: "not allowed to delete its Node object"},
		"config source added":                     {op: resource.Update, url: "mynode", node: config("foo"), old: plain, want: "new non-nil configSource"},
		"config source changed":                   {op: resource.Update, url: "mynode", node: config("qux"), old: config("foo"), want: "new non-nil configSource"},
		"config source kept":                      {op: resource.Update, url: "mynode", node: config("foo"), old: config("foo")},
		"config source removed":                   {op: resource.Update, url: "mynode", node: plain, old: config("foo")},
		"taints kept":                             {op: resource.Update, url: "mynode", node: tainted("A"), old: tainted("A")},
		"taints added":                            {op: resource.Update, url: "mynode", node: tainted("A"), old: plain, want: "modify taints"},
		"taints removed":                          {op: resource.Update, url: "mynode", node: plain, old: tainted("A"), want: "modify taints"},
		"taints changed":                          {op: resource.Update, url: "mynode", node: tainted("A"), old: tainted("B"), want: "modify taints"},
		"taints changed through the status":       {op: resource.Update, url: "mynode", sub: "status", node: tainted("A"), old: tainted("B"), want: "modify taints"},
		"owner added":                             {op: resource.Update, url: "mynode", node: owned("a"), old: plain, want: `node "mynode" is not allowed to modify ownerReferences`},
		"owner removed":                           {op: resource.Update, url: "mynode", node: plain, old: owned("a"), want: "modify ownerReferences"},
		"owner changed":                           {op: resource.Update, url: "mynode", node: owned("a"), old: owned("b"), want: "modify ownerReferences"},
		"allowed labels added":                    {op: resource.Update, url: "mynode", node: node("mynode", allowed), old: plain},
		"allowed labels removed":                  {op: resource.Update, url: "mynode", node: plain, old: node("mynode", allowed)},
		"allowed labels changed":                  {op: resource.Update, url: "mynode", node: node("mynode", allowedLabels("y")), old: node("mynode", allowed)},
		"all labels kept":                         {op: resource.Update, url: "mynode", node: node("mynode", merged(allowed, forbidden)), old: node("mynode", merged(allowed, forbidden))},
		"allowed labels added beside forbidden":   {op: resource.Update, url: "mynode", node: node("mynode", merged(allowed, forbidden)), old: node("mynode", forbidden)},
		"allowed labels removed beside forbidden": {op: resource.Update, url: "mynode", node: node("mynode", forbidden), old: node("mynode", merged(allowed, forbidden))},
		"forbidden labels added":                  {op: resource.Update, url: "mynode", node: node("mynode", forbidden), old: plain, want: "is not allowed to modify " + forbiddenList},
		"forbidden labels removed":                {op: resource.Update, url: "mynode", node: plain, old: node("mynode", forbidden), want: "is not allowed to modify " + forbiddenList},
		"forbidden labels changed":                {op: resource.Update, url: "mynode", node: node("mynode", forbiddenLabels("y")), old: node("mynode", forbidden), want: "is not allowed to modify " + forbiddenList},
		"create of another":                       {op: resource.Create, url: "othernode", node: other, want: "is not allowed to modify node"},
		"create of another, named by the object":  {op: resource.Create, node: other, want: "is not allowed to modify node"},
		"create of nothing":                       {op: resource.Create, node: node("", nil), want: "is not allowed to modify node"},
		"update of another":                       {op: resource.Update, url: "othernode", node: other, old: other, want: "is not allowed to modify node"},
		"delete of another":                       {op: resource.Delete, url: "othernode", old: other, want: "is not allowed to modify node"},
		"update of the status of another":         {op: resource.Update, url: "othernode", sub: "status", node: other, old: other, want: "is not allowed to modify node"},
		"connect":                                 {op: resource.Connect, url: "mynode", sub: "proxy", want: "unexpected operation"},
	} {
		change := resource.Change{Caller: mynode, Operation: c.op, Resource: nodeResource, Subresource: c.sub, Name: c.url}
		if c.node != nil {
			change.Object = c.node
		}
		if c.old != nil {
			change.Old = c.old
		}
		check(t, name, &world{}, change, c.want)
		change.Caller = bob
		check(t, name+" by somebody else", &world{}, change, "")
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	mine, theirs := makePod("mypod", "mynode", false), makePod("otherpod", "othernode", false)
	projecting := makePod("projecting", "mynode", false)
	projected(corev1.VolumeProjection{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: "foo"}})(&projecting.Spec)
	plain := makePod("plain", "mynode", false)
	projected(corev1.VolumeProjection{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{}})(&plain.Spec)
	w := world{pods: map[string]*corev1.Pod{"mypod": mine, "otherpod": theirs, "projecting": projecting, "plain": plain}}
	granted := w
	granted.granted = "foo"
	stale := w
	stale.stale = true
	ref := func(kind, version, pod string, uid types.UID) *authenticationv1.BoundObjectReference {
		return &authenticationv1.BoundObjectReference{Kind: kind, APIVersion: version, Name: pod, UID: uid}
	}
	for name, c := range map[string]struct {
		world     *world
		ref       *authenticationv1.BoundObjectReference
		audiences []string
		want      string
	}{
		"unbound":                                {&w, nil, []string{"foo"}, "not bound to a pod"},
		"bound to the node":                      {&w, ref("Node", "v1", "mynode", "u"), []string{"foo"}, "not bound to a pod"},
		"bound to a secret":                      {&w, ref("Secret", "v1", "s", "u"), []string{"foo"}, "not bound to a pod"},
		"bound to a pod of another version":      {&w, ref("Pod", "v2", "mypod", "pod-uid"), []string{"foo"}, "not bound to a pod"},
		"bound to a pod without a name":          {&w, ref("Pod", "v1", "", "pod-uid"), []string{"foo"}, "not bound to a pod"},
		"bound to no pod":                        {&w, ref("Pod", "v1", "nopod", "someuid"), []string{"foo"}, "not found"},
		"bound to a pod without a uid":           {&w, ref("Pod", "v1", "mypod", ""), []string{"foo"}, "pod binding without a uid"},
		"bound to a former pod":                  {&w, ref("Pod", "v1", "mypod", "former"), []string{"foo"}, "does not match"},
		"bound to a pod of another node":         {&w, ref("Pod", "v1", "otherpod", "pod-uid"), []string{"foo"}, "pod scheduled on a different node"},
		"of the audience of a volume":            {&w, ref("Pod", "v1", "projecting", "pod-uid"), []string{"foo"}, ""},
		"of the default audience of a volume":    {&w, ref("Pod", "v1", "plain", "pod-uid"), nil, ""},
		"of two audiences":                       {&w, ref("Pod", "v1", "projecting", "pod-uid"), []string{"foo", "bar"}, "node may only request 0 or 1 audiences"},
		"of an audience of nobody":               {&w, ref("Pod", "v1", "mypod", "pod-uid"), []string{"foo"}, `audience "foo" not found in pod spec volume, system:node:mynode is not authorized to request tokens for this audience`},
		"of another audience":                    {&w, ref("Pod", "v1", "projecting", "pod-uid"), []string{"bar"}, `audience "bar" not found in pod spec volume`},
		"of the default audience beside another": {&w, ref("Pod", "v1", "projecting", "pod-uid"), nil, `audience "" not found in pod spec volume`},
		"of an audience that policy grants":      {&granted, ref("Pod", "v1", "mypod", "pod-uid"), []string{"foo"}, ""},
		"while nothing can be decided":           {&stale, ref("Pod", "v1", "mypod", "pod-uid"), []string{"foo"}, "stale"},
	} {
		change := resource.Change{
			Caller: mynode, Operation: resource.Create, Resource: accountResource, Subresource: "token", Namespace: "ns", Name: "mysa",
			Object: &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{BoundObjectRef: c.ref, Audiences: c.audiences}},
		}
		check(t, "token "+name, c.world, change, c.want)
	}
	err := w.rules().Admit(t.Context(), &resource.Change{Caller: mynode, Operation: resource.Create, Resource: accountResource, Subresource: "token", Namespace: "elsewhere", Name: "mysa",
		Object: &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{BoundObjectRef: ref("Pod", "v1", "projecting", "pod-uid"), Audiences: []string{"foo"}}}})
	var status apierrors.APIStatus
	if !errors.As(err, &status) || !apierrors.IsNotFound(err) {
		t.Errorf("a pod of another namespace: %v", err)
	}
}

func TestLeases(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		namespace, name string
		want            string
	}{
		{"foo", "mynode", "can only access leases in"},
		{corev1.NamespaceNodeLease, "foo", "the same name as the requesting node"},
		{corev1.NamespaceNodeLease, "mynode", ""},
	} {
		l := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: c.name}}
		for _, op := range []resource.Operation{resource.Create, resource.Update, resource.Delete} {
			change := resource.Change{Caller: mynode, Operation: op, Resource: leaseResource, Namespace: c.namespace, Name: c.name}
			if op == resource.Create {
				change.Name = "" // as the URL has it
			}
			if op != resource.Delete {
				change.Object = l
			}
			check(t, fmt.Sprintf("%s of %s/%s", op, c.namespace, c.name), &world{}, change, c.want)
		}
	}
}

func TestCertificateRequests(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	request := func(user string) []byte {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: user, Organization: []string{"system:nodes"}}}, key)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	}
	for name, c := range map[string]struct {
		signer  string
		request []byte
		op      resource.Operation
		want    string
	}{
		"serving":                   {certificatesv1.KubeletServingSignerName, request("system:node:mynode"), resource.Create, ""},
		"client":                    {certificatesv1.KubeAPIServerClientKubeletSignerName, request("system:node:mynode"), resource.Create, ""},
		"something else":            {certificatesv1.KubeAPIServerClientSignerName, request("some-other-identity"), resource.Create, ""},
		"another node, serving":     {certificatesv1.KubeletServingSignerName, request("system:node:othernode"), resource.Create, "can only create a node CSR with CN=system:node:mynode"},
		"another node, client":      {certificatesv1.KubeAPIServerClientKubeletSignerName, request("system:node:othernode"), resource.Create, "can only create a node CSR with CN=system:node:mynode"},
		"no node":                   {certificatesv1.KubeletServingSignerName, request("mynode"), resource.Create, "can only create a node CSR"},
		"cut off":                   {certificatesv1.KubeletServingSignerName, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: []byte{0x30}}), resource.Create, "unable to parse csr"},
		"no PEM":                    {certificatesv1.KubeletServingSignerName, []byte("x"), resource.Create, "unable to parse csr"},
		"update, left to authority": {certificatesv1.KubeletServingSignerName, []byte("x"), resource.Update, ""},
	} {
		check(t, name, &world{}, resource.Change{Caller: mynode, Operation: c.op, Resource: csrResource,
			Object: &certificatesv1.CertificateSigningRequest{Spec: certificatesv1.CertificateSigningRequestSpec{SignerName: c.signer, Request: c.request}}}, c.want)
	}
}

func TestUnrelated(t *testing.T) {
	t.Parallel()
	for _, op := range []resource.Operation{resource.Create, resource.Update, resource.Delete} {
		check(t, string(op), &world{}, resource.Change{Caller: mynode, Operation: op, Resource: schema.GroupResource{Resource: "configmaps"}, Namespace: "myns", Name: "mycm"}, "")
	}
}

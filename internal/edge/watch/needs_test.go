package watch

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gatehouse-dev/gatehouse/internal/access/nodegraph"
	"github.com/gatehouse-dev/gatehouse/internal/access/nodegraph/nodeneeds"
)

// fill sets strings and pointers below v at random, with a few names, so that
// repetitions and empty names occur.
func fill(r *rand.Rand, v reflect.Value, depth int) {
	switch v.Kind() {
	case reflect.String:
		v.SetString([]string{"", "a", "b", "c", "d"}[r.IntN(5)])
	case reflect.Pointer:
		if depth > 0 && r.IntN(3) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(r, v.Elem(), depth-1)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 || depth == 0 {
			return
		}
		n := r.IntN(3)
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(r, v.Index(i), depth-1)
		}
	case reflect.Struct:
		if strings.HasPrefix(v.Type().String(), "v1.Time") || strings.HasPrefix(v.Type().String(), "resource.") || strings.HasPrefix(v.Type().String(), "v1.FieldsV1") || strings.HasPrefix(v.Type().String(), "intstr.") {
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(r, v.Field(i), depth)
			}
		}
	}
}

// one leaves a volume with a single source, as the API demands.
func one(r *rand.Rand, v reflect.Value) {
	var set []int
	for i := range v.NumField() {
		if v.Field(i).Kind() == reflect.Pointer && !v.Field(i).IsNil() {
			set = append(set, i)
		}
	}
	r.Shuffle(len(set), func(i, j int) { set[i], set[j] = set[j], set[i] })
	for _, i := range set[min(1, len(set)):] {
		v.Field(i).SetZero()
	}
}

func same(t *testing.T, what any, got nodegraph.Source, ok bool, want nodegraph.Source, wantOK bool) {
	t.Helper()
	compare := func(a, b nodegraph.Object) int {
		return strings.Compare(string(rune(a.Kind))+a.Namespace+"/"+a.Name, string(rune(b.Kind))+b.Namespace+"/"+b.Name)
	}
	slices.SortFunc(got.Needs, compare)
	slices.SortFunc(want.Needs, compare)
	if ok != wantOK || ok && (got.Object != want.Object || got.Node != want.Node || got.UID != want.UID || got.Through != want.Through || !slices.Equal(got.Needs, want.Needs)) {
		data, _ := json.Marshal(what) // it was marshalled before
		t.Fatalf("%s\n%+v %v, want\n%+v %v", data, got, ok, want, wantOK)
	}
}

// What is read in JSON is what the types of the API say, wherever a pod or a
// volume can name something.
func TestReadsWhatTheTypesSay(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	read := func(o any, into any) {
		t.Helper()
		data, err := json.Marshal(o)
		if err == nil {
			err = json.Unmarshal(data, into)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	needed := map[nodegraph.Kind]int{}
	for i := range 3000 {
		p := &corev1.Pod{}
		fill(r, reflect.ValueOf(&p.Spec).Elem(), 6)
		fill(r, reflect.ValueOf(&p.Status.ResourceClaimStatuses).Elem(), 3)
		fill(r, reflect.ValueOf(&p.Status.ExtendedResourceClaimStatus).Elem(), 3)
		for i := range p.Spec.Volumes {
			one(r, reflect.ValueOf(&p.Spec.Volumes[i].VolumeSource).Elem())
		}
		p.ObjectMeta = metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u"}
		if i%10 == 0 {
			p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
		}
		want, wantOK := nodeneeds.FromPod(p)
		var mine pod
		read(p, &mine)
		got, ok := mine.source()
		same(t, p, got, ok, want, wantOK)
		for _, o := range want.Needs {
			needed[o.Kind]++
		}

		v := &corev1.PersistentVolume{}
		fill(r, reflect.ValueOf(&v.Spec).Elem(), 4)
		one(r, reflect.ValueOf(&v.Spec.PersistentVolumeSource).Elem())
		v.Name = "v"
		want, wantOK = nodeneeds.FromVolume(v)
		var mineV volume
		read(v, &mineV)
		got, ok = mineV.source()
		same(t, v, got, ok, want, wantOK)

		a := &storagev1.VolumeAttachment{}
		fill(r, reflect.ValueOf(&a.Spec).Elem(), 2)
		want, wantOK = nodeneeds.FromAttachment(a)
		var mineA attachment
		read(a, &mineA)
		got, ok = mineA.source()
		same(t, a, got, ok, want, wantOK)
	}
	for _, k := range []nodegraph.Kind{nodegraph.Secret, nodegraph.ConfigMap, nodegraph.ServiceAccount, nodegraph.Claim, nodegraph.ResourceClaim} {
		if needed[k] < 100 {
			t.Errorf("kind %d was hardly needed: %d", k, needed[k])
		}
	}
}

package differential

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	core "k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/capabilities"
	"sigs.k8s.io/yaml"

	"github.com/gatehouse-dev/gatehouse/internal/resource"
	"github.com/gatehouse-dev/gatehouse/internal/resource/all"
)

// intended lists where ours and theirs shall differ. Each must show, or it is
// taken off the list.
var intended = []struct{ kind, file, route, why string }{
	{"Pod", "mirror.yaml", "ephemeralcontainers", "for a mirror pod theirs refuses even a change that changes nothing"},
}

// values are put in the place of every value of an object.
var values = []any{
	absent, nil, "", "a", "A", "1", "0", "-1", "1.5", "10m", "bad value!", "../x", "/abs", "a.b", "a/b", "example.com/x", "x:y",
	"192.0.2.1", "In", "Exists", "Always", "Never", "None", "TCP", "NoExecute", strings.Repeat("a", 64), strings.Repeat("a", 254),
	true, false, -1.0, 0.0, 1.0, 599.0, 601.0, 70000.0, 5000000000.0, map[string]any{}, []any{}, []any{"a", "a"},
}

type nothing struct{}

var absent any = nothing{}

var caller = resource.Caller{Name: "jane", UID: "1", Groups: []string{"developers"}}

func TestMain(m *testing.M) {
	// As on a cluster that allows privileged pods, with the features that
	// ours has no switch for.
	capabilities.Initialize(capabilities.Capabilities{AllowPrivileged: true})
	err := utilfeature.DefaultMutableFeatureGate.Set(strings.Join([]string{
		"ClusterTrustBundle=true", "ClusterTrustBundleProjection=true", "PodCertificateRequest=true",
		"CoordinatedLeaderElection=true", "ContainerStopSignals=true", "EnvFiles=true", "HostnameOverride=true",
	}, ","))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func TestSameObjectsAreAccepted(t *testing.T) {
	compared, shown := 0, make([]bool, len(intended))
	deps := all.Deps{CompileExpressions: func(_, _ *admissionregistrationv1.ValidatingAdmissionPolicy) field.ErrorList { return nil }}
	for _, kind := range all.List(deps) {
		ours, ok := kind.(*resource.Stored)
		if !ok || strategies[ours.Names.Kind] == nil {
			continue
		}
		for _, file := range testdata(t, ours.Names.Kind) {
			for _, old := range stages(t, ours, file) {
				for route, theirs := range strategies[ours.Names.Kind] {
					mutate(t, old, func(path string, data []byte) {
						a, b, ok := compare(ours, theirs, route, old, data)
						if !ok {
							return
						}
						compared++
						if (len(a) == 0) == (len(b) == 0) {
							return
						}
						for i, d := range intended {
							if d.kind == ours.Names.Kind && d.file == filepath.Base(file) && d.route == route {
								shown[i] = true
								return
							}
						}
						t.Errorf("%s of %s, route %q, with another %s: ours %v, theirs %v", filepath.Base(file), ours.Names.Kind, route, path, a, b)
					})
				}
			}
		}
	}
	t.Logf("%d objects compared", compared)
	if compared < 50_000 {
		t.Error("too few objects were compared")
	}
	for i, d := range intended {
		if !shown[i] {
			t.Errorf("no object shows that %s", d.why)
		}
	}
}

func testdata(t *testing.T, kind string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", "..", "internal", "resource", strings.ToLower(kind), "testdata", "valid", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no test data of %s: %v", kind, err)
	}
	return files
}

// stages returns the object of a file as it is created, and as it is stored
// after all documents of the file.
func stages(t *testing.T, kind *resource.Stored, file string) []*stage {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var first, stored runtime.Object
	for text := range strings.SplitSeq(string(data), "\n---\n") {
		obj, route := kind.New(), ""
		if err := yaml.Unmarshal([]byte(text), obj); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(text) {
			if value, ok := strings.CutPrefix(line, "# route:"); ok {
				route = strings.TrimSpace(value)
			}
		}
		setDefaults(kind, obj)
		if stored == nil {
			first = obj.DeepCopyObject()
			kind.PrepareCreate(caller, obj)
		} else {
			prepare(kind, route, obj, stored)
		}
		stored = obj
	}
	stored.(resource.Object).SetResourceVersion("1")
	hub, err := runtime.Decode(legacyscheme.Codecs.UniversalDecoder(), encode(t, kind, stored))
	if err != nil {
		t.Fatal(err)
	}
	return []*stage{{obj: first}, {obj: stored, hub: hub}}
}

// stage is an object to change, on its creation or, when it has a hub, as it
// is stored: hub is what upstream makes of it.
type stage struct {
	obj, hub runtime.Object
}

func setDefaults(kind *resource.Stored, obj runtime.Object) {
	if kind.Default != nil {
		kind.Default(obj)
	}
}

// prepare applies a route of ours, and returns what is wrong.
func prepare(kind *resource.Stored, route string, obj, old runtime.Object) field.ErrorList {
	if route == "" {
		kind.PrepareUpdate(caller, obj, old)
		return kind.ValidateUpdate(obj, old)
	}
	for _, sub := range kind.Subresources {
		if sub.Name == route {
			sub.Prepare(caller, obj, old)
			return sub.Validate(obj, old)
		}
	}
	return field.ErrorList{field.InternalError(nil, fmt.Errorf("no route %q", route))}
}

// compare sends data both ways. Objects that either side cannot decode are
// left to the decoder, which both share.
func compare(kind *resource.Stored, their strategy, route string, at *stage, data []byte) (ours, theirs field.ErrorList, ok bool) {
	if at.hub == nil && route != "" {
		return nil, nil, false
	}
	mine := kind.New()
	if json.Unmarshal(data, mine) != nil {
		return nil, nil, false
	}
	hub, err := runtime.Decode(legacyscheme.Codecs.UniversalDecoder(), data)
	if err != nil {
		return nil, nil, false
	}
	ctx := request.WithUser(context.Background(), &user.DefaultInfo{Name: caller.Name, UID: caller.UID, Groups: caller.Groups})
	ctx = request.WithNamespace(ctx, "payments")
	ctx = request.WithRequestInfo(ctx, &request.RequestInfo{APIGroup: kind.GroupVersion.Group, APIVersion: kind.GroupVersion.Version})
	setDefaults(kind, mine)
	if at.hub != nil {
		old := at.hub.DeepCopyObject()
		ours = prepare(kind, route, mine, at.obj)
		their.PrepareForUpdate(ctx, hub, old)
		theirs = their.ValidateUpdate(ctx, hub, old)
	} else {
		assignAccount(hub)
		kind.PrepareCreate(caller, mine)
		ours = kind.Validate(mine)
		their.PrepareForCreate(ctx, hub)
		theirs = their.Validate(ctx, hub)
	}
	// Metadata is checked by the frame, which both share; theirs reports
	// taints there.
	theirs = slices.DeleteFunc(theirs, func(err *field.Error) bool {
		return strings.HasPrefix(err.Field, "metadata") && !strings.HasPrefix(err.Field, "metadata.taints") && !strings.HasPrefix(err.Field, "metadata.annotations")
	})
	return ours, theirs, true
}

// assignAccount does what an admission plugin does upstream.
func assignAccount(obj runtime.Object) {
	if p, ok := obj.(*core.Pod); ok && p.Spec.ServiceAccountName == "" {
		if _, mirror := p.Annotations[core.MirrorPodAnnotationKey]; !mirror {
			p.Spec.ServiceAccountName = "default"
		}
	}
}

func encode(t *testing.T, kind *resource.Stored, obj runtime.Object) []byte {
	t.Helper()
	obj = obj.DeepCopyObject()
	obj.GetObjectKind().SetGroupVersionKind(kind.GroupVersion.WithKind(kind.Names.Kind))
	data, err := json.Marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// mutate emits the object with one value at a time replaced by each of
// values.
func mutate(t *testing.T, at *stage, emit func(path string, data []byte)) {
	t.Helper()
	data, err := json.Marshal(at.obj)
	if err != nil {
		t.Fatal(err)
	}
	var root map[string]any
	if err := json.Unmarshal(data, &root); err != nil {
		t.Fatal(err)
	}
	replace := func(path string, old any, set func(any)) {
		for _, value := range values {
			set(value)
			data, err := json.Marshal(root)
			if err != nil {
				t.Fatal(err)
			}
			emit(path, data)
		}
		set(old)
	}
	for key, value := range root {
		if key != "metadata" && key != "kind" && key != "apiVersion" {
			visit(root, key, value, key, replace)
		}
	}
}

func visit(parent map[string]any, key string, value any, path string, replace func(path string, old any, set func(any))) {
	replace(path, value, func(v any) {
		if v == absent {
			delete(parent, key)
		} else {
			parent[key] = v
		}
	})
	descend(value, path, replace)
}

func descend(value any, path string, replace func(path string, old any, set func(any))) {
	switch value := value.(type) {
	case map[string]any:
		for key, v := range value {
			visit(value, key, v, path+"."+key, replace)
		}
	case []any:
		for i, v := range value {
			path := fmt.Sprintf("%s[%d]", path, i)
			replace(path, v, func(v any) {
				if v != absent {
					value[i] = v
				}
			})
			descend(v, path, replace)
		}
	}
}

package kubeapi

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"

	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// types holds what is known about the Go types of all kinds.
type types struct {
	scheme *runtime.Scheme
	codecs serializer.CodecFactory
	params runtime.ParameterCodec
	// naming is the scheme without the hub registrations; OpenAPI names are
	// taken from it, so that the hub version never shows.
	naming *runtime.Scheme
}

// newTypes registers every kind in its own version and, with the same Go type,
// as its own hub. One type for both means that no conversion exists that
// could lose a field.
func newTypes(kinds []resource.Kind) (*types, error) {
	t := &types{scheme: runtime.NewScheme(), naming: runtime.NewScheme()}
	seen := map[schema.GroupVersion]bool{}
	core := schema.GroupVersion{Version: "v1"}
	for _, s := range []*runtime.Scheme{t.scheme, t.naming} {
		metav1.AddToGroupVersion(s, core)
		s.AddUnversionedTypes(core, &metav1.Status{}, &metav1.APIVersions{}, &metav1.APIGroupList{}, &metav1.APIGroup{}, &metav1.APIResourceList{})
	}
	seen[core] = true
	for _, k := range kinds {
		n := resource.NamesOf(k)
		gv := n.GroupVersion
		if !seen[gv] {
			seen[gv] = true
			metav1.AddToGroupVersion(t.scheme, gv)
			metav1.AddToGroupVersion(t.naming, gv)
		}
		switch k := k.(type) {
		case *resource.Stored:
			t.add(gv.WithKind(n.Kind), k.New())
			t.add(gv.WithKind(n.Kind+"List"), k.NewList())
			for _, a := range k.Actions {
				t.add(a.GroupVersionKind, a.New())
			}
			if k.Default != nil {
				t.scheme.AddTypeDefaultingFunc(k.New(), func(obj any) { k.Default(obj.(runtime.Object)) })
			}
			if err := t.scheme.AddFieldLabelConversionFunc(gv.WithKind(n.Kind), selectable(k)); err != nil {
				return nil, fmt.Errorf("register field selectors of %s: %w", n.Resource, err)
			}
		case *resource.Answered:
			t.add(gv.WithKind(n.Kind), k.New())
		}
	}
	for gv := range seen {
		if err := t.scheme.SetVersionPriority(gv); err != nil {
			return nil, fmt.Errorf("register %s: %w", gv, err)
		}
	}
	t.codecs = serializer.NewCodecFactory(t.scheme, serializer.WithStreamingCollectionEncodingToJSON(), serializer.WithStreamingCollectionEncodingToProtobuf())
	t.params = runtime.NewParameterCodec(t.scheme)
	return t, nil
}

func (t *types) add(gvk schema.GroupVersionKind, obj runtime.Object) {
	if t.scheme.Recognizes(gvk) {
		return
	}
	t.scheme.AddKnownTypeWithName(gvk, obj)
	t.naming.AddKnownTypeWithName(gvk, obj)
	t.scheme.AddKnownTypeWithName(hub(gvk.Group).WithKind(gvk.Kind), obj)
}

// hub is the version in which the frame handles objects in memory.
func hub(group string) schema.GroupVersion {
	return schema.GroupVersion{Group: group, Version: runtime.APIVersionInternal}
}

// selectable accepts the field selectors that a kind declares and refuses all
// others by name.
func selectable(k *resource.Stored) runtime.FieldLabelConversionFunc {
	known := map[string]bool{"metadata.name": true}
	if k.Namespaced {
		known["metadata.namespace"] = true
	}
	for _, p := range k.FieldPaths {
		known[p] = true
	}
	return func(label, value string) (string, string, error) {
		if !known[label] {
			return "", "", fmt.Errorf("%q is not a known field selector of %s", label, k.Resource)
		}
		return label, value, nil
	}
}

// fieldsOf is what field selectors of a kind are matched against.
func fieldsOf(k *resource.Stored, obj runtime.Object) (fields.Set, map[string]string, error) {
	m, err := meta.Accessor(obj)
	if err != nil {
		return nil, nil, err
	}
	return k.FieldValues(obj), m.GetLabels(), nil
}

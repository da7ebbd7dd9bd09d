package namespace

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

func labelled(domain string) *corev1.Namespace {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "payments", Labels: map[string]string{"a": "b"}}}
	if domain != "" {
		ns.Labels[DomainLabel] = domain
	}
	return ns
}

func TestAssignDomainGuardsTheLabel(t *testing.T) {
	t.Parallel()
	refusal := fault.New(fault.Denied, "no")
	for name, c := range map[string]struct {
		old      *corev1.Namespace
		domain   string
		asked    bool
		from, to string
	}{
		"created without":  {nil, "", false, "", ""},
		"created in one":   {nil, "acme", true, "", "acme"},
		"unchanged":        {labelled("acme"), "acme", false, "", ""},
		"moved":            {labelled("acme"), "other", true, "acme", "other"},
		"taken out":        {labelled("acme"), "", true, "acme", ""},
		"metadata changed": {labelled(""), "", false, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked := false
			kind := New(func(_ context.Context, caller resource.Caller, from, to string) error {
				asked = true
				if caller.Name != "jane" || from != c.from || to != c.to {
					t.Errorf("asked whether %s may move from %q to %q", caller.Name, from, to)
				}
				return refusal
			}).(*resource.Stored)
			var err error
			if c.old == nil {
				err = kind.Check(t.Context(), resource.Caller{Name: "jane"}, labelled(c.domain), nil)
			} else {
				err = kind.Check(t.Context(), resource.Caller{Name: "jane"}, labelled(c.domain), c.old)
			}
			if asked != c.asked || (err != nil) != c.asked {
				t.Errorf("asked = %t, error = %v, want asked = %t", asked, err, c.asked)
			}
		})
	}
}

// TestSubresourcesCannotMoveANamespace is the attack on the check above: the
// subresources write metadata too.
func TestSubresourcesCannotMoveANamespace(t *testing.T) {
	t.Parallel()
	kind := New(nil).(*resource.Stored)
	for _, sub := range kind.Subresources {
		for _, old := range []string{"", "acme"} {
			for _, domain := range []string{"", "acme", "other"} {
				ns := labelled(domain)
				sub.Prepare(resource.Caller{}, ns, labelled(old))
				if got, ok := ns.Labels[DomainLabel]; got != old || ok != (old != "") {
					t.Errorf("%s moved a namespace from %q to %q", sub.Name, old, got)
				}
			}
		}
	}
}

func TestDeletionWaitsForFinalizers(t *testing.T) {
	t.Parallel()
	kind := New(nil).(*resource.Stored)
	ns := labelled("")
	kind.PrepareCreate(resource.Caller{}, ns)
	if !kind.KeepOnDelete(ns) {
		t.Error("a namespace would vanish before it is emptied")
	}
	kind.PrepareDelete(ns)
	if ns.Status.Phase != corev1.NamespaceTerminating {
		t.Errorf("phase %s", ns.Status.Phase)
	}
	ns.Spec.Finalizers = nil
	if kind.KeepOnDelete(ns) {
		t.Error("an emptied namespace would stay")
	}
}

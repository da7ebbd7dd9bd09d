package held_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gatehouse-dev/gatehouse/internal/access/held"
)

func TestFollowsTheFeed(t *testing.T) {
	t.Parallel()
	named := func(name string) *corev1.Namespace {
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	}
	h := held.New[*corev1.Namespace]()
	h.Put(named("gone"))
	h.Replace([]*corev1.Namespace{named("b"), named("c")})
	h.Put(named("a"))
	h.Delete(named("c"))
	var got string
	for _, one := range h.Sorted() {
		got += one.Name
	}
	if _, ok := h.Get("gone"); ok || got != "ab" {
		t.Errorf("held: %q", got)
	}
	copied := h.All()
	delete(copied, "a")
	if _, ok := h.Get("a"); !ok {
		t.Error("the copy is not one")
	}
	var none *held.Objects[*corev1.Namespace]
	if _, ok := none.Get("a"); ok || len(none.All()) != 0 {
		t.Error("none holds something")
	}
}

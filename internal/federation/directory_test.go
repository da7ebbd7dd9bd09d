package federation_test

import (
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/federation"
)

func named(name string) *api.Site { return &api.Site{ObjectMeta: metav1.ObjectMeta{Name: name}} }

// A site that is gone, or going, is not connected any more.
func TestDirectoryForgets(t *testing.T) {
	t.Parallel()
	d := federation.NewDirectory(nil)
	d.Put(named("early"))
	d.Replace([]*api.Site{named("a"), named("b"), named("c")})
	d.Delete(named("b"))
	now := metav1.NewTime(time.Unix(1, 0))
	going := named("c")
	going.DeletionTimestamp = &now
	d.Put(going)
	d.Delete(named("never"))
	for name, want := range map[string]bool{"a": true, "b": false, "c": false, "early": false, "never": false, "": false} {
		if _, got := d.Get(name); got != want {
			t.Errorf("%q connected: %t", name, got)
		}
	}
}

func TestHeardIsTakenOnce(t *testing.T) {
	t.Parallel()
	d := federation.NewDirectory(nil)
	at := func(s int64) time.Time { return time.Unix(s, 0) }
	d.Heard("a", "authorize", at(1))
	d.Heard("a", "audit", at(2))
	d.Heard("a", "authorize", at(3))
	d.Heard("b", "audit", at(4))
	want := map[string][]federation.Use{"a": {{Door: "audit", At: at(2)}, {Door: "authorize", At: at(3)}}, "b": {{Door: "audit", At: at(4)}}}
	if got := d.TakeHeard(); !reflect.DeepEqual(got, want) {
		t.Errorf("heard %v", got)
	}
	if got := d.TakeHeard(); len(got) != 0 {
		t.Errorf("heard again: %v", got)
	}
}

// Readers of the directory see a whole state while it changes.
func TestDirectoryInACrowd(t *testing.T) {
	t.Parallel()
	d := federation.NewDirectory(nil)
	d.Replace([]*api.Site{named("always")})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 200 {
				s := named(fmt.Sprintf("s-%d-%d", i, j))
				d.Put(s)
				d.Heard(s.Name, "audit", time.Unix(1, 0))
				if _, ok := d.Get("always"); !ok {
					t.Error("a site is gone while others come")
				}
				d.Delete(s)
			}
		})
	}
	wg.Wait()
}

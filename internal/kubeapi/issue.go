package kubeapi

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/util/dryrun"

	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// creation carries, through the library, what is made with a new object to the
// answer about it.
type creation struct {
	kind   *resource.Stored
	issue  func(context.Context, resource.Caller, runtime.Object) func(context.Context, runtime.Object)
	reveal func(context.Context, runtime.Object)
}

type creationKey struct{}

// creating prepares ctx for a creation of a kind that issues something. A
// creation that the control plane makes itself brings its own way to issue.
func (s *store) creating(ctx context.Context) (context.Context, *creation) {
	if c, ok := ctx.Value(creationKey{}).(*creation); ok && c.kind == s.kind {
		return ctx, c
	}
	if s.kind.Issue == nil {
		return ctx, nil
	}
	c := &creation{kind: s.kind, issue: s.kind.Issue}
	return context.WithValue(ctx, creationKey{}, c), c
}

// created completes the answer to a creation. What is revealed has no storage
// behind it: obj was read back from the store for this answer alone.
func (c *creation) created(ctx context.Context, obj runtime.Object, dryRun []string) {
	if c != nil && c.reveal != nil && !dryrun.IsDryRun(dryRun) {
		c.reveal(ctx, obj)
	}
}

// Create stores a new object on the control plane's own account. issue takes
// the place of what the kind makes of objects of others. Validation applies;
// admission, the kind's check of its author and the record do not: it is for
// what follows from a request that was decided and recorded.
func (f *Frame) Create(ctx context.Context, gr schema.GroupResource, obj resource.Object, issue func(resource.Object)) (resource.Object, error) {
	s, ok := f.stores[gr]
	if !ok {
		return nil, fmt.Errorf("create %s: not a stored kind", gr)
	}
	ctx = about(ctx, gr, obj.GetNamespace())
	ctx = context.WithValue(ctx, creationKey{}, &creation{
		kind: s.kind,
		issue: func(_ context.Context, _ resource.Caller, o runtime.Object) func(context.Context, runtime.Object) {
			issue(o.(resource.Object))
			return nil
		},
	})
	out, err := s.Store.Create(ctx, obj, rest.ValidateAllObjectFunc, &metav1.CreateOptions{})
	if err != nil {
		return nil, err
	}
	return out.(resource.Object), nil
}

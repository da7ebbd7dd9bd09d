package server

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	accessapi "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/kubeapi"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// breakGlassMark, as an annotation of an AccessPolicy, RoleBinding or
// ClusterRoleBinding, says that it is for emergencies: every event that it
// allows is marked. Its value other than "true" is the reason that is recorded.
const breakGlassMark = "gatehouse.dev/break-glass"

// breakGlass knows the objects with the mark. It is safe for concurrent use;
// asking costs nothing as long as there are none.
type breakGlass struct {
	mu    sync.Mutex // guards changes
	marks atomic.Pointer[map[string]string]
}

// markedKind is a feed of one kind.
type markedKind[T resource.Object] struct {
	to   *breakGlass
	kind string
}

var _ feed[*accessapi.AccessPolicy] = markedKind[*accessapi.AccessPolicy]{}

func markKey(kind, namespace, name string) string { return kind + " " + namespace + "/" + name }

// Replace implements feed.
func (m markedKind[T]) Replace(all []T) {
	m.to.change(func(marks map[string]string) {
		for key := range marks {
			if strings.HasPrefix(key, m.kind+" ") {
				delete(marks, key)
			}
		}
		for _, o := range all {
			m.put(marks, o)
		}
	})
}

// Put implements feed.
func (m markedKind[T]) Put(o T) {
	m.to.change(func(marks map[string]string) { m.put(marks, o) })
}

// Delete implements feed.
func (m markedKind[T]) Delete(o T) {
	m.to.change(func(marks map[string]string) { delete(marks, markKey(m.kind, o.GetNamespace(), o.GetName())) })
}

func (m markedKind[T]) put(marks map[string]string, o T) {
	key := markKey(m.kind, o.GetNamespace(), o.GetName())
	switch reason := o.GetAnnotations()[breakGlassMark]; reason {
	case "", "false":
		delete(marks, key)
	case "true":
		marks[key] = m.kind + " " + o.GetName()
	default:
		marks[key] = reason
	}
}

// change makes a new map, so that readers need no lock.
func (b *breakGlass) change(edit func(map[string]string)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	next := map[string]string{}
	if was := b.marks.Load(); was != nil {
		for key, reason := range *was {
			next[key] = reason
		}
	}
	edit(next)
	b.marks.Store(&next)
}

// of returns why a decision counts as break-glass, "" when it does not.
func (b *breakGlass) of(who access.Subject, d access.Decision) string {
	if !d.Allowed() {
		return ""
	}
	// Whoever was let in again by "gatehouse admin recover".
	if d.Superuser() && strings.HasPrefix(who.Name, recoveredPrefix) && slices.Contains(who.Groups, access.SuperuserGroup) {
		return "recovered administrator"
	}
	marks := b.marks.Load()
	if marks == nil || len(*marks) == 0 {
		return ""
	}
	if kind, name, ok := d.Decider(); ok {
		return (*marks)[markKey(kind, "", name)]
	}
	if g, ok := d.Grant(); ok {
		return (*marks)[markKey(g.BindingKind(), g.Namespace, g.Name)]
	}
	return ""
}

// note adds to the event of a request what decided it.
func (r reviews) note(ctx context.Context, who access.Subject, d access.Decision) {
	noteChain(ctx, d)
	if kind, name, ok := d.Decider(); ok {
		contribute(ctx, audit.AnnotationPolicies, kind+"/"+name)
	}
	if reason := r.emergencies.of(who, d); reason != "" {
		contribute(ctx, audit.AnnotationBreakGlass, reason)
	}
}

// contribute annotates the event of a request of either lane.
func contribute(ctx context.Context, key, value string) {
	kubeapi.Annotate(ctx, key, value)
	audit.Note(ctx, key, value)
}

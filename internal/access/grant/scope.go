package grant

import (
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"

	accessv1alpha1 "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
)

// Pattern is a name, or the beginning of names with a star behind it; the
// star alone is every name.
type Pattern string

// Matches reports whether the pattern includes a name.
func (p Pattern) Matches(name string) bool {
	prefix, open := strings.CutSuffix(string(p), "*")
	return open && strings.HasPrefix(name, prefix) || !open && name == prefix
}

// includes reports whether every name that inner includes is included.
func (p Pattern) includes(inner Pattern) bool {
	prefix, open := strings.CutSuffix(string(p), "*")
	if !open {
		return p == inner
	}
	innerPrefix, _ := strings.CutSuffix(string(inner), "*")
	return strings.HasPrefix(innerPrefix, prefix)
}

// Within reports whether each pattern of inner lies inside one of outer.
func Within(inner, outer []string) bool {
	for _, i := range inner {
		inside := false
		for _, o := range outer {
			if Pattern(o).includes(Pattern(i)) {
				inside = true
				break
			}
		}
		if !inside {
			return false
		}
	}
	return true
}

// NamespacesWithin reports whether one scope lies inside another; nil is
// everywhere. Labels change and selectors can be compared only where the same
// labels are read, so a selector lies inside itself and everywhere only.
func NamespacesWithin(inner, outer *accessv1alpha1.NamespaceScope) bool {
	switch {
	case outer == nil:
		return true
	case inner == nil:
		return false
	case outer.Selector != nil || inner.Selector != nil:
		return equality.Semantic.DeepEqual(inner, outer)
	default:
		return Within(inner.Names, outer.Names)
	}
}

package drift

import (
	"context"
	"errors"
	"fmt"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// change is what repairs a finding.
type change struct {
	object object

	remove   bool
	recreate bool // the server does, when it starts, from its own objects

	annotate bool

	rules       []rbacv1.PolicyRule
	aggregation bool // set or remove the aggregationRule too
	selectors   *rbacv1.AggregationRule

	subjects    []rbacv1.Subject
	setSubjects bool
}

// patch is the JSON patch of a change: it fails when the object has changed
// since it was read.
func (c change) patch() string {
	var ops []string
	if v := c.object.meta.ResourceVersion; v != "" {
		ops = append(ops, `{"op":"test","path":"/metadata/resourceVersion","value":`+jsonText(v)+`}`)
	}
	switch {
	case c.annotate:
		ops = append(ops, `{"op":"replace","path":"/metadata/annotations/rbac.authorization.kubernetes.io~1autoupdate","value":"true"}`)
	case c.setSubjects:
		ops = append(ops, `{"op":"replace","path":"/subjects","value":`+jsonText(c.subjects)+`}`)
	case c.aggregation && c.selectors != nil:
		ops = append(ops, `{"op":"add","path":"/aggregationRule","value":`+jsonText(c.selectors)+`}`)
	default:
		if c.aggregation {
			ops = append(ops, `{"op":"remove","path":"/aggregationRule"}`)
		}
		rules := c.rules
		if rules == nil {
			rules = []rbacv1.PolicyRule{}
		}
		ops = append(ops, `{"op":"add","path":"/rules","value":`+jsonText(rules)+`}`)
	}
	return "[" + strings.Join(ops, ",") + "]"
}

// command is the change as a command.
func (c change) command() string {
	if c.remove {
		text := "kubectl delete " + c.object.words()
		if c.recreate {
			text += "  # kube-apiserver makes it anew when it starts"
		}
		return text
	}
	return "kubectl patch " + c.object.words() + " --type=json -p " + quote(c.patch())
}

// key is the same for findings that one change repairs.
func (c change) key() string { return c.object.String() + " " + c.command() }

// Outcome is what became of one repair.
type Outcome struct {
	Command string `json:"command"`
	Error   string `json:"error,omitempty"`
}

// Repair makes the changes that repair the findings, each once. An object that
// changed since it was read is left alone, with an error that says so. It goes
// on after an error; ok is true when there was none and nothing is left to do
// by hand.
func Repair(ctx context.Context, client kubernetes.Interface, findings []Finding) (outcomes []Outcome, ok bool) {
	ok = true
	done := map[string]bool{}
	touched := map[string]bool{}
	for i := range findings {
		f := &findings[i]
		if f.Manual {
			ok = false
			continue
		}
		if done[f.change.key()] {
			continue
		}
		done[f.change.key()] = true
		c := f.change
		// The first change of an object makes the version that was read an old
		// one: later ones rest on the first having found it unchanged.
		if touched[c.object.String()] {
			meta := *c.object.meta
			meta.ResourceVersion = ""
			c.object.meta = &meta
		}
		out := Outcome{Command: f.change.command()}
		if err := apply(ctx, client, c); err != nil {
			ok = false
			out.Error = err.Error()
			outcomes = append(outcomes, out)
			continue
		}
		touched[c.object.String()] = true
		outcomes = append(outcomes, out)
	}
	return outcomes, ok
}

func apply(ctx context.Context, client kubernetes.Interface, c change) error {
	name, namespace := c.object.meta.Name, c.object.meta.Namespace
	if c.remove {
		conditions := metav1.Preconditions{}
		if uid := c.object.meta.UID; uid != "" {
			conditions.UID = &uid
		}
		if v := c.object.meta.ResourceVersion; v != "" {
			conditions.ResourceVersion = &v
		}
		opts := metav1.DeleteOptions{Preconditions: &conditions}
		var err error
		switch c.object.kind {
		case "ClusterRole":
			err = client.RbacV1().ClusterRoles().Delete(ctx, name, opts)
		case "ClusterRoleBinding":
			err = client.RbacV1().ClusterRoleBindings().Delete(ctx, name, opts)
		case "Role":
			err = client.RbacV1().Roles(namespace).Delete(ctx, name, opts)
		case "RoleBinding":
			err = client.RbacV1().RoleBindings(namespace).Delete(ctx, name, opts)
		}
		if apierrors.IsNotFound(err) {
			return nil
		}
		return explained(err)
	}
	patch, opts := []byte(c.patch()), metav1.PatchOptions{FieldManager: "gatehouse-drift"}
	var err error
	switch c.object.kind {
	case "ClusterRole":
		_, err = client.RbacV1().ClusterRoles().Patch(ctx, name, types.JSONPatchType, patch, opts)
	case "ClusterRoleBinding":
		_, err = client.RbacV1().ClusterRoleBindings().Patch(ctx, name, types.JSONPatchType, patch, opts)
	case "Role":
		_, err = client.RbacV1().Roles(namespace).Patch(ctx, name, types.JSONPatchType, patch, opts)
	case "RoleBinding":
		_, err = client.RbacV1().RoleBindings(namespace).Patch(ctx, name, types.JSONPatchType, patch, opts)
	default:
		err = errors.New("unknown kind")
	}
	return explained(err)
}

// explained tells a conflict in words: a failed test of a patch is answered
// with 422.
func explained(err error) error {
	if apierrors.IsConflict(err) || apierrors.IsInvalid(err) && strings.Contains(err.Error(), "resourceVersion") {
		return fmt.Errorf("changed since it was read, and left alone: %w", err)
	}
	return err
}

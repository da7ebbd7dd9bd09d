package main

import (
	"encoding/json"

	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/bench/rbac/policyset"
)

// An object is what is posted, and where.
type object struct {
	path string
	body map[string]any
}

const (
	rbacGroup  = "rbac.authorization.k8s.io"
	rbacPath   = "/apis/" + rbacGroup + "/v1"
	reviewPath = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
)

// A load is a policy set as it is put on a server, step by step, and the
// questions about it as they are asked.
type load struct {
	steps   [3][]object // namespaces, roles, bindings
	queries []authz.Request
	reviews [][]byte
}

func newLoad(bindings, queries int) (*load, error) {
	set := policyset.New(bindings, queries, 1)
	l := &load{queries: set.Queries}
	seen := map[string]bool{}
	for _, b := range set.Bindings {
		if b.Namespace != "" && !seen[b.Namespace] {
			seen[b.Namespace] = true
			l.steps[0] = append(l.steps[0], object{"/api/v1/namespaces", map[string]any{
				"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": b.Namespace},
			}})
		}
		l.steps[2] = append(l.steps[2], bindingObject(b))
	}
	for _, r := range set.Roles {
		l.steps[1] = append(l.steps[1], roleObject(r))
	}
	for _, q := range set.Queries {
		review, err := json.Marshal(reviewOf(q))
		if err != nil {
			return nil, err
		}
		l.reviews = append(l.reviews, review)
	}
	return l, nil
}

// rbacObject is an object of the RBAC group, in a namespace or in none.
func rbacObject(kind, plural, namespace, name string, body map[string]any) object {
	body["apiVersion"], body["kind"] = rbacGroup+"/v1", kind
	metadata := map[string]any{"name": name}
	body["metadata"] = metadata
	if namespace == "" {
		return object{rbacPath + "/" + plural, body}
	}
	metadata["namespace"] = namespace
	return object{rbacPath + "/namespaces/" + namespace + "/" + plural, body}
}

func roleObject(r authz.Role) object {
	rules := make([]map[string]any, len(r.Rules))
	for i, rule := range r.Rules {
		rules[i] = map[string]any{"verbs": rule.Verbs}
		for field, values := range map[string][]string{
			"apiGroups": rule.APIGroups, "resources": rule.Resources,
			"resourceNames": rule.ResourceNames, "nonResourceURLs": rule.NonResourceURLs,
		} {
			if len(values) > 0 {
				rules[i][field] = values
			}
		}
	}
	return rbacObject("ClusterRole", "clusterroles", "", r.Name, map[string]any{"rules": rules})
}

func bindingObject(b authz.Binding) object {
	subjects := make([]map[string]any, len(b.Subjects))
	for i, s := range b.Subjects {
		subjects[i] = map[string]any{"name": s.Name}
		switch s.Kind {
		case authz.ServiceAccount:
			subjects[i]["kind"], subjects[i]["namespace"] = "ServiceAccount", s.Namespace
		case authz.Group:
			subjects[i]["kind"], subjects[i]["apiGroup"] = "Group", rbacGroup
		default:
			subjects[i]["kind"], subjects[i]["apiGroup"] = "User", rbacGroup
		}
	}
	kind, plural := "ClusterRoleBinding", "clusterrolebindings"
	if b.Namespace != "" {
		kind, plural = "RoleBinding", "rolebindings"
	}
	return rbacObject(kind, plural, b.Namespace, b.Name, map[string]any{
		"roleRef":  map[string]any{"apiGroup": rbacGroup, "kind": "ClusterRole", "name": b.RoleName},
		"subjects": subjects,
	})
}

// reviewOf is the SubjectAccessReview that asks the question.
func reviewOf(q authz.Request) map[string]any {
	spec := map[string]any{"user": q.User, "groups": q.Groups}
	if q.ResourceRequest {
		attributes := map[string]any{"verb": q.Verb}
		for field, value := range map[string]string{
			"group": q.APIGroup, "resource": q.Resource, "subresource": q.Subresource,
			"namespace": q.Namespace, "name": q.Name,
		} {
			if value != "" {
				attributes[field] = value
			}
		}
		spec["resourceAttributes"] = attributes
	} else {
		spec["nonResourceAttributes"] = map[string]any{"path": q.Path, "verb": q.Verb}
	}
	return map[string]any{"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
}

package drift

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// pageSize is how many objects are read at once.
const pageSize = 500

// Live reads a cluster through its API. Command lines are taken from the static
// pods of kube-apiserver, as far as they are there and may be read; that they
// are not is no error.
func Live(ctx context.Context, client kubernetes.Interface) (*Cluster, error) {
	c := &Cluster{}
	version, err := client.Discovery().ServerVersion()
	if err != nil {
		return nil, fmt.Errorf("read version: %w", err)
	}
	c.Version = version.GitVersion
	rbac := client.RbacV1()
	err = pages(func(opts metav1.ListOptions) (string, error) {
		l, err := rbac.ClusterRoles().List(ctx, opts)
		if err != nil {
			return "", fmt.Errorf("list cluster roles: %w", err)
		}
		c.ClusterRoles = append(c.ClusterRoles, l.Items...)
		return l.Continue, nil
	}, func(opts metav1.ListOptions) (string, error) {
		l, err := rbac.ClusterRoleBindings().List(ctx, opts)
		if err != nil {
			return "", fmt.Errorf("list cluster role bindings: %w", err)
		}
		c.ClusterRoleBindings = append(c.ClusterRoleBindings, l.Items...)
		return l.Continue, nil
	}, func(opts metav1.ListOptions) (string, error) {
		l, err := rbac.Roles("").List(ctx, opts)
		if err != nil {
			return "", fmt.Errorf("list roles: %w", err)
		}
		c.Roles = append(c.Roles, l.Items...)
		return l.Continue, nil
	}, func(opts metav1.ListOptions) (string, error) {
		l, err := rbac.RoleBindings("").List(ctx, opts)
		if err != nil {
			return "", fmt.Errorf("list role bindings: %w", err)
		}
		c.RoleBindings = append(c.RoleBindings, l.Items...)
		return l.Continue, nil
	})
	if err != nil {
		return nil, err
	}
	pods, err := client.CoreV1().Pods("kube-system").List(ctx, metav1.ListOptions{LabelSelector: "component=kube-apiserver"})
	if err != nil {
		return c, nil // the report says that command lines are not visible
	}
	for i := range pods.Items {
		c.pod(&pods.Items[i], "")
	}
	return c, nil
}

func pages(list ...func(metav1.ListOptions) (next string, err error)) error {
	for _, page := range list {
		for opts := (metav1.ListOptions{Limit: pageSize}); ; {
			next, err := page(opts)
			if err != nil {
				return err
			}
			if next == "" {
				break
			}
			opts.Continue = next
		}
	}
	return nil
}

package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/gatehouse-dev/gatehouse/internal/access/bootstrap"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// firstNamespaces exist from the first moment.
var firstNamespaces = []string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic, corev1.NamespaceNodeLease}

// defaultAccount is the service account that every namespace has.
const defaultAccount = "default"

// bootstrapObjects creates what every control plane has. Replicas that start
// together may all do it: what another one wrote is left alone.
func bootstrapObjects(ctx context.Context, client kubernetes.Interface) error {
	var jobs []func() error
	for _, name := range firstNamespaces {
		jobs = append(jobs, func() error {
			_, err := client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				_, err = client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
			}
			return err
		})
	}
	plan, err := rbacPlan(ctx, client)
	if err != nil {
		return err
	}
	rbac := client.RbacV1()
	for _, r := range plan.Create.ClusterRoles {
		jobs = append(jobs, func() error { _, err := rbac.ClusterRoles().Create(ctx, r, metav1.CreateOptions{}); return err })
	}
	for _, r := range plan.Update.ClusterRoles {
		jobs = append(jobs, func() error { _, err := rbac.ClusterRoles().Update(ctx, r, metav1.UpdateOptions{}); return err })
	}
	for _, b := range plan.Create.ClusterRoleBindings {
		jobs = append(jobs, func() error { _, err := rbac.ClusterRoleBindings().Create(ctx, b, metav1.CreateOptions{}); return err })
	}
	for _, b := range plan.Update.ClusterRoleBindings {
		jobs = append(jobs, func() error { _, err := rbac.ClusterRoleBindings().Update(ctx, b, metav1.UpdateOptions{}); return err })
	}
	for _, b := range plan.Replace {
		jobs = append(jobs, func() error {
			if err := rbac.ClusterRoleBindings().Delete(ctx, b.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
				return err
			}
			_, err := rbac.ClusterRoleBindings().Create(ctx, b, metav1.CreateOptions{})
			return err
		})
	}
	if err := parallel(jobs); err != nil {
		return fmt.Errorf("create bootstrap objects: %w", err)
	}
	return nil
}

func rbacPlan(ctx context.Context, client kubernetes.Interface) (bootstrap.Plan, error) {
	roles, err := client.RbacV1().ClusterRoles().List(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return bootstrap.Plan{}, fmt.Errorf("list cluster roles: %w", err)
	}
	bindings, err := client.RbacV1().ClusterRoleBindings().List(ctx, metav1.ListOptions{ResourceVersion: "0", LabelSelector: "kubernetes.io/bootstrapping"})
	if err != nil {
		return bootstrap.Plan{}, fmt.Errorf("list cluster role bindings: %w", err)
	}
	var have bootstrap.Objects
	for i := range roles.Items {
		have.ClusterRoles = append(have.ClusterRoles, &roles.Items[i])
	}
	for i := range bindings.Items {
		have.ClusterRoleBindings = append(have.ClusterRoleBindings, &bindings.Items[i])
	}
	// A malformed selector in somebody's role is theirs to mend; the plan is
	// complete without it.
	plan, _ := bootstrap.Reconcile(bootstrap.Default(), have)
	return plan, nil
}

// parallel runs jobs sixteen at a time: etcd writes what arrives together in
// one sync. What another replica did meanwhile is no fault.
func parallel(jobs []func() error) error {
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex // guards errs
		errs  []error
		slots = make(chan struct{}, 16)
	)
	for _, job := range jobs {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := job(); err != nil && !apierrors.IsAlreadyExists(err) && !apierrors.IsConflict(err) {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// accountKeeper gives every namespace its default service account, also after
// somebody deleted it. Its two sinks queue names; one loop works them off.
type accountKeeper struct {
	client kubernetes.Interface
	wake   chan struct{}

	mu      sync.Mutex // guards pending
	pending map[string]bool
}

func newAccountKeeper(client kubernetes.Interface) *accountKeeper {
	return &accountKeeper{client: client, wake: make(chan struct{}, 1), pending: map[string]bool{}}
}

func (k *accountKeeper) add(namespace string) {
	k.mu.Lock()
	k.pending[namespace] = true
	k.mu.Unlock()
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// keeperNamespaces and keeperAccounts are the keeper's sinks.
type keeperNamespaces struct{ *accountKeeper }

func (k keeperNamespaces) Replace(objs []resource.Object) error {
	for _, o := range objs {
		_ = k.Put(o)
	}
	return nil
}

func (k keeperNamespaces) Put(o resource.Object) error {
	if o.GetDeletionTimestamp() == nil {
		k.add(o.GetName())
	}
	return nil
}

func (k keeperNamespaces) Delete(resource.Object) error { return nil }

type keeperAccounts struct{ *accountKeeper }

func (k keeperAccounts) Replace([]resource.Object) error { return nil }
func (k keeperAccounts) Put(resource.Object) error       { return nil }

func (k keeperAccounts) Delete(o resource.Object) error {
	if o.GetName() == defaultAccount {
		k.add(o.GetNamespace())
	}
	return nil
}

func (k *accountKeeper) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.wake:
		}
		for _, namespace := range k.take() {
			if err := k.ensure(ctx, namespace); err != nil && ctx.Err() == nil {
				time.AfterFunc(time.Second, func() { k.add(namespace) })
			}
		}
	}
}

func (k *accountKeeper) take() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var names []string
	for n := range k.pending {
		names = append(names, n)
	}
	clear(k.pending)
	return names
}

func (k *accountKeeper) ensure(ctx context.Context, namespace string) error {
	accounts := k.client.CoreV1().ServiceAccounts(namespace)
	if _, err := accounts.Get(ctx, defaultAccount, metav1.GetOptions{}); err == nil {
		return nil
	}
	_, err := accounts.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: defaultAccount}}, metav1.CreateOptions{})
	// A namespace that is gone, or going, needs none.
	if apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil
	}
	return err
}

// roleStore is what the controller of aggregated roles reads and writes.
type roleStore struct{ client kubernetes.Interface }

func (s roleStore) ListClusterRoles(ctx context.Context) ([]*rbacv1.ClusterRole, error) {
	list, err := s.client.RbacV1().ClusterRoles().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	out := make([]*rbacv1.ClusterRole, len(list.Items))
	for i := range list.Items {
		out[i] = &list.Items[i]
	}
	return out, nil
}

func (s roleStore) UpdateClusterRole(ctx context.Context, role *rbacv1.ClusterRole) error {
	_, err := s.client.RbacV1().ClusterRoles().Update(ctx, role, metav1.UpdateOptions{})
	return err
}

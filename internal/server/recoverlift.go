package server

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"

	clientv3 "go.etcd.io/etcd/client/v3"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	accessapi "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz"
	"github.com/gatehouse-dev/gatehouse/internal/access"
	"github.com/gatehouse-dev/gatehouse/internal/kubeapi"
)

// hindrance is a stored object that keeps an administrator from acting.
type hindrance struct {
	kind, name, key string
}

func (h hindrance) String() string { return h.kind + "/" + h.name }

// hindrances returns the bans and the denying policies that name who in the
// control plane. A policy counts whatever it denies: what an administrator may
// not do may be just what it takes to repair it.
func hindrances(ctx context.Context, client *clientv3.Client, who access.Subject, log *slog.Logger) ([]hindrance, error) {
	judge, err := newJudge()
	if err != nil {
		return nil, err
	}
	var found []hindrance
	each := func(gr schema.GroupResource, kind string, hits func([]byte) (name string, hit bool, err error)) error {
		prefix := kubeapi.StoragePrefix(gr)
		got, err := client.Get(ctx, prefix, clientv3.WithPrefix())
		if err != nil {
			return fmt.Errorf("read %s: %w", gr, err)
		}
		for _, kv := range got.Kvs {
			name, hit, err := hits(kv.Value)
			if err != nil {
				// What cannot be read is not in force either.
				log.Warn("stored object not read", "key", string(kv.Key), "error", err)
				continue
			}
			if hit {
				found = append(found, hindrance{kind, name, string(kv.Key)})
			}
		}
		return nil
	}
	if err := each(bans, "Ban", func(data []byte) (string, bool, error) {
		ban := &accessapi.Ban{}
		if err := json.Unmarshal(data, ban); err != nil {
			return "", false, err
		}
		hit, err := judge.banned(ctx, ban, who)
		return ban.Name, hit, err
	}); err != nil {
		return nil, err
	}
	err = each(accessPolicies, "AccessPolicy", func(data []byte) (string, bool, error) {
		policy := &accessapi.AccessPolicy{}
		if err := json.Unmarshal(data, policy); err != nil {
			return "", false, err
		}
		hit, err := judge.denied(ctx, policy, who)
		return policy.Name, hit, err
	})
	return found, err
}

// lift deletes what hindrances found.
func lift(ctx context.Context, client *clientv3.Client, found []hindrance) error {
	for _, h := range found {
		if _, err := client.Delete(ctx, h.key); err != nil {
			return fmt.Errorf("delete %s: %w", h, err)
		}
	}
	return nil
}

// judge asks the engine about one object at a time, so that who is named is
// understood as it is when the server runs.
type judge struct {
	grants *access.Grants
	access *access.Authorizer
}

func newJudge() (*judge, error) {
	policy := access.NewPolicy()
	j := &judge{grants: policy.WithGrants(nil)}
	policy.Roles.Replace(nil)
	policy.ClusterRoles.Replace(nil)
	policy.RoleBindings.Replace(nil)
	policy.ClusterRoleBindings.Replace(nil)
	policy.Sites.Replace(nil)
	j.grants.AccessPolicies.Replace(nil)
	j.grants.Bans.Replace(nil)
	j.grants.Delegations.Replace(nil)
	j.grants.Accounts.Replace(nil)
	j.grants.Namespaces.Replace(nil)
	var err error
	j.access, err = access.New(access.Config{Policy: policy})
	return j, err
}

func (j *judge) banned(ctx context.Context, ban *accessapi.Ban, who access.Subject) (bool, error) {
	j.grants.Bans.Replace([]*accessapi.Ban{ban})
	defer j.grants.Bans.Replace(nil)
	_, banned, err := j.access.Banned(ctx, who, "")
	return banned, err
}

// denied asks about a policy as if it denied everything, always.
func (j *judge) denied(ctx context.Context, policy *accessapi.AccessPolicy, who access.Subject) (bool, error) {
	if policy.Spec.Effect != accessapi.EffectDeny {
		return false, nil
	}
	all := []string{"*"}
	wide := &accessapi.AccessPolicy{ObjectMeta: policy.ObjectMeta, Spec: accessapi.AccessPolicySpec{
		Effect: accessapi.EffectDeny, Subjects: policy.Spec.Subjects, Sites: policy.Spec.Sites, NotAfter: policy.Spec.NotAfter,
		Rules: []rbacv1.PolicyRule{{Verbs: all, APIGroups: all, Resources: all}},
	}}
	j.grants.AccessPolicies.Replace([]*accessapi.AccessPolicy{wide})
	defer j.grants.AccessPolicies.Replace(nil)
	d, err := j.access.Decide(ctx, who, authz.Request{ResourceRequest: true, Verb: "get", Resource: "namespaces"})
	return d.Denied(), err
}

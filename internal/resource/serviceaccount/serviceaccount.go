// Package serviceaccount describes service accounts and the action that hands
// out their tokens.
//
// It owns the checks on a token request; it mints nothing and knows no bound
// object, both are the business of the [IssueToken] it is given. Start with
// [New].
package serviceaccount

import (
	"context"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// IssueToken fills in the status of a checked token request for sa. Empty
// audiences mean those of the control plane. It must look up the bound object,
// compare its uid with a given one, and shorten the lifetime where the
// configuration says so. With dryRun it must leave no trace. It returns an
// error of package fault or an apimachinery status error.
type IssueToken func(ctx context.Context, caller resource.Caller, sa *corev1.ServiceAccount, request *authenticationv1.TokenRequest, dryRun bool) error

// New describes service accounts.
func New(issue IssueToken) resource.Kind {
	return resource.Definition[*corev1.ServiceAccount]{
		Names: resource.Names{
			GroupVersion: corev1.SchemeGroupVersion,
			Kind:         "ServiceAccount",
			Resource:     "serviceaccounts",
			Singular:     "serviceaccount",
			ShortNames:   []string{"sa"},
			Namespaced:   true,
		},
		New:                 func() *corev1.ServiceAccount { return &corev1.ServiceAccount{} },
		NewList:             func() runtime.Object { return &corev1.ServiceAccountList{} },
		PrepareCreate:       func(_ resource.Caller, sa *corev1.ServiceAccount) { keepSecretNames(sa) },
		PrepareUpdate:       func(_ resource.Caller, sa, _ *corev1.ServiceAccount) { keepSecretNames(sa) },
		UnconditionalUpdate: true,
		Actions: []resource.Action[*corev1.ServiceAccount]{{
			Name:             "token",
			GroupVersionKind: authenticationv1.SchemeGroupVersion.WithKind("TokenRequest"),
			New:              func() runtime.Object { return &authenticationv1.TokenRequest{} },
			KeepUID:          true,
			Do: func(ctx context.Context, caller resource.Caller, sa *corev1.ServiceAccount, in runtime.Object, dryRun bool) (runtime.Object, error) {
				request := in.(*authenticationv1.TokenRequest)
				if err := prepareRequest(sa, request); err != nil {
					return nil, err
				}
				if err := issue(ctx, caller, sa, request, dryRun); err != nil {
					return nil, err
				}
				return request, nil
			},
		}},
	}.Kind()
}

// keepSecretNames drops all but the name: the secrets of an account are in its
// own namespace.
func keepSecretNames(sa *corev1.ServiceAccount) {
	for i, ref := range sa.Secrets {
		sa.Secrets[i] = corev1.ObjectReference{Name: ref.Name}
	}
}

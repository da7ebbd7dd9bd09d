package kubeapi

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/initializer"
	"k8s.io/apiserver/pkg/admission/plugin/namespace/lifecycle"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	restclient "k8s.io/client-go/rest"
	"k8s.io/component-base/compatibility"
)

// immortal namespaces cannot be deleted: the control plane itself stands in
// them.
var immortal = sets.New("default", "kube-system", "kube-public")

// admissionChain is what looks into a request after it was allowed: the life
// of namespaces, conditions of access policies on the object, the policies that
// operators write, and at last what the composition adds.
func admissionChain(ctx context.Context, cfg *restclient.Config, shared informers.SharedInformerFactory, authz authorizer.Authorizer, mapper meta.RESTMapper, version compatibility.EffectiveVersion, objects objectPolicies, last []Admit) (admission.Interface, error) {
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("client for admission: %w", err)
	}
	dyn, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("client for admission: %w", err)
	}
	namespaces, err := lifecycle.NewLifecycle(immortal)
	if err != nil {
		return nil, fmt.Errorf("namespace lifecycle: %w", err)
	}
	policies, err := validating.NewPlugin(nil)
	if err != nil {
		return nil, fmt.Errorf("validating admission policies: %w", err)
	}
	init := initializer.New(client, dyn, shared, authz, utilfeature.DefaultFeatureGate, version, ctx.Done(), mapper)
	plugins := []admission.Interface{namespaces, objects, policies, lastWord(last)}
	for _, p := range plugins {
		init.Initialize(p)
		if v, ok := p.(admission.InitializationValidator); ok {
			if err := v.ValidateInitialization(); err != nil {
				return nil, fmt.Errorf("admission: %w", err)
			}
		}
	}
	return admission.NewChainHandler(plugins...), nil
}

// resync is zero: informers follow the watch and never repeat themselves.
const resync = time.Duration(0)

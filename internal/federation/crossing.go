package federation

import (
	authenticationv1 "k8s.io/api/authentication/v1"

	"github.com/gatehouse-dev/gatehouse/internal/authn"
)

// crossing takes out of extra what names objects of the control plane. A site
// that reads where a pod runs, to let it write to its own node only, would
// take our node for its own of the same name.
func crossing(extra map[string]authenticationv1.ExtraValue) map[string]authenticationv1.ExtraValue {
	for _, k := range []string{authn.ExtraPodName, authn.ExtraPodUID, authn.ExtraContainerName, authn.ExtraNodeName, authn.ExtraNodeUID} {
		delete(extra, k)
	}
	return extra
}

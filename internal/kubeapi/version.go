package kubeapi

import (
	"k8s.io/apimachinery/pkg/util/version"
	apimachineryversion "k8s.io/apimachinery/pkg/version"
	"k8s.io/component-base/compatibility"
	"runtime"
)

// kubernetesVersion is the API that the frame speaks. Clients turn features on
// by it.
const kubernetesVersion = "1.37"

// effective tells clients the version of the Kubernetes API and, behind it,
// the version of the product.
type effective struct {
	compatibility.MutableEffectiveVersion
	product string
}

func effectiveVersion(product string) compatibility.EffectiveVersion {
	floor := version.MustParse("1.36")
	return effective{compatibility.NewEffectiveVersionFromString(kubernetesVersion, floor.String(), floor.String()), product}
}

// Info is what /version answers.
func (e effective) Info() *apimachineryversion.Info {
	return &apimachineryversion.Info{
		Major: "1", Minor: "37",
		EmulationMajor: "1", EmulationMinor: "37",
		MinCompatibilityMajor: "1", MinCompatibilityMinor: "36",
		GitVersion: "v" + kubernetesVersion + ".2+gatehouse." + e.product,
		GoVersion:  runtime.Version(),
		Compiler:   runtime.Compiler,
		Platform:   runtime.GOOS + "/" + runtime.GOARCH,
	}
}

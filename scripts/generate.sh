#!/bin/sh
# Regenerates the checked-in code: deep copies and OpenAPI model names of our
# API groups, and the OpenAPI definitions of every type the control plane
# serves. Running it twice changes nothing; CI compares the result.
set -eu
cd "$(dirname "$0")/.."

bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
(cd tools && go build -o "$bin/" k8s.io/kube-openapi/cmd/openapi-gen k8s.io/code-generator/cmd/deepcopy-gen)

module=$(go list -m)
# Every folder api/GROUP/VERSION is an API group of our own.
own=
for dir in api/*/*/; do
	own="$own $module/${dir%/}"
done

"$bin/deepcopy-gen" --go-header-file /dev/null --output-file zz_generated.deepcopy.go $own

# Upstream types: only the groups that are served, and what they refer to.
upstream="
	k8s.io/api/admissionregistration/v1
	k8s.io/api/authentication/v1
	k8s.io/api/authorization/v1
	k8s.io/api/autoscaling/v1
	k8s.io/api/certificates/v1
	k8s.io/api/coordination/v1
	k8s.io/api/core/v1
	k8s.io/api/rbac/v1
	k8s.io/apimachinery/pkg/api/resource
	k8s.io/apimachinery/pkg/apis/meta/v1
	k8s.io/apimachinery/pkg/runtime
	k8s.io/apimachinery/pkg/util/intstr
	k8s.io/apimachinery/pkg/version
"
readonly=
for pkg in $upstream; do
	readonly="$readonly --readonly-pkg $pkg"
done
report="$bin/violations"
"$bin/openapi-gen" --go-header-file /dev/null \
	--output-dir internal/kubeapi/openapi \
	--output-pkg "$module/internal/kubeapi/openapi" \
	--output-file zz_generated.openapi.go \
	--output-model-name-file zz_generated.model_name.go \
	--report-filename "$report" \
	$readonly $upstream $own

# The API conventions bind our own types; what upstream breaks is its own.
if grep "$module/" "$report" >&2; then
	echo "generate: these types break the API conventions" >&2
	exit 1
fi

// Package openapi holds the generated OpenAPI definitions of every type that
// the control plane serves. It owns no hand-written code: scripts/generate.sh
// lists the packages that go in. Start with GetOpenAPIDefinitions.
package openapi

//go:generate ../../../scripts/generate.sh

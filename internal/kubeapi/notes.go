package kubeapi

import (
	"context"

	frameaudit "k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/warning"
)

// Annotate adds an annotation to the audit event of the request that ctx
// belongs to. A key that has a value keeps it. Outside of a request of the
// frame it does nothing.
func Annotate(ctx context.Context, key, value string) { frameaudit.AddAuditAnnotation(ctx, key, value) }

// Warn adds a Warning header (RFC 7234, section 5.5) to the answer of the
// request that ctx belongs to. Outside of a request it does nothing.
func Warn(ctx context.Context, text string) { warning.AddWarning(ctx, "", text) }

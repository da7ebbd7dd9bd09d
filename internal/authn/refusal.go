package authn

import (
	"errors"
	"fmt"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// Reason classifies a refusal for metrics and the audit record.
type Reason string

// The reasons.
const (
	// Malformed is a credential whose form is wrong.
	Malformed Reason = "malformed"
	// UnknownIssuer is a token of nobody we trust.
	UnknownIssuer Reason = "unknown-issuer"
	// UnknownKey is a token that names no key of its issuer.
	UnknownKey Reason = "unknown-key"
	// BadSignature is a token or chain that does not verify.
	BadSignature Reason = "bad-signature"
	// Expired, NotYetValid: outside of the credential's own time.
	Expired     Reason = "expired"
	NotYetValid Reason = "not-yet-valid"
	// WrongAudience is a token for another place.
	WrongAudience Reason = "wrong-audience"
	// Ended is a credential whose bound object, key, account or source is gone.
	Ended Reason = "ended"
	// Banned is a credential that a ban names.
	Banned Reason = "banned"
	// ReservedName is a credential that claims a name it cannot have.
	ReservedName Reason = "reserved-name"
	// Refused is the answer of an identity provider.
	Refused Reason = "refused"
)

// Refusal is the cause inside every error that says a credential was refused.
// Its text is for the record and for whoever asked for a review, not for the
// caller; it never contains the credential.
type Refusal struct {
	Reason Reason
	Detail string
	cause  error
}

func (r *Refusal) Error() string {
	if r.cause != nil {
		return r.Detail + ": " + r.cause.Error()
	}
	return r.Detail
}

func (r *Refusal) Unwrap() error { return r.cause }

// ReasonOf returns why err refused a credential, or "" when err is no refusal
// (a dependency did not answer, say).
func ReasonOf(err error) Reason {
	if r, ok := errors.AsType[*Refusal](err); ok {
		return r.Reason
	}
	return ""
}

// Texts that the refused caller may read. They do not tell which check failed.
const (
	publicToken       = "invalid bearer token"
	publicCertificate = "invalid client certificate"
)

func refuse(reason Reason, format string, args ...any) error {
	return fault.Wrap(fault.Unauthenticated, publicToken, &Refusal{Reason: reason, Detail: fmt.Sprintf(format, args...)})
}

func refuseBecause(reason Reason, detail string, cause error) error {
	return fault.Wrap(fault.Unauthenticated, publicToken, &Refusal{Reason: reason, Detail: detail, cause: cause})
}

func refuseCertificate(reason Reason, detail string, cause error) error {
	return fault.Wrap(fault.Unauthenticated, publicCertificate, &Refusal{Reason: reason, Detail: detail, cause: cause})
}

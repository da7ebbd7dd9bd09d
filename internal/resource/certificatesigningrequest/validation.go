package certificatesigningrequest

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/gatehouse-dev/gatehouse/internal/resource/signername"
)

const (
	minSeconds = 600
	// legacySigner exists for requests that are older than signer names.
	legacySigner = "kubernetes.io/legacy-unknown"
)

var (
	knownUsages = []certificatesv1.KeyUsage{
		certificatesv1.UsageAny, certificatesv1.UsageCRLSign, certificatesv1.UsageCertSign,
		certificatesv1.UsageClientAuth, certificatesv1.UsageCodeSigning, certificatesv1.UsageContentCommitment,
		certificatesv1.UsageDataEncipherment, certificatesv1.UsageDecipherOnly, certificatesv1.UsageDigitalSignature,
		certificatesv1.UsageEmailProtection, certificatesv1.UsageEncipherOnly, certificatesv1.UsageIPsecEndSystem,
		certificatesv1.UsageIPsecTunnel, certificatesv1.UsageIPsecUser, certificatesv1.UsageKeyAgreement,
		certificatesv1.UsageKeyEncipherment, certificatesv1.UsageMicrosoftSGC, certificatesv1.UsageNetscapeSGC,
		certificatesv1.UsageOCSPSigning, certificatesv1.UsageSMIME, certificatesv1.UsageServerAuth,
		certificatesv1.UsageSigning, certificatesv1.UsageTimestamping,
	}
	// decisions are the conditions that only /approval may write, and final
	// all that nobody may take back.
	decisions = []certificatesv1.RequestConditionType{certificatesv1.CertificateApproved, certificatesv1.CertificateDenied}
	final     = append(slices.Clone(decisions), certificatesv1.CertificateFailed)

	specPath       = field.NewPath("spec")
	conditionsPath = field.NewPath("status", "conditions")
)

func validate(csr *certificatesv1.CertificateSigningRequest) field.ErrorList {
	var errs field.ErrorList
	if request, err := parseRequest(csr.Spec.Request); err != nil {
		errs = append(errs, field.Invalid(specPath.Child("request"), "<request>", err.Error()))
	} else if err := request.CheckSignature(); err != nil {
		errs = append(errs, field.Invalid(specPath.Child("request"), "<request>", err.Error()))
	}
	errs = append(errs, validateUsages(csr.Spec.Usages, specPath.Child("usages"))...)
	if csr.Spec.SignerName == legacySigner {
		errs = append(errs, field.Invalid(specPath.Child("signerName"), csr.Spec.SignerName, "cannot be used in this version of the API"))
	} else {
		errs = append(errs, signername.Validate(specPath.Child("signerName"), csr.Spec.SignerName)...)
	}
	if s := csr.Spec.ExpirationSeconds; s != nil && *s < minSeconds {
		errs = append(errs, field.Invalid(specPath.Child("expirationSeconds"), *s, "may not specify a duration less than 10 minutes"))
	}
	errs = append(errs, validateConditions(csr.Status.Conditions)...)
	if err := parseCertificates(csr.Status.Certificate); err != nil {
		errs = append(errs, field.Invalid(field.NewPath("status", "certificate"), "<certificate>", err.Error()))
	}
	return errs
}

// parseRequest reads the one PKCS#10 block that data consists of (RFC 7468,
// section 7).
func parseRequest(data []byte) (*x509.CertificateRequest, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("must be a PEM block of type CERTIFICATE REQUEST")
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("must be a single PEM block")
	}
	return x509.ParseCertificateRequest(block.Bytes)
}

// parseCertificates accepts nothing, or a chain of certificates in PEM blocks
// without headers.
func parseCertificates(data []byte) error {
	if len(data) == 0 {
		return nil
	}
	count := 0
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		count++
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("must hold blocks of type CERTIFICATE only, not %q", block.Type)
		}
		if len(block.Headers) > 0 {
			return errors.New("must not have PEM headers")
		}
		certificates, err := x509.ParseCertificates(block.Bytes)
		if err != nil {
			return err
		}
		if len(certificates) == 0 {
			return errors.New("must not have an empty block")
		}
	}
	if count == 0 {
		return errors.New("must hold at least one PEM block of type CERTIFICATE")
	}
	return nil
}

func validateUsages(usages []certificatesv1.KeyUsage, path *field.Path) field.ErrorList {
	if len(usages) == 0 {
		return field.ErrorList{field.Required(path, "")}
	}
	var errs field.ErrorList
	seen := make(map[certificatesv1.KeyUsage]bool, len(usages))
	for i, usage := range usages {
		if !slices.Contains(knownUsages, usage) {
			errs = append(errs, field.NotSupported(path.Index(i), usage, knownUsages))
		}
		if seen[usage] {
			errs = append(errs, field.Duplicate(path.Index(i), usage))
		}
		seen[usage] = true
	}
	return errs
}

func validateConditions(conditions []certificatesv1.CertificateSigningRequestCondition) field.ErrorList {
	var errs field.ErrorList
	seen := make(map[certificatesv1.RequestConditionType]bool, len(conditions))
	for i, c := range conditions {
		path := conditionsPath.Index(i)
		if c.Type == "" {
			errs = append(errs, field.Required(path.Child("type"), ""))
		}
		statuses := []corev1.ConditionStatus{corev1.ConditionFalse, corev1.ConditionTrue, corev1.ConditionUnknown}
		if slices.Contains(final, c.Type) {
			statuses = []corev1.ConditionStatus{corev1.ConditionTrue}
		}
		switch {
		case c.Status == "":
			errs = append(errs, field.Required(path.Child("status"), ""))
		case !slices.Contains(statuses, c.Status):
			errs = append(errs, field.NotSupported(path.Child("status"), c.Status, statuses))
		}
		if seen[c.Type] {
			errs = append(errs, field.Duplicate(path.Child("type"), c.Type))
		}
		seen[c.Type] = true
	}
	if seen[certificatesv1.CertificateApproved] && seen[certificatesv1.CertificateDenied] {
		errs = append(errs, field.Invalid(conditionsPath, "<conditions>", "Approved and Denied exclude each other"))
	}
	return errs
}

func validateMain(csr, old *certificatesv1.CertificateSigningRequest) field.ErrorList {
	return validateChange(csr, old, false, false)
}

func validateApproval(csr, old *certificatesv1.CertificateSigningRequest) field.ErrorList {
	return validateChange(csr, old, true, false)
}

func validateStatus(csr, old *certificatesv1.CertificateSigningRequest) field.ErrorList {
	return validateChange(csr, old, false, true)
}

// validateChange holds every route to its part: only one may decide, another
// set the certificate, and what is decided or issued stays.
func validateChange(csr, old *certificatesv1.CertificateSigningRequest, mayDecide, mayIssue bool) field.ErrorList {
	errs := validate(csr)
	for _, kind := range final {
		now, before := conditionsOf(csr, kind), conditionsOf(old, kind)
		decision := slices.Contains(decisions, kind)
		switch {
		case len(now) < len(before):
			errs = append(errs, field.Forbidden(conditionsPath, fmt.Sprintf("the condition %s cannot be removed", kind)))
		case mayDecide || !decision:
		case len(now) > len(before):
			errs = append(errs, field.Forbidden(conditionsPath, fmt.Sprintf("the condition %s can only be added through /approval", kind)))
		case !apiequality.Semantic.DeepEqual(now, before):
			errs = append(errs, field.Forbidden(conditionsPath, fmt.Sprintf("the condition %s can only be changed through /approval", kind)))
		}
	}
	if !bytes.Equal(csr.Status.Certificate, old.Status.Certificate) {
		path := field.NewPath("status", "certificate")
		switch {
		case !mayIssue:
			errs = append(errs, field.Forbidden(path, "can only be set through /status"))
		case len(old.Status.Certificate) > 0:
			errs = append(errs, field.Forbidden(path, "cannot be changed once it is set"))
		}
	}
	return errs
}

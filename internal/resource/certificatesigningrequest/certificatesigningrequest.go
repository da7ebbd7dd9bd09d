// Package certificatesigningrequest describes certificate signing requests.
//
// It owns what a request may say (who asks is taken from the caller, never
// from the request), and who may write which part: nobody the spec,
// `/approval` the conditions Approved and Denied, `/status` the certificate.
// It signs nothing. Start with [New].
package certificatesigningrequest

import (
	"bytes"
	"context"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/gatehouse-dev/gatehouse/internal/authn/origin"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// CheckSigner refuses, with an error of package fault, a caller who may not do
// verb ("approve" or "sign") for a signer. The permission is one on the
// resource signers of certificates.k8s.io, either on the name of the signer or
// on all of its domain, written DOMAIN/*.
type CheckSigner func(ctx context.Context, caller resource.Caller, verb, signerName string) error

// CheckDelete refuses, with an error of package fault, to delete a request.
type CheckDelete func(ctx context.Context, caller resource.Caller, csr *certificatesv1.CertificateSigningRequest) error

// New describes certificate signing requests.
func New(check CheckSigner, checkDelete CheckDelete) resource.Kind {
	return resource.Definition[*certificatesv1.CertificateSigningRequest]{
		Names: resource.Names{
			GroupVersion: certificatesv1.SchemeGroupVersion,
			Kind:         "CertificateSigningRequest",
			Resource:     "certificatesigningrequests",
			Singular:     "certificatesigningrequest",
			ShortNames:   []string{"csr"},
		},
		New:     func() *certificatesv1.CertificateSigningRequest { return &certificatesv1.CertificateSigningRequest{} },
		NewList: func() runtime.Object { return &certificatesv1.CertificateSigningRequestList{} },
		// What somebody calls a request is their own business.
		ValidateName:  resource.PathSegment,
		PrepareCreate: prepareCreate,
		PrepareUpdate: func(_ resource.Caller, csr, old *certificatesv1.CertificateSigningRequest) {
			csr.Spec, csr.Status = old.Spec, old.Status
		},
		Validate:       validate,
		ValidateUpdate: validateMain,
		Check: func(_ context.Context, caller resource.Caller, csr, old *certificatesv1.CertificateSigningRequest) error {
			if old != nil {
				return nil
			}
			if _, err := caller.Origin(); err != nil {
				return err
			}
			return checkSubject(csr)
		},
		CheckDelete:         checkDelete,
		UnconditionalUpdate: true,
		Fields: []resource.Field[*certificatesv1.CertificateSigningRequest]{
			{Path: "spec.signerName", Value: func(csr *certificatesv1.CertificateSigningRequest) string { return csr.Spec.SignerName }},
		},
		Columns: columns,
		Subresources: []resource.Subresource[*certificatesv1.CertificateSigningRequest]{
			{
				Name: "approval",
				Prepare: func(_ resource.Caller, csr, old *certificatesv1.CertificateSigningRequest) {
					stampConditions(csr, old, metav1.Now())
					conditions := csr.Status.Conditions
					csr.Spec, csr.Status = old.Spec, old.Status
					csr.Status.Conditions = conditions
				},
				Validate: validateApproval,
				Check: func(ctx context.Context, caller resource.Caller, _, old *certificatesv1.CertificateSigningRequest) error {
					return check(ctx, caller, "approve", old.Spec.SignerName)
				},
				Fields:  []string{"status.conditions"},
				Ignored: []string{"spec", "status.certificate"},
			},
			{
				Name: "status",
				Prepare: func(_ resource.Caller, csr, old *certificatesv1.CertificateSigningRequest) {
					csr.Spec = old.Spec
					keepConditions(csr, old, certificatesv1.CertificateApproved)
					keepConditions(csr, old, certificatesv1.CertificateDenied)
					stampConditions(csr, old, metav1.Now())
				},
				Validate: validateStatus,
				Check: func(ctx context.Context, caller resource.Caller, csr, old *certificatesv1.CertificateSigningRequest) error {
					if bytes.Equal(csr.Status.Certificate, old.Status.Certificate) &&
						apiequality.Semantic.DeepEqual(csr.Status.Conditions, old.Status.Conditions) {
						return nil
					}
					return check(ctx, caller, "sign", old.Spec.SignerName)
				},
				Fields:  []string{"status"},
				Ignored: []string{"spec", "status.conditions"},
			},
		},
	}.Kind()
}

func prepareCreate(caller resource.Caller, csr *certificatesv1.CertificateSigningRequest) {
	csr.Spec.Username = caller.Name
	csr.Spec.UID = caller.UID
	csr.Spec.Groups = slices.Clone(caller.Groups)
	csr.Spec.Extra = nil
	if len(caller.Extra) > 0 {
		csr.Spec.Extra = make(map[string]certificatesv1.ExtraValue, len(caller.Extra))
		for key, values := range caller.Extra {
			csr.Spec.Extra[key] = slices.Clone(values)
		}
	}
	// What is made of the request ends with the credential that it came with;
	// an error is what Check refuses it for.
	delete(csr.Spec.Extra, origin.Extra)
	if line, err := caller.Origin(); err == nil && len(line) > 0 {
		if csr.Spec.Extra == nil {
			csr.Spec.Extra = map[string]certificatesv1.ExtraValue{}
		}
		csr.Spec.Extra[origin.Extra] = line
	}
	csr.Status = certificatesv1.CertificateSigningRequestStatus{}
}

// checkSubject refuses to let a client certificate carry the group that
// passes every authorization.
func checkSubject(csr *certificatesv1.CertificateSigningRequest) error {
	if csr.Spec.SignerName != certificatesv1.KubeAPIServerClientSignerName {
		return nil
	}
	request, err := parseRequest(csr.Spec.Request)
	if err != nil {
		return fault.Wrap(fault.Invalid, "spec.request cannot be read", err)
	}
	if slices.Contains(request.Subject.Organization, "system:masters") {
		return fault.Newf(fault.Denied, "use of %s signer with system:masters group is not allowed", csr.Spec.SignerName)
	}
	return nil
}

// keepConditions gives conditions of one type the values they had, unless
// their number differs, which validation then refuses.
func keepConditions(csr, old *certificatesv1.CertificateSigningRequest, kind certificatesv1.RequestConditionType) {
	now, before := conditionsOf(csr, kind), conditionsOf(old, kind)
	if len(now) != len(before) {
		return
	}
	for i := range now {
		*now[i] = *before[i]
	}
}

func conditionsOf(csr *certificatesv1.CertificateSigningRequest, kind certificatesv1.RequestConditionType) []*certificatesv1.CertificateSigningRequestCondition {
	var found []*certificatesv1.CertificateSigningRequestCondition
	for i := range csr.Status.Conditions {
		if c := &csr.Status.Conditions[i]; c.Type == kind {
			found = append(found, c)
		}
	}
	return found
}

// stampConditions fills in the times that the caller left out.
func stampConditions(csr, old *certificatesv1.CertificateSigningRequest, now metav1.Time) {
	for i := range csr.Status.Conditions {
		c := &csr.Status.Conditions[i]
		if c.LastUpdateTime.IsZero() {
			c.LastUpdateTime = now
		}
		if !c.LastTransitionTime.IsZero() {
			continue
		}
		c.LastTransitionTime = now
		for _, before := range conditionsOf(old, c.Type) {
			if before.Status == c.Status && !before.LastTransitionTime.IsZero() {
				c.LastTransitionTime = before.LastTransitionTime
				break
			}
		}
	}
}

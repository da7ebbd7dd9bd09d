package certificatesigningrequest

import (
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

var columns = []resource.Column[*certificatesv1.CertificateSigningRequest]{
	resource.Age[*certificatesv1.CertificateSigningRequest](),
	{
		Name: "SignerName", Description: "The signer that is asked.",
		Value: func(csr *certificatesv1.CertificateSigningRequest) any { return csr.Spec.SignerName },
	},
	{
		Name: "Requestor", Description: "Who asks.",
		Value: func(csr *certificatesv1.CertificateSigningRequest) any { return csr.Spec.Username },
	},
	{
		Name: "RequestedDuration", Description: "The lifetime that is asked for.",
		Value: func(csr *certificatesv1.CertificateSigningRequest) any {
			if csr.Spec.ExpirationSeconds == nil {
				return "<none>"
			}
			return duration.HumanDuration(time.Duration(*csr.Spec.ExpirationSeconds) * time.Second)
		},
	},
	{
		Name: "Condition", Description: "What has become of the request.",
		Value: func(csr *certificatesv1.CertificateSigningRequest) any { return condition(csr) },
	},
}

// condition sums up the status; a denial outweighs an approval.
func condition(csr *certificatesv1.CertificateSigningRequest) string {
	sum := "Pending"
	switch {
	case len(conditionsOf(csr, certificatesv1.CertificateDenied)) > 0:
		sum = "Denied"
	case len(conditionsOf(csr, certificatesv1.CertificateApproved)) > 0:
		sum = "Approved"
	}
	if len(conditionsOf(csr, certificatesv1.CertificateFailed)) > 0 {
		sum += ",Failed"
	}
	if len(csr.Status.Certificate) > 0 {
		sum += ",Issued"
	}
	return sum
}

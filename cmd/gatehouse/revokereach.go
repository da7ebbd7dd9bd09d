package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	access "github.com/gatehouse-dev/gatehouse/api/access/v1alpha1"
	identity "github.com/gatehouse-dev/gatehouse/api/identity/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/authn/origin"
)

// maxReachLines bounds what revoke says of what it reaches.
const maxReachLines = 50

// sayReach tells what was made with a banned credential, as far as the API
// knows and the caller may read. Tokens are stored nowhere and cannot be listed.
func sayReach(ctx context.Context, out io.Writer, kubeconfig string, spec *access.BanSpec) {
	switch {
	case spec.CredentialID == "" && spec.IssuerKey == "":
		return
	case spec.Made == access.BanKeepsMade:
		fmt.Fprintln(out, "what was made with it is left alone; the following stays:")
	default:
		fmt.Fprintln(out, "ends with it: every token that was asked for with it, and")
	}
	lines, faults := reachOf(ctx, kubeconfig, spec)
	for i, line := range lines {
		if i == maxReachLines {
			fmt.Fprintf(out, "  and %d more\n", len(lines)-i)
			break
		}
		fmt.Fprintln(out, "  "+printable(line))
	}
	if len(lines) == 0 && len(faults) == 0 {
		fmt.Fprintln(out, "  no access key and no certificate request that is still kept")
	}
	for _, err := range faults {
		fmt.Fprintf(out, "  not known: %v\n", err)
	}
}

// reachOf lists access keys and certificate requests that come from what is
// banned.
func reachOf(ctx context.Context, kubeconfig string, spec *access.BanSpec) (lines []string, faults []error) {
	comes := func(line []string) bool {
		return slices.ContainsFunc(line, func(text string) bool {
			e := origin.Parse(text)
			return e.ID != "" && e.ID == spec.CredentialID || e.IssuerKey != "" && e.IssuerKey == spec.IssuerKey
		})
	}
	if keys, err := keysClient(kubeconfig); err != nil {
		faults = append(faults, err)
	} else {
		var list identity.AccessKeyList
		if err := keys.Get().Resource("accesskeys").Do(ctx).Into(&list); err != nil {
			faults = append(faults, fmt.Errorf("access keys: %w", clientError(err)))
		}
		for i := range list.Items {
			k := &list.Items[i]
			opened := k.Status.OpenedBy != "" && k.Status.OpenedBy == spec.CredentialID
			if !k.Spec.Revoked && (opened || comes(k.Status.Origin)) {
				lines = append(lines, fmt.Sprintf("access key %s/%s of %s at %s, %s", k.Namespace, k.Name, subjectWords(k.Spec.Subject), k.Spec.Audience, k.Status.CredentialID))
			}
		}
	}
	cfg, err := loadKubeconfig(kubeconfig)
	if err != nil {
		return lines, append(faults, err)
	}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return lines, append(faults, err)
	}
	requests, err := client.CertificatesV1().CertificateSigningRequests().List(ctx, metav1.ListOptions{})
	if err != nil {
		return lines, append(faults, fmt.Errorf("certificate requests: %w", clientError(err)))
	}
	for i := range requests.Items {
		csr := &requests.Items[i]
		if csr.Spec.SignerName == certificatesv1.KubeAPIServerClientSignerName && len(csr.Status.Certificate) > 0 && comes(csr.Spec.Extra[origin.Extra]) {
			lines = append(lines, fmt.Sprintf("certificate of request %s by %s", csr.Name, strings.TrimSpace(csr.Spec.Username)))
		}
	}
	return lines, faults
}

// Package clusterfiles writes what a stock kube-apiserver needs to ask the
// control plane: kubeconfigs of the webhooks, the authorization and audit
// configuration, and the flags that name them.
//
// The package renders and decides nothing else: no network, no files. Start
// with [Render].
package clusterfiles

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"text/template"
	"unicode"

	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	federation "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
)

// AudiencePrefix and a site's name are the one audience whose tokens the site
// accepts.
const AudiencePrefix = "gatehouse:site:"

// Audience is the audience of a site's tokens.
func Audience(site string) string { return AudiencePrefix + site }

// Options describe the site and how it reaches the control plane.
type Options struct {
	// Site is the name of the Site, a DNS label.
	Site string
	Mode federation.SiteMode
	// FailClosed makes an unreachable control plane refuse; only for sites
	// that run a local decision point.
	FailClosed bool
	// Server is the https URL of the control plane, ServingCA the PEM of the
	// authority that signs its certificate.
	Server    string
	ServingCA []byte
	// Certificate and Key are the PEM of the site's client certificate. The
	// key is written to one file of its own and referenced by the others.
	Certificate, Key []byte
	// Dir is the absolute directory in which kube-apiserver will find the
	// files.
	Dir string
	// Local, if set, has the cluster ask a local decision point.
	Local *Local
	// APIAudiences are the audiences that the cluster accepts already; its
	// service-account issuer is the usual one.
	APIAudiences []string
}

// Local is a local decision point, "gatehouse-edge authorize".
type Local struct {
	// Server is its https URL, on a loopback address.
	Server string
	// TLSDir is the absolute directory in which it keeps its authority and
	// kube-apiserver's client certificate.
	TLSDir string
}

// File is one rendered file. Secret files must be written with mode 0600.
type File struct {
	Name    string
	Content []byte
	Secret  bool
}

// Names of the files.
const (
	CAFile            = "ca.crt"
	CertificateFile   = "site.crt"
	KeyFile           = "site.key"
	AuditWebhookFile  = "audit-webhook.kubeconfig"
	AuditPolicyFile   = "audit-policy.yaml"
	DenyFile          = "authorize-deny.kubeconfig"
	AllowFile         = "authorize.kubeconfig"
	AuthorizationFile = "authorization.yaml"
	TokenWebhookFile  = "token-webhook.kubeconfig"
	FlagsFile         = "kube-apiserver.flags"
	EdgeFlagsFile     = "gatehouse-edge.flags"
)

// Render returns the files in the order in which a person would read them,
// the flags first.
func Render(o Options) ([]File, error) {
	if err := check(o); err != nil {
		return nil, err
	}
	files := []File{
		{Name: CAFile, Content: o.ServingCA},
		{Name: CertificateFile, Content: o.Certificate},
		{Name: KeyFile, Content: o.Key, Secret: true},
		{Name: AuditPolicyFile, Content: []byte(auditPolicy)},
	}
	add := func(name, door string) error {
		content, err := kubeconfig(o, door)
		files = append(files, File{Name: name, Content: content})
		return err
	}
	err := add(AuditWebhookFile, "audit")
	if o.Mode != federation.SiteObserve {
		err = errors.Join(err, add(DenyFile, "authorize/deny"))
		if o.Mode == federation.SiteFull {
			err = errors.Join(err, add(AllowFile, "authorize"), add(TokenWebhookFile, "authenticate"))
		}
		content, aerr := authorization(o)
		err = errors.Join(err, aerr)
		files = append(files, File{Name: AuthorizationFile, Content: content})
	}
	if err != nil {
		return nil, err
	}
	if o.Local != nil {
		files = append(files, File{Name: EdgeFlagsFile, Content: []byte(strings.Join(EdgeFlags(o), "\n") + "\n")})
	}
	return append([]File{{Name: FlagsFile, Content: []byte(strings.Join(Flags(o), "\n") + "\n")}}, files...), nil
}

func check(o Options) error {
	switch {
	case len(validation.IsDNS1123Label(o.Site)) > 0:
		return fmt.Errorf("render site files: site %q is not a DNS label", o.Site)
	case !slices.Contains([]federation.SiteMode{federation.SiteObserve, federation.SiteDeny, federation.SiteFull}, o.Mode):
		return fmt.Errorf("render site files: mode %q is not Observe, Deny or Full", o.Mode)
	case !strings.HasPrefix(o.Server, "https://"):
		return fmt.Errorf("render site files: server %q is not an https URL", o.Server)
	case strings.ContainsAny(o.Server, " \t\r\n?#@"):
		return fmt.Errorf("render site files: server %q has more than a host, a port and a path", o.Server)
	case !path.IsAbs(o.Dir) || strings.ContainsFunc(o.Dir, unicode.IsControl):
		return fmt.Errorf("render site files: directory %q is not absolute or holds control characters", o.Dir)
	case len(o.ServingCA) == 0 || len(o.Certificate) == 0 || len(o.Key) == 0:
		return errors.New("render site files: CA, certificate and key are required")
	case o.Mode == federation.SiteFull && len(o.APIAudiences) == 0:
		return errors.New("render site files: the audiences that the cluster accepts now are required, usually its service-account issuer")
	case o.Local == nil:
		return nil
	case o.Mode == federation.SiteObserve:
		return errors.New("render site files: a site that only observes has nothing to decide locally")
	case !strings.HasPrefix(o.Local.Server, "https://") || strings.ContainsAny(o.Local.Server, " \t\r\n?#@"):
		return fmt.Errorf("render site files: local decision point %q is not an https URL", o.Local.Server)
	case !path.IsAbs(o.Local.TLSDir) || strings.ContainsFunc(o.Local.TLSDir, unicode.IsControl):
		return fmt.Errorf("render site files: directory %q is not absolute or holds control characters", o.Local.TLSDir)
	}
	return nil
}

// EdgeFlags are what "gatehouse-edge authorize" has to be started with, beside
// --state-dir.
func EdgeFlags(o Options) []string {
	return []string{
		"--server=" + o.Server,
		"--site=" + o.Site,
		"--dir=" + o.Dir,
		"--tls-dir=" + o.Local.TLSDir,
		"--listen=" + strings.TrimPrefix(o.Local.Server, "https://"),
		"--mode=" + strings.ToLower(string(o.Mode)),
	}
}

// What the local decision point writes into its TLS directory; see package
// edge/localtls.
const (
	localCA, localCertificate, localKey = "ca.crt", "client.crt", "client.key"
)

// Flags are what kube-apiserver has to be started with, in addition to its
// own. --authorization-config replaces --authorization-mode.
func Flags(o Options) []string {
	at := func(name string) string { return path.Join(o.Dir, name) }
	flags := []string{
		"--audit-policy-file=" + at(AuditPolicyFile),
		"--audit-webhook-config-file=" + at(AuditWebhookFile),
		"--audit-webhook-mode=batch",
		// A record that travels for long is one that a crash can lose.
		"--audit-webhook-batch-max-wait=1s",
		"--audit-webhook-batch-max-size=400",
		"--audit-webhook-truncate-enabled=true",
		"--audit-webhook-version=audit.k8s.io/v1",
	}
	if o.Mode == federation.SiteObserve {
		return flags
	}
	flags = append(flags, "--authorization-config="+at(AuthorizationFile))
	if o.Mode == federation.SiteFull {
		flags = append(flags,
			"--authentication-token-webhook-config-file="+at(TokenWebhookFile),
			"--authentication-token-webhook-version=v1",
			// kube-apiserver remembers a verified token for 10 s whatever this
			// says; more would outlive a revocation.
			"--authentication-token-webhook-cache-ttl=0s",
			"--api-audiences="+strings.Join(append(slices.Clone(o.APIAudiences), Audience(o.Site)), ","),
		)
	}
	return flags
}

// kubeconfig is a webhook's kubeconfig for one door of the site. A local
// decision point has the same doors.
func kubeconfig(o Options, door string) ([]byte, error) {
	type named map[string]any
	server, ca, certificate, key := o.Server, path.Join(o.Dir, CAFile), path.Join(o.Dir, CertificateFile), path.Join(o.Dir, KeyFile)
	if l := o.Local; l != nil {
		server, ca, certificate, key = l.Server, path.Join(l.TLSDir, localCA), path.Join(l.TLSDir, localCertificate), path.Join(l.TLSDir, localKey)
	}
	return yaml.Marshal(named{
		"apiVersion": "v1",
		"kind":       "Config",
		"clusters": []named{{"name": "gatehouse", "cluster": named{
			"server":                strings.TrimSuffix(server, "/") + "/sites/" + o.Site + "/" + door,
			"certificate-authority": ca,
		}}},
		"users": []named{{"name": o.Site, "user": named{
			"client-certificate": certificate,
			"client-key":         key,
		}}},
		"contexts":        []named{{"name": "gatehouse", "context": named{"cluster": "gatehouse", "user": o.Site}}},
		"current-context": "gatehouse",
	})
}

var authorizationTemplate = template.Must(template.New("authorization").Parse(`# Written by "gatehouse site connect" for site {{.Site}}.
#
# The order is the point: what the control plane refuses is refused first, the
# cluster's own rules come next, and what they do not decide may be granted.
apiVersion: apiserver.config.k8s.io/v1
kind: AuthorizationConfiguration
authorizers:
{{- range .Authorizers}}
{{- if .Door}}
- type: Webhook
  name: {{.Name}}
  webhook:
    connectionInfo:
      type: KubeConfigFile
      kubeConfigFile: {{printf "%q" .File}}
    subjectAccessReviewVersion: v1
    matchConditionSubjectAccessReviewVersion: v1
    # Nothing is remembered: a ban has to hold at the next request.
    cacheAuthorizedRequests: false
    cacheUnauthorizedRequests: false
    authorizedTTL: 1s
    unauthorizedTTL: 1s
    timeout: 1s
    failurePolicy: {{$.FailurePolicy}}
    matchConditions:
    # The cluster's own control plane does not depend on this one.
    - expression: "!(request.user in ['system:apiserver', 'system:kube-controller-manager', 'system:kube-scheduler'])"
{{- else}}
- type: {{.Type}}
  name: {{.Name}}
{{- end}}
{{- end}}
`))

func authorization(o Options) ([]byte, error) {
	type authorizer struct {
		Door       bool
		Type, Name string
		File       string
	}
	data := struct {
		Site, FailurePolicy string
		Authorizers         []authorizer
	}{
		Site:          o.Site,
		FailurePolicy: string(federation.SiteFailureNoOpinion),
		Authorizers: []authorizer{
			{Door: true, Name: "gatehouse-deny", File: path.Join(o.Dir, DenyFile)},
			{Type: "Node", Name: "node"},
			{Type: "RBAC", Name: "rbac"},
		},
	}
	if o.FailClosed {
		data.FailurePolicy = string(federation.SiteFailureDeny)
	}
	if o.Mode == federation.SiteFull {
		data.Authorizers = append(data.Authorizers, authorizer{Door: true, Name: "gatehouse-allow", File: path.Join(o.Dir, AllowFile)})
	}
	var b bytes.Buffer
	if err := authorizationTemplate.Execute(&b, data); err != nil {
		return nil, fmt.Errorf("render authorization configuration: %w", err)
	}
	return b.Bytes(), nil
}

// auditPolicy records every request once, without bodies: they may hold
// secrets of the site, which are not the control plane's to keep.
const auditPolicy = `# Every request of the cluster, once, without bodies.
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages:
- RequestReceived
rules:
- level: None
  nonResourceURLs: ["/healthz*", "/livez*", "/readyz*", "/metrics"]
- level: Metadata
`

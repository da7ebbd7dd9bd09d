// Package hostfiles writes what a host needs to send its logs to the control
// plane: certificates, and the configuration of systemd-journal-upload or
// rsyslog that names them.
//
// It renders and decides nothing: no network, no files. Start with [Render].
package hostfiles

import (
	"bytes"
	"fmt"
	"net"
	"net/url"
	"path"
	"strings"
	"text/template"
	"unicode"

	auditapi "github.com/gatehouse-dev/gatehouse/api/audit/v1alpha1"
)

// Names of the files.
const (
	CAFile          = "ca.crt"
	CertificateFile = "source.crt"
	KeyFile         = "source.key"
	JournalFile     = "journal-upload.conf"
	RsyslogFile     = "rsyslog-gatehouse.conf"
	OTLPFile        = "otlp.env"
)

// Options describe the source and how it reaches the control plane.
type Options struct {
	// Source is the name of the AuditSource, Site that of its site.
	Source, Site string
	Kind         auditapi.AuditSourceKind
	// Server is the https URL of the control plane; Syslog is host:port of its
	// syslog listener, for a source of that kind.
	Server, Syslog string
	// ServingCA is the PEM of the authority that signs the server's certificate,
	// Certificate and Key are the PEM of the source's own.
	ServingCA, Certificate, Key []byte
	// Dir is the absolute directory in which the host will find the files.
	Dir string
}

// File is one rendered file. Secret files must be written with mode 0600.
type File struct {
	Name    string
	Content []byte
	Secret  bool
}

var journal = template.Must(template.New("journal").Parse(`# Written by "gatehouse site connect host" for {{.Source}}.
# Belongs into /etc/systemd/journal-upload.conf.d/.
[Upload]
URL={{.URL}}
ServerKeyFile={{.Key}}
ServerCertificateFile={{.Certificate}}
TrustedCertificateFile={{.CA}}
`))

var rsyslog = template.Must(template.New("rsyslog").Parse(`# Written by "gatehouse site connect host" for {{.Source}}.
# Belongs into /etc/rsyslog.d/. Needs the package rsyslog-openssl.
action(
  type="omfwd" name="gatehouse"
  target="{{.Host}}" port="{{.Port}}" protocol="tcp" TCP_Framing="octet-counted"
  template="RSYSLOG_SyslogProtocol23Format"
  StreamDriver="ossl" StreamDriverMode="1"
  StreamDriverAuthMode="x509/name" StreamDriverPermittedPeers="{{.Host}}"
  StreamDriver.CAFile="{{.CA}}"
  StreamDriver.CertFile="{{.Certificate}}"
  StreamDriver.KeyFile="{{.Key}}"
  # What cannot be sent waits on disk; nothing is given up.
  queue.type="LinkedList" queue.filename="gatehouse" queue.maxDiskSpace="1g" queue.saveOnShutdown="on"
  action.resumeRetryCount="-1" action.resumeInterval="10"
)
`))

var otlp = template.Must(template.New("otlp").Parse(`# Written by "gatehouse site connect host" for {{.Source}}.
# The environment of a program with an OpenTelemetry SDK.
OTEL_EXPORTER_OTLP_LOGS_ENDPOINT={{.URL}}
OTEL_EXPORTER_OTLP_LOGS_PROTOCOL=http/protobuf
OTEL_EXPORTER_OTLP_LOGS_CERTIFICATE={{.CA}}
OTEL_EXPORTER_OTLP_LOGS_CLIENT_CERTIFICATE={{.Certificate}}
OTEL_EXPORTER_OTLP_LOGS_CLIENT_KEY={{.Key}}
`))

// Render returns the files, the configuration first.
func Render(o Options) ([]File, error) {
	if !path.IsAbs(o.Dir) || strings.ContainsFunc(o.Dir, func(r rune) bool { return unicode.IsControl(r) || r == '"' || unicode.IsSpace(r) }) {
		return nil, fmt.Errorf("render host files: directory %q is not absolute or holds spaces, quotes or control characters", o.Dir)
	}
	server, err := url.Parse(o.Server)
	if err != nil || server.Scheme != "https" || server.Host == "" {
		return nil, fmt.Errorf("render host files: server %q is not an https URL", o.Server)
	}
	if server.Port() == "" {
		// journal-upload would add a port of its own, behind the path.
		server.Host = net.JoinHostPort(server.Hostname(), "443")
	}
	data := struct{ Source, URL, Host, Port, CA, Certificate, Key string }{
		Source: o.Source, CA: path.Join(o.Dir, CAFile), Certificate: path.Join(o.Dir, CertificateFile), Key: path.Join(o.Dir, KeyFile),
	}
	base := "https://" + server.Host + "/sites/" + o.Site
	var (
		t    *template.Template
		name string
	)
	switch o.Kind {
	case auditapi.AuditSourceJournal:
		t, name, data.URL = journal, JournalFile, base+"/journal"
	case auditapi.AuditSourceOTLP:
		t, name, data.URL = otlp, OTLPFile, base+"/v1/logs"
	case auditapi.AuditSourceSyslog:
		t, name = rsyslog, RsyslogFile
		if data.Host, data.Port, err = net.SplitHostPort(o.Syslog); err != nil || data.Host == "" || strings.ContainsAny(o.Syslog, "\"\\\n") {
			return nil, fmt.Errorf("render host files: syslog listener %q is not host:port", o.Syslog)
		}
	default:
		return nil, fmt.Errorf("render host files: a host does not write as %q", o.Kind)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, data); err != nil {
		return nil, fmt.Errorf("render host files: %w", err)
	}
	return []File{
		{Name: name, Content: b.Bytes()},
		{Name: CAFile, Content: o.ServingCA},
		{Name: CertificateFile, Content: o.Certificate},
		{Name: KeyFile, Content: o.Key, Secret: true},
	}, nil
}

package config

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"github.com/gatehouse-dev/gatehouse/internal/audit/witness"
	"github.com/gatehouse-dev/gatehouse/internal/authn/crl"
)

// APIVersion and Kind are the type meta of [File].
const (
	APIVersion = "config.gatehouse.dev/v1alpha1"
	Kind       = "Configuration"
)

const (
	defaultListen  = "127.0.0.1:7443"
	defaultDataDir = "gatehouse-data"
	maxFileBytes   = 1 << 20
)

// Config is a configuration that was validated as a whole. Only [Load] and
// [Resolve] make one.
type Config struct {
	v *validated
}

// validated is unexported, so that nobody fills one in by hand.
type validated struct {
	dataDir, rootKeyFile string
	listen, advertise    string
	servingNames         []string
	etcd                 Etcd
	postgresDSNFile      string
	issuer               string
	discoveryListen      string
	maxTokenAge          time.Duration
	maxPolicyAge         time.Duration
	auditPolicyFile      string
	allowLoopbackSinks   bool
	retention            map[string]time.Duration
	witnesses            []Witness
	syslogListen         string
	authentication       Authentication
	logLevel             slog.Level
	logJSON              bool
}

// DataDir is the absolute path of the replica's state.
func (c Config) DataDir() string { return c.v.dataDir }

// RootKeyFile is the absolute path of the root key.
func (c Config) RootKeyFile() string { return c.v.rootKeyFile }

// RootKeyIsOurs reports whether the first start may create the root key.
func (c Config) RootKeyIsOurs() bool { return filepath.Dir(c.v.rootKeyFile) == c.v.dataDir }

// Listen is the host:port to listen on.
func (c Config) Listen() string { return c.v.listen }

// AdvertiseAddress is the host:port that clients are told, "" for the
// listener's own.
func (c Config) AdvertiseAddress() string { return c.v.advertise }

// ServingNames are further names of the serving certificate.
func (c Config) ServingNames() []string { return slices.Clone(c.v.servingNames) }

// Etcd is the external etcd; without endpoints one is embedded.
func (c Config) Etcd() Etcd { return c.v.etcd }

// PostgresDSNFile is the file with the connection string, "" for SQLite.
func (c Config) PostgresDSNFile() string { return c.v.postgresDSNFile }

// Issuer is the iss claim of tokens, "" for the one chosen on the first start.
func (c Config) Issuer() string { return c.v.issuer }

// DiscoveryListen is the host:port of the listener of public keys, "" for none.
func (c Config) DiscoveryListen() string { return c.v.discoveryListen }

// MaxPolicyAge is how long a site decides by itself.
func (c Config) MaxPolicyAge() time.Duration { return c.v.maxPolicyAge }

// MaxTokenAge caps the life of tokens.
func (c Config) MaxTokenAge() time.Duration { return c.v.maxTokenAge }

// Authentication says whom the control plane believes beside itself. Its slices
// must not be changed.
func (c Config) Authentication() Authentication { return c.v.authentication }

// AuditPolicyFile is the audit policy, "" for the built-in one.
func (c Config) AuditPolicyFile() string { return c.v.auditPolicyFile }

// AllowLoopbackSinks says whether confined audit sinks may reach this machine.
func (c Config) AllowLoopbackSinks() bool { return c.v.allowLoopbackSinks }

// Retention is how long records of a class (denial, change, review, read) are
// kept; one that is missing is kept for ever.
func (c Config) Retention() map[string]time.Duration { return maps.Clone(c.v.retention) }

// Witnesses sign the checkpoints of this replica's log.
func (c Config) Witnesses() []Witness { return slices.Clone(c.v.witnesses) }

// SyslogListen is the host:port of the syslog listener, "" for none.
func (c Config) SyslogListen() string { return c.v.syslogListen }

// LogLevel is the least level that is logged.
func (c Config) LogLevel() slog.Level { return c.v.logLevel }

// LogJSON reports whether log lines are JSON.
func (c Config) LogJSON() bool { return c.v.logJSON }

// Flags are command line values that override the file; empty means not given.
type Flags struct {
	DataDir, Listen string
}

// Load reads and validates a file; path "" means defaults. The error names
// every fault, one a line, each with its field.
func Load(path string, flags Flags) (Config, error) {
	f := File{APIVersion: APIVersion, Kind: Kind}
	if path != "" {
		data, err := read(path)
		if err != nil {
			return Config{}, err
		}
		f = File{}
		if err := yaml.UnmarshalStrict(data, &f); err != nil {
			return Config{}, fmt.Errorf("%s: %w", path, oneLine(err))
		}
	}
	if flags.DataDir != "" {
		f.DataDir = flags.DataDir
	}
	if flags.Listen != "" {
		f.Listen = flags.Listen
	}
	return Resolve(f)
}

func read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	if info.Size() > maxFileBytes {
		return nil, fmt.Errorf("read configuration: %s has %d bytes, at most %d are read", path, info.Size(), maxFileBytes)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return data, nil
}

// oneLine drops the Go types from the decoder's messages.
func oneLine(err error) error {
	text := strings.ReplaceAll(err.Error(), "error unmarshaling JSON: while decoding JSON: ", "")
	text = strings.ReplaceAll(text, "error converting YAML to JSON: ", "")
	return errors.New(strings.ReplaceAll(text, "\n", " "))
}

// Resolve validates a file's content and fills in defaults. It touches files
// only to see that those the configuration names exist.
func Resolve(f File) (Config, error) {
	var faults []error
	bad := func(field, format string, args ...any) {
		faults = append(faults, fmt.Errorf("%s: %s", field, fmt.Sprintf(format, args...)))
	}
	if f.APIVersion != APIVersion {
		bad("apiVersion", "must be %s", APIVersion)
	}
	if f.Kind != Kind {
		bad("kind", "must be %s", Kind)
	}
	v := &validated{servingNames: slices.Clone(f.ServingNames), maxTokenAge: 24 * time.Hour, maxPolicyAge: 24 * time.Hour}

	dir := f.DataDir
	if dir == "" {
		dir = defaultDataDir
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		bad("dataDir", "%v", err)
	}
	v.dataDir = abs
	v.rootKeyFile = filepath.Join(abs, "root.key")
	if f.RootKeyFile != "" {
		if v.rootKeyFile, err = filepath.Abs(f.RootKeyFile); err != nil {
			bad("rootKeyFile", "%v", err)
		}
		if filepath.Dir(v.rootKeyFile) != abs {
			exists(bad, "rootKeyFile", v.rootKeyFile)
		}
	}

	v.listen = f.Listen
	if v.listen == "" {
		v.listen = defaultListen
	}
	hostPort(bad, "listen", v.listen, true)
	if v.advertise = f.AdvertiseAddress; v.advertise != "" {
		hostPort(bad, "advertiseAddress", v.advertise, false)
	} else if host, _, err := net.SplitHostPort(v.listen); err == nil {
		if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
			bad("advertiseAddress", "is required when listen names no single address")
		}
	}
	for i, n := range f.ServingNames {
		if _, err := netip.ParseAddr(n); err != nil && len(validation.IsDNS1123Subdomain(n)) > 0 && len(validation.IsWildcardDNS1123Subdomain(n)) > 0 {
			bad(fmt.Sprintf("servingNames[%d]", i), "%q is neither a DNS name nor an IP address", n)
		}
	}

	etcd(bad, f.Storage.Etcd)
	v.etcd = f.Storage.Etcd
	if v.postgresDSNFile = f.Storage.SQL.PostgresDSNFile; v.postgresDSNFile != "" {
		private(bad, "storage.sql.postgresDSNFile", v.postgresDSNFile)
	}

	if v.issuer = f.Tokens.Issuer; v.issuer != "" {
		if u, err := url.Parse(v.issuer); err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			bad("tokens.issuer", "must be an https URL without user, query and fragment")
		}
	}
	if v.discoveryListen = f.Tokens.DiscoveryListen; v.discoveryListen != "" {
		hostPort(bad, "tokens.discoveryListen", v.discoveryListen, false)
		if v.discoveryListen == v.listen {
			bad("tokens.discoveryListen", "must differ from listen")
		}
	}
	if s := f.Tokens.MaxExpirationSeconds; s != 0 {
		if s < 600 || s > 31536000 {
			bad("tokens.maxExpirationSeconds", "must be between 600 and 31536000")
		}
		v.maxTokenAge = time.Duration(s) * time.Second
	}
	if s := f.PolicySnapshots.MaxAgeSeconds; s != 0 {
		if s < 600 || s > 2592000 {
			bad("policySnapshots.maxAgeSeconds", "must be between 600 and 2592000")
		}
		v.maxPolicyAge = time.Duration(s) * time.Second
	}
	authentication(bad, f.Authentication)
	v.authentication = f.Authentication
	if v.auditPolicyFile = f.Audit.PolicyFile; v.auditPolicyFile != "" {
		exists(bad, "audit.policyFile", v.auditPolicyFile)
	}
	v.allowLoopbackSinks = f.Audit.AllowLoopbackSinks
	v.retention = retention(bad, f.Audit.Retention)
	v.witnesses = f.Audit.Witnesses
	witnesses(bad, f.Audit.Witnesses)
	if v.syslogListen = f.Audit.Syslog.Listen; v.syslogListen != "" {
		hostPort(bad, "audit.syslog.listen", v.syslogListen, true)
	}
	switch f.Log.Level {
	case "", "info":
	case "debug":
		v.logLevel = slog.LevelDebug
	case "warn":
		v.logLevel = slog.LevelWarn
	case "error":
		v.logLevel = slog.LevelError
	default:
		bad("log.level", "must be debug, info, warn or error")
	}
	switch f.Log.Format {
	case "", "text":
	case "json":
		v.logJSON = true
	default:
		bad("log.format", "must be text or json")
	}
	if len(faults) > 0 {
		return Config{}, errors.Join(faults...)
	}
	return Config{v}, nil
}

func retention(bad report, r Retention) map[string]time.Duration {
	out := map[string]time.Duration{}
	for _, c := range []struct{ class, text string }{{"denial", r.Denial}, {"change", r.Change}, {"review", r.Review}, {"read", r.Read}} {
		if c.text == "" {
			continue
		}
		d, ok := span(c.text)
		switch {
		case !ok:
			bad("audit.retention."+c.class, "%q is neither days (90d) nor hours (2160h)", c.text)
		case d < 24*time.Hour:
			bad("audit.retention."+c.class, "must be at least a day")
		}
		out[c.class] = d
	}
	return out
}

func witnesses(bad report, list []Witness) {
	seen := map[string]bool{}
	for i, w := range list {
		at := fmt.Sprintf("audit.witnesses[%d]", i)
		if u, err := url.Parse(w.URL); err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			bad(at+".url", "must be an https URL without user, query and fragment")
		}
		key, err := witness.ParseVerifier(w.Key)
		switch {
		case err != nil:
			bad(at+".key", "%v", err)
		case seen[key.String()]:
			bad(at+".key", "is given twice")
		default:
			seen[key.String()] = true
		}
		if w.CAFile != "" {
			exists(bad, at+".caFile", w.CAFile)
		}
	}
}

// span reads days or what the standard library reads; at most a hundred years.
func span(text string) (time.Duration, bool) {
	const longest = 100 * 365
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 32)
		return time.Duration(n) * 24 * time.Hour, err == nil && n <= longest
	}
	d, err := time.ParseDuration(text)
	return d, err == nil && d <= longest*24*time.Hour
}

func authentication(bad report, a Authentication) {
	if a.ConfigFile != "" {
		exists(bad, "authentication.configFile", a.ConfigFile)
	}
	if file := a.ClientCertificates.CAFile; file != "" {
		if _, ok := exists(bad, "authentication.clientCertificates.caFile", file); ok {
			if data, err := os.ReadFile(file); err != nil || !x509.NewCertPool().AppendCertsFromPEM(data) {
				bad("authentication.clientCertificates.caFile", "%s holds no PEM certificate", file)
			}
		}
	}
	for i, file := range a.ClientCertificates.CRLFiles {
		at := fmt.Sprintf("authentication.clientCertificates.crlFiles[%d]", i)
		if info, ok := exists(bad, at, file); ok && info.Size() > crl.MaxBytes {
			bad(at, "%s is larger than %d bytes", file, crl.MaxBytes)
		} else if ok {
			if data, err := os.ReadFile(file); err != nil {
				bad(at, "%v", err)
			} else if _, err := crl.Parse(data); err != nil {
				bad(at, "%s: %v", file, err)
			}
		}
	}
	h := a.RequestHeader
	if h.ClientCAFile != "" {
		if _, ok := exists(bad, "authentication.requestHeader.clientCAFile", h.ClientCAFile); ok {
			if data, err := os.ReadFile(h.ClientCAFile); err != nil || !x509.NewCertPool().AppendCertsFromPEM(data) {
				bad("authentication.requestHeader.clientCAFile", "%s holds no PEM certificate", h.ClientCAFile)
			}
		}
	}
	for i, name := range h.AllowedNames {
		if name == "" {
			bad(fmt.Sprintf("authentication.requestHeader.allowedNames[%d]", i), "must not be empty")
		}
	}
}

type report func(field, format string, args ...any)

func hostPort(bad report, field, value string, zero bool) {
	host, port, err := net.SplitHostPort(value)
	if err != nil {
		bad(field, "must be host:port")
		return
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 && !zero {
		bad(field, "port %q is not a port", port)
	}
	if host == "" {
		if !zero {
			bad(field, "a host is required")
		}
		return
	}
	if _, err := netip.ParseAddr(host); err != nil && len(validation.IsDNS1123Subdomain(host)) > 0 {
		bad(field, "host %q is neither a DNS name nor an IP address", host)
	}
}

func etcd(bad report, e Etcd) {
	const at = "storage.etcd"
	if len(e.Endpoints) == 0 {
		if e.CAFile != "" || e.CertFile != "" || e.KeyFile != "" {
			bad(at+".endpoints", "is required with TLS files")
		}
		return
	}
	for i, s := range e.Endpoints {
		if u, err := url.Parse(s); err != nil || u.Scheme != "https" || u.Host == "" || u.Path != "" || u.User != nil {
			bad(fmt.Sprintf("%s.endpoints[%d]", at, i), "%q is not https://host:port; etcd holds every decision and is reached over TLS only", s)
		}
	}
	for _, file := range []struct{ field, path string }{{"caFile", e.CAFile}, {"certFile", e.CertFile}, {"keyFile", e.KeyFile}} {
		if file.path == "" {
			bad(at+"."+file.field, "is required with endpoints")
		} else {
			exists(bad, at+"."+file.field, file.path)
		}
	}
}

func exists(bad report, field, path string) (fs.FileInfo, bool) {
	info, err := os.Stat(path)
	if err != nil {
		bad(field, "%v", err)
		return nil, false
	}
	if !info.Mode().IsRegular() {
		bad(field, "%s is not a regular file", path)
		return nil, false
	}
	return info, true
}

func private(bad report, field, path string) {
	if info, ok := exists(bad, field, path); ok && info.Mode().Perm()&0o077 != 0 {
		bad(field, "%s can be read by others; run chmod 600 %s", path, path)
	}
}

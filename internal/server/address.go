package server

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/gatehouse-dev/gatehouse/internal/config"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/keys"
	"github.com/gatehouse-dev/gatehouse/internal/pki"
)

// address is where the server is reached.
type address struct {
	// advertised is host:port as clients are told.
	advertised string
	// names of the serving certificate.
	names pki.Names
}

func addressOf(cfg config.Config, bound net.Addr) (address, error) {
	a := address{advertised: cfg.AdvertiseAddress()}
	if a.advertised == "" {
		host, _, err := net.SplitHostPort(cfg.Listen())
		if err != nil {
			return a, fmt.Errorf("listen address: %w", err)
		}
		_, port, err := net.SplitHostPort(bound.String())
		if err != nil {
			return a, fmt.Errorf("listen address: %w", err)
		}
		a.advertised = net.JoinHostPort(host, port)
	}
	seen := map[string]bool{}
	add := func(name string) {
		if seen[name] || name == "" {
			return
		}
		seen[name] = true
		if ip, err := netip.ParseAddr(name); err == nil {
			a.names.IPs = append(a.names.IPs, ip)
		} else {
			a.names.DNS = append(a.names.DNS, name)
		}
	}
	add("localhost")
	add("127.0.0.1")
	add("::1")
	for _, hostPort := range []string{a.advertised, bound.String()} {
		host, _, err := net.SplitHostPort(hostPort)
		if err != nil {
			return a, fmt.Errorf("address %q: %w", hostPort, err)
		}
		if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
			continue
		}
		add(host)
	}
	for _, n := range cfg.ServingNames() {
		add(strings.ToLower(n))
	}
	return a, nil
}

func (a address) url() string { return "https://" + a.advertised }

// settingsArea is where what replicas must agree on is kept in etcd.
const settingsArea = "settings"

// tokenIssuer is the iss claim of tokens: as configured, or else the address
// at which the first replica first served. It stays when addresses change,
// because a token of another issuer is worth nothing.
func tokenIssuer(ctx context.Context, cfg config.Config, at address, settings keys.Store) (string, error) {
	if s := cfg.Issuer(); s != "" {
		return s, nil
	}
	const name = "token-issuer"
	if _, err := settings.Create(ctx, name, []byte(at.url())); err != nil && fault.KindOf(err) != fault.Conflict {
		return "", fmt.Errorf("write token issuer: %w", err)
	}
	e, err := settings.Get(ctx, name)
	if err != nil {
		return "", fmt.Errorf("read token issuer: %w", err)
	}
	return string(e.Value), nil
}

// serverURL is where a stopped server will be reached again: as configured, or
// as its own admin.kubeconfig says when the port was chosen by the system.
func serverURL(cfg config.Config, dir string) string {
	if a := cfg.AdvertiseAddress(); a != "" {
		return "https://" + a
	}
	if _, port, err := net.SplitHostPort(cfg.Listen()); err == nil && port != "0" {
		return "https://" + cfg.Listen()
	}
	if admin, err := clientcmd.LoadFromFile(filepath.Join(dir, adminFile)); err == nil {
		for _, c := range admin.Clusters {
			return c.Server
		}
	}
	return "https://" + cfg.Listen()
}

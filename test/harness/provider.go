package harness

import (
	"context"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// A Provider is a running OpenID Connect provider: the certified oidc-provider
// package with a native client named gatehouse.
type Provider struct {
	*Process
	URL    string
	CA     []byte // whom to trust for URL, in PEM
	CAFile string

	authority *authority
}

var installProvider = sync.OnceValues(func() (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	_, err = run(root, filepath.Join(root, "scripts", "install-oidc-provider"))
	return filepath.Join(root, "test", "oidc", "provider.mjs"), err
})

// StartProvider starts a provider that keeps its files in dir.
func StartProvider(ctx context.Context, dir string) (*Provider, error) {
	program, err := installProvider()
	if err != nil {
		return nil, err
	}
	p := &Provider{CAFile: filepath.Join(dir, "ca.crt")}
	if p.authority, err = newAuthority("provider"); err != nil {
		return nil, err
	}
	if err := p.authority.write(p.CAFile); err != nil {
		return nil, err
	}
	if p.CA, err = os.ReadFile(p.CAFile); err != nil {
		return nil, err
	}
	if err := p.authority.issue(dir, "provider", pkix.Name{CommonName: "provider"}, net.IPv4(127, 0, 0, 1)); err != nil {
		return nil, err
	}
	if p.Process, err = Start("oidc-provider", "node", nil, program, filepath.Join(dir, "provider.crt"), filepath.Join(dir, "provider.key")); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	line, err := p.WaitLine(ctx, "ready https://")
	if err != nil {
		p.Kill()
		return nil, err
	}
	p.URL = strings.TrimPrefix(line, "ready ")
	return p, nil
}

// Browser returns a client that trusts the provider.
func (p *Provider) Browser() *http.Client { return p.authority.client() }

// Tell changes the provider while it runs; see test/oidc/provider.mjs.
func (p *Provider) Tell(ctx context.Context, command string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.URL+"/-/"+command, nil)
	if err != nil {
		return err
	}
	browser := p.Browser()
	defer browser.CloseIdleConnections()
	response, err := browser.Do(request)
	if err != nil {
		return err
	}
	response.Body.Close()
	if response.StatusCode != http.StatusNoContent {
		return fmt.Errorf("%s: status %d", command, response.StatusCode)
	}
	return nil
}

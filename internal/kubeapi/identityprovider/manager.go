package identityprovider

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/authn"
)

// Spec is one identity provider under its name: a webhook, or else the issuer
// of Config.
type Spec struct {
	Name string
	Config
	Webhook *WebhookConfig
	// Timeout and Concurrent bound the calls to it; see authn.ProviderConfig.
	Timeout    time.Duration
	Concurrent int
}

// service is what runs for a spec.
type service interface {
	authn.Provider
	Issuers() []string
	Close()
}

func (s Spec) start() (service, error) {
	if s.Webhook != nil {
		return NewWebhook(*s.Webhook)
	}
	return New(s.Config)
}

// Manager keeps the providers of a chain as a configuration says, without a
// restart. It is safe for concurrent use.
type Manager struct {
	chain *authn.Chain

	// mu guards running and serialises Apply.
	mu      sync.Mutex
	running map[string]running
}

type running struct {
	spec     Spec
	provider service
}

// NewManager returns a manager of a chain's providers. It must be the only one.
func NewManager(chain *authn.Chain) *Manager {
	return &Manager{chain: chain, running: map[string]running{}}
}

// Apply makes specs the whole configuration. Providers whose spec did not
// change go on with what they know; tokens of those changed or removed are
// verified anew or refused from now on. A spec that cannot run is left out and
// named in the result with its fault; of two for one issuer the first counts.
// One bad spec never keeps the others from running.
func (m *Manager) Apply(specs []Spec) (faults map[string]error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	faults = map[string]error{}
	next := make(map[string]running, len(specs))
	owner := map[string]string{}
	var configs []authn.ProviderConfig
	for _, spec := range specs {
		if _, twice := next[spec.Name]; twice {
			faults[spec.Name] = errors.New("the name is given twice")
			continue
		}
		r, ok := m.running[spec.Name]
		if !ok || !sameSpec(r.spec, spec) {
			provider, err := spec.start()
			if err != nil {
				faults[spec.Name] = err
				continue
			}
			r = running{spec, provider}
		}
		if err := claim(owner, spec, r.provider.Issuers()); err != nil {
			faults[spec.Name] = err
			if r.provider != m.running[spec.Name].provider {
				r.provider.Close()
			}
			continue
		}
		next[spec.Name] = r
		configs = append(configs, authn.ProviderConfig{
			Name: spec.Name, Issuers: r.provider.Issuers(), Provider: r.provider,
			Timeout: spec.Timeout, Concurrent: spec.Concurrent,
		})
	}
	if err := m.chain.SetProviders(configs); err != nil {
		// What claim lets through, the chain takes.
		for name, r := range next {
			faults[name] = err
			if r.provider != m.running[name].provider {
				r.provider.Close()
			}
		}
		return faults
	}
	for name, old := range m.running {
		if next[name].provider != old.provider {
			old.provider.Close()
		}
	}
	m.running = next
	return faults
}

// claim notes whose tokens a provider vouches for.
func claim(owner map[string]string, spec Spec, issuers []string) error {
	for _, issuer := range issuers {
		if slices.Contains(spec.DisallowedIssuers, issuer) {
			return fmt.Errorf("issuer %q is the control plane's own", issuer)
		}
		if other, taken := owner[issuer]; taken {
			return fmt.Errorf("issuer %q is that of identity provider %q already", issuer, other)
		}
	}
	for _, issuer := range issuers {
		owner[issuer] = spec.Name
	}
	return nil
}

// sameSpec compares all but the clock, which is no configuration.
func sameSpec(a, b Spec) bool {
	a.Now, b.Now = nil, nil
	return reflect.DeepEqual(a, b)
}

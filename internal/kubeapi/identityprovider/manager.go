package identityprovider

import (
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/authn"
)

// Spec is one identity provider under its name.
type Spec struct {
	Name string
	Config
	// Timeout and Concurrent bound the calls to it; see authn.ProviderConfig.
	Timeout    time.Duration
	Concurrent int
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
	provider *Provider
}

// NewManager returns a manager of a chain's providers. It must be the only one.
func NewManager(chain *authn.Chain) *Manager {
	return &Manager{chain: chain, running: map[string]running{}}
}

// Apply makes specs the whole configuration. Providers whose spec did not
// change go on with what they know; tokens of those changed or removed are
// verified anew or refused from now on. On an error, which names the provider,
// everything stays as it was.
func (m *Manager) Apply(specs []Spec) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := make(map[string]running, len(specs))
	var configs []authn.ProviderConfig
	var started []*Provider
	undo := func() {
		for _, p := range started {
			p.Close()
		}
	}
	for _, spec := range specs {
		r, ok := m.running[spec.Name]
		if !ok || !sameSpec(r.spec, spec) {
			provider, err := New(spec.Config)
			if err != nil {
				undo()
				return fmt.Errorf("identity provider %q: %w", spec.Name, err)
			}
			started = append(started, provider)
			r = running{spec, provider}
		}
		next[spec.Name] = r
		configs = append(configs, authn.ProviderConfig{
			Name: spec.Name, Issuers: []string{r.provider.Issuer()}, Provider: r.provider,
			Timeout: spec.Timeout, Concurrent: spec.Concurrent,
		})
	}
	if err := m.chain.SetProviders(configs); err != nil {
		undo()
		return err
	}
	for name, old := range m.running {
		if next[name].provider != old.provider {
			old.provider.Close()
		}
	}
	m.running = next
	return nil
}

// sameSpec compares all but the clock, which is no configuration.
func sameSpec(a, b Spec) bool {
	a.Now, b.Now = nil, nil
	return reflect.DeepEqual(a, b)
}

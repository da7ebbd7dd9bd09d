package pki

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/keys"
)

// ServingConfig is what a [Serving] needs; every field is required.
type ServingConfig struct {
	Authority *Authority[keys.ServingCA]
	Names     Names
	Clock     func() time.Time
	Logger    *slog.Logger
}

// Serving holds the certificate of our listeners and replaces it in time,
// while connections go on. Each replica has its own, with a key that never
// leaves memory. It is safe for concurrent use.
type Serving struct {
	authority *Authority[keys.ServingCA]
	clock     func() time.Time
	log       *slog.Logger
	current   atomic.Pointer[tls.Certificate]

	mu    sync.Mutex // guards names, and serialises issuing
	names Names
}

// NewServing issues the first certificate.
func NewServing(c ServingConfig) (*Serving, error) {
	if c.Authority == nil || c.Clock == nil || c.Logger == nil {
		return nil, errors.New("serving certificate: a field of the configuration is missing")
	}
	s := &Serving{authority: c.Authority, clock: c.Clock, log: c.Logger}
	if err := s.SetNames(c.Names); err != nil {
		return nil, err
	}
	return s, nil
}

// GetCertificate is for [tls.Config]. It never blocks.
func (s *Serving) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return s.current.Load(), nil
}

// SetNames issues a certificate for other names, which new connections get at
// once. On an error the certificate so far stays.
func (s *Serving) SetNames(names Names) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current.Load() != nil && names.equal(s.names) {
		return nil
	}
	if err := s.issue(names); err != nil {
		return err
	}
	s.names = names.clone()
	return nil
}

// Maintain issues a new certificate if the current one is due or is not of the
// authority that signs now.
func (s *Serving) Maintain() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	parent, err := s.authority.Certificate()
	if err != nil {
		return fmt.Errorf("serving certificate: %w", err)
	}
	leaf := s.current.Load().Leaf
	if s.clock().Before(RenewAt(leaf)) && string(leaf.AuthorityKeyId) == string(parent.SubjectKeyId) {
		return nil
	}
	return s.issue(s.names)
}

// Run calls [Serving.Maintain] at the given interval until ctx ends, and logs
// what fails.
func (s *Serving) Run(ctx context.Context, interval time.Duration) error {
	if interval <= 0 {
		return fault.New(fault.Invalid, "serving certificate: the interval of maintenance must be positive")
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			if err := s.Maintain(); err != nil {
				s.log.Error("serving certificate maintenance", "error", err)
			}
		}
	}
}

// issue runs with mu held.
func (s *Serving) issue(names Names) error {
	key, err := NewLeafKey()
	if err != nil {
		return fmt.Errorf("serving certificate: %w", err)
	}
	prepared, err := PrepareServing(names, key.Public(), 0)
	if err != nil {
		return fmt.Errorf("serving certificate: %w", err)
	}
	leaf, err := s.authority.Issue(prepared)
	if err != nil {
		return fmt.Errorf("serving certificate: %w", err)
	}
	s.current.Store(&tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key.private(), Leaf: leaf})
	s.log.Info("serving certificate issued", "serial", leaf.SerialNumber.Text(16), "until", leaf.NotAfter, "names", names.DNS, "addresses", names.IPs)
	return nil
}

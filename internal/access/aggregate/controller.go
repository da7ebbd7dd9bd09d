package aggregate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
)

// Store is where the controller reads and writes ClusterRoles.
type Store interface {
	// ListClusterRoles returns every ClusterRole, at least as new as the event
	// for which Notify was called. The objects are read only.
	ListClusterRoles(ctx context.Context) ([]*rbacv1.ClusterRole, error)
	// UpdateClusterRole writes role if its resourceVersion is still the
	// stored one, and fails otherwise. That makes a second replica harmless.
	UpdateClusterRole(ctx context.Context, role *rbacv1.ClusterRole) error
}

// Config is what a [Controller] needs.
type Config struct {
	Store Store
	Log   *slog.Logger
	// RetryAfter is the pause after a failed pass, 1 s if zero. Writes that
	// lose a race fail, and the next pass usually finds nothing left to do.
	RetryAfter time.Duration
}

// Controller keeps the stored rules of aggregated roles current.
type Controller struct {
	config Config
	wake   chan struct{} // holds one pending wake-up
}

// New returns a controller that does nothing until Run.
func New(config Config) (*Controller, error) {
	if config.Store == nil || config.Log == nil {
		return nil, errors.New("aggregate controller: store and log are required")
	}
	if config.RetryAfter <= 0 {
		config.RetryAfter = time.Second
	}
	return &Controller{config: config, wake: make(chan struct{}, 1)}, nil
}

// Notify says that some ClusterRole was added, changed or deleted. It never
// blocks; calls during a pass lead to one further pass.
func (c *Controller) Notify() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Run makes one pass at once and one after each Notify, until ctx ends. It
// returns nil then; a failed pass is logged and tried again.
func (c *Controller) Run(ctx context.Context) error {
	c.Notify()
	var retry <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.wake:
		case <-retry:
		}
		retry = nil
		if err := c.pass(ctx); err != nil && ctx.Err() == nil {
			c.config.Log.WarnContext(ctx, "cluster roles are not aggregated yet", "error", err)
			retry = time.After(c.config.RetryAfter)
		}
	}
}

// pass writes what is stale now. A fault of one role does not keep the others.
func (c *Controller) pass(ctx context.Context) error {
	all, err := c.config.Store.ListClusterRoles(ctx)
	if err != nil {
		return fmt.Errorf("list cluster roles: %w", err)
	}
	stale, err := Stale(all)
	if err != nil {
		// Only a new write of that role can mend its selector, and that
		// wakes the loop, so it must not cause a retry.
		c.config.Log.ErrorContext(ctx, "cluster role has a malformed selector", "error", err)
	}
	var faults []error
	for _, role := range stale {
		if err := c.config.Store.UpdateClusterRole(ctx, role); err != nil {
			faults = append(faults, fmt.Errorf("update cluster role %q: %w", role.Name, err))
		}
	}
	return errors.Join(faults...)
}

package federation

import (
	"context"
	"crypto/x509"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	api "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/authn"
)

// Directory holds the connected sites in memory, fed by the watch. It is safe
// for concurrent use; reading costs no lock.
type Directory struct {
	chain *authn.Chain

	mu    sync.Mutex // serialises writers
	sites atomic.Pointer[map[string]*api.Site]

	heardMu sync.Mutex // guards heard
	heard   map[string]map[string]time.Time
}

// NewDirectory returns an empty directory that recognises sites with chain.
func NewDirectory(chain *authn.Chain) *Directory {
	d := &Directory{chain: chain, heard: map[string]map[string]time.Time{}}
	d.sites.Store(&map[string]*api.Site{})
	return d
}

// Verify proves that a client certificate is a site's. Whether that site is
// connected, and with this certificate, is a question for [Directory.Get].
func (d *Directory) Verify(ctx context.Context, peer []*x509.Certificate) (authn.Site, error) {
	return d.chain.VerifySite(ctx, peer)
}

// Get returns a connected site, which is shared and must not be changed.
func (d *Directory) Get(name string) (*api.Site, bool) {
	s, ok := (*d.sites.Load())[name]
	return s, ok && s.DeletionTimestamp == nil
}

// All returns the connected sites in order of their names, shared as by
// [Directory.Get].
func (d *Directory) All() []*api.Site {
	all := *d.sites.Load()
	out := make([]*api.Site, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if s := all[name]; s.DeletionTimestamp == nil {
			out = append(out, s)
		}
	}
	return out
}

// Replace sets all sites.
func (d *Directory) Replace(sites []*api.Site) {
	next := make(map[string]*api.Site, len(sites))
	for _, s := range sites {
		next[s.Name] = s
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sites.Store(&next)
}

// Put adds or changes a site.
func (d *Directory) Put(s *api.Site) {
	d.change(func(m map[string]*api.Site) { m[s.Name] = s })
}

// Delete removes a site; its doors close at once.
func (d *Directory) Delete(s *api.Site) {
	d.change(func(m map[string]*api.Site) { delete(m, s.Name) })
}

func (d *Directory) change(apply func(map[string]*api.Site)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	next := maps.Clone(*d.sites.Load())
	apply(next)
	d.sites.Store(&next)
}

// Heard notes that a site used a door.
func (d *Directory) Heard(site, door string, at time.Time) {
	d.heardMu.Lock()
	defer d.heardMu.Unlock()
	doors := d.heard[site]
	if doors == nil {
		doors = map[string]time.Time{}
		d.heard[site] = doors
	}
	doors[door] = at
}

// Use is the last use of one door.
type Use struct {
	Door string
	At   time.Time
}

// TakeHeard returns what was heard since it was last called, doors in order.
func (d *Directory) TakeHeard() map[string][]Use {
	d.heardMu.Lock()
	heard := d.heard
	d.heard = map[string]map[string]time.Time{}
	d.heardMu.Unlock()
	out := make(map[string][]Use, len(heard))
	for site, doors := range heard {
		for _, door := range slices.Sorted(maps.Keys(doors)) {
			out[site] = append(out[site], Use{door, doors[door]})
		}
	}
	return out
}

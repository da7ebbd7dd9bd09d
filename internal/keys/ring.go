package keys

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// maxAttempts bounds how often one change is tried against other writers.
const maxAttempts = 8

var errContended = fault.New(fault.Conflict, "other replicas are changing these keys: try again")

// Ring holds the keys of one purpose (and site) as last read from the store.
// It is safe for concurrent use.
type Ring[P Purpose] struct {
	vault   *Vault
	name    string
	site    string
	certify func(*Signer[P]) ([]byte, error)

	set atomic.Pointer[Set[P]]
	mu  sync.Mutex // serialises publish
}

// Ensure returns the ring of a purpose and creates it with one key if there is
// none. However many replicas call it together, all get the same key.
func Ensure[P Signing](ctx context.Context, v *Vault) (*Ring[P], error) {
	return ensure[P](ctx, v, "", nil)
}

// EnsureForSite is [Ensure] for a purpose with one ring for each site.
func EnsureForSite[P PerSite](ctx context.Context, v *Vault, site string) (*Ring[P], error) {
	return ensure[P](ctx, v, site, nil)
}

// EnsureAuthority is [Ensure] for a certificate authority. certify makes the
// DER certificate of each new key, here and at every rotation; it must have no
// effect but its result, which may be thrown away.
func EnsureAuthority[P Authority](ctx context.Context, v *Vault, certify func(*Signer[P]) ([]byte, error)) (*Ring[P], error) {
	return ensure(ctx, v, "", certify)
}

// DropForSite deletes a site's ring with all its keys. A ring that does not
// exist is no error.
func DropForSite[P PerSite](ctx context.Context, v *Vault, site string) error {
	name, err := ringName(specOf[P](), site)
	if err != nil {
		return fmt.Errorf("drop keys: %w", err)
	}
	for range maxAttempts {
		entry, err := v.store.Get(ctx, name)
		if err == nil {
			err = v.store.Delete(ctx, name, entry.Revision)
		}
		switch {
		case err == nil, fault.KindOf(err) == fault.NotFound:
			return nil
		case fault.KindOf(err) != fault.Conflict:
			return fmt.Errorf("drop keys: %w", err)
		}
	}
	return fmt.Errorf("drop keys: %w", errContended)
}

func ensure[P Purpose](ctx context.Context, v *Vault, site string, certify func(*Signer[P]) ([]byte, error)) (*Ring[P], error) {
	what := specOf[P]().name + " keys"
	name, err := ringName(specOf[P](), site)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	r := &Ring[P]{vault: v, name: name, site: site, certify: certify}
	err = r.Refresh(ctx)
	if fault.KindOf(err) == fault.NotFound {
		if err := r.create(ctx); err != nil {
			return nil, fmt.Errorf("create %s: %w", what, err)
		}
		// Read back what the store holds: another replica may have been first.
		err = r.Refresh(ctx)
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// create stores a ring with one key, unless there is one already.
func (r *Ring[P]) create(ctx context.Context) error {
	first, err := r.generate(r.vault.clock())
	if err != nil {
		return err
	}
	sealed, err := r.vault.seal(r.name, &ring{spec: specOf[P](), site: r.site, keys: []key{first}})
	if err != nil {
		return err
	}
	if _, err = r.vault.store.Create(ctx, r.name, sealed); err != nil && fault.KindOf(err) != fault.Conflict {
		return err
	}
	if err == nil {
		r.vault.log.Info("key created", "purpose", specOf[P]().name, "site", r.site, "key", first.id)
	}
	return nil
}

// generate makes a key, and its certificate if the purpose has one.
func (r *Ring[P]) generate(signFrom time.Time) (key, error) {
	k, err := newKey(specOf[P]().algorithm, signFrom)
	if err != nil {
		return key{}, err
	}
	if r.certify != nil {
		if k.certificate, err = r.certify(newSigner[P](specOf[P](), k)); err != nil {
			return key{}, fmt.Errorf("certify key: %w", err)
		}
	}
	return k, nil
}

// Set returns the keys as last read. It never blocks.
func (r *Ring[P]) Set() *Set[P] { return r.set.Load() }

// Site returns the site of a ring that has one.
func (r *Ring[P]) Site() string { return r.site }

// Refresh reads the ring from the store. On an error the last set stays.
func (r *Ring[P]) Refresh(ctx context.Context) error {
	entry, err := r.vault.store.Get(ctx, r.name)
	if err != nil {
		return fmt.Errorf("read %s keys: %w", specOf[P]().name, err)
	}
	if set := r.set.Load(); set != nil && set.revision == entry.Revision {
		return nil
	}
	state, err := r.vault.open(entry, specOf[P](), r.site)
	if err != nil {
		return fmt.Errorf("read %s keys: %w", specOf[P]().name, err)
	}
	r.publish(newSet[P](state, entry.Revision))
	return nil
}

// publish makes set current, unless a later one is.
func (r *Ring[P]) publish(set *Set[P]) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.set.Load()
	if old != nil && old.revision >= set.revision {
		return
	}
	r.set.Store(set)
	if old != nil {
		close(old.replaced)
	}
}

// update applies change to the stored ring, against other writers, and
// publishes the result. change reports whether there is anything to write; it
// may run several times.
func (r *Ring[P]) update(ctx context.Context, change func(*ring) (bool, error)) error {
	for range maxAttempts {
		entry, err := r.vault.store.Get(ctx, r.name)
		if err != nil {
			return err
		}
		state, err := r.vault.open(entry, specOf[P](), r.site)
		if err != nil {
			return err
		}
		changed, err := change(state)
		if err != nil {
			return err
		}
		revision := entry.Revision
		if changed {
			sealed, err := r.vault.seal(r.name, state)
			if err != nil {
				return err
			}
			revision, err = r.vault.store.CompareAndSwap(ctx, r.name, sealed, entry.Revision)
			if fault.KindOf(err) == fault.Conflict {
				continue
			}
			if err != nil {
				return err
			}
		}
		r.publish(newSet[P](state, revision))
		return nil
	}
	return errContended
}

package keys

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// ringPrefix is where rings are kept: rings/<purpose>, or
// rings/<purpose>/<site>.
const ringPrefix = "rings/"

// VaultConfig is what a [Vault] needs; every field is required.
type VaultConfig struct {
	Store   Store
	Keyring *Keyring
	Clock   func() time.Time
	Logger  *slog.Logger
}

// Vault is a store of rings together with the keyring that opens them. It is
// safe for concurrent use.
type Vault struct {
	store Store
	roots *Keyring
	clock func() time.Time
	log   *slog.Logger
}

// OpenVault runs [VerifyRoot] and returns the vault. There is no vault whose
// root key was not verified.
func OpenVault(ctx context.Context, c VaultConfig) (*Vault, error) {
	if c.Store == nil || c.Keyring == nil || c.Clock == nil || c.Logger == nil {
		return nil, errors.New("open vault: a field of the configuration is missing")
	}
	if err := VerifyRoot(ctx, c.Store, c.Keyring); err != nil {
		return nil, err
	}
	return &Vault{store: c.Store, roots: c.Keyring, clock: c.Clock, log: c.Logger}, nil
}

// Info describes one key, for people.
type Info struct {
	Purpose, Site string
	KeyID         string
	Algorithm     Algorithm
	SignFrom      time.Time
	RetireAfter   time.Time // zero: not superseded
	Root          string    // id of the root key that seals it
}

// Inventory lists every key of every ring, by purpose and site, oldest first.
func (v *Vault) Inventory(ctx context.Context) ([]Info, error) {
	entries, err := v.store.List(ctx, ringPrefix)
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	var out []Info
	for _, entry := range entries {
		spec, site, err := ringOf(entry.Name)
		if err != nil {
			return nil, fmt.Errorf("list keys: %w", err)
		}
		r, err := v.open(entry, spec, site)
		if err != nil {
			return nil, fmt.Errorf("list keys: %w", err)
		}
		root, err := SealedRootID(entry.Value)
		if err != nil {
			return nil, fmt.Errorf("list keys: %w", err)
		}
		for _, k := range r.keys {
			out = append(out, Info{
				Purpose: spec.name, Site: site, KeyID: k.id, Algorithm: spec.algorithm,
				SignFrom: k.signFrom, RetireAfter: k.retireAfter, Root: root,
			})
		}
	}
	return out, nil
}

// Reseal seals every entry that is not under the first root anew, and returns
// how many it wrote. When it returns without an error, no entry needs another
// root any more. It can be interrupted and run again.
func (v *Vault) Reseal(ctx context.Context) (int, error) {
	entries, err := v.store.List(ctx, "")
	if err != nil {
		return 0, fmt.Errorf("reseal: %w", err)
	}
	written := 0
	for _, entry := range entries {
		did, err := v.reseal(ctx, entry)
		if err != nil {
			return written, fmt.Errorf("reseal %s: %w", entry.Name, err)
		}
		if did {
			written++
		}
	}
	return written, nil
}

func (v *Vault) reseal(ctx context.Context, entry Entry) (bool, error) {
	for range maxAttempts {
		plaintext, err := v.roots.vault.Open(entry.Value, place(entry.Name))
		if err != nil {
			return false, err
		}
		if !v.roots.vault.Stale(entry.Value) {
			return false, nil
		}
		sealed, err := v.roots.vault.Seal(plaintext, place(entry.Name))
		if err != nil {
			return false, err
		}
		_, err = v.store.CompareAndSwap(ctx, entry.Name, sealed, entry.Revision)
		if err == nil {
			return true, nil
		}
		if fault.KindOf(err) != fault.Conflict {
			return false, err
		}
		// Another replica wrote it; look again at what it is now.
		entry, err = v.store.Get(ctx, entry.Name)
		if fault.KindOf(err) == fault.NotFound {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	return false, errContended
}

// open unseals and decodes the ring in entry.
func (v *Vault) open(entry Entry, spec spec, site string) (*ring, error) {
	plaintext, err := v.roots.vault.Open(entry.Value, place(entry.Name))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", entry.Name, err)
	}
	r, err := decodeRing(spec, site, plaintext)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", entry.Name, err)
	}
	return r, nil
}

// seal encodes and seals a ring for the entry of that name.
func (v *Vault) seal(name string, r *ring) ([]byte, error) {
	plaintext, err := r.encode()
	if err != nil {
		return nil, err
	}
	return v.roots.vault.Seal(plaintext, place(name))
}

// ringName is the store name of a ring.
func ringName(s spec, site string) (string, error) {
	name := ringPrefix + s.name
	if !s.perSite {
		return name, nil
	}
	if strings.Contains(site, "/") {
		return "", fault.Newf(fault.Invalid, "site name %q has a slash", site)
	}
	name += "/" + site
	return name, CheckName(name)
}

// ringOf is the inverse of ringName.
func ringOf(name string) (spec, string, error) {
	purpose, site, hasSite := strings.Cut(strings.TrimPrefix(name, ringPrefix), "/")
	for _, s := range specs() {
		if s.name == purpose && s.perSite == hasSite {
			return s, site, nil
		}
	}
	return spec{}, "", fmt.Errorf("%s: no such purpose", name)
}

package tokensecret

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/issuer"
)

// Store is where the keeper finds accounts and writes secrets. A secret that
// is not there, or is another one than the UID says, is no error: somebody was
// faster.
type Store interface {
	// Account returns the UID of a service account, as the store has it now.
	Account(ctx context.Context, namespace, name string) (uid string, found bool, err error)
	// Modify changes a secret; change may be called again after a conflict,
	// and an error of it is returned as it is.
	Modify(ctx context.Context, namespace, name string, change func(*corev1.Secret) error) error
	// Delete deletes the secret with this UID.
	Delete(ctx context.Context, namespace, name, uid string) error
}

// Config is what a keeper needs. Everything is required.
type Config struct {
	Store Store
	// Signing returns the key that signs legacy tokens now.
	Signing func() crypto.Signer
	// CA returns the PEM of the authority of the API's certificate, which
	// stands beside each token.
	CA  func() ([]byte, error)
	Now func() time.Time
	Log *slog.Logger
}

// Keeper fills the annotated secrets, deletes those of accounts that are gone
// and keeps the label of the last use. Several replicas may do it at once: of
// two that fill a secret one wins, and the other sees that it is filled.
type Keeper struct {
	*Memory
	cfg  Config
	wake chan struct{}

	mu      sync.Mutex // guards pending
	pending map[key]time.Time
}

// again is how soon what failed is tried again.
const again = time.Second

// New returns a keeper on a memory, which it adds to.
func New(m *Memory, cfg Config) (*Keeper, error) {
	if m == nil || cfg.Store == nil || cfg.Signing == nil || cfg.CA == nil || cfg.Now == nil || cfg.Log == nil {
		return nil, errors.New("tokensecret: incomplete configuration")
	}
	k := &Keeper{Memory: m, cfg: cfg, wake: make(chan struct{}, 1), pending: map[key]time.Time{}}
	m.used = func(namespace, name string, now time.Time) { k.queue(key{namespace, name}, now) }
	return k, nil
}

// Replace, Put and Delete are the keeper's feed of secrets.
func (k *Keeper) Replace(secrets []*corev1.Secret) {
	k.Memory.Replace(secrets)
	for _, s := range secrets {
		k.consider(s)
	}
}

// Put adds or changes a secret.
func (k *Keeper) Put(s *corev1.Secret) {
	k.Memory.Put(s)
	k.consider(s)
}

// AccountGone looks again at the secrets of an account that was deleted.
func (k *Keeper) AccountGone(namespace, name string) {
	for _, k2 := range k.of(namespace, name) {
		k.queue(k2, time.Time{})
	}
}

func (k *Keeper) consider(s *corev1.Secret) {
	if s.Type == authn.LegacySecretType {
		k.queue(key{s.Namespace, s.Name}, time.Time{})
	}
}

// queue notes that a secret needs a look; used is the time of a use, or zero.
// The queue holds each secret once, so that it is bounded by their number.
func (k *Keeper) queue(at key, used time.Time) {
	k.mu.Lock()
	if used.After(k.pending[at]) || k.pending[at].IsZero() {
		k.pending[at] = used
	}
	k.mu.Unlock()
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

func (k *Keeper) take() map[key]time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := k.pending
	k.pending = map[key]time.Time{}
	return out
}

// Run works until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.wake:
		}
		failed := map[key]time.Time{}
		for at, used := range k.take() {
			if err := k.tend(ctx, at, used); err != nil && ctx.Err() == nil {
				k.cfg.Log.Warn("secret of a legacy token not kept", "namespace", at.namespace, "name", at.name, "error", err)
				failed[at] = used
			}
		}
		if len(failed) == 0 {
			continue
		}
		timer := time.NewTimer(again)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		for at, used := range failed {
			k.queue(at, used)
		}
	}
}

// tend brings one secret to where it should be.
func (k *Keeper) tend(ctx context.Context, at key, used time.Time) error {
	s, ok := k.get(at)
	if !ok || s.Deleted {
		return nil
	}
	uid, found, err := k.cfg.Store.Account(ctx, at.namespace, s.Account)
	switch {
	case err != nil:
		return err
	case !found, s.AccountUID != "" && s.AccountUID != uid:
		// The account is gone, or is a new one that nobody meant.
		return k.cfg.Store.Delete(ctx, at.namespace, at.name, s.uid)
	}
	err = k.cfg.Store.Modify(ctx, at.namespace, at.name, func(stored *corev1.Secret) error {
		if string(stored.UID) != s.uid || stored.Annotations[corev1.ServiceAccountNameKey] != s.Account {
			return errUnchanged
		}
		if u := stored.Annotations[corev1.ServiceAccountUIDKey]; u != "" && u != uid {
			return errUnchanged // the watch will bring it, and it will be deleted
		}
		return k.complete(ctx, stored, s.Account, uid, used)
	})
	if errors.Is(err, errUnchanged) {
		return nil
	}
	return err
}

var errUnchanged = errors.New("the secret is as it should be")

// complete fills in what is missing, or returns errUnchanged.
func (k *Keeper) complete(ctx context.Context, s *corev1.Secret, account, uid string, used time.Time) error {
	changed := false
	if !used.IsZero() && s.Labels[authn.LabelLegacyLastUsed] < day(used) {
		if s.Labels == nil {
			s.Labels = map[string]string{}
		}
		s.Labels[authn.LabelLegacyLastUsed] = day(used)
		changed = true
	}
	if s.Immutable != nil && *s.Immutable {
		// Only labels of an immutable secret can change; one that was made
		// immutable before it was filled stays without a token.
		return unchangedUnless(changed)
	}
	if s.Annotations[corev1.ServiceAccountUIDKey] != uid {
		s.Annotations[corev1.ServiceAccountUIDKey] = uid
		changed = true
	}
	if s.Data == nil {
		s.Data = map[string][]byte{}
	}
	if len(s.Data[corev1.ServiceAccountTokenKey]) == 0 {
		token, err := issuer.MintLegacy(ctx, k.cfg.Signing(), s.Namespace, issuer.Ref{Name: account, UID: uid}, s.Name)
		if err != nil {
			return err
		}
		s.Data[corev1.ServiceAccountTokenKey] = []byte(token.Reveal())
		changed = true
	}
	ca, err := k.cfg.CA()
	if err != nil {
		return err
	}
	for name, value := range map[string][]byte{corev1.ServiceAccountRootCAKey: ca, corev1.ServiceAccountNamespaceKey: []byte(s.Namespace)} {
		if !bytes.Equal(s.Data[name], value) {
			s.Data[name] = value
			changed = true
		}
	}
	return unchangedUnless(changed)
}

func unchangedUnless(changed bool) error {
	if !changed {
		return errUnchanged
	}
	return nil
}

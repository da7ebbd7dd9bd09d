package tokensecret

import (
	"context"
	"maps"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/gatehouse-dev/gatehouse/internal/authn"
)

// key names a secret.
type key struct{ namespace, name string }

// Memory holds what authentication asks about secrets: those of bootstrap
// tokens, and those of legacy tokens. It is fed from the watch and safe for
// concurrent use. It implements authn.BootstrapTokens and authn.LegacySecrets.
type Memory struct {
	// read asks the store; see NewMemory.
	read func(ctx context.Context, namespace, name string) (*corev1.Secret, bool, error)
	// used is told of legacy tokens whose last use is of another day than
	// their label says.
	used func(namespace, name string, now time.Time)

	mu        sync.RWMutex // guards what follows
	bootstrap map[string]authn.BootstrapSecret
	legacy    map[key]held
}

// held is one secret of a legacy token.
type held struct {
	authn.LegacySecret
	uid, lastUsed string
}

var (
	_ authn.BootstrapTokens = (*Memory)(nil)
	_ authn.LegacySecrets   = (*Memory)(nil)
)

// NewMemory returns an empty memory. read asks the store itself. It is called
// for a legacy token whose secret is not known yet, whose signature was
// verified before: a token can be used before the watch delivered its secret.
func NewMemory(read func(ctx context.Context, namespace, name string) (*corev1.Secret, bool, error)) *Memory {
	return &Memory{read: read, used: func(string, string, time.Time) {}, bootstrap: map[string]authn.BootstrapSecret{}, legacy: map[key]held{}}
}

// Replace sets all secrets.
func (m *Memory) Replace(secrets []*corev1.Secret) {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.bootstrap)
	clear(m.legacy)
	for _, s := range secrets {
		m.put(s)
	}
}

// Put adds or changes a secret.
func (m *Memory) Put(s *corev1.Secret) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.put(s)
}

// Delete forgets a secret; its token ends at once.
func (m *Memory) Delete(s *corev1.Secret) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drop(s)
}

func (m *Memory) drop(s *corev1.Secret) {
	delete(m.legacy, key{s.Namespace, s.Name})
	if id, ok := bootstrapID(s); ok {
		delete(m.bootstrap, id)
	}
}

// put keeps a secret of a type that matters, and nothing of any other: what
// is not in memory cannot leak from it.
func (m *Memory) put(s *corev1.Secret) {
	m.drop(s)
	switch s.Type {
	case authn.BootstrapSecretType:
		if id, ok := bootstrapID(s); ok {
			m.bootstrap[id] = authn.BootstrapSecret{Type: string(s.Type), Deleted: s.DeletionTimestamp != nil, Data: maps.Clone(s.Data)}
		}
	case authn.LegacySecretType:
		m.legacy[key{s.Namespace, s.Name}] = hold(s)
	}
}

func bootstrapID(s *corev1.Secret) (string, bool) {
	id, ok := strings.CutPrefix(s.Name, authn.BootstrapSecretPrefix)
	return id, ok && s.Namespace == bootstrapNamespace
}

// bootstrapNamespace is the only one whose secrets are bootstrap tokens.
const bootstrapNamespace = "kube-system"

func hold(s *corev1.Secret) held {
	return held{
		LegacySecret: authn.LegacySecret{
			Type:         string(s.Type),
			Account:      s.Annotations[corev1.ServiceAccountNameKey],
			AccountUID:   s.Annotations[corev1.ServiceAccountUIDKey],
			InvalidSince: s.Labels[authn.LabelLegacyInvalidSince],
			Deleted:      s.DeletionTimestamp != nil,
			Token:        s.Data[corev1.ServiceAccountTokenKey],
		},
		uid:      string(s.UID),
		lastUsed: s.Labels[authn.LabelLegacyLastUsed],
	}
}

// BootstrapSecret implements authn.BootstrapTokens. A token whose secret the
// watch has not delivered yet is refused: asking the store would let whoever
// guesses ids make it work.
func (m *Memory) BootstrapSecret(_ context.Context, id string) (authn.BootstrapSecret, bool, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	s, ok := m.bootstrap[id]
	return s, ok, nil
}

// LegacySecret implements authn.LegacySecrets.
func (m *Memory) LegacySecret(ctx context.Context, namespace, name string) (authn.LegacySecret, bool, error) {
	m.mu.RLock()
	s, ok := m.legacy[key{namespace, name}]
	m.mu.RUnlock()
	if ok && len(s.Token) > 0 {
		return s.LegacySecret, true, nil
	}
	stored, found, err := m.read(ctx, namespace, name)
	if err != nil || !found {
		return authn.LegacySecret{}, false, err
	}
	return hold(stored).LegacySecret, true, nil
}

// Used implements authn.LegacySecrets: it passes on the first use of a day.
func (m *Memory) Used(namespace, name string, now time.Time) {
	m.mu.RLock()
	s := m.legacy[key{namespace, name}]
	m.mu.RUnlock()
	if s.lastUsed != day(now) {
		m.used(namespace, name, now)
	}
}

// day is the form of the labels.
func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// get returns what is held of a secret.
func (m *Memory) get(k key) (held, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	s, ok := m.legacy[k]
	return s, ok
}

// of returns the secrets of an account.
func (m *Memory) of(namespace, account string) []key {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var out []key
	for k, s := range m.legacy {
		if k.namespace == namespace && s.Account == account {
			out = append(out, k)
		}
	}
	return out
}

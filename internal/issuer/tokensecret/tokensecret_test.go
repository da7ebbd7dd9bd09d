package tokensecret

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"log/slog"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/gatehouse-dev/gatehouse/internal/authn"
)

// store is a Store in memory, which tells its keeper what changed.
type store struct {
	keeper   *Keeper
	accounts map[string]string
	secrets  map[string]*corev1.Secret
	writes   int
	failures int // how many calls fail before the next one works
}

func (s *store) fails() error {
	if s.failures > 0 {
		s.failures--
		return errors.New("etcd is away")
	}
	return nil
}

func (s *store) Account(_ context.Context, namespace, name string) (string, bool, error) {
	uid, ok := s.accounts[namespace+"/"+name]
	return uid, ok, s.fails()
}

func (s *store) Modify(_ context.Context, namespace, name string, change func(*corev1.Secret) error) error {
	stored, ok := s.secrets[namespace+"/"+name]
	if !ok {
		return nil
	}
	next := stored.DeepCopy()
	if err := change(next); err != nil {
		return err
	}
	s.writes++
	s.put(next)
	return nil
}

func (s *store) Delete(_ context.Context, namespace, name, uid string) error {
	if stored, ok := s.secrets[namespace+"/"+name]; ok && string(stored.UID) == uid {
		delete(s.secrets, namespace+"/"+name)
		s.keeper.Delete(stored)
	}
	return nil
}

func (s *store) put(secret *corev1.Secret) {
	s.secrets[secret.Namespace+"/"+secret.Name] = secret
	s.keeper.Put(secret)
}

func (s *store) read(_ context.Context, namespace, name string) (*corev1.Secret, bool, error) {
	secret, ok := s.secrets[namespace+"/"+name]
	return secret, ok, nil
}

// world runs a test with a keeper at work, in a bubble of its own time.
func world(t *testing.T, test func(t *testing.T, s *store)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		s := &store{accounts: map[string]string{"ns/app": "app-1"}, secrets: map[string]*corev1.Secret{}}
		s.keeper, err = New(NewMemory(s.read), Config{
			Store: s, Signing: func() crypto.Signer { return key }, CA: func() ([]byte, error) { return []byte("CA"), nil },
			Now: time.Now, Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); s.keeper.Run(ctx) }()
		test(t, s)
		cancel()
		<-done
	})
}

func annotated(name, account string) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("uid-" + name), Annotations: map[string]string{corev1.ServiceAccountNameKey: account}},
		Type:       corev1.SecretTypeServiceAccountToken,
	}
}

func TestAnnotatedSecretIsFilled(t *testing.T) {
	world(t, func(t *testing.T, s *store) {
		s.failures = 2
		s.put(annotated("app-token", "app"))
		plain := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "plain", Annotations: map[string]string{corev1.ServiceAccountNameKey: "app"}}, Type: corev1.SecretTypeOpaque}
		s.put(plain)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		got := s.secrets["ns/app-token"]
		if strings.Count(string(got.Data["token"]), ".") != 2 || string(got.Data["ca.crt"]) != "CA" || string(got.Data["namespace"]) != "ns" || got.Annotations[corev1.ServiceAccountUIDKey] != "app-1" {
			t.Fatalf("filled: %v %q", got.Annotations, got.Data)
		}
		if s.writes != 1 || len(plain.Data) != 0 {
			t.Errorf("%d writes, other secret %v", s.writes, plain.Data)
		}
		held, found, err := s.keeper.LegacySecret(t.Context(), "ns", "app-token")
		if err != nil || !found || held.Account != "app" || held.AccountUID != "app-1" || string(held.Token) != string(got.Data["token"]) {
			t.Errorf("asked: %+v %v %v", held, found, err)
		}
		// Whoever takes the token out gets another one.
		empty := got.DeepCopy()
		delete(empty.Data, "token")
		s.put(empty)
		synctest.Wait()
		if again := s.secrets["ns/app-token"].Data["token"]; len(again) == 0 || string(again) == string(got.Data["token"]) {
			t.Errorf("filled again: %q", again)
		}
	})
}

func TestSecretEndsWithItsAccount(t *testing.T) {
	world(t, func(t *testing.T, s *store) {
		s.put(annotated("app-token", "app"))
		s.put(annotated("orphan", "nobody"))
		synctest.Wait()
		if s.secrets["ns/orphan"] != nil || s.secrets["ns/app-token"] == nil {
			t.Fatalf("kept: %v", maps.Keys(s.secrets))
		}
		// A new account of the same name is somebody else.
		s.accounts["ns/app"] = "app-2"
		s.keeper.AccountGone("ns", "app")
		synctest.Wait()
		if s.secrets["ns/app-token"] != nil {
			t.Error("the secret of a deleted account is still there")
		}
		if _, found, _ := s.keeper.LegacySecret(t.Context(), "ns", "app-token"); found {
			t.Error("its token is still accepted")
		}
	})
}

func TestLastUse(t *testing.T) {
	world(t, func(t *testing.T, s *store) {
		s.put(annotated("app-token", "app"))
		synctest.Wait()
		filled := s.writes
		use := func(want string, writes int) {
			t.Helper()
			for range 3 {
				s.keeper.Used("ns", "app-token", time.Now())
			}
			synctest.Wait()
			if got := s.secrets["ns/app-token"].Labels[authn.LabelLegacyLastUsed]; got != want || s.writes != filled+writes {
				t.Errorf("last used %q after %d writes, want %q after %d", got, s.writes-filled, want, writes)
			}
		}
		use("2000-01-01", 1)
		time.Sleep(time.Hour)
		use("2000-01-01", 1)
		time.Sleep(23 * time.Hour)
		use("2000-01-02", 2)
		// An immutable secret takes the label and nothing else.
		frozen := s.secrets["ns/app-token"].DeepCopy()
		frozen.Immutable, frozen.Data = new(bool), map[string][]byte{"token": frozen.Data["token"]}
		*frozen.Immutable = true
		s.put(frozen)
		time.Sleep(24 * time.Hour)
		use("2000-01-03", 3)
		if len(s.secrets["ns/app-token"].Data) != 1 {
			t.Error("an immutable secret was changed")
		}
	})
}

func TestMemory(t *testing.T) {
	t.Parallel()
	reads := 0
	m := NewMemory(func(context.Context, string, string) (*corev1.Secret, bool, error) { reads++; return nil, false, nil })
	joining := func(namespace, name string, kind corev1.SecretType) *corev1.Secret {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Type: kind, Data: map[string][]byte{"token-id": []byte("abcdef")}}
	}
	good := joining("kube-system", "bootstrap-token-abcdef", authn.BootstrapSecretType)
	found := func() bool {
		t.Helper()
		_, ok, err := m.BootstrapSecret(t.Context(), "abcdef")
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	m.Put(good)
	if !found() {
		t.Error("the token is not known")
	}
	// Another type makes it no token; another namespace or name never was one.
	m.Put(joining("kube-system", "bootstrap-token-abcdef", corev1.SecretTypeOpaque))
	m.Put(joining("default", "bootstrap-token-abcdef", authn.BootstrapSecretType))
	m.Put(joining("kube-system", "abcdef", authn.BootstrapSecretType))
	if found() {
		t.Error("a secret that is no bootstrap token is one")
	}
	m.Replace([]*corev1.Secret{good})
	if !found() {
		t.Error("the token is not known after a new list")
	}
	m.Delete(good)
	if found() || reads != 0 {
		t.Errorf("a deleted token is known, or the store was asked (%d)", reads)
	}
	if _, found, err := m.LegacySecret(t.Context(), "ns", "gone"); found || err != nil || reads != 1 {
		t.Errorf("found %v, %v after %d reads", found, err, reads)
	}
	if _, err := New(m, Config{}); err == nil {
		t.Error("an incomplete configuration was accepted")
	}
}

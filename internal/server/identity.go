package server

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/retry"

	identityapi "github.com/gatehouse-dev/gatehouse/api/identity/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/authn/accesskey"
	"github.com/gatehouse-dev/gatehouse/internal/authn/crl"
	"github.com/gatehouse-dev/gatehouse/internal/authn/jws"
	"github.com/gatehouse-dev/gatehouse/internal/config"
	"github.com/gatehouse-dev/gatehouse/internal/issuer"
	"github.com/gatehouse-dev/gatehouse/internal/issuer/sitetoken"
	"github.com/gatehouse-dev/gatehouse/internal/issuer/tokensecret"
	"github.com/gatehouse-dev/gatehouse/internal/keys"
	"github.com/gatehouse-dev/gatehouse/internal/kubeapi"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// identityConfig is what the credentials of the control plane need.
type identityConfig struct {
	config  config.Authentication
	vault   *keys.Vault
	trust   *trust
	issuer  *issuer.Issuer
	objects *objects
	sites   authn.SiteObjects
	bans    *authn.Bans
	now     func() time.Time
	log     *slog.Logger
}

// identity is who may be calling, and what keeps that current.
type identity struct {
	identityConfig
	chain  *authn.Chain
	index  *authn.Index
	memory *tokensecret.Memory
	// accessKeys are fed by accessKeys of accesskeys.go.
	accessKeys *accesskey.Memory
	keeper     *tokensecret.Keeper // nil before follow
	// legacy are the keys of tokens in secrets, which verify nothing else.
	legacy     *keys.Ring[keys.LegacyTokens]
	legacyKeys *authn.KeyRing
	providers  *providers
	siteTokens *siteTokens
	certs      clientTrust
}

func openIdentity(ctx context.Context, c identityConfig) (*identity, error) {
	i := &identity{identityConfig: c, accessKeys: accesskey.NewMemory()}
	i.index = authn.NewIndex(func(ctx context.Context, k authn.ObjectKey) (authn.ObjectState, bool, error) {
		return c.objects.state(ctx, k)
	})
	i.memory = tokensecret.NewMemory(c.objects.secret)
	var err error
	if i.legacy, err = keys.Ensure[keys.LegacyTokens](ctx, c.vault); err != nil {
		return nil, err
	}
	if i.legacyKeys, err = authn.NewKeyRing(); err != nil {
		return nil, err
	}
	if err := i.applyLegacyKeys(i.legacy.Set(), c.now()); err != nil {
		return nil, err
	}
	i.certs = clientTrust{config: c.config, trust: c.trust, lists: crl.New(c.now), log: c.log}
	i.chain, err = authn.New(authn.Config{
		Revoked:   i.certs.lists.Revoked,
		Audiences: []string{apiAudience}, Issuers: []authn.TrustedIssuer{c.issuer.Trusted()}, Objects: i.index, Sites: c.sites,
		Bans:            c.bans,
		AccessKeys:      i.accessKeys,
		BootstrapTokens: i.memory, Legacy: &authn.LegacyTokens{Keys: i.legacyKeys, Secrets: i.memory}, Now: c.now,
	})
	if err != nil {
		return nil, err
	}
	if _, err := i.certs.apply(i.chain); err != nil {
		return nil, err
	}
	i.siteTokens = &siteTokens{&sitetoken.Signer{
		Issuer: c.issuer.URL(), MaxLifetime: c.issuer.MaxLifetime(), Schedule: siteKeySchedule(c.issuer.MaxLifetime()),
		Ring: func(ctx context.Context, site string) (*keys.Ring[keys.SiteTokens], error) {
			return keys.EnsureForSite[keys.SiteTokens](ctx, c.vault, site)
		},
		Drop: func(ctx context.Context, site string) error {
			return keys.DropForSite[keys.SiteTokens](ctx, c.vault, site)
		},
		Now: c.now, Log: c.log,
	}}
	if i.providers, err = newProviders(i); err != nil {
		return nil, err
	}
	return i, i.applyProxies()
}

// applyLegacyKeys puts the keys of tokens in secrets into force.
func (i *identity) applyLegacyKeys(set *keys.Set[keys.LegacyTokens], now time.Time) error {
	var list []*jws.Key
	for _, v := range set.Verifiers(now) {
		key, err := jws.NewKey(v.KeyID(), jws.ES256, v.Public())
		if err != nil {
			return fmt.Errorf("legacy token keys: %w", err)
		}
		list = append(list, key)
	}
	return i.legacyKeys.Replace(list)
}

// applyProxies tells the chain which proxies may speak for others.
func (i *identity) applyProxies() error {
	pool, err := i.trust.requestHeader.Pool()
	if err != nil {
		return fmt.Errorf("request header authority: %w", err)
	}
	return i.setProxies(pool)
}

// proxyCAs is the PEM of the configured authorities of proxies.
func (i *identity) proxyCAs() ([]byte, error) {
	file := i.config.RequestHeader.ClientCAFile
	if file == "" {
		return nil, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("authorities of proxies: %w", err)
	}
	return data, nil
}

func (i *identity) setProxies(own *x509.CertPool) error {
	h := i.config.RequestHeader
	pool := own.Clone()
	data, err := i.proxyCAs()
	if err != nil {
		return err
	}
	if h.ClientCAFile != "" && !pool.AppendCertsFromPEM(data) {
		return fmt.Errorf("authorities of proxies: %s holds no certificate", h.ClientCAFile)
	}
	i.chain.SetProxyCAs(pool, h.AllowedNames)
	return nil
}

// follow feeds what credentials depend on.
func (i *identity) follow(ctx context.Context, flow *follower, client kubernetes.Interface) error {
	var err error
	i.keeper, err = tokensecret.New(i.memory, tokensecret.Config{
		Store:   secretStore{client},
		Signing: func() crypto.Signer { return i.legacy.Set().Signer(i.now()) },
		CA:      i.trust.serving.BundlePEM,
		Now:     i.now, Log: i.log,
	})
	if err != nil {
		return err
	}
	flow.follow(ctx, serviceAccounts, &bound{index: i.index, kind: authn.ServiceAccountObject})
	flow.follow(ctx, pods, &bound{index: i.index, kind: authn.PodObject})
	flow.follow(ctx, secrets, &bound{index: i.index, kind: authn.SecretObject})
	flow.follow(ctx, nodes, &bound{index: i.index, kind: authn.NodeObject})
	flow.follow(ctx, sites, &bound{index: i.index, kind: authn.SiteObject})
	flow.follow(ctx, secrets, typed[*corev1.Secret]{i.keeper})
	flow.follow(ctx, serviceAccounts, goneAccounts{i.keeper})
	flow.follow(ctx, identityProviders, typed[*identityapi.IdentityProvider]{i.providers})
	return nil
}

// run keeps keys and secrets current.
func (i *identity) run(ctx context.Context, w *work, frame *kubeapi.Frame) {
	w.start("legacy token keys", func() error { return i.legacy.Follow(ctx, i.applyLegacyKeys) })
	w.start("token secrets", func() error { i.keeper.Run(ctx); return nil })
	w.start("client certificate trust", func() error { return i.certs.follow(ctx, i.chain) })
	w.start("proxy trust", func() error { return i.trust.requestHeader.Follow(ctx, i.setProxies) })
	w.start("authentication configuration", func() error { return i.providers.followFile(ctx) })
	w.start("identity provider status", func() error { return i.providers.report(ctx, frame) })
	w.start("keys of site tokens", func() error { i.siteTokens.Run(ctx); return nil })
	w.start("token memory", func() error { return sweep(ctx, i.chain) })
}

// refreshers read keys again that another replica may have changed.
func (i *identity) refreshers() []func(context.Context) error {
	return []func(context.Context) error{i.legacy.Refresh, i.siteTokens.Refresh}
}

// note puts what the record and the caller should know of a credential where
// the frame takes it from.
func (i *identity) note(ctx context.Context, id authn.Identity) {
	for key, value := range id.Annotations(i.now()) {
		kubeapi.Annotate(ctx, key, value)
	}
	for _, text := range id.Warnings() {
		kubeapi.Warn(ctx, text)
	}
}

// goneAccounts tells the keeper of secrets which accounts were deleted.
type goneAccounts struct{ keeper *tokensecret.Keeper }

func (g goneAccounts) Replace([]resource.Object) error { return nil }
func (g goneAccounts) Put(resource.Object) error       { return nil }

func (g goneAccounts) Delete(o resource.Object) error {
	g.keeper.AccountGone(o.GetNamespace(), o.GetName())
	return nil
}

// secret reads one secret past every cache.
func (o *objects) secret(ctx context.Context, namespace, name string) (*corev1.Secret, bool, error) {
	obj, err := o.frame.Get(ctx, secrets, namespace, name)
	if apierrors.IsNotFound(err) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	return obj.(*corev1.Secret), true, nil
}

// secretStore is the store of the keeper. It writes through the API, so that
// every token in a secret is on record.
type secretStore struct{ client kubernetes.Interface }

var _ tokensecret.Store = secretStore{}

func (s secretStore) Account(ctx context.Context, namespace, name string) (string, bool, error) {
	sa, err := s.client.CoreV1().ServiceAccounts(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	return string(sa.UID), true, nil
}

func (s secretStore) Modify(ctx context.Context, namespace, name string, change func(*corev1.Secret) error) error {
	var refused error
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		refused = nil
		secret, err := s.client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if refused = change(secret); refused != nil {
			return nil
		}
		_, err = s.client.CoreV1().Secrets(namespace).Update(ctx, secret, metav1.UpdateOptions{})
		return err
	})
	if apierrors.IsNotFound(err) {
		err = nil
	}
	return errors.Join(err, refused)
}

func (s secretStore) Delete(ctx context.Context, namespace, name, uid string) error {
	id := types.UID(uid)
	err := s.client.CoreV1().Secrets(namespace).Delete(ctx, name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &id}})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}

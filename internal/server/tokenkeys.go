package server

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/netutil"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	identityapi "github.com/gatehouse-dev/gatehouse/api/identity/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/config"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/issuer"
	"github.com/gatehouse-dev/gatehouse/internal/keys"
	"github.com/gatehouse-dev/gatehouse/internal/pki"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// tokenKeyLead is how long a new key is published before it signs, when nobody
// asks for another time: verifiers keep a key set for an hour.
const tokenKeyLead = 2 * time.Hour

// tokenSchedule rotates the token keys each quarter. A new key is published
// well before it signs, an old one verifies until its last token has ended.
func tokenSchedule(longest time.Duration) keys.Schedule {
	return keys.Schedule{Every: 90 * 24 * time.Hour, Lead: tokenKeyLead, Keep: max(longest, 24*time.Hour)}
}

// neverRetired keeps the keys of tokens that never expire.
const neverRetired = 100 * 365 * 24 * time.Hour

// longestToken is the longest life that any token of this control plane was
// ever given: a cap that was lowered does not shorten what was minted before,
// and no key may be retired that such a token needs.
func longestToken(ctx context.Context, cfg config.Config, settings keys.Store) (time.Duration, error) {
	const name = "longest-token"
	current := cfg.MaxTokenAge()
	for {
		value, err := json.Marshal(int64(current / time.Second))
		if err != nil {
			return 0, err
		}
		if _, err := settings.Create(ctx, name, value); err == nil {
			return current, nil
		} else if fault.KindOf(err) != fault.Conflict {
			return 0, fmt.Errorf("write the longest life of tokens: %w", err)
		}
		e, err := settings.Get(ctx, name)
		if err != nil {
			return 0, fmt.Errorf("read the longest life of tokens: %w", err)
		}
		var seconds int64
		if err := json.Unmarshal(e.Value, &seconds); err != nil || seconds <= 0 {
			return 0, fmt.Errorf("the longest life of tokens: %q is no number of seconds", e.Value)
		}
		stored := time.Duration(seconds) * time.Second
		if stored >= current {
			return stored, nil
		}
		if _, err := settings.CompareAndSwap(ctx, name, value, e.Revision); err == nil {
			return current, nil
		} else if fault.KindOf(err) != fault.Conflict {
			return 0, fmt.Errorf("write the longest life of tokens: %w", err)
		}
	}
}

// tokenKeys rotates the keys of tokens by command.
type tokenKeys struct {
	tokens *keys.Ring[keys.Tokens]
	legacy *keys.Ring[keys.LegacyTokens]
	// keep is the longest life of a token.
	keep time.Duration
	now  func() time.Time
}

func (k tokenKeys) rotate(ctx context.Context, _ resource.Caller, spec *identityapi.TokenKeyRotationSpec) (identityapi.TokenKeyRotationStatus, error) {
	schedule := keys.Schedule{Lead: tokenKeyLead, Keep: k.keep}
	if s := spec.LeadSeconds; s != nil {
		schedule.Lead = time.Duration(*s) * time.Second
	}
	if spec.Use == identityapi.UseLegacyTokens {
		schedule.Keep = neverRetired
		return rotateRing(ctx, k.legacy, schedule, k.now())
	}
	return rotateRing(ctx, k.tokens, schedule, k.now())
}

func rotateRing[P keys.Purpose](ctx context.Context, ring *keys.Ring[P], schedule keys.Schedule, now time.Time) (identityapi.TokenKeyRotationStatus, error) {
	if err := ring.Rotate(ctx, schedule); err != nil {
		return identityapi.TokenKeyRotationStatus{}, err
	}
	var out identityapi.TokenKeyRotationStatus
	for _, v := range ring.Set().Verifiers(now) {
		key := identityapi.TokenKey{KeyID: v.KeyID(), SignsFrom: metav1.NewTime(v.SignFrom())}
		if end := v.RetireAfter(); !end.IsZero() {
			until := metav1.NewTime(end)
			key.VerifiesUntil = &until
		}
		out.KeyID, out.Keys = key.KeyID, append(out.Keys, key)
	}
	return out, nil
}

// Bounds of the listener of public keys: anybody can reach it.
const (
	discoveryHeaders = 8 << 10
	discoveryTimeout = 5 * time.Second
	discoveryAtOnce  = 256
)

// serveDiscovery serves the documents of the issuer, and nothing else, to
// anybody.
func serveDiscovery(ctx context.Context, listener net.Listener, iss *issuer.Issuer, serving *pki.Serving, log *slog.Logger) error {
	mux := http.NewServeMux()
	mux.Handle(issuer.DiscoveryPath, discoveryDocument(iss))
	mux.Handle(issuer.KeySetPath, keySetDocument(iss))
	srv := &http.Server{
		Handler: mux, TLSConfig: pki.ServerTLS(serving), MaxHeaderBytes: discoveryHeaders,
		ReadTimeout: discoveryTimeout, WriteTimeout: discoveryTimeout, IdleTimeout: 4 * discoveryTimeout,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		HTTP2:    &http.HTTP2Config{MaxConcurrentStreams: 16},
	}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	log.Info("keys of tokens are public", "address", listener.Addr().String())
	if err := srv.ServeTLS(netutil.LimitListener(listener, discoveryAtOnce), "", ""); ctx.Err() == nil {
		return fmt.Errorf("serve keys of tokens: %w", err)
	}
	return nil
}

func discoveryDocument(iss *issuer.Issuer) http.Handler {
	return serveDocument(issuer.DiscoveryType, func() ([]byte, error) { d, err := iss.Documents(); return d.Discovery, err })
}

func keySetDocument(iss *issuer.Issuer) http.Handler {
	return serveDocument(issuer.KeySetType, func() ([]byte, error) { d, err := iss.Documents(); return d.KeySet, err })
}

// discoveryListener opens the listener of public keys, if one is configured.
func discoveryListener(cfg config.Config) (net.Listener, error) {
	address := cfg.DiscoveryListen()
	if address == "" {
		return nil, nil
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for keys of tokens: %w", err)
	}
	return l, nil
}

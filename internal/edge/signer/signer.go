// Package signer answers a stock kube-apiserver that has its service-account
// tokens signed elsewhere (k8s.io/externaljwt, v1.ExternalJWTSigner): it passes
// each token on to the site's doors of the control plane.
//
// It owns: the service on the socket, and the last known public keys, so that
// tokens go on verifying while the control plane is away. It refuses: to hold a
// private key, and to sign for another issuer than the site's. Start at [New].
package signer

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gatehouse-dev/gatehouse/internal/fastlane/signwire"
)

// Config is what a signer needs.
type Config struct {
	// Server is the https URL of the control plane, Site the name of the site.
	Server, Site string
	// Client shows the certificate of the site.
	Client *http.Client
	// Refresh is how often kube-apiserver asks for keys. 0 means 10 seconds.
	Refresh time.Duration
	Log     *slog.Logger
}

// Signer is the service; [Signer.Methods] puts it on a socket. It is safe for
// concurrent use.
type Signer struct {
	cfg  Config
	base string

	mu   sync.Mutex // guards last
	last *signwire.KeysResponse
}

// Bounds on what is asked and read.
const (
	defaultRefresh = 10 * time.Second
	askTimeout     = 5 * time.Second
	maxAnswer      = 1 << 20
	maxClaims      = 48 << 10
)

// New checks the configuration; it reaches for no network.
func New(cfg Config) (*Signer, error) {
	if !strings.HasPrefix(cfg.Server, "https://") || cfg.Site == "" || cfg.Client == nil || cfg.Log == nil {
		return nil, errors.New("signer: an https URL, a site, a client and a log are required")
	}
	if cfg.Refresh == 0 {
		cfg.Refresh = defaultRefresh
	}
	if cfg.Refresh < time.Second {
		return nil, errors.New("signer: keys can be refreshed once a second at most")
	}
	return &Signer{cfg: cfg, base: strings.TrimSuffix(cfg.Server, "/") + "/sites/" + cfg.Site + "/"}, nil
}

// sign has the claims signed by the control plane.
func (s *Signer) sign(ctx context.Context, claims string) (*signwire.SignResponse, error) {
	if len(claims) > maxClaims {
		return nil, status.Error(codes.InvalidArgument, "the claims are too large")
	}
	// What another issuer would vouch for is refused here already, where its
	// sender finds the reason.
	if known := s.known(); known != nil {
		if err := checkIssuer(claims, known.Issuer); err != nil {
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}
	}
	out := &signwire.SignResponse{}
	if err := s.post(ctx, "sign", signwire.SignRequest{Claims: claims}, out); err != nil {
		return nil, err
	}
	return out, nil
}

func checkIssuer(claims, issuer string) error {
	raw, err := base64.RawURLEncoding.DecodeString(claims)
	if err != nil {
		return errors.New("the claims are not base64url")
	}
	var c struct {
		Issuer string `json:"iss"`
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return errors.New("the claims are not JSON")
	}
	if c.Issuer != issuer {
		return fmt.Errorf("iss is %.200q; start kube-apiserver with --service-account-issuer=%s", c.Issuer, issuer)
	}
	return nil
}

// Issuer asks for the iss that the site's tokens must have.
func (s *Signer) Issuer(ctx context.Context) (string, error) {
	set, err := s.keys(ctx)
	if err != nil {
		return "", err
	}
	return set.Issuer, nil
}

func (s *Signer) known() *signwire.KeysResponse {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// keys returns the site's keys, or those last known while the control plane is
// away; their time tells.
func (s *Signer) keys(ctx context.Context) (*signwire.KeysResponse, error) {
	set := &signwire.KeysResponse{}
	err := s.post(ctx, "keys", struct{}{}, set)
	if err == nil && (len(set.Keys) == 0 || set.MaxLifetimeSeconds <= 0 || set.Issuer == "") {
		err = status.Error(codes.Internal, "the control plane answered without keys")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.last = set
		return set, nil
	}
	if s.last != nil && status.Code(err) == codes.Unavailable {
		s.cfg.Log.Warn("control plane is away; keys last known are used", "error", err, "known", s.last.At)
		return s.last, nil
	}
	return nil, err
}

// post asks one door. Errors carry the gRPC code that fits.
func (s *Signer) post(ctx context.Context, door string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	body, err := json.Marshal(in)
	if err != nil {
		return status.Error(codes.Internal, "the question cannot be written")
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.base+door, bytes.NewReader(body))
	if err != nil {
		return status.Error(codes.Internal, "the URL of the control plane is not one")
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := s.cfg.Client.Do(request)
	if err != nil {
		s.cfg.Log.Warn("control plane does not answer", "door", door, "error", err)
		return status.Error(codes.Unavailable, "the control plane does not answer")
	}
	defer func() { _ = response.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return status.Error(codes.Unavailable, "the control plane's answer broke off")
	}
	if response.StatusCode != http.StatusOK {
		return refused(response.StatusCode, data)
	}
	if err := json.Unmarshal(data, out); err != nil {
		return status.Error(codes.Internal, "the control plane's answer is not JSON")
	}
	return nil
}

// refused passes on why the control plane said no.
func refused(code int, body []byte) error {
	var answer struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(body, &answer) != nil || answer.Message == "" {
		answer.Message = http.StatusText(code)
	}
	text := fmt.Sprintf("the control plane says: %.300s", answer.Message)
	switch {
	case code == http.StatusBadRequest || code == http.StatusRequestEntityTooLarge:
		return status.Error(codes.InvalidArgument, text)
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		return status.Error(codes.PermissionDenied, text)
	case code == http.StatusTooManyRequests || code >= http.StatusInternalServerError:
		return status.Error(codes.Unavailable, text)
	}
	return status.Error(codes.Internal, text)
}

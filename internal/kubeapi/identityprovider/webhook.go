package identityprovider

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// WebhookConfig is one token webhook.
type WebhookConfig struct {
	// URL is where reviews are posted to.
	URL string
	// CertificateAuthority is PEM; empty means the authorities of the system.
	CertificateAuthority string
	// Issuers are the iss claims of the tokens it is asked about; none means
	// opaque tokens.
	Issuers []string
	// UsernamePrefix and GroupPrefix go before what it says.
	UsernamePrefix, GroupPrefix string
	// Fetching rules where it may be.
	Fetching Fetching
}

// Webhook asks another party about tokens, with TokenReviews. It implements
// authn.Provider.
type Webhook struct {
	cfg    WebhookConfig
	client *http.Client
}

// NewWebhook returns the provider of one webhook. It fails on a configuration
// that is not valid, not on a webhook that is away.
func NewWebhook(cfg WebhookConfig) (*Webhook, error) {
	roots, err := rootsOf(cfg.CertificateAuthority)
	if err != nil {
		return nil, err
	}
	return &Webhook{cfg: cfg, client: cfg.Fetching.client(roots)}, nil
}

// Issuers returns the iss claims of the tokens it is asked about.
func (w *Webhook) Issuers() []string { return w.cfg.Issuers }

// Close gives back what the provider holds open.
func (w *Webhook) Close() { w.client.CloseIdleConnections() }

var errWebhook = "the token webhook does not answer"

// VerifyToken implements authn.Provider. An answer without audiences comes from
// a webhook that does not know of them: its tokens are for the control plane
// alone.
func (w *Webhook) VerifyToken(ctx context.Context, token string, audiences []string) (authn.Claimed, error) {
	status, err := w.ask(ctx, token, audiences)
	if err != nil {
		return authn.Claimed{}, fault.Wrap(fault.Unavailable, errWebhook, err)
	}
	if !status.Authenticated {
		return authn.Claimed{}, fault.Wrap(fault.Unauthenticated, "invalid token", fmt.Errorf("the webhook says: %.200q", status.Error))
	}
	out := authn.Claimed{UID: status.User.UID}
	if status.User.Username != "" {
		out.Name = w.cfg.UsernamePrefix + status.User.Username
	}
	for _, group := range status.User.Groups {
		// Everybody who signs in is in this group; saying so claims nothing.
		if group != "system:authenticated" {
			out.Groups = append(out.Groups, w.cfg.GroupPrefix+group)
		}
	}
	for key, values := range status.User.Extra {
		if key == authn.ExtraCredentialID {
			if len(values) == 1 {
				out.CredentialID = values[0]
			}
			continue
		}
		if out.Extra == nil {
			out.Extra = map[string][]string{}
		}
		out.Extra[key] = values
	}
	for _, audience := range status.Audiences {
		if slices.Contains(audiences, audience) {
			out.Audiences = append(out.Audiences, audience)
		}
	}
	if len(status.Audiences) > 0 && len(out.Audiences) == 0 {
		return authn.Claimed{}, fault.New(fault.Unauthenticated, "the webhook accepts the token for other audiences")
	}
	return out, nil
}

func (w *Webhook) ask(ctx context.Context, token string, audiences []string) (*authenticationv1.TokenReviewStatus, error) {
	body, err := json.Marshal(&authenticationv1.TokenReview{
		TypeMeta: metav1.TypeMeta{APIVersion: authenticationv1.SchemeGroupVersion.String(), Kind: "TokenReview"},
		Spec:     authenticationv1.TokenReviewSpec{Token: token, Audiences: audiences},
	})
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json")
	response, err := w.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK && response.StatusCode != http.StatusCreated {
		return nil, fmt.Errorf("status %d", response.StatusCode)
	}
	data, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	var review authenticationv1.TokenReview
	if err := json.Unmarshal(data, &review); err != nil {
		return nil, errors.New("the answer is no TokenReview")
	}
	if review.APIVersion != authenticationv1.SchemeGroupVersion.String() || review.Kind != "TokenReview" {
		return nil, fmt.Errorf("the answer is a %.100q of %.100q", review.Kind, review.APIVersion)
	}
	return &review.Status, nil
}

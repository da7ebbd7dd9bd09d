package webhookauth

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Review asks the control plane whether tokens still hold. The webhook needs
// the verb create on tokenreviews.authentication.k8s.io, which the ClusterRole
// system:auth-delegator gives.
type Review struct {
	// Server is the URL of the control plane's API. Required.
	Server string
	// Client brings the trust in its certificate and the webhook's own
	// credential. Required.
	Client *http.Client
	// Remember is for how long a confirmed token is not asked about again. 0
	// means every call asks; more than 10 seconds counts as 10.
	Remember time.Duration
}

const (
	reviewPath    = "/apis/authentication.k8s.io/v1/tokenreviews"
	maxReview     = 1 << 20
	maxRemember   = 10 * time.Second
	reviewTimeout = 5 * time.Second
)

func (r *Review) remember() time.Duration { return min(max(r.Remember, 0), maxRemember) }

type tokenReview struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Spec       struct {
		Token     string   `json:"token"`
		Audiences []string `json:"audiences"`
	} `json:"spec"`
	Status struct {
		Authenticated bool     `json:"authenticated"`
		Audiences     []string `json:"audiences"`
		Error         string   `json:"error"`
		User          struct {
			Username string `json:"username"`
			UID      string `json:"uid"`
		} `json:"user"`
	} `json:"status"`
}

// ask has the control plane confirm what the keys proved.
func (r *Review) ask(ctx context.Context, token, audience string, c Caller) error {
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	review := tokenReview{APIVersion: "authentication.k8s.io/v1", Kind: "TokenReview"}
	review.Spec.Token, review.Spec.Audiences = token, []string{audience}
	body, err := json.Marshal(review)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(r.Server, "/")+reviewPath, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json")
	data, err := answer(r.Client, request, http.StatusCreated, maxReview)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	var out tokenReview
	if err := json.Unmarshal(data, &out); err != nil {
		return fmt.Errorf("%w: token review: %w", ErrUnavailable, err)
	}
	switch s := out.Status; {
	case !s.Authenticated:
		return fmt.Errorf("%w: %.300s", ErrUnauthenticated, s.Error)
	case !slices.Contains(s.Audiences, audience):
		// A server that does not know audiences vouches for nothing.
		return fmt.Errorf("%w: the token is not good for %q", ErrUnauthenticated, audience)
	case s.User.Username != c.User || s.User.UID != c.UID:
		return fmt.Errorf("%w: the control plane takes the token for another user", ErrUnauthenticated)
	}
	return nil
}

package oidc

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"
)

// Bounds on what a provider may ask of us while a person signs in elsewhere.
const (
	defaultPoll   = 5 * time.Second // RFC 8628 section 3.2
	maxPoll       = time.Minute
	maxDeviceWait = 30 * time.Minute
)

// Prompt is what a person needs to sign in on another device.
type Prompt struct {
	URL, Code string
	// Complete is the URL with the code in it, if the provider gave one.
	Complete string
}

// Device signs a person in with the device authorization grant (RFC 8628). show
// is called once and must not block.
func (c *Client) Device(ctx context.Context, show func(Prompt)) (Tokens, error) {
	d, err := c.discover(ctx)
	if err != nil {
		return Tokens{}, err
	}
	if d.Device == "" {
		return Tokens{}, errors.New("the provider has no device authorization endpoint")
	}
	// RFC 8628 has no PKCE, and who does not know it ignores it; Keycloak wants
	// it here, too, from a client that must use it.
	verifier, challenge := proof()
	form := url.Values{"scope": {c.scope()}, "code_challenge": {challenge}, "code_challenge_method": {"S256"}}
	for _, s := range c.cfg.Scopes {
		if s == "offline_access" {
			form.Set("prompt", "consent")
		}
	}
	var started struct {
		DeviceCode string  `json:"device_code"`
		UserCode   string  `json:"user_code"`
		URL        string  `json:"verification_uri"`
		Complete   string  `json:"verification_uri_complete"`
		ExpiresIn  float64 `json:"expires_in"`
		Interval   float64 `json:"interval"`
	}
	if err := c.post(ctx, d.Device, form, &started); err != nil {
		return Tokens{}, fmt.Errorf("device code: %w", err)
	}
	if started.DeviceCode == "" || !visible(started.UserCode) || checkURL(started.URL) != nil || started.Complete != "" && checkURL(started.Complete) != nil {
		return Tokens{}, errors.New("device code: the provider's answer cannot be shown")
	}
	wait := bounded(started.ExpiresIn, maxDeviceWait, maxDeviceWait)
	ctx, cancel := context.WithTimeoutCause(ctx, wait, fmt.Errorf("%w: the code has expired", ErrDenied))
	defer cancel()
	poll := bounded(started.Interval, defaultPoll, maxPoll)
	show(Prompt{URL: started.URL, Code: started.UserCode, Complete: started.Complete})
	for {
		pause := time.NewTimer(poll)
		select {
		case <-ctx.Done():
			pause.Stop()
			return Tokens{}, fmt.Errorf("nobody signed in: %w", context.Cause(ctx))
		case <-pause.C:
		}
		t, err := c.grant(ctx, url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "device_code": {started.DeviceCode}, "code_verifier": {verifier}}, "")
		var refused *refusal
		switch {
		case err == nil:
			return t, nil
		case errors.As(err, &refused):
			switch refused.code {
			case "authorization_pending":
			case "slow_down": // section 3.5: for good
				poll = min(poll+5*time.Second, maxPoll)
			default:
				return Tokens{}, fmt.Errorf("%w: %w", ErrDenied, err)
			}
		case errors.Is(err, ErrUnreachable) && ctx.Err() == nil:
			// Section 3.5: back off when the connection times out.
			poll = min(2*poll, maxPoll)
		default:
			return Tokens{}, err
		}
	}
}

// bounded turns seconds of a provider into a wait.
func bounded(seconds float64, usual, most time.Duration) time.Duration {
	switch {
	case !(seconds > 0):
		return usual
	case seconds > most.Seconds():
		return most
	}
	return time.Duration(seconds * float64(time.Second))
}

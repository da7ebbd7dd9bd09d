package credential

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/edge/credential/cache"
	"github.com/gatehouse-dev/gatehouse/internal/edge/credential/oidc"
	"github.com/gatehouse-dev/gatehouse/internal/secret"
)

// OIDC is a [Source] of ID tokens.
type OIDC struct {
	Config oidc.Config
	// Device uses the device grant, for places without a browser.
	Device bool
	// Port is where the browser comes back to; 0 takes a free one.
	Port uint16
	// Say is where a person reads what to do.
	Say io.Writer
	// Browse opens a URL for the person, if not nil.
	Browse func(url string)

	client *oidc.Client
}

// NewOIDC checks the settings.
func NewOIDC(o OIDC) (*OIDC, error) {
	client, err := oidc.New(o.Config)
	if err != nil {
		return nil, err
	}
	o.client = client
	return &o, nil
}

// Key implements [Source].
func (o *OIDC) Key() string {
	return strings.Join(append([]string{"oidc", o.Config.Issuer, o.Config.ClientID}, o.Config.Scopes...), "\x00")
}

// Renew implements [Source] with the refresh token.
func (o *OIDC) Renew(ctx context.Context, old *cache.Entry) (*cache.Entry, error) {
	if old == nil || old.Refresh == "" {
		return nil, oidc.ErrLogin
	}
	t, err := o.client.Refresh(ctx, secret.NewString(old.Refresh), old.Subject)
	if err != nil {
		return nil, err
	}
	return o.entry(t), nil
}

// Login implements [Source].
func (o *OIDC) Login(ctx context.Context) (*cache.Entry, error) {
	var t oidc.Tokens
	var err error
	if o.Device {
		t, err = o.client.Device(ctx, func(p oidc.Prompt) {
			fmt.Fprintf(o.Say, "To sign in, open %s on any device and enter the code %s\n", p.URL, p.Code)
			if p.Complete != "" {
				fmt.Fprintf(o.Say, "or open %s\n", p.Complete)
			}
			fmt.Fprintln(o.Say, "Enter that code only if you started this sign-in yourself.")
		})
	} else {
		t, err = o.client.Code(ctx, oidc.Loopback{Port: o.Port, Show: func(url string) {
			fmt.Fprintf(o.Say, "To sign in, open this address in a browser on this machine:\n%s\n", url)
			if o.Browse != nil {
				o.Browse(url)
			}
		}})
	}
	if err != nil {
		return nil, err
	}
	return o.entry(t), nil
}

// End implements [Ender] with the provider's revocation endpoint, if it has one.
func (o *OIDC) End(ctx context.Context, e *cache.Entry) (bool, error) {
	if e.Refresh == "" {
		return false, nil
	}
	return o.client.Revoke(ctx, secret.NewString(e.Refresh))
}

func (o *OIDC) entry(t oidc.Tokens) *cache.Entry {
	return &cache.Entry{
		Name:  o.Config.ClientID + " at " + o.Config.Issuer,
		Token: t.ID.Reveal(), Refresh: t.Refresh.Reveal(), Subject: t.Subject,
		Issued: o.Config.Now().UTC().Truncate(time.Second), Expires: t.Expires.UTC(),
	}
}

package credential

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/edge/credential/cache"
	"github.com/gatehouse-dev/gatehouse/internal/edge/credential/oidc"
)

// A Source is where the credential of one sign-in comes from.
type Source interface {
	// Key names the sign-in: two sources with the same key give credentials of
	// the same kind for the same settings.
	Key() string
	// Renew makes a new entry from the old one, which may be nil, without a
	// person. Its error is oidc.ErrLogin when only a person can help.
	Renew(ctx context.Context, old *cache.Entry) (*cache.Entry, error)
	// Login makes an entry with a person's help.
	Login(ctx context.Context) (*cache.Entry, error)
}

// ErrNobody: a person would have to sign in and the client says that none is
// there.
var ErrNobody = errors.New("nobody is signed in")

const (
	// margin is how long before its end a credential is renewed: longer than
	// one command of kubectl, shorter than the shortest life that providers use.
	margin = time.Minute
	// sinceIssued is how old a credential must be before a client's second
	// question counts as a sign that it was refused.
	sinceIssued = 5 * time.Second
	// unattended bounds what is done without a person.
	unattended = 30 * time.Second
)

// Keeper gets credentials from a source and keeps them.
type Keeper struct {
	Source Source
	// Dir is where they are kept.
	Dir string
	Now func() time.Time
	// Warn takes what a person should know and no command fails for.
	Warn io.Writer
	// Patience is how long a person may take to sign in.
	Patience time.Duration
}

// Ask is one question for a credential.
type Ask struct {
	// Person says that somebody is there to sign in.
	Person bool
	// Anew has the person sign in even if what is kept is good.
	Anew bool
	// Process names who asks, if that is known. A process that asks again while
	// what it was given lasts has had it refused: client-go keeps a credential
	// until it ends or the server answers 401.
	Process string
}

// Get returns a credential that is good now, and until when the client may use
// it without asking again. An error is [ErrNobody] when a person would have to
// sign in.
func (k *Keeper) Get(ctx context.Context, ask Ask) (*cache.Entry, time.Time, error) {
	patience := unattended
	if ask.Person {
		patience = k.Patience
	}
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("gave up after %v", patience))
	defer cancel()
	c, err := cache.Open(ctx, k.Dir, k.Source.Key())
	if err != nil {
		return nil, time.Time{}, err
	}
	defer func() { _ = c.Close() }()
	kept, err := c.Load()
	if err != nil {
		return nil, time.Time{}, err
	}
	fresh, err := k.choose(ctx, kept, ask)
	if err != nil {
		return nil, time.Time{}, err
	}
	now := k.Now()
	until := fresh.Expires.Add(-k.margin(fresh))
	if !until.After(now) {
		until = fresh.Expires
	}
	if ask.Process != "" || fresh != kept {
		saved := *fresh
		saved.Given = nil
		if ask.Process != "" {
			saved.Given = &cache.Given{Process: ask.Process, Until: until}
		}
		if err := c.Save(&saved); err != nil {
			return nil, time.Time{}, err
		}
	}
	return fresh, until, nil
}

// choose returns what is kept if it is good, or something newer.
func (k *Keeper) choose(ctx context.Context, kept *cache.Entry, ask Ask) (*cache.Entry, error) {
	if ask.Anew {
		return k.login(ctx, ask)
	}
	now := k.Now()
	if kept != nil && now.Before(kept.Expires.Add(-k.margin(kept))) && !k.refused(kept, ask, now) {
		return kept, nil
	}
	bounded, cancel := context.WithTimeout(ctx, unattended)
	fresh, err := k.Source.Renew(bounded, kept)
	cancel()
	switch {
	case err == nil:
		return fresh, nil
	case errors.Is(err, oidc.ErrLogin):
		// What is kept may still last a while; only the means to renew it are gone.
		if kept != nil && now.Before(kept.Expires) && !k.refused(kept, ask, now) && !ask.Person {
			return kept, nil
		}
		if kept != nil {
			fmt.Fprintln(k.Warn, "gatehouse: the sign-in has ended:", err)
		}
		return k.login(ctx, ask)
	case kept != nil && now.Before(kept.Expires):
		fmt.Fprintf(k.Warn, "gatehouse: not renewed, in use until %s: %v\n", kept.Expires.Local().Format(time.TimeOnly), err)
		return kept, nil
	default:
		return nil, fmt.Errorf("renew: %w", err)
	}
}

func (k *Keeper) login(ctx context.Context, ask Ask) (*cache.Entry, error) {
	if !ask.Person {
		return nil, ErrNobody
	}
	e, err := k.Source.Login(ctx)
	if err != nil {
		return nil, fmt.Errorf("sign in: %w", err)
	}
	return e, nil
}

// margin is a minute, or a quarter of lives so short that a minute is most of
// them.
func (k *Keeper) margin(e *cache.Entry) time.Duration {
	return min(margin, e.Expires.Sub(e.Issued)/4)
}

// refused reports whether the process was given this very entry and asks again
// although it could still use it.
func (k *Keeper) refused(e *cache.Entry, ask Ask, now time.Time) bool {
	return e.Given != nil && ask.Process != "" && e.Given.Process == ask.Process &&
		now.Before(e.Given.Until) && now.Sub(e.Issued) > sinceIssued
}

// An Ender is a [Source] that can end what renews a credential where it came
// from. It reports whether it did.
type Ender interface {
	End(ctx context.Context, e *cache.Entry) (bool, error)
}

// Forget removes what is kept for the source, and has the source end it. It
// reports whether the source did; what is kept is gone in any case.
func (k *Keeper) Forget(ctx context.Context) (ended bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, unattended)
	defer cancel()
	c, err := cache.Open(ctx, k.Dir, k.Source.Key())
	if err != nil {
		return false, err
	}
	defer func() { _ = c.Close() }()
	kept, err := c.Load()
	if forgetErr := c.Forget(); forgetErr != nil {
		return false, forgetErr
	}
	ender, ok := k.Source.(Ender)
	if err != nil || kept == nil || !ok {
		return false, err
	}
	return ender.End(ctx, kept)
}

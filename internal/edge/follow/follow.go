// Package follow keeps the policy of one site at hand where it is decided: it
// follows the stream of the control plane, and goes on with what it has while
// that is away.
//
// It owns the connection, what is kept on disk so that a restart continues
// where the process stopped, and the refusal of whatever is not signed, is for
// another site, has ended, or is older than what was held, also before the
// restart. What is decided by the policy is for its callers. Start at [Open].
package follow

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-dev/gatehouse/authz/snapshot"
	"github.com/gatehouse-dev/gatehouse/internal/fastlane/followwire"
)

const (
	// silence is how long a stream may say nothing: three beats.
	silence = 15 * time.Second
	// skew is how far ahead the clock of the control plane may be.
	skew = 5 * time.Minute
	// noteEvery is how often it is written down, and acknowledged, that policy
	// was renewed. Policy that changed is written down at once.
	noteEvery = 10 * time.Second

	firstBackoff, lastBackoff = 100 * time.Millisecond, 5 * time.Second
	ackTimeout                = 5 * time.Second
)

// Config is what a follower needs. Everything is required but MaxAge.
type Config struct {
	// Servers are https URLs of replicas of the control plane; the next is tried
	// when one fails.
	Servers []string
	// Site is whose policy it is, Name that of this follower.
	Site, Name string
	// Client shows the certificate of the site. It must have no timeout of its
	// own.
	Client *http.Client
	// Dir keeps what is held. Nobody else may write there.
	Dir string
	// MaxAge bounds how long policy decides without a word of the control
	// plane; 0 leaves that to the control plane.
	MaxAge time.Duration
	// Conditions and Compile are the environment of conditions.
	Conditions string
	Compile    snapshot.Compile
	Now        func() time.Time
	Log        *slog.Logger
}

// Follower holds the policy in force. It is safe for concurrent use.
type Follower struct {
	cfg    Config
	policy *snapshot.Follower
	keys   atomic.Pointer[map[string]ed25519.PublicKey]
	acks   chan ack

	// Used by Run alone.
	noted time.Time

	// barred is set while the control plane says that this site may not follow.
	barred atomic.Bool
	// denyOnly is set while the control plane has the site in mode deny.
	denyOnly atomic.Bool

	mu        sync.Mutex // guards the rest
	connected bool
	refused   uint64
	last      error
}

type ack struct {
	server   string
	sequence uint64
}

// Open returns a follower that holds what the one before it held.
func Open(cfg Config) (*Follower, error) {
	if len(cfg.Servers) == 0 || cfg.Site == "" || cfg.Client == nil || cfg.Dir == "" || cfg.Conditions == "" || cfg.Compile == nil || cfg.Now == nil || cfg.Log == nil {
		return nil, errors.New("follow: incomplete configuration")
	}
	if err := followwire.CheckName(cfg.Name); err != nil {
		return nil, fmt.Errorf("follow: %w", err)
	}
	for i, s := range cfg.Servers {
		if !strings.HasPrefix(s, "https://") {
			return nil, fmt.Errorf("follow: server %q is not an https URL", s)
		}
		cfg.Servers[i] = strings.TrimSuffix(s, "/")
	}
	f := &Follower{cfg: cfg, acks: make(chan ack, 1)}
	f.keys.Store(&map[string]ed25519.PublicKey{})
	f.policy = snapshot.NewFollower(snapshot.Rules{
		Site: cfg.Site, MaxAge: cfg.MaxAge, Skew: skew, Conditions: cfg.Conditions, Compile: cfg.Compile, Verifier: f,
	})
	if err := f.restore(); err != nil {
		return nil, fmt.Errorf("follow: %w", err)
	}
	return f, nil
}

// Verify implements [snapshot.Verifier].
func (f *Follower) Verify(keyID string, message, signature []byte) error {
	key, ok := (*f.keys.Load())[keyID]
	if !ok {
		return fmt.Errorf("key %.100q is not one of the control plane's", keyID)
	}
	if !ed25519.Verify(key, message, signature) {
		return errors.New("the signature is wrong")
	}
	return nil
}

// ErrBarred says that the control plane turned this site off: its doors are
// closed to it, and what is held decides nothing any more.
var ErrBarred = errors.New("the control plane refuses this site")

// Current returns the policy in force, or an error that is
// [snapshot.ErrEnded] or [ErrBarred].
func (f *Follower) Current() (*snapshot.InForce, error) {
	if f.barred.Load() {
		return nil, ErrBarred
	}
	return f.policy.Current(f.cfg.Now())
}

// DenyOnly reports whether the control plane has the site in mode deny: then
// nothing is granted there, whatever the policy that is held would.
func (f *Follower) DenyOnly() bool { return f.denyOnly.Load() }

// Status is how a follower is.
type Status struct {
	// Connected says that the control plane is heard.
	Connected bool
	// Held is the newest policy, and Ends when it stops deciding; zero when
	// there is none.
	Held snapshot.Header
	Ends time.Time
	// Refused counts what was refused of the stream. Last is why the stream
	// ended last.
	Refused uint64
	Last    error
}

// Status returns how the follower is.
func (f *Follower) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := Status{Connected: f.connected, Refused: f.refused, Last: f.last}
	s.Held, s.Ends, _ = f.policy.Held()
	return s
}

// Connected reports whether the control plane is heard.
func (f *Follower) Connected() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.connected
}

// Run follows until ctx ends.
func (f *Follower) Run(ctx context.Context) error {
	var acking sync.WaitGroup
	defer acking.Wait()
	acking.Go(func() { f.acknowledge(ctx) })
	backoff := firstBackoff
	resume := true
	for i := 0; ; i++ {
		server := f.cfg.Servers[i%len(f.cfg.Servers)]
		heard, err := f.stream(ctx, server, resume)
		if ctx.Err() != nil {
			return nil
		}
		// What cannot be renewed is asked for as a whole.
		resume = !errors.Is(err, snapshot.ErrUnknownPolicy)
		if heard {
			backoff = firstBackoff
			f.cfg.Log.Warn("the control plane is not heard; policy that is held goes on deciding", "server", server, "error", err)
		}
		f.mu.Lock()
		f.connected, f.last = false, err
		f.mu.Unlock()
		t := time.NewTimer(backoff)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		}
		if !heard {
			backoff = min(2*backoff, lastBackoff)
		}
	}
}

// stream follows one server until the stream ends. heard says that it gave
// policy.
func (f *Follower) stream(ctx context.Context, server string, resume bool) (heard bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	quiet := time.AfterFunc(silence, func() { cancel(errors.New("nothing was heard for too long")) })
	defer quiet.Stop()
	in := followwire.Request{Follower: f.cfg.Name}
	if held, _, ok := f.policy.Held(); ok && resume {
		in.Sequence, in.Digest = held.Sequence, held.Digest
	}
	resp, err := f.post(ctx, server, "snapshot", in)
	if err != nil {
		if errors.Is(err, ErrBarred) {
			f.bar(true)
		}
		return false, err
	}
	defer resp.Body.Close()
	f.restrict(resp.Header.Get(followwire.HeaderMode))
	for {
		message, err := snapshot.ReadFrame(resp.Body)
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			return heard, err
		}
		quiet.Reset(silence)
		if len(message) == 0 {
			continue
		}
		if err := f.take(server, message); err != nil {
			f.mu.Lock()
			f.refused++
			f.mu.Unlock()
			f.cfg.Log.Error("policy refused", "server", server, "error", err)
			return heard, err
		}
		if _, err := f.Current(); err == nil && !heard {
			heard = true
			f.mu.Lock()
			f.connected, f.last = true, nil
			f.mu.Unlock()
			f.cfg.Log.Info("policy is followed", "server", server)
		}
	}
}

// take takes one message of a stream.
func (f *Follower) take(server string, message []byte) error {
	keys, is, err := followwire.ParseKeys(message)
	if err != nil {
		return err
	}
	if is {
		if err := f.writeKeys(message); err != nil {
			return err
		}
		f.keys.Store(&keys)
		return nil
	}
	before, _, held := f.policy.Held()
	h, err := f.policy.Accept(message, f.cfg.Now())
	if err != nil {
		return err
	}
	f.bar(false)
	now := f.cfg.Now()
	changed := !held || before.Digest != h.Digest
	if !changed && now.Sub(f.noted) < noteEvery && !now.Before(f.noted) {
		return nil
	}
	f.noted = now
	if err := f.write(message); err != nil {
		// It decides already; what is lost is the memory of a restart.
		f.cfg.Log.Error("policy is in force and not on disk", "error", err)
	}
	select { // only the newest is worth saying
	case <-f.acks:
	default:
	}
	f.acks <- ack{server, h.Sequence}
	return nil
}

// acknowledge says what is held. That nobody hears it changes nothing here.
func (f *Follower) acknowledge(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case a := <-f.acks:
			post, cancel := context.WithTimeout(ctx, ackTimeout)
			resp, err := f.post(post, a.server, "snapshot/ack", followwire.Ack{Follower: f.cfg.Name, Sequence: a.sequence})
			if err == nil {
				_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<10))
				resp.Body.Close()
			} else {
				f.cfg.Log.Debug("policy not acknowledged", "error", err)
			}
			cancel()
		}
	}
}

// post posts to a door of the site; the caller closes the body of an answer
// that is no error.
func (f *Follower) post(ctx context.Context, server, door string, in any) (*http.Response, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, server+"/sites/"+f.cfg.Site+"/"+door, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := f.cfg.Client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 512)) // for the log
		resp.Body.Close()
		if resp.StatusCode == http.StatusForbidden {
			return nil, fmt.Errorf("%w: %q", ErrBarred, text)
		}
		return nil, fmt.Errorf("door %s answered %d: %q", door, resp.StatusCode, text)
	}
	return resp, nil
}

package flood_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/flood"
	"github.com/gatehouse-dev/gatehouse/internal/audit/ledger"
)

// book keeps what is recorded.
type book struct {
	mu     sync.Mutex // guards the rest
	events []audit.Event
	err    error
}

func (b *book) Append(_ context.Context, e *audit.Event, _ audit.Durability) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.events = append(b.events, *e)
	}
	return b.err
}

func (b *book) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
}

func (b *book) SelfEvent(verb string) *audit.Event {
	return &audit.Event{Verb: verb, User: audit.UserInfo{Username: ledger.Self}}
}

// take returns how many events of callers, and the gaps with their counts.
func (b *book) take() (events int, gaps []string, missing int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.events {
		if e.User.Username != ledger.Self {
			events++
			continue
		}
		gaps = append(gaps, e.Annotations[audit.AnnotationGap])
		n, err := strconv.Atoi(e.Annotations[audit.AnnotationGapCount])
		if err != nil || e.Verb != ledger.VerbGap {
			panic(fmt.Sprint(e, err))
		}
		missing += n
	}
	b.events = nil
	return events, gaps, missing
}

func refusal(user string, from ...string) *audit.Event {
	return &audit.Event{User: audit.UserInfo{Username: user}, SourceIPs: from, Verb: "list", ResponseStatus: &audit.Status{Code: 401}}
}

func running(t *testing.T, check func(g *flood.Guard, b *book, send func(n int, e *audit.Event))) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &book{}
		g := flood.New(b, time.Now, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- g.Run(ctx) }()
		check(g, b, func(n int, e *audit.Event) {
			t.Helper()
			for range n {
				if err := g.Append(t.Context(), e, audit.Durable); err != nil {
					t.Fatal(err)
				}
			}
		})
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestStrangersAreCounted(t *testing.T) {
	running(t, func(g *flood.Guard, b *book, send func(int, *audit.Event)) {
		send(1000, refusal("", "203.0.113.9"))
		// What the caller says of where it comes from makes no other source.
		for i := range 100 {
			send(1, refusal("", fmt.Sprint("198.51.100.", i), "203.0.113.9"))
		}
		send(40, refusal("system:anonymous", "2001:db8::1"))
		send(40, refusal("", "2001:db8::2")) // the same network
		send(40, refusal("", "192.0.2.1"))
		time.Sleep(flood.Interval + time.Second)
		events, gaps, missing := b.take()
		if events != 60+60+40 || len(gaps) != 2 || events+missing != 1220 || g.Suppressed() != uint64(missing) {
			t.Errorf("%d recorded, %d counted in %q", events, missing, gaps)
		}
		// The source may go on at its rate.
		send(30, refusal("", "203.0.113.9"))
		time.Sleep(flood.Interval)
		if events, _, missing := b.take(); events != 11 || missing != 19 {
			t.Errorf("%d recorded, %d counted", events, missing)
		}
	})
}

// Whoever is known loses nothing, whatever strangers do.
func TestCallersAreNotCounted(t *testing.T) {
	running(t, func(_ *flood.Guard, b *book, send func(int, *audit.Event)) {
		send(1000, refusal("", "203.0.113.9"))
		send(5000, refusal("jane", "203.0.113.9"))
		asJane := refusal("system:anonymous", "203.0.113.9")
		asJane.ImpersonatedUser = &audit.UserInfo{Username: "jane"}
		send(10, asJane)
		if events, _, _ := b.take(); events != 60+5000+10 {
			t.Errorf("%d recorded", events)
		}
	})
}

// Many addresses flood neither the record nor the gaps.
func TestManySources(t *testing.T) {
	running(t, func(_ *flood.Guard, b *book, send func(int, *audit.Event)) {
		for i := range 80_000 {
			send(1, refusal("", fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)))
		}
		time.Sleep(flood.Interval + time.Second)
		events, gaps, missing := b.take()
		if events != 600 || len(gaps) > 5 || events+missing != 80_000 {
			t.Errorf("%d recorded, %d counted in %d gaps", events, missing, len(gaps))
		}
	})
}

// A count that cannot be recorded is recorded later, and at the end.
func TestCountsSurviveAFullDisk(t *testing.T) {
	running(t, func(_ *flood.Guard, b *book, send func(int, *audit.Event)) {
		send(100, refusal("", "203.0.113.9"))
		b.fail(errors.New("full"))
		time.Sleep(3*flood.Interval + time.Second) // between two attempts
		b.fail(nil)
		time.Sleep(flood.Interval)
		if events, gaps, missing := b.take(); events != 60 || len(gaps) != 1 || missing != 40 {
			t.Errorf("%d recorded, %d counted in %q", events, missing, gaps)
		}
	})
}

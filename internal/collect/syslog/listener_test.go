package syslog

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"
)

// Whoever only connects, and shows no certificate, holds some places and not
// all of them.
func TestConnectionsOfOneStranger(t *testing.T) {
	t.Parallel()
	on, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &Listener{TLS: &tls.Config{}, Log: slog.New(slog.DiscardHandler)}
	go func() { _ = l.Serve(t.Context(), on) }() // ends with the test
	closed := make(chan struct{}, 2*maxHandshakes)
	for range 2 * maxHandshakes {
		c, err := net.Dial("tcp", on.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		go func() {
			_ = c.SetReadDeadline(time.Now().Add(time.Minute))
			if _, err := c.Read(make([]byte, 1)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				closed <- struct{}{}
			}
		}()
	}
	for range maxHandshakes {
		select {
		case <-closed:
		case <-time.After(time.Minute):
			t.Fatal("connections without a handshake are all held")
		}
	}
	var h handshakes
	h.of = map[string]int{}
	for range maxHandshakes {
		if !h.begin("a") {
			t.Fatal("no place")
		}
	}
	if h.begin("a") || !h.begin("b") {
		t.Error("addresses do not have places of their own")
	}
	for range maxHandshakes {
		h.end("a")
	}
	h.end("b")
	if len(h.of) != 0 {
		t.Errorf("%v", h.of)
	}
}

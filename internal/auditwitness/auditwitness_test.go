package auditwitness_test

import (
	"crypto/ed25519"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatehouse-dev/gatehouse/internal/audit/checkpoint"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs/crashfs"
	"github.com/gatehouse-dev/gatehouse/internal/audit/witness"
	"github.com/gatehouse-dev/gatehouse/internal/auditwitness"
)

const origin = "gatehouse.test/r1"

func signed(t *testing.T, seed byte, at string, size uint64, root byte) []byte {
	t.Helper()
	s, err := checkpoint.NewSigner(at, ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(seed), 32))))
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.Checkpoint(checkpoint.Checkpoint{Origin: at, Size: size, Root: [32]byte{root}})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestStatuses holds every refusal against the status that C2SP tlog-witness
// gives it, on the wire and as the client reads it.
func TestStatuses(t *testing.T) {
	t.Parallel()
	log, err := checkpoint.NewSigner(origin, ed25519.NewKeyFromSeed([]byte(strings.Repeat("l", 32))))
	if err != nil {
		t.Fatal(err)
	}
	by, err := witness.NewSigner("witness.test/w", ed25519.NewKeyFromSeed([]byte(strings.Repeat("w", 32))), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	w, err := witness.NewWitness(by, []string{log.VerifierKey()}, crashfs.New(1), "state", quiet)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.StripPrefix("/prefix", auditwitness.NewHandler(w, quiet)))
	t.Cleanup(server.Close)
	client := auditwitness.NewClient(server.URL+"/prefix/", server.Client())
	var conflict *witness.ConflictError
	for _, c := range []struct {
		name string
		r    witness.Request
		code int
		body string
		is   func(error) bool
	}{
		{"first", witness.Request{Checkpoint: signed(t, 'l', origin, 5, 1)}, 200, "\u2014 witness.test/w ", func(err error) bool { return err == nil }},
		{"unknown log", witness.Request{Checkpoint: signed(t, 'l', "elsewhere", 5, 1)}, 404, "", func(err error) bool { return errors.Is(err, witness.ErrUnknownLog) }},
		{"another key", witness.Request{Checkpoint: signed(t, 'x', origin, 5, 1)}, 403, "", func(err error) bool { return errors.Is(err, witness.ErrNotSigned) }},
		{"old above new", witness.Request{Old: 6, Checkpoint: signed(t, 'l', origin, 5, 1)}, 400, "", func(err error) bool { return err != nil }},
		{"stale", witness.Request{Old: 3, Checkpoint: signed(t, 'l', origin, 6, 1)}, 409, "5\n", func(err error) bool { return errors.As(err, &conflict) && conflict.Size == 5 && !conflict.Differs }},
		{"two faces", witness.Request{Old: 5, Checkpoint: signed(t, 'l', origin, 5, 2)}, 409, "5\n", func(err error) bool { return errors.As(err, &conflict) && conflict.Differs }},
		{"wrong proof", witness.Request{Old: 5, Proof: tlog.TreeProof{{1}}, Checkpoint: signed(t, 'l', origin, 6, 2)}, 422, "", func(err error) bool { return errors.Is(err, witness.ErrInconsistent) }},
	} {
		resp, err := http.Post(server.URL+"/prefix/add-checkpoint", "text/plain", strings.NewReader(string(c.r.Encode())))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != c.code || !strings.HasPrefix(string(body), c.body) {
			t.Errorf("%s: %d %q, want %d %q", c.name, resp.StatusCode, body, c.code, c.body)
		}
		if resp.StatusCode == http.StatusConflict && resp.Header.Get("Content-Type") != "text/x.tlog.size" {
			t.Errorf("%s: the size has type %q", c.name, resp.Header.Get("Content-Type"))
		}
		if c.name == "first" {
			c.r.Old = 5 // once more, as one who knows
		}
		if _, err := client.Add(t.Context(), c.r); !c.is(err) {
			t.Errorf("%s: the client reads %v", c.name, err)
		}
	}
	for path, body := range map[string]string{"/prefix/add-checkpoint": strings.Repeat("x", witness.MaxRequest+1), "/prefix/add-checkpoint?": "old 5"} {
		resp, err := http.Post(server.URL+path, "text/plain", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%.20s: %d", body, resp.StatusCode)
		}
	}
}

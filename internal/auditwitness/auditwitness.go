// Package auditwitness speaks C2SP tlog-witness: it asks a witness over HTTP,
// and serves one.
//
// It owns: the request add-checkpoint and its statuses, on both sides. It
// refuses: deciding what is signed, which is internal/audit/witness.
//
// Start at [NewClient] and [NewHandler].
package auditwitness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"github.com/gatehouse-dev/gatehouse/internal/audit/witness"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
)

// maxAnswer bounds what is read of a witness's answer: signature lines, or a
// size.
const maxAnswer = 16 << 10

// sizeType is the content type of a conflict's size (C2SP tlog-witness).
const sizeType = "text/x.tlog.size"

// Client asks one witness. It implements witness.Peer.
type Client struct {
	url  string
	http *http.Client
}

var _ witness.Peer = (*Client)(nil)

// NewClient returns a client of the witness with a submission prefix, a URL.
func NewClient(prefix string, c *http.Client) *Client {
	return &Client{strings.TrimSuffix(prefix, "/") + "/add-checkpoint", c}
}

// Add implements witness.Peer.
func (c *Client) Add(ctx context.Context, r witness.Request) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(r.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "text/plain; charset=utf-8")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the witness: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the witness's answer: %w", err)
	case len(body) > maxAnswer:
		return nil, errors.New("the witness's answer is too long")
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return body, nil
	case http.StatusNotFound:
		return nil, witness.ErrUnknownLog
	case http.StatusForbidden:
		return nil, witness.ErrNotSigned
	case http.StatusUnprocessableEntity:
		return nil, witness.ErrInconsistent
	case http.StatusConflict:
		text := strings.TrimSuffix(string(body), "\n")
		size, err := strconv.ParseUint(text, 10, 63)
		if resp.Header.Get("Content-Type") != sizeType || err != nil {
			// Without a size it is the trees that differ.
			return nil, &witness.ConflictError{Size: r.Old, Differs: true}
		}
		return nil, &witness.ConflictError{Size: size, Differs: size == r.Old}
	}
	return nil, fmt.Errorf("the witness answered %d", resp.StatusCode)
}

// maxInFlight bounds the requests that are served at once.
const maxInFlight = 64

// NewHandler serves a witness: POST PREFIX/add-checkpoint, for any prefix that
// the caller mounts it under.
func NewHandler(w *witness.Witness, log *slog.Logger) http.Handler {
	slots := make(chan struct{}, maxInFlight)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /add-checkpoint", func(rw http.ResponseWriter, r *http.Request) {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		default:
			http.Error(rw, "too many requests are in flight", http.StatusTooManyRequests)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(rw, r.Body, witness.MaxRequest))
		if err != nil {
			http.Error(rw, "the body is over the limit, or broke off", http.StatusBadRequest)
			return
		}
		req, err := witness.ParseRequest(body)
		var lines []byte
		if err == nil {
			lines, err = w.Add(req)
		}
		answer(rw, lines, err, log)
	})
	return mux
}

func answer(rw http.ResponseWriter, lines []byte, err error, log *slog.Logger) {
	var conflict *witness.ConflictError
	code, text := http.StatusInternalServerError, "internal error"
	switch {
	case err == nil:
		rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if _, err := rw.Write(lines); err != nil {
			log.Debug("answer cut off", "error", err)
		}
		return
	case errors.As(err, &conflict):
		rw.Header().Set("Content-Type", sizeType)
		rw.WriteHeader(http.StatusConflict)
		if _, err := fmt.Fprintf(rw, "%d\n", conflict.Size); err != nil {
			log.Debug("answer cut off", "error", err)
		}
		return
	case errors.Is(err, witness.ErrUnknownLog):
		code, text = http.StatusNotFound, witness.ErrUnknownLog.Error()
	case errors.Is(err, witness.ErrNotSigned):
		code, text = http.StatusForbidden, witness.ErrNotSigned.Error()
	case errors.Is(err, witness.ErrInconsistent):
		code, text = http.StatusUnprocessableEntity, witness.ErrInconsistent.Error()
	case fault.KindOf(err) == fault.Invalid:
		code, text = http.StatusBadRequest, fault.Public(err)
	default:
		log.Error("checkpoint not signed", "error", err)
	}
	http.Error(rw, text, code)
}

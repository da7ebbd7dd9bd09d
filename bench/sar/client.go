package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-dev/gatehouse/test/harness"
)

// A client speaks HTTP/2 over mutual TLS to one server, as its administrator.
type client struct {
	base string
	http *http.Client
}

// dial makes a client for the user of a kubeconfig.
func dial(ctx context.Context, k *harness.Kubectl) (*client, error) {
	server, config, err := k.Endpoint(ctx)
	if err != nil {
		return nil, err
	}
	return &client{base: server, http: &http.Client{
		Timeout:   30 * time.Second,
		Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: config},
	}}, nil
}

func (c *client) post(ctx context.Context, path string, body []byte, want int) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != want {
		return nil, fmt.Errorf("POST %s: %s: %.300s", path, resp.Status, answer)
	}
	if resp.ProtoMajor != 2 {
		return nil, fmt.Errorf("POST %s: answered over %s, want HTTP/2", path, resp.Proto)
	}
	return answer, nil
}

// create posts objects, many at a time, in no particular order.
func (c *client) create(ctx context.Context, objects []object, inFlight int) error {
	bodies := make([][]byte, len(objects))
	for i, o := range objects {
		var err error
		if bodies[i], err = json.Marshal(o.body); err != nil {
			return err
		}
	}
	return parallel(ctx, inFlight, len(objects), func(ctx context.Context, i int) error {
		_, err := c.post(ctx, objects[i].path, bodies[i], http.StatusCreated)
		return err
	})
}

// load puts a policy set on the server.
func (c *client) load(ctx context.Context, l *load, inFlight int) error {
	for _, step := range l.steps {
		if err := c.create(ctx, step, inFlight); err != nil {
			return err
		}
	}
	return nil
}

// answers asks every query once, and returns whether each is allowed.
func (c *client) answers(ctx context.Context, reviews [][]byte, inFlight int) ([]bool, error) {
	allowed := make([]bool, len(reviews))
	err := parallel(ctx, inFlight, len(reviews), func(ctx context.Context, i int) error {
		answer, err := c.post(ctx, reviewPath, reviews[i], http.StatusCreated)
		if err != nil {
			return err
		}
		var review struct {
			Status *struct{ Allowed *bool }
		}
		if err := json.Unmarshal(answer, &review); err != nil {
			return err
		}
		if review.Status == nil || review.Status.Allowed == nil {
			return fmt.Errorf("a review without an answer: %.300s", answer)
		}
		allowed[i] = *review.Status.Allowed
		return nil
	})
	return allowed, err
}

// parallel calls do for 0..n-1 from inFlight goroutines and returns the first
// error.
func parallel(ctx context.Context, inFlight, n int, do func(context.Context, int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range inFlight {
		workers.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := do(ctx, i); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	workers.Wait()
	return context.Cause(ctx)
}

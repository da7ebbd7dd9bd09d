package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"text/tabwriter"
	"time"
)

const (
	tokenReviewPath = "/apis/authentication.k8s.io/v1/tokenreviews"
	tokenAccount    = "bench-tokens"
)

// measureTokens has each server mint tokens of its own and review them: every
// token once for the warm-up, and then again and again.
func measureTokens(ctx context.Context, o options, sides []*side) error {
	if o.tokens == 0 {
		return nil
	}
	rounds := make([][]round, len(sides))
	reviews := make([][][]byte, len(sides))
	for i, s := range sides {
		var err error
		if reviews[i], err = s.mint(ctx, o.tokens, o.inFlight); err != nil {
			return fmt.Errorf("mint at %s: %w", s.name, err)
		}
		if err := s.confirm(ctx, reviews[i], o.inFlight); err != nil {
			return fmt.Errorf("review at %s: %w", s.name, err)
		}
	}
	for n := range o.rounds {
		for i, s := range sides {
			r, err := measure(ctx, s.client, s.process, tokenReviewPath, reviews[i], o.inFlight, o.length)
			if err != nil {
				return fmt.Errorf("measure %s: %w", s.name, err)
			}
			rounds[i] = append(rounds[i], r)
			fmt.Fprintf(os.Stderr, "%s: token round %d: %.0f/s, p50 %v, p99 %v, %v CPU a request\n", s.name, n+1, r.perSecond, r.p50.Round(10*time.Microsecond), r.p99.Round(10*time.Microsecond), r.cpu)
		}
	}
	fmt.Printf("\nTokenReview, HTTP/2 and mutual TLS, JSON, %d tokens, %d in flight, median of %d rounds of %v\n\n", o.tokens, o.inFlight, o.rounds, o.length)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\treviews/s\tp50\tp99\tserver CPU a review\t")
	medians := make([]round, len(sides))
	for i, s := range sides {
		m := median(rounds[i])
		medians[i] = m
		fmt.Fprintf(w, "%s\t%.0f\t%v\t%v\t%v\t\n", s.name, m.perSecond, m.p50.Round(10*time.Microsecond), m.p99.Round(10*time.Microsecond), m.cpu.Round(time.Microsecond))
	}
	if len(medians) == 2 {
		a, b := medians[0], medians[1]
		fmt.Fprintf(w, "ratio\t%.1f×\t%.2f\t%.2f\t1/%.1f\t\n", a.perSecond/b.perSecond, ratio(a.p50, b.p50), ratio(a.p99, b.p99), ratio(b.cpu, a.cpu))
		fmt.Fprintln(w, "to reach\t≥ 5×\t\t\t≤ 1/8\t")
	}
	return w.Flush()
}

// mint makes tokens and returns a review of each.
func (s *side) mint(ctx context.Context, n, inFlight int) ([][]byte, error) {
	account := `{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"` + tokenAccount + `"}}`
	if _, err := s.client.post(ctx, "/api/v1/namespaces/default/serviceaccounts", []byte(account), http.StatusCreated); err != nil {
		return nil, err
	}
	reviews := make([][]byte, n)
	err := parallel(ctx, inFlight, n, func(ctx context.Context, i int) error {
		answer, err := s.client.post(ctx, "/api/v1/namespaces/default/serviceaccounts/"+tokenAccount+"/token",
			[]byte(`{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{"audiences":[]}}`), http.StatusCreated)
		if err != nil {
			return err
		}
		var made struct{ Status struct{ Token string } }
		if err := json.Unmarshal(answer, &made); err != nil || made.Status.Token == "" {
			return errors.Join(err, errors.New("no token"))
		}
		reviews[i], err = json.Marshal(map[string]any{
			"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": map[string]any{"token": made.Status.Token},
		})
		return err
	})
	return reviews, err
}

// confirm reviews every token once.
func (s *side) confirm(ctx context.Context, reviews [][]byte, inFlight int) error {
	return parallel(ctx, inFlight, len(reviews), func(ctx context.Context, i int) error {
		answer, err := s.client.post(ctx, tokenReviewPath, reviews[i], http.StatusCreated)
		if err != nil {
			return err
		}
		var review struct {
			Status struct {
				Authenticated bool
				User          struct{ Username string }
			}
		}
		if err := json.Unmarshal(answer, &review); err != nil {
			return err
		}
		if !review.Status.Authenticated || !strings.HasSuffix(review.Status.User.Username, ":"+tokenAccount) {
			return fmt.Errorf("a good token is refused: %.300s", answer)
		}
		return nil
	})
}

package authn

import (
	"context"
	"runtime"
	"sync"
	"testing"

	"github.com/gatehouse-dev/gatehouse/internal/authn/jws"
)

// FillGate takes every place in which credentials are verified.
func FillGate(c *Chain) (release func()) {
	for range cap(c.crypto.slots) {
		c.crypto.slots <- struct{}{}
	}
	return func() {
		for range cap(c.crypto.slots) {
			<-c.crypto.slots
		}
	}
}

// FillQueue takes every place to wait in. Call FillGate first.
func FillQueue(c *Chain) (release func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var waiting sync.WaitGroup
	for range c.crypto.limit {
		waiting.Go(func() { _ = c.crypto.enter(ctx) })
	}
	for c.crypto.waiting.Load() < c.crypto.limit {
		runtime.Gosched()
	}
	return func() {
		cancel()
		waiting.Wait()
	}
}

// TestClaims are the claims of one token, without the token.
type TestClaims struct {
	Namespace, Account, AccountUID         string
	ID, PodName, PodUID, NodeName, NodeUID string
	Audience                               string
	Expires                                int64
}

// Remember puts tokens into the memory as if they had just been verified,
// because making so many real ones would take seconds.
func Remember(t testing.TB, c *Chain, issuer string, key *jws.Key, all []TestClaims) {
	t.Helper()
	now := c.now()
	for _, in := range all {
		v, err := c.remembered(c.own[issuer], key, claims{
			issuer: issuer, audiences: []string{in.Audience}, expires: in.Expires,
			namespace: in.Namespace, account: in.Account, accountUID: in.AccountUID,
			nodeName: in.NodeName, nodeUID: in.NodeUID,
			bound: boundClaims{id: in.ID, podName: in.PodName, podUID: in.PodUID},
		})
		if err != nil {
			t.Fatal(err)
		}
		c.remember(c.hash.digest(in.ID), v, now)
	}
}

// Held counts what is remembered.
func Held(c *Chain) (n int) {
	for i := range c.verified.sets {
		for j := range c.verified.sets[i] {
			if c.verified.sets[i][j].value != nil {
				n++
			}
		}
	}
	return n
}

package authn

import (
	"context"
	"runtime"
	"sync"
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

package etcd

import (
	"context"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Monitor knows when etcd last confirmed that this process has seen every
// event: it holds a watch of its own and asks for its progress each second.
type Monitor struct {
	client *clientv3.Client
	now    func() time.Time
	last   atomic.Int64 // unix nanoseconds of the last confirmation
}

// NewMonitor starts with a confirmation, because whoever calls it has just
// read from etcd.
func NewMonitor(client *clientv3.Client, now func() time.Time) *Monitor {
	m := &Monitor{client: client, now: now}
	m.last.Store(now().UnixNano())
	return m
}

// Age is the time since the last confirmation. It is safe for concurrent use
// and allocates nothing.
func (m *Monitor) Age() time.Duration { return time.Duration(m.now().UnixNano() - m.last.Load()) }

// Run watches until ctx ends.
func (m *Monitor) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		m.watch(ctx)
	}
	return nil
}

func (m *Monitor) watch(ctx context.Context) {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	events := m.client.Watch(ctx, "/gatehouse/progress", clientv3.WithProgressNotify())
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case r, ok := <-events:
			if !ok || r.Err() != nil {
				select { // do not spin while etcd is away
				case <-tick.C:
				case <-ctx.Done():
				}
				return
			}
			m.last.Store(m.now().UnixNano())
		case <-tick.C:
			// The answer arrives on the watch; an error shows as its silence.
			_ = m.client.RequestProgress(ctx)
		case <-ctx.Done():
			return
		}
	}
}

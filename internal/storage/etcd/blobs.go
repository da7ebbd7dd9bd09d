package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/keys"
)

// Blobs keeps small sealed values in etcd, beside the API objects. It
// implements [keys.Store].
type Blobs struct {
	client *clientv3.Client
	prefix string
}

var _ keys.Store = (*Blobs)(nil)

// NewBlobs keeps values under /gatehouse/<area>/.
func NewBlobs(client *clientv3.Client, area string) *Blobs {
	return &Blobs{client: client, prefix: "/gatehouse/" + area + "/"}
}

// Get returns one value, linearizably.
func (b *Blobs) Get(ctx context.Context, name string) (keys.Entry, error) {
	if err := keys.CheckName(name); err != nil {
		return keys.Entry{}, err
	}
	r, err := b.client.Get(ctx, b.prefix+name)
	if err != nil {
		return keys.Entry{}, away(err)
	}
	if len(r.Kvs) == 0 {
		return keys.Entry{}, fault.Newf(fault.NotFound, "no entry %q", name)
	}
	return keys.Entry{Name: name, Value: r.Kvs[0].Value, Revision: r.Kvs[0].ModRevision}, nil
}

// List returns all values whose names begin with prefix, in order.
func (b *Blobs) List(ctx context.Context, prefix string) ([]keys.Entry, error) {
	r, err := b.client.Get(ctx, b.prefix+prefix, clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByKey, clientv3.SortAscend))
	if err != nil {
		return nil, away(err)
	}
	out := make([]keys.Entry, 0, len(r.Kvs))
	for _, kv := range r.Kvs {
		out = append(out, keys.Entry{Name: strings.TrimPrefix(string(kv.Key), b.prefix), Value: kv.Value, Revision: kv.ModRevision})
	}
	return out, nil
}

// Create writes a name that does not exist.
func (b *Blobs) Create(ctx context.Context, name string, value []byte) (int64, error) {
	return b.swap(ctx, name, value, 0)
}

// CompareAndSwap writes a name that has not changed since revision.
func (b *Blobs) CompareAndSwap(ctx context.Context, name string, value []byte, revision int64) (int64, error) {
	if revision <= 0 {
		return 0, fault.Newf(fault.Conflict, "entry %q is not at revision %d", name, revision)
	}
	return b.swap(ctx, name, value, revision)
}

func (b *Blobs) swap(ctx context.Context, name string, value []byte, revision int64) (int64, error) {
	if err := keys.CheckName(name); err != nil {
		return 0, err
	}
	if len(value) > keys.MaxValue {
		return 0, fault.Newf(fault.Invalid, "value of %q has %d bytes, at most %d fit", name, len(value), keys.MaxValue)
	}
	key := b.prefix + name
	r, err := b.client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", revision)).
		Then(clientv3.OpPut(key, string(value))).Commit()
	if err != nil {
		return 0, away(err)
	}
	if !r.Succeeded {
		return 0, fault.Newf(fault.Conflict, "entry %q was written meanwhile", name)
	}
	return r.Header.Revision, nil
}

// Delete removes a name that has not changed since revision.
func (b *Blobs) Delete(ctx context.Context, name string, revision int64) error {
	if err := keys.CheckName(name); err != nil {
		return err
	}
	key := b.prefix + name
	r, err := b.client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", revision), clientv3.Compare(clientv3.CreateRevision(key), ">", 0)).
		Then(clientv3.OpDelete(key)).
		Else(clientv3.OpGet(key, clientv3.WithKeysOnly())).Commit()
	if err != nil {
		return away(err)
	}
	if r.Succeeded {
		return nil
	}
	if len(r.Responses[0].GetResponseRange().Kvs) == 0 {
		return fault.Newf(fault.NotFound, "no entry %q", name)
	}
	return fault.Newf(fault.Conflict, "entry %q was written meanwhile", name)
}

// Follow calls changed after every write to the area, whoever made it, and
// after a gap in the events, until ctx ends. Calls come one at a time.
func (b *Blobs) Follow(ctx context.Context, changed func()) error {
	for ctx.Err() == nil {
		watch, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
		for r := range b.client.Watch(watch, b.prefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify(), clientv3.WithKeysOnly()) {
			if r.Err() != nil {
				break
			}
			changed()
		}
		cancel()
		select { // the watch ended: etcd is away
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	return nil
}

// away classifies what the client returns: contexts pass through, everything
// else may succeed later.
func away(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if errors.Is(err, rpctypes.ErrNoSpace) {
		return fault.Wrap(fault.Exhausted, "the store is full", err)
	}
	return fault.Wrap(fault.Unavailable, "the store does not answer", fmt.Errorf("etcd: %w", err))
}

package etcd

import (
	"context"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/keys"
)

// Values keeps values that no object of the API holds and every replica
// follows. Unlike [Blobs] the last writer wins, and nothing is sealed: no secret
// belongs here.
type Values struct {
	client *clientv3.Client
	prefix string
}

// NewValues keeps values under /gatehouse/<area>/.
func NewValues(client *clientv3.Client, area string) *Values {
	return &Values{client: client, prefix: "/gatehouse/" + area + "/"}
}

// Put writes a name, of the grammar of [keys.CheckName].
func (v *Values) Put(ctx context.Context, name string, value []byte) error {
	if err := keys.CheckName(name); err != nil {
		return err
	}
	if len(value) > keys.MaxValue {
		return fault.Newf(fault.Invalid, "value of %q has %d bytes, at most %d fit", name, len(value), keys.MaxValue)
	}
	if _, err := v.client.Put(ctx, v.prefix+name, string(value)); err != nil {
		return away(err)
	}
	return nil
}

// Remove removes a name or, where it ends with a slash, everything below it.
// What is not there is not missed.
func (v *Values) Remove(ctx context.Context, name string) error {
	var options []clientv3.OpOption
	if below, ok := strings.CutSuffix(name, "/"); ok {
		name, options = below, append(options, clientv3.WithPrefix())
	}
	if err := keys.CheckName(name); err != nil {
		return err
	}
	if options != nil {
		name += "/"
	}
	if _, err := v.client.Delete(ctx, v.prefix+name, options...); err != nil {
		return away(err)
	}
	return nil
}

// Follow calls reset with all values, and apply with every change after that
// (nil for a name that was removed), until ctx ends; after a gap it begins
// anew. Calls come one at a time.
func (v *Values) Follow(ctx context.Context, reset func(map[string][]byte), apply func(name string, value []byte)) error {
	for ctx.Err() == nil {
		if revision, err := v.list(ctx, reset); err == nil {
			v.watch(ctx, revision+1, apply)
		}
		select { // etcd is away
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	return nil
}

func (v *Values) list(ctx context.Context, reset func(map[string][]byte)) (int64, error) {
	r, err := v.client.Get(ctx, v.prefix, clientv3.WithPrefix())
	if err != nil {
		return 0, away(err)
	}
	all := make(map[string][]byte, len(r.Kvs))
	for _, kv := range r.Kvs {
		all[strings.TrimPrefix(string(kv.Key), v.prefix)] = kv.Value
	}
	reset(all)
	return r.Header.Revision, nil
}

func (v *Values) watch(ctx context.Context, from int64, apply func(name string, value []byte)) {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	for r := range v.client.Watch(ctx, v.prefix, clientv3.WithPrefix(), clientv3.WithRev(from)) {
		if r.Err() != nil {
			return
		}
		for _, e := range r.Events {
			name := strings.TrimPrefix(string(e.Kv.Key), v.prefix)
			if e.Type == mvccpb.DELETE {
				apply(name, nil)
				continue
			}
			apply(name, e.Kv.Value)
		}
	}
}

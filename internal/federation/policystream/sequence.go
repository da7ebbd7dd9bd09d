package policystream

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/keys"
)

// Sequence numbers frames in a store that all replicas share. Numbers are
// microseconds of the clock of whoever takes one, or one more than the last:
// they rise over restarts and replicas, and also after a store was restored
// from a backup, which a revision of the store would not.
type Sequence struct {
	Store keys.Store
	Now   func() time.Time

	mu   sync.Mutex // guards last, and keeps takers here from racing
	last keys.Entry
}

const (
	sequenceName = "policy-sequence"
	// maxAttempts bounds how often one number is tried against other replicas.
	maxAttempts = 16
)

// Next takes a number above every one that was taken before.
func (s *Sequence) Next(ctx context.Context) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range maxAttempts {
		if s.last.Revision == 0 {
			entry, err := s.Store.Get(ctx, sequenceName)
			if err != nil && fault.KindOf(err) != fault.NotFound {
				return 0, err
			}
			s.last = entry
		}
		var before uint64
		if len(s.last.Value) > 0 {
			var err error
			if before, err = strconv.ParseUint(string(s.last.Value), 10, 64); err != nil || before == 1<<64-1 {
				return 0, fault.New(fault.Internal, "the stored sequence of policy is damaged")
			}
		}
		next := max(uint64(max(0, s.Now().UnixMicro())), before+1)
		value := strconv.AppendUint(nil, next, 10)
		var revision int64
		var err error
		if s.last.Revision == 0 {
			revision, err = s.Store.Create(ctx, sequenceName, value)
		} else {
			revision, err = s.Store.CompareAndSwap(ctx, sequenceName, value, s.last.Revision)
		}
		s.last = keys.Entry{}
		if fault.KindOf(err) == fault.Conflict {
			continue // another replica was first: read what it wrote
		}
		if err != nil {
			return 0, err
		}
		s.last = keys.Entry{Value: value, Revision: revision}
		return next, nil
	}
	return 0, fault.New(fault.Unavailable, "other replicas are numbering policy: try again")
}

package authzenhttp

import "sync"

const (
	// callerShare is which part of all places one caller may hold: a quarter,
	// so that no single one keeps the others out.
	callerShare = 4
	// largeBody is where a body begins to be large: those have places of their
	// own, a quarter of all, because they are what memory goes to.
	largeBody = 256 << 10
)

// share counts the places of each caller. It is safe for concurrent use.
type share struct {
	all, most int // in total, and of one caller

	mu    sync.Mutex // guards what follows
	taken int
	held  map[string]int
}

func newShare(all int) *share {
	return &share{all: max(1, all), most: max(1, all/callerShare), held: map[string]int{}}
}

// take takes a place; ok is false when there is none, or the caller has all it
// may. give gives it back, once.
func (s *share) take(caller string) (give func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken >= s.all || s.held[caller] >= s.most {
		return nil, false
	}
	s.taken++
	s.held[caller]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.taken--
		if s.held[caller]--; s.held[caller] == 0 {
			delete(s.held, caller)
		}
	}, true
}

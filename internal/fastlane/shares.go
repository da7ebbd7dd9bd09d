package fastlane

import "sync"

// shares bounds what is done at once, in all and by each of those who ask, so
// that none of them can keep the others out. It is safe for concurrent use.
type shares struct {
	most, each int

	mu   sync.Mutex // guards the rest
	all  int
	held map[string]int
}

func newShares(most, each int) *shares {
	return &shares{most: most, each: each, held: map[string]int{}}
}

// take reports whether who may go on; then give must follow.
func (s *shares) take(who string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.held[who]
	if s.all == s.most || n == s.each {
		return false
	}
	s.all++
	s.held[who] = n + 1
	return true
}

func (s *shares) give(who string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if n := s.held[who]; n > 1 {
		s.held[who] = n - 1
	} else {
		delete(s.held, who)
	}
}

package siteobjects

// Load has a site hold, and have written, what is left of its bounds but for
// some bytes.
func (r *Registry) Load(name string, open, write int) {
	s := r.findOrMake(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open, s.spent, s.spentAt = maxOpen-open, float64(maxSite-write), r.now()
}

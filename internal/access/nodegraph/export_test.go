package nodegraph

// Held returns how many objects are kept because of some source.
func (g *Graph) Held() int {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return len(g.needed)
}

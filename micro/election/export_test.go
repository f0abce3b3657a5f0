package election

// Waits tells whether the candidate campaigns and is not elected yet.
func (e *Election) Waits(service, candidate string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.candidates[candidacy{service, candidate}]
	return c != nil && c.leadership == nil
}

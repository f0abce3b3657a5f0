package leanhttp

// Count returns how many connections the client has, and how many of them are idle.
func (c *Client) Count() (open, idle int) { return c.pool.count() }

// Waiting returns how many requests wait for a connection.
func (c *Client) Waiting() int {
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	return len(c.pool.waiting)
}

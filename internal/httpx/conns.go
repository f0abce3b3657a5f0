package httpx

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// conns are the open connections of a server.
type conns struct {
	empty chan struct{} // has one element when the last was closed

	mu     sync.Mutex
	states map[net.Conn]http.ConnState
}

func newConns() *conns {
	return &conns{empty: make(chan struct{}, 1), states: map[net.Conn]http.ConnState{}}
}

// observe is for http.Server's ConnState.
func (c *conns) observe(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if state != http.StateClosed && state != http.StateHijacked {
		c.states[conn] = state
		return
	}
	delete(c.states, conn)
	if len(c.states) == 0 {
		select {
		case c.empty <- struct{}{}:
		default:
		}
	}
}

// wait returns when there are none, or after d. There must be no new ones.
func (c *conns) wait(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for c.count() > 0 {
		select {
		case <-c.empty:
		case <-timer.C:
			return
		}
	}
}

func (c *conns) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.states)
}

// closeUnused closes those on which nothing has come yet, as browsers open them ahead of need. A server that shuts down
// would wait five seconds for each.
func (c *conns) closeUnused() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn, state := range c.states {
		if state == http.StateNew {
			_ = conn.Close() // nobody waits for anything on it
		}
	}
}

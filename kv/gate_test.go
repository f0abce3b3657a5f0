package kv_test

import (
	"net"
	"sync"

	"github.com/skybus-io/skybus/bus/bustest"
)

// gate is the way to a server that can be shut: what is sent and received waits, and no connection breaks.
type gate struct {
	server *bustest.Node

	mu     sync.Mutex
	closed chan struct{} // nil while open
	conns  []*gatedConn
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = make(chan struct{})
}

// cut shuts the gate and breaks the connections that go through it.
func (g *gate) cut() {
	g.shut()
	g.mu.Lock()
	conns := g.conns
	g.conns = nil
	g.mu.Unlock()
	for _, c := range conns {
		_ = c.Close() // once is enough
	}
}

func (g *gate) open() {
	g.mu.Lock()
	close(g.closed)
	g.closed = nil
	conns := g.conns
	g.mu.Unlock()
	for _, c := range conns {
		_, _ = c.Write(nil) // the server may have closed it meanwhile
	}
}

func (g *gate) isShut() chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed
}

func (g *gate) InProcessConn() (net.Conn, error) {
	if closed := g.isShut(); closed != nil {
		<-closed
	}
	c, err := g.server.InProcessConn()
	if err != nil {
		return nil, err
	}
	gc := &gatedConn{Conn: c, gate: g}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.conns = append(g.conns, gc)
	return gc, nil
}

type gatedConn struct {
	net.Conn
	gate *gate

	mu      sync.Mutex
	waiting []byte
}

func (c *gatedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if closed := c.gate.isShut(); closed != nil {
		<-closed
	}
	return n, err
}

// Write never blocks while the gate is shut, since nats.go holds a lock meanwhile.
func (c *gatedConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = append(c.waiting, p...)
	if c.gate.isShut() != nil || len(c.waiting) == 0 {
		return len(p), nil
	}
	_, err := c.Conn.Write(c.waiting)
	c.waiting = nil
	return len(p), err
}

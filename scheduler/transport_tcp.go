package scheduler

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/skybus-io/skybus/bus"
)

const (
	tcpIdle    = 30 * time.Second
	tcpMaxIdle = 1024 // connections of all destinations
)

// tcpTransport writes the payload and a line feed to a TCP connection. Success is that the system has taken it: nothing tells
// whether the other side has read it, and what was on its way when a connection broke is lost. What the other side sends is
// thrown away. Connections are kept for 30 s and used again.
type tcpTransport struct {
	guard   *guard
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	perHost int // idle connections of one destination
	reading sync.WaitGroup

	mu     sync.Mutex
	idle   map[string][]*tcpConn // by destination, the last used at the end
	count  int                   // of all in idle
	closed bool
}

// tcpConn is a connection with somebody who reads it, and so notices its end.
type tcpConn struct {
	net.Conn

	dead   chan struct{} // closed when the other side has closed it
	expiry *time.Timer   // while it is idle
}

var (
	_ Transport      = (*tcpTransport)(nil)
	_ Destinationer  = (*tcpTransport)(nil)
	_ io.Closer      = (*tcpTransport)(nil)
	_ payloadChecker = (*tcpTransport)(nil)
)

func newTCPTransport(g *guard, perDestination int) *tcpTransport {
	return &tcpTransport{guard: g, dial: g.dialer().DialContext, perHost: perDestination, idle: map[string][]*tcpConn{}}
}

// Check reads host and port, and judges the addresses the host has now.
func (x *tcpTransport) Check(ctx context.Context, t Target) error {
	host, _, err := x.address(t)
	if err != nil {
		return err
	}
	return x.guard.checkTarget(ctx, host)
}

// checkPayload keeps a payload from being several lines.
func (x *tcpTransport) checkPayload(payload []byte, _ string) error {
	if i := bytes.IndexByte(payload, '\n'); i >= 0 {
		return invalid(fieldPayload, "has a line feed at %d: the transport tcp sends one line", i)
	}
	return nil
}

func (x *tcpTransport) address(t Target) (host, port string, err error) {
	if len(t.URI) > MaxURI {
		return "", "", invalid(fieldURI, "has %d characters: want at most %d", len(t.URI), MaxURI)
	}
	host, port, err = net.SplitHostPort(strings.TrimPrefix(t.URI, "tcp://"))
	if err != nil {
		return "", "", invalid(fieldURI, "is not host:port")
	}
	if err := checkHost(host); err != nil {
		return "", "", err
	}
	return host, port, x.guard.checkPort(port)
}

// Destination is host and port.
func (x *tcpTransport) Destination(t Target) string {
	return strings.ToLower(strings.TrimPrefix(t.URI, "tcp://"))
}

// Deliver writes one line.
func (x *tcpTransport) Deliver(ctx context.Context, d *Delivery) error {
	host, port, err := x.address(d.Target)
	if err == nil {
		err = x.checkPayload(d.Payload, "")
	}
	if err != nil {
		return hopelessTarget(err)
	}
	destination := x.Destination(d.Target)
	line := make([]byte, 0, len(d.Payload)+1)
	line = append(append(line, d.Payload...), '\n')
	for conn := x.take(destination); conn != nil; conn = x.take(destination) {
		n, err := write(ctx, conn, line)
		if err == nil {
			x.keep(destination, conn)
			return nil
		}
		_ = conn.Close()
		if n > 0 || ctx.Err() != nil {
			return tcpFailure(ctx, err)
		}
		// It was closed while it was idle.
	}
	plain, err := x.dial(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return tcpFailure(ctx, err)
	}
	if _, err := write(ctx, plain, line); err != nil {
		_ = plain.Close()
		return tcpFailure(ctx, err)
	}
	x.keep(destination, x.read(plain))
	return nil
}

// write gives up when ctx ends.
func write(ctx context.Context, conn net.Conn, line []byte) (int, error) {
	if err := conn.SetWriteDeadline(time.Time{}); err != nil {
		return 0, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	return conn.Write(line)
}

func tcpFailure(ctx context.Context, err error) error {
	if e := connectionFailure(ctx, err); e != nil {
		return e
	}
	return &DeliveryError{Err: bus.Wrap(bus.Unavailable, "the connection failed", err)}
}

// read begins to read a connection.
func (x *tcpTransport) read(plain net.Conn) *tcpConn {
	conn := &tcpConn{Conn: plain, dead: make(chan struct{})}
	x.reading.Go(func() {
		_, _ = io.Copy(io.Discard, plain) // until it ends, however it does
		close(conn.dead)
	})
	return conn
}

// take is an idle connection that lives, nil where there is none.
func (x *tcpTransport) take(destination string) *tcpConn {
	x.mu.Lock()
	defer x.mu.Unlock()
	for {
		list := x.idle[destination]
		if len(list) == 0 {
			return nil
		}
		conn := list[len(list)-1]
		x.removeLocked(destination, len(list)-1)
		select {
		case <-conn.dead:
			_ = conn.Close()
		default:
			if conn.expiry.Stop() {
				return conn
			}
		}
	}
}

// keep makes a connection idle, or closes it where there are enough.
func (x *tcpTransport) keep(destination string, conn *tcpConn) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed || x.count >= tcpMaxIdle || len(x.idle[destination]) >= x.perHost {
		_ = conn.Close()
		return
	}
	conn.expiry = time.AfterFunc(tcpIdle, func() { x.expire(destination, conn) })
	x.idle[destination] = append(x.idle[destination], conn)
	x.count++
}

func (x *tcpTransport) expire(destination string, conn *tcpConn) {
	_ = conn.Close()
	x.mu.Lock()
	defer x.mu.Unlock()
	for i, c := range x.idle[destination] {
		if c == conn {
			x.removeLocked(destination, i)
			return
		}
	}
}

func (x *tcpTransport) removeLocked(destination string, i int) {
	list := x.idle[destination]
	list = append(list[:i], list[i+1:]...)
	x.count--
	if len(list) == 0 {
		delete(x.idle, destination)
		return
	}
	x.idle[destination] = list
}

// Close closes the idle connections.
func (x *tcpTransport) Close() error {
	x.mu.Lock()
	x.closed = true
	for _, list := range x.idle {
		for _, conn := range list {
			conn.expiry.Stop()
			_ = conn.Close()
		}
	}
	clear(x.idle)
	x.count = 0
	x.mu.Unlock()
	x.reading.Wait()
	return nil
}

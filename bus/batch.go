package bus

import (
	"crypto/tls"
	"errors"
	"net"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	batchRoom = 256 << 10              // bytes: while so many wait to be written, who has more to send waits too
	batchKept = 64 << 10               // bytes of memory that are kept for the next
	batchRest = 250 * time.Millisecond // for what waits when the connection is closed
	batchLast = 2 * time.Second        // for what a server said before it closed the connection
)

// batchConn is a connection to a server whose writes return at once: a goroutine writes what has come together by then, and ends when nothing waits.
// Under load nats.go makes a write of nearly each message, and holds the lock meanwhile that all who send need. A write that fails, or takes longer than
// timeout, ends the connection, and is the error of the read that finds that: what a server said before it closed the connection is read first. As of any net.Conn, nothing is left of one that is dropped without Close,
// which nats.go does where a server takes a connection and says nothing.
type batchConn struct {
	net.Conn

	timeout time.Duration // of a write; 0 means none

	mu      sync.Mutex
	moved   sync.Cond // there is room again, or nothing is being written any more
	waiting []byte
	spare   []byte // memory for what waits next
	writing bool   // somebody writes
	err     error  // why no more is taken
}

func newBatchConn(conn net.Conn, timeout time.Duration) *batchConn {
	c := &batchConn{Conn: conn, timeout: timeout}
	c.moved.L = &c.mu
	return c
}

// Write keeps p to be written. It waits only where too much waits already.
func (c *batchConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.waiting) >= batchRoom && c.err == nil {
		c.moved.Wait()
	}
	if c.err != nil {
		return 0, c.err
	}
	c.waiting = append(c.waiting, p...)
	if !c.writing {
		c.writing = true
		go c.run()
	}
	return len(p), nil
}

// run writes what waits until nothing does.
func (c *batchConn) run() {
	var out []byte
	for {
		runtime.Gosched() // who is about to send comes along
		if out = c.take(out); out == nil {
			return
		}
		if err := c.write(out); err != nil {
			c.fail(err)
			return
		}
	}
}

// take is what waits, nil for nothing: then who writes ends. written is what was taken before.
func (c *batchConn) take(written []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if written != nil && cap(written) <= batchKept {
		c.spare = written[:0]
	}
	c.moved.Broadcast()
	if len(c.waiting) == 0 {
		c.writing = false
		return nil
	}
	out := c.waiting
	c.waiting, c.spare = c.spare, nil
	return out
}

func (c *batchConn) write(out []byte) error {
	if c.timeout > 0 {
		_ = c.Conn.SetWriteDeadline(time.Now().Add(c.timeout)) // where it fails the write does too
	}
	_, err := c.Conn.Write(out)
	return err
}

// fail ends the connection, so that whoever reads from it hears of it: after what has arrived, where the server has closed it.
func (c *batchConn) fail(err error) {
	c.mu.Lock()
	if c.err == nil {
		c.err = err
	}
	c.waiting, c.writing = nil, false
	c.moved.Broadcast()
	c.mu.Unlock()
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		// To close it would drop what was not read yet, as why the server did so. The end follows that; a connection that has none gets one.
		_ = c.SetReadDeadline(time.Now().Add(batchLast)) // fails only where it is closed
		return
	}
	_ = c.Conn.Close() // it is no use any more
}

// Read reads. The error is that of a write where that was the reason.
func (c *batchConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.err != nil {
			err = c.err
		}
	}
	return n, err
}

// Close closes the connection when what waits is written, which is given a moment only.
func (c *batchConn) Close() error {
	c.mu.Lock()
	if c.err == nil {
		c.err = net.ErrClosed
	}
	c.moved.Broadcast()
	rest := time.AfterFunc(batchRest, func() { _ = c.Conn.Close() }) // which ends the write
	for c.writing {
		c.moved.Wait()
	}
	c.mu.Unlock()
	if !rest.Stop() {
		return nil // it is closed
	}
	return c.Conn.Close()
}

// SetDeadline sets that of reads: each write has its own.
func (c *batchConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetWriteDeadline does nothing, as above.
func (c *batchConn) SetWriteDeadline(time.Time) error { return nil }

// batching is how connections are made.
type batching struct {
	timeout time.Duration // of a write
	begin   func()        // called before each is made
}

// batchDialer makes connections by another dialer.
type batchDialer struct {
	nats.CustomDialer
	batching
}

// Dial connects.
func (d batchDialer) Dial(network, address string) (net.Conn, error) {
	d.begin()
	conn, err := d.CustomDialer.Dial(network, address)
	if err != nil {
		return nil, err
	}
	if _, ok := conn.(*tls.Conn); ok {
		return conn, nil // nats.go, and who asks it for the state of TLS, has to see what it is
	}
	return newBatchConn(conn, d.timeout), nil
}

// SkipTLSHandshake is what the other dialer says.
func (d batchDialer) SkipTLSHandshake() bool {
	other, ok := d.CustomDialer.(interface{ SkipTLSHandshake() bool })
	return ok && other.SkipTLSHandshake()
}

// batchInProcess makes connections to a server in this process.
type batchInProcess struct {
	nats.InProcessConnProvider
	batching
}

// InProcessConn connects.
func (p batchInProcess) InProcessConn() (net.Conn, error) {
	p.begin()
	conn, err := p.InProcessConnProvider.InProcessConn()
	if err != nil {
		return nil, err
	}
	return newBatchConn(conn, p.timeout), nil
}

// batchWrites is a nats.Option that calls begin before a connection is made, the first and each after a loss. It comes after a
// user's own, which may name a dialer.
func batchWrites(begin func()) nats.Option {
	return func(o *nats.Options) error {
		how := batching{o.FlusherTimeout, begin}
		if o.InProcessServer != nil {
			o.InProcessServer, o.FlusherTimeout = batchInProcess{o.InProcessServer, how}, 0 // what it is of takes no time now
			return nil
		}
		if o.CustomDialer == nil {
			dialer := net.Dialer{Timeout: o.Timeout}
			if o.Dialer != nil {
				dialer = *o.Dialer
			}
			if o.AllowMultipathTCP != nil {
				dialer.SetMultipathTCP(*o.AllowMultipathTCP)
			}
			o.CustomDialer, o.FlusherTimeout = &dialer, 0 // as above; a user's dialer may make what is not ours to write
		}
		o.CustomDialer = batchDialer{o.CustomDialer, how}
		return nil
	}
}

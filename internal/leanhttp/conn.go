package leanhttp

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	readBuffer = 4 << 10
	// Bodies up to this size are copied behind their head, so that there is one write; what is kept for that grows to no more.
	copiedBody = 32 << 10
	// Bodies up to this size are written before the answer is read: they fit into the buffers of the sockets, so a backend that answers
	// without reading them is heard. Larger ones are written by a goroutine.
	inlineBody = 64 << 10
)

// conn is a connection. Who has taken it from the pool has it alone.
type conn struct {
	nc      net.Conn // with TLS, where the backend speaks that
	under   net.Conn // without
	r       *bufio.Reader
	w       []byte // heads and small bodies on their way out
	in      []byte // heads on their way in
	look    looker
	since   time.Time // it is idle
	kept    bool      // it has had an answer
	aborted atomic.Pointer[error]
	writing chan struct{} // closed when the goroutine that writes a large body has ended; nil without
}

// connect makes a connection.
func (c *Client) connect(ctx context.Context, deadline time.Time) (*conn, error) {
	limit := time.Now().Add(c.cfg.DialTimeout)
	if !deadline.IsZero() && deadline.Before(limit) {
		limit = deadline
	}
	ctx, cancel := context.WithDeadline(ctx, limit)
	defer cancel()
	under, err := c.cfg.Dial(ctx, "tcp", c.addr)
	if err != nil {
		return nil, err
	}
	cn := &conn{nc: under, under: under}
	if c.cfg.TLS != nil {
		secure := tls.Client(under, c.cfg.TLS)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(err, under.Close())
		}
		cn.nc = secure
	}
	cn.r = bufio.NewReaderSize(cn.nc, readBuffer)
	if sc, ok := under.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			cn.look = newLooker(raw)
		}
	}
	if err := cn.nc.SetDeadline(deadline); err != nil {
		return nil, errors.Join(err, under.Close())
	}
	return cn, nil
}

// alive gives an idle connection its next deadline, and tells whether the peer has neither closed it nor said something unasked.
func (c *conn) alive(deadline time.Time) bool {
	if c.nc != c.under && !c.drained() {
		return false
	}
	return c.nc.SetDeadline(deadline) == nil && c.look.quiet()
}

// drained tells whether TLS holds nothing that it has read from the network and not handed on. It does not look at the network.
func (c *conn) drained() bool {
	if err := c.nc.SetReadDeadline(time.Unix(1, 0)); err != nil {
		return false
	}
	_, err := c.r.Peek(1)
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// abort closes the connection under whoever uses it.
func (c *conn) abort(cause error) {
	c.aborted.CompareAndSwap(nil, &cause)
	_ = c.under.Close() // the user gets the cause
}

// close may be called after abort.
func (c *conn) close() {
	_ = c.under.Close() // below TLS, whose farewell could wait for a writer
	if c.writing != nil {
		<-c.writing
	}
}

// write returns how much of the request it handed on.
func (c *conn) write(req *Request, addr string) (int64, error) {
	c.w = req.appendHead(c.w[:0], addr)
	if len(req.Body) > copiedBody {
		return c.writeBody(req)
	}
	c.w = append(c.w, req.Body...)
	if err := req.ready(); err != nil {
		return 0, err
	}
	n, err := c.nc.Write(c.w)
	if cap(c.w) > 2*copiedBody {
		c.w = nil
	}
	return int64(n), err
}

// writeBody writes the head and a body that is not copied behind it. The end of the body is what takes leave: before it the backend has no request.
func (c *conn) writeBody(req *Request) (int64, error) {
	buffers, end := net.Buffers{c.w, req.Body}, []byte(nil)
	if req.Ready != nil {
		n := len(req.Body) - copiedBody
		buffers[1], end = req.Body[:n], req.Body[n:]
	}
	sent, err := buffers.WriteTo(c.nc)
	if err != nil || req.Ready == nil {
		return sent, err
	}
	if err := req.ready(); err != nil {
		return sent, err
	}
	n, err := c.nc.Write(end)
	return sent + int64(n), err
}

// send writes the request and returns when the answer begins; whole is false if it began before the request was written. With an error
// there will be no answer, and sent tells whether some of the request was handed on.
func (c *conn) send(req *Request, addr string) (whole, sent bool, err error) {
	if len(req.Body) > inlineBody {
		return c.sendLarge(req, addr)
	}
	n, err := c.write(req, addr)
	if err != nil && n == 0 {
		return false, false, err
	}
	if _, ok := errors.AsType[*notReadyError](err); ok {
		return false, true, err
	}
	if _, rerr := c.r.Peek(1); rerr != nil { // else the backend has answered what it could not read
		return false, true, cmp.Or(err, rerr)
	}
	return err == nil, true, nil
}

// sendLarge leaves the goroutine that writes running, where the answer comes first.
func (c *conn) sendLarge(req *Request, addr string) (whole, sent bool, err error) {
	var n int64
	var werr error
	done := make(chan struct{})
	c.writing = done
	go func() {
		defer close(done)
		n, werr = c.write(req, addr)
		if _, ok := errors.AsType[*notReadyError](werr); ok {
			_ = c.under.Close() // nobody will answer
		}
	}()
	_, err = c.r.Peek(1)
	if err != nil {
		c.close()
		return false, n > 0, cmp.Or(werr, err)
	}
	select {
	case <-done:
		c.writing = nil
		return werr == nil, true, nil
	default:
		return false, true, nil
	}
}

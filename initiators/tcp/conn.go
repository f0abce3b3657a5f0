package tcp

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nuid"

	"github.com/skybus-io/skybus/bus"
)

const (
	readBuffer  = 8 << 10
	writeBuffer = 4 << 10
)

var (
	errIdle    = errors.New("idle")
	errStopped = errors.New("the server has stopped")
	errBroken  = errors.New("the connection has broken")
	errHTTP    = errors.New("tcp: HTTP")
	errProxy   = errors.New("tcp: PROXY protocol")
)

// conn is one connection. One goroutine reads frames, one writes answers in their order, and each request has one.
type conn struct {
	v      *serving
	id     string
	remote string
	ip     netip.Addr
	raw    net.Conn    // below TLS
	intro  *introduced // over raw; nil where no balancer says whose connection it is
	tls    *tls.Conn   // nil without
	nc     *timedConn
	br     *bufio.Reader
	bw     *bufio.Writer
	name   string // of the client's certificate
	silent bool   // nothing more is answered, by who writes answers

	room     chan struct{}  // one for the frame that is read, and for each that is not answered
	queue    chan *exchange // in the order of the frames
	requests sync.WaitGroup

	began time.Time
	wrote atomic.Int64 // when, since began

	broken  chan struct{} // closed when nothing can be written any more
	once    sync.Once     // closes it
	abandon context.CancelCauseFunc
}

func newConn(v *serving, raw net.Conn, ip netip.Addr, behind bool) *conn {
	c := &conn{
		v: v, id: nuid.Next(), remote: raw.RemoteAddr().String(), ip: ip, raw: raw, began: time.Now(),
		room: make(chan struct{}, v.cfg.Pipeline), queue: make(chan *exchange, v.cfg.Pipeline), broken: make(chan struct{}), abandon: func(error) {},
	}
	under := raw
	if behind {
		c.intro = newIntroduced(raw)
		under = c.intro
	}
	if v.cfg.TLS != nil {
		c.tls = tls.Server(under, v.cfg.TLS)
		under = c.tls
	}
	c.nc = &timedConn{Conn: under, writeTimeout: v.cfg.WriteTimeout}
	c.br, c.bw = bufio.NewReaderSize(c.nc, readBuffer), bufio.NewWriterSize(c.nc, writeBuffer)
	return c
}

// serve is the whole life of a connection.
func (c *conn) serve(work context.Context) {
	ctx, abandon := context.WithCancelCause(work)
	defer abandon(nil)
	c.abandon = abandon
	if !c.handshake(ctx) {
		return
	}
	var writing sync.WaitGroup
	writing.Go(c.write)
	end := c.read(ctx)
	if end.reason != "" {
		c.v.counts.refuse(end.reason)
		c.v.log.DebugContext(ctx, "connection ended", "remote", c.remote, "reason", string(end.reason))
	}
	if end.err != nil && !c.v.cfg.OneWay {
		c.queue <- done(end.err)
	}
	close(c.queue)
	writing.Wait()
	c.requests.Wait()
	c.close(end)
}

// turnAway tells a client why it is not served.
func (c *conn) turnAway(work context.Context, err error) {
	c.nc.endWriting(time.Now().Add(cutOffTimeout))
	if !c.handshake(work) {
		return
	}
	if !c.v.cfg.OneWay {
		c.put(done(err))
		c.flush()
	}
	c.close(ending{})
}

// handshake agrees on TLS, where there is any. It closes the connection if it fails.
func (c *conn) handshake(ctx context.Context) bool {
	if c.tls == nil {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	if err := c.tls.HandshakeContext(ctx); err != nil {
		c.v.counts.refuse(ReasonHandshake)
		c.v.log.DebugContext(ctx, "no TLS with a client", "remote", c.remote, "error", err)
		_ = c.raw.Close() // nobody waits for anything on it
		return false
	}
	// What nobody has verified says nothing: with tls.RequireAnyClientCert the client writes it itself.
	if chains := c.tls.ConnectionState().VerifiedChains; len(chains) > 0 && len(chains[0]) > 0 {
		c.name = chains[0][0].Subject.CommonName
	}
	return true
}

// ending is how reading ended.
type ending struct {
	reason Reason // empty when the client closed, the server stops, or answers cannot be written
	err    error  // what the client is told; nil means nothing
	closed bool   // by the client
}

// read reads frames until there are no more to be had.
func (c *conn) read(ctx context.Context) ending {
	for number := uint64(1); ; {
		select {
		case c.room <- struct{}{}:
		case <-c.broken:
			return ending{}
		}
		// What is in the buffer then is left alone: it has no answer. Of who waits for none, it is all taken.
		if !c.v.cfg.OneWay && c.nc.readingEnded() {
			return ending{}
		}
		if err := c.await(); err != nil {
			return c.ended(err, false)
		}
		if number == 1 {
			if err := cmp.Or(c.refuseProxy(), c.refuseHTTP()); err != nil {
				return c.ended(err, true)
			}
		}
		c.nc.setReadBy(time.Now().Add(c.v.cfg.FrameTimeout))
		frame, err := c.frame()
		if errors.Is(err, ErrSkip) {
			<-c.room
			continue
		}
		if err != nil {
			return c.ended(err, true)
		}
		c.v.counts.frames.Add(1)
		c.dispatch(ctx, frame, number)
		number++
	}
}

// await returns when there is something to read.
func (c *conn) await() error {
	if c.br.Buffered() > 0 {
		return nil
	}
	for quiet := time.Now(); ; {
		c.nc.setReadBy(quiet.Add(c.v.cfg.IdleTimeout))
		_, err := c.br.Peek(1)
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) || c.nc.readingEnded() {
			return err
		}
		// Who waits for an answer is not idle, nor is who was given one just now.
		last := c.began.Add(time.Duration(c.wrote.Load()))
		if len(c.room) > 1 {
			last = time.Now()
		}
		if !last.After(quiet) {
			return errIdle
		}
		quiet = last
	}
}

// frame reads one.
func (c *conn) frame() (frame []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = c.panicked("framing", r)
		}
	}()
	limit := c.v.cfg.MaxFrame
	frame, err = c.v.cfg.Framing.ReadFrame(c.br, limit)
	if err == nil && len(frame) > limit {
		err = TooLong(limit)
	}
	return frame, err
}

// panicked makes an error of what code of a user's did.
func (c *conn) panicked(what string, r any) error {
	c.v.log.Error("panic", "in", what, "remote", c.remote, "panic", r, "stack", string(debug.Stack()))
	return bus.Errorf(bus.Internal, "internal error")
}

// ended says what an error of a read means.
func (c *conn) ended(err error, within bool) ending {
	told, ours := errors.AsType[*bus.Error](err)
	switch {
	case ours && errors.Is(err, errTooLong):
		return ending{reason: ReasonTooLong, err: told}
	case ours && errors.Is(err, errHTTP):
		return ending{reason: ReasonHTTP, err: told}
	case ours && errors.Is(err, errProxy):
		return ending{reason: ReasonProxy, err: told}
	case ours:
		return ending{reason: ReasonBadFrame, err: told}
	case errors.Is(err, errIdle):
		return ending{reason: ReasonIdle}
	case errors.Is(err, io.EOF) && !within:
		return ending{closed: true}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		e := bus.Errorf(bus.InvalidArgument, "the connection ended within a frame, which was not sent on")
		return ending{reason: ReasonUnfinished, err: e, closed: true}
	case errors.Is(err, os.ErrDeadlineExceeded) && c.nc.readingEnded():
		return ending{}
	case errors.Is(err, os.ErrDeadlineExceeded):
		e := bus.Errorf(bus.DeadlineExceeded, "the frame was not finished within %v, and not sent on", c.v.cfg.FrameTimeout)
		e.Status = http.StatusRequestTimeout
		return ending{reason: ReasonSlowFrame, err: e}
	}
	if !c.v.cfg.OneWay {
		c.breakOff()
	}
	return ending{reason: ReasonBroken}
}

// breakOff ends what is done for a connection that nothing can be written to any more.
func (c *conn) breakOff() {
	c.once.Do(func() {
		close(c.broken)
		c.abandon(errBroken)
		c.nc.endReading(time.Now())
	})
}

func (c *conn) isBroken() bool {
	select {
	case <-c.broken:
		return true
	default:
		return false
	}
}

// close closes the connection so that the client can read what was written last: a system that closes while there is something unread resets the connection.
func (c *conn) close(end ending) {
	switch {
	case c.isBroken(), end.reason == ReasonBroken:
		if tc, ok := c.raw.(*net.TCPConn); ok {
			_ = tc.SetLinger(0) // what was not taken is not kept for it
		}
		_ = c.raw.Close() // below TLS, whose farewell could wait for a reader
	case !end.closed && c.halfClose():
		under := c.nc.Conn
		_ = under.SetReadDeadline(time.Now().Add(lingerTimeout)) // that of timedConn may be over
		_, _ = io.Copy(io.Discard, under)                        // until the client closes too
		_ = c.raw.Close()
	default:
		_ = c.nc.Close()
	}
}

// halfClose says that nothing more will be written.
func (c *conn) halfClose() bool {
	half, ok := c.nc.Conn.(interface{ CloseWrite() error })
	return ok && half.CloseWrite() == nil
}

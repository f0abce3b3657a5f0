package scheduler

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	maxPlainBody = 16 << 10 // that is sent before the answer is read: it fits into the system's buffers
	maxInterim   = 5        // answers 1xx before the answer
	wireBuffer   = 4 << 10
	idleLook     = idleTimeout / 6
)

// plainHTTP makes requests of HTTP/1.1 without TLS by connections that it keeps, each with no more than the goroutine that waits for the answer:
// half the work of [http.Transport], which reads and writes by two others.
type plainHTTP struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)
	most int // idle connections to an address

	mu     sync.Mutex
	idle   map[string][]*wire // by address, the last used at the end
	count  int                // of all in idle
	expiry *time.Timer        // nil while none is idle
	closed bool
}

func newPlainHTTP(dial func(ctx context.Context, network, address string) (net.Conn, error), most int) *plainHTTP {
	return &plainHTTP{dial: dial, most: most, idle: map[string][]*wire{}}
}

// wire is a connection.
type wire struct {
	net.Conn

	r    *bufio.Reader
	w    *bufio.Writer
	left int64     // bytes that may still be read
	used bool      // it had an answer before
	came bool      // something was read since the request
	rest time.Time // since when it is idle
}

var errAnswerTooLarge = errors.New("the header of the answer is too large")

// Read reads no more than is left.
func (c *wire) Read(b []byte) (int, error) {
	if c.left <= 0 {
		return 0, errAnswerTooLarge
	}
	n, err := c.Conn.Read(b[:min(int64(len(b)), c.left)])
	c.left -= int64(n)
	c.came = c.came || n > 0
	return n, err
}

// roundTrip makes a request to an address, by a new connection if it has to be fresh, and returns the answer without its body.
// stale tells that the connection had been kept, and nothing came by it.
func (p *plainHTTP) roundTrip(ctx context.Context, req *http.Request, address string, fresh bool) (res *http.Response, stale bool, err error) {
	c, err := p.take(ctx, address, fresh)
	if err != nil {
		return nil, false, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	res, err = c.exchange(req)
	if err != nil {
		stop()
		_ = c.Close() // nothing is left to be lost
		return nil, c.used && !c.came, err
	}
	again := c.discard(res)
	if !stop() || fresh || !again {
		_ = c.Close() // the answer is there
		return res, false, nil
	}
	p.keep(address, c)
	return res, false, nil
}

// exchange writes a request and reads the header of the answer.
func (c *wire) exchange(req *http.Request) (*http.Response, error) {
	c.came = false
	if err := req.Write(c.w); err != nil {
		return nil, err
	}
	if err := c.w.Flush(); err != nil {
		return nil, err
	}
	c.left = maxAnswerHeader
	for range maxInterim + 1 {
		res, err := http.ReadResponse(c.r, req)
		if err != nil {
			return nil, err
		}
		if res.StatusCode/100 != 1 || res.StatusCode == http.StatusSwitchingProtocols {
			return res, nil
		}
	}
	return nil, fmt.Errorf("more than %d answers before the answer", maxInterim)
}

// discard reads what is left of an answer, a little and not for long, and tells whether the connection can be used again.
func (c *wire) discard(res *http.Response) bool {
	c.left = math.MaxInt64
	if res.Body != http.NoBody {
		if c.SetReadDeadline(time.Now().Add(answerBodyTime)) != nil {
			return false
		}
		if n, err := io.CopyN(io.Discard, res.Body, maxAnswerBody); n == maxAnswerBody || !errors.Is(err, io.EOF) {
			return false
		}
		if c.SetReadDeadline(time.Time{}) != nil {
			return false
		}
	}
	return !res.Close && res.StatusCode != http.StatusSwitchingProtocols && c.r.Buffered() == 0
}

// take is a connection to an address that was kept, or a new one.
func (p *plainHTTP) take(ctx context.Context, address string, fresh bool) (*wire, error) {
	for !fresh {
		c := p.kept(address)
		if c == nil {
			break
		}
		if quiet(c.Conn) {
			return c, nil
		}
		_ = c.Close() // the other side has closed it, or says what it was not asked
	}
	conn, err := p.dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := &wire{Conn: conn, w: bufio.NewWriterSize(conn, wireBuffer)}
	c.r = bufio.NewReaderSize(c, wireBuffer)
	return c, nil
}

func (p *plainHTTP) kept(address string) *wire {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.idle[address]
	if len(all) == 0 {
		return nil
	}
	c := all[len(all)-1]
	all[len(all)-1] = nil
	p.setLocked(address, all[:len(all)-1])
	p.count--
	return c
}

func (p *plainHTTP) setLocked(address string, all []*wire) {
	if len(all) == 0 {
		delete(p.idle, address)
		return
	}
	p.idle[address] = all
}

// keep keeps a connection for the next request, in place of another one where there are many.
func (p *plainHTTP) keep(address string, c *wire) {
	c.used, c.rest = true, time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.idle[address]) >= p.most {
		_ = c.Close() // the answer is there
		return
	}
	if p.count >= max(maxIdle, p.most) {
		for other, all := range p.idle {
			_ = all[0].Close() // it is idle
			all[0] = nil
			p.setLocked(other, all[1:])
			p.count--
			break
		}
	}
	p.idle[address] = append(p.idle[address], c)
	p.count++
	if p.expiry == nil {
		p.expiry = time.AfterFunc(idleLook, p.expire)
	}
}

// expire closes what has been idle for long.
func (p *plainHTTP) expire() {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for address, all := range p.idle {
		n := 0
		for n < len(all) && now.Sub(all[n].rest) > idleTimeout {
			_ = all[n].Close() // it is idle
			all[n] = nil
			n++
		}
		p.count -= n
		p.setLocked(address, all[n:])
	}
	p.expiry = nil
	if p.count > 0 && !p.closed {
		p.expiry = time.AfterFunc(idleLook, p.expire)
	}
}

// close closes what is idle, and keeps nothing any more.
func (p *plainHTTP) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.expiry != nil {
		p.expiry.Stop()
	}
	for _, all := range p.idle {
		for _, c := range all {
			_ = c.Close() // it is idle
		}
	}
	clear(p.idle)
	p.count = 0
}

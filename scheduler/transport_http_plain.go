package scheduler

import (
	"context"
	"io"
	"net"
	"sync"
	"time"

	"github.com/skybus-io/skybus/internal/leanhttp"
)

const maxClients = 512 // addresses whose connections are kept, beside those in use

// plainHTTP makes requests without TLS, at half the CPU time of [http.Transport].
type plainHTTP struct {
	cfg leanhttp.Config

	mu      sync.Mutex
	clients map[string]*plainClient // by address
	closed  bool
}

// plainClient is the connections to an address.
type plainClient struct {
	*leanhttp.Client

	using int
	last  time.Time
}

func newPlainHTTP(dial func(ctx context.Context, network, address string) (net.Conn, error), most int) *plainHTTP {
	return &plainHTTP{clients: map[string]*plainClient{}, cfg: leanhttp.Config{
		Dial: dial, DialTimeout: dialTimeout,
		MaxOpen: maxIdle + most, MaxIdle: most, // who calls bounds how many there are at once
		IdleTimeout: idleTimeout, MaxHeadBytes: maxAnswerHeader,
	}}
}

// do makes a request, and once more by a new connection where one that was kept breaks before anything is answered. Of the
// body of the answer it reads a little, and not for long.
func (p *plainHTTP) do(ctx context.Context, address string, req *leanhttp.Request) (status int, header leanhttp.Header, err error) {
	c, err := p.client(address)
	if err != nil {
		return 0, nil, err
	}
	defer p.release(c)
	req.Repeatable = true
	s, err := c.Open(ctx, req)
	if err != nil {
		return 0, nil, err
	}
	if s.Length != 0 {
		timer := time.AfterFunc(answerBodyTime, func() { _ = s.Close() }) // always nil
		_, _ = io.CopyN(io.Discard, s, maxAnswerBody)                     // the status has decided already
		timer.Stop()
	}
	_ = s.Close() // always nil
	return s.Status, s.Header, nil
}

func (p *plainHTTP) client(address string) (*plainClient, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, leanhttp.ErrClosed
	}
	c := p.clients[address]
	if c == nil {
		p.makeRoomLocked()
		lean, err := leanhttp.New(address, p.cfg)
		if err != nil {
			return nil, err
		}
		c = &plainClient{Client: lean}
		p.clients[address] = c
	}
	c.using++
	return c, nil
}

// makeRoomLocked gives up the connections to the address that was not used for longest, where there are many.
func (p *plainHTTP) makeRoomLocked() {
	if len(p.clients) < maxClients {
		return
	}
	oldest := ""
	for address, c := range p.clients {
		if c.using == 0 && (oldest == "" || c.last.Before(p.clients[oldest].last)) {
			oldest = address
		}
	}
	if oldest != "" {
		_ = p.clients[oldest].Close() // always nil
		delete(p.clients, oldest)
	}
}

func (p *plainHTTP) release(c *plainClient) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.using--
	c.last = time.Now()
}

// close closes what is idle, and allows nothing any more.
func (p *plainHTTP) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, c := range p.clients {
		_ = c.Close() // always nil
	}
}

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// leanClient posts by as little HTTP as there is: the same bytes again and again over connections that stay open, so that it is not
// what is measured on a machine that it shares with the server.
type leanClient struct {
	requests []leanRequest // of each server; connections take them in turns
	status   int           // that answers should have
	body     []byte        // the same; nil means any
	fresh    bool          // each request has a connection of its own
	next     atomic.Int64
	idle     chan *leanConn

	mu  sync.Mutex
	all []*leanConn
}

type leanRequest struct {
	host  string
	bytes []byte
}

// leanConn has one request under way at a time.
type leanConn struct {
	net.Conn

	r       *bufio.Reader
	request []byte
	until   time.Time // its deadline
}

// newLeanCaller creates timers at Skyring's API of all the addresses, over as many connections as there are calls in flight.
func newLeanCaller(_ context.Context, urls []string) (call caller, stop func() error) {
	c := &leanClient{status: http.StatusCreated, idle: make(chan *leanConn, maxCallers)}
	body := fmt.Sprintf(`{"timeout":%d,"data":"%s","callback":{"transport":"http","method":"post","uri":"%s"}}`,
		farAway.Milliseconds(), bytes.Repeat([]byte("x"), timerBody), timerTarget().URI)
	for _, u := range urls {
		host := u
		if parsed, err := url.Parse(u); err == nil && parsed.Host != "" {
			host = parsed.Host
		}
		c.requests = append(c.requests, leanPost(host, "/timer", "", body))
	}
	return c.call, c.close
}

// leanPost is a request with JSON; header are further lines of its head.
func leanPost(host, path, header, body string) leanRequest {
	return leanRequest{host, fmt.Appendf(nil,
		"POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n%s", path, host, len(body), header, body)}
}

// call makes a request.
func (c *leanClient) call(ctx context.Context, _ int64) (err error) {
	var conn *leanConn
	if c.fresh {
		if conn, err = c.dial(ctx); err == nil {
			defer func() { err = errors.Join(err, conn.Close()) }()
		}
	} else {
		conn, err = c.take(ctx)
	}
	if err != nil {
		return err
	}
	status, body, err := conn.do()
	switch {
	case err != nil:
	case status != c.status:
		err = fmt.Errorf("status %d: want %d", status, c.status)
	case c.body != nil && !bytes.Equal(body, c.body):
		err = fmt.Errorf("answer %.200q: want %.200q", body, c.body)
	}
	if err != nil || c.fresh {
		return err // the connection is closed with all others
	}
	c.idle <- conn
	return nil
}

func (c *leanClient) take(ctx context.Context) (*leanConn, error) {
	select {
	case conn := <-c.idle:
		return conn, nil
	default:
	}
	l, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, l)
	return l, nil
}

func (c *leanClient) dial(ctx context.Context) (*leanConn, error) {
	to := c.requests[int(c.next.Add(1))%len(c.requests)]
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", to.host)
	if err != nil {
		return nil, err
	}
	return &leanConn{Conn: conn, r: bufio.NewReaderSize(conn, 16<<10), request: to.bytes}, nil
}

func (c *leanClient) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, conn := range c.all {
		errs = append(errs, conn.Close())
	}
	return errors.Join(errs...)
}

// do sends the request and reads the answer. The body is good until the next one.
func (c *leanConn) do() (status int, body []byte, err error) {
	if now := time.Now(); c.until.Sub(now) < callTimeout {
		c.until = now.Add(2 * callTimeout)
		if err := c.SetDeadline(c.until); err != nil {
			return 0, nil, err
		}
	}
	if _, err := c.Write(c.request); err != nil {
		return 0, nil, err
	}
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return 0, nil, err
	}
	const version, digits = "HTTP/1.1 ", 3
	if len(line) < len(version)+digits || !bytes.HasPrefix(line, []byte(version)) {
		return 0, nil, fmt.Errorf("answer %.50q: want HTTP/1.1", line)
	}
	if status, err = strconv.Atoi(string(line[len(version) : len(version)+digits])); err != nil {
		return 0, nil, err
	}
	size, err := readSize(c.r)
	if err != nil {
		return 0, nil, err
	}
	if body, err = c.r.Peek(size); err != nil {
		return 0, nil, err
	}
	_, err = c.r.Discard(size)
	return status, body, err
}

// readSize reads the rest of a message's head, and returns the length of its body.
func readSize(r *bufio.Reader) (size int, err error) {
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return 0, errors.Join(err, io.ErrUnexpectedEOF)
		}
		if line = bytes.TrimSuffix(line, []byte("\r\n")); len(line) == 0 {
			return size, nil
		}
		if v, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if size, err = strconv.Atoi(string(v)); err != nil {
				return 0, err
			}
		}
	}
}

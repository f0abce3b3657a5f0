// Package leanhttp is an HTTP/1.1 client for a backend that is near: connections that stay open, one write for a request, no goroutine
// and no timer for the usual one.
//
// [Client] sends requests to one address, [Transport] is an [http.RoundTripper] made of clients, and of net/http's own transport for what
// they do not do. Both are strict: what of an answer could be understood in two ways is an error, never a guess. Redirects, cookies,
// proxies and compression are left to the caller.
//
// An error is a [*Error] and tells whether the backend may have applied the request. Nothing is sent twice, unless the request says that
// it may be, or none of it had left.
package leanhttp

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Defaults of a [Config].
const (
	DefaultMaxOpen       = 256
	DefaultIdleTimeout   = 30 * time.Second
	DefaultDialTimeout   = 5 * time.Second
	DefaultMaxHeadBytes  = 64 << 10
	DefaultMaxAnswerBody = 1 << 20
)

// Config is of a [Client]. The zero value works.
type Config struct {
	// Dial makes connections; nil means a [net.Dialer]'s. It may be called by many at once.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// TLS, where it is not nil, is spoken on what Dial returns, HTTP/1.1 only. An empty ServerName means the host of the address.
	TLS *tls.Config

	MaxOpen     int           // connections at a time, used and idle; 0 means 256
	MaxIdle     int           // of them without a request; 0 means MaxOpen
	IdleTimeout time.Duration // an idle connection is closed after it; 0 means 30 s
	DialTimeout time.Duration // for a connection with its TLS handshake, beside the request's own deadline; 0 means 5 s

	MaxHeadBytes  int   // status line and header of an answer, and its trailers; 0 means 64 KiB
	MaxAnswerBody int64 // what Do keeps of a body; 0 means 1 MiB
}

func (c Config) withDefaults() Config {
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	c.MaxOpen = cmp.Or(c.MaxOpen, DefaultMaxOpen)
	c.MaxIdle = min(cmp.Or(c.MaxIdle, c.MaxOpen), c.MaxOpen)
	c.IdleTimeout = cmp.Or(c.IdleTimeout, DefaultIdleTimeout)
	c.DialTimeout = cmp.Or(c.DialTimeout, DefaultDialTimeout)
	c.MaxHeadBytes = cmp.Or(c.MaxHeadBytes, DefaultMaxHeadBytes)
	c.MaxAnswerBody = cmp.Or(c.MaxAnswerBody, DefaultMaxAnswerBody)
	return c
}

func (c Config) check() error {
	for _, v := range []struct {
		name  string
		value int64
	}{
		{"MaxOpen", int64(c.MaxOpen)},
		{"MaxIdle", int64(c.MaxIdle)},
		{"IdleTimeout", int64(c.IdleTimeout)},
		{"DialTimeout", int64(c.DialTimeout)},
		{"MaxHeadBytes", int64(c.MaxHeadBytes)},
		{"MaxAnswerBody", c.MaxAnswerBody},
	} {
		if v.value < 0 {
			return fmt.Errorf("leanhttp: %s is %d: want 0 or more", v.name, v.value)
		}
	}
	return nil
}

// Client sends requests to one address. Many may use it at once; each request has a connection to itself while it runs. There are at
// most MaxOpen: who finds none free waits, first come first served, as long as the request's deadline allows.
type Client struct {
	addr string
	cfg  Config
	pool pool
}

// New returns a client for an address of the form host:port. It connects when there is something to send.
func New(addr string, cfg Config) (*Client, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("leanhttp: address %q: %w", addr, err)
	}
	if host == "" || port == "" || !validHost(addr) {
		return nil, fmt.Errorf("leanhttp: address %q: want host:port", addr)
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	c := &Client{addr: addr, cfg: cfg.withDefaults()}
	if cfg.TLS != nil {
		c.cfg.TLS = cfg.TLS.Clone()
		c.cfg.TLS.NextProtos = []string{"http/1.1"}
		c.cfg.TLS.ServerName = cmp.Or(c.cfg.TLS.ServerName, host)
	}
	c.pool.maxOpen, c.pool.maxIdle, c.pool.idleTimeout = c.cfg.MaxOpen, c.cfg.MaxIdle, c.cfg.IdleTimeout
	return c, nil
}

// Do sends a request and reads the whole answer, up to MaxAnswerBody of its body.
//
// The earlier of the request's deadline and that of ctx bounds all of it, and when ctx ends the connection is closed at once. A ctx that
// cannot end costs nothing, one that can two small allocations.
func (c *Client) Do(ctx context.Context, req *Request) (*Response, error) {
	x, err := c.exchange(ctx, req)
	if err != nil {
		return nil, err
	}
	body, truncated, err := x.body.all(c.cfg.MaxAnswerBody)
	if err != nil {
		err = x.failed("read", err)
		x.end(false)
		return nil, err
	}
	x.end(!truncated)
	return &Response{Status: x.head.status, Header: x.head.fields, Body: body, Truncated: truncated}, nil
}

// Open sends a request and returns when the head of the answer is there; the body is read from the stream, which must be closed.
//
// The deadline is as for Do, the body included, unless the request has a Stall: then the deadline is for the head alone. When ctx ends
// the connection is closed at once, also in the middle of the body. Where the backend answers before it has read a body of more than 64 KiB,
// req.Body is in use until the stream is closed.
func (c *Client) Open(ctx context.Context, req *Request) (*Stream, error) {
	x, err := c.exchange(ctx, req)
	if err != nil {
		return nil, err
	}
	return newStream(x, req.Method, req.Stall), nil
}

// Close closes the idle connections and refuses what comes after it, and who waits for a connection, with [ErrClosed]. Requests under
// way go on, and their connections are closed when they are answered: end their ctx to cut them off. It may be called twice.
func (c *Client) Close() error {
	c.pool.close()
	return nil
}

// CloseIdle closes the idle connections. The client goes on to work.
func (c *Client) CloseIdle() { c.pool.closeIdle() }

// Response is an answer that was read as a whole.
type Response struct {
	Status int // 200 to 999
	Header Header
	Body   []byte
	// Truncated: there was more of the body than MaxAnswerBody, and the connection was closed. The request was answered all the same.
	Truncated bool
}

// Header is a list of fields in the order in which they are on the wire. Names compare without regard to case.
type Header []Field

// Field is one line of a header.
type Field struct{ Name, Value string }

// Get returns the first value of that name, or "".
func (h Header) Get(name string) string {
	for i := range h {
		if equalFold(h[i].Name, name) {
			return h[i].Value
		}
	}
	return ""
}

// HTTP returns the same as net/http has it, with canonical names.
func (h Header) HTTP() http.Header {
	m := make(http.Header, len(h))
	values := make([]string, 0, len(h)) // one allocation for all
	for i := range h {
		name := http.CanonicalHeaderKey(h[i].Name)
		if old, ok := m[name]; ok {
			m[name] = append(old, h[i].Value)
			continue
		}
		values = append(values, h[i].Value)
		m[name] = values[len(values)-1 : len(values) : len(values)]
	}
	return m
}

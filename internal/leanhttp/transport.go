package leanhttp

import (
	"cmp"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync"
)

const (
	maxSmallBody = 1 << 20 // a request's body that is read before it is sent
	maxClients   = 512     // more are looked through for those without connections
)

// Transport is an [http.RoundTripper]. Requests by http with a body of known length up to 1 MiB, or none, take a [Client] of their
// address; net/http's transport has all others: https (and with it HTTP/2), Upgrade, Expect, trailers, other connection headers, and
// bodies that are streamed. Neither follows redirects, uses a proxy or asks for compression, and
// a client sends no User-Agent of its own.
//
// A request may be sent twice, as with net/http, when its method is safe or it has an Idempotency-Key header.
type Transport struct {
	cfg   Config
	other *http.Transport

	mu      sync.Mutex
	closed  bool
	clients map[string]*Client // by address
}

var _ http.RoundTripper = (*Transport)(nil)

// NewTransport returns a transport whose clients have the config, each by itself: its bounds are for an address. MaxAnswerBody has no
// meaning, since bodies are streamed.
func NewTransport(cfg Config) (*Transport, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	secure := cfg.TLS
	cfg.TLS = nil
	full := cfg.withDefaults()
	if secure != nil {
		secure = secure.Clone()
	} else {
		secure = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return &Transport{
		cfg: cfg,
		other: &http.Transport{
			DialContext:            full.Dial,
			TLSClientConfig:        secure,
			TLSHandshakeTimeout:    full.DialTimeout,
			ForceAttemptHTTP2:      true,
			DisableCompression:     true,
			MaxConnsPerHost:        full.MaxOpen,
			MaxIdleConnsPerHost:    full.MaxIdle,
			IdleConnTimeout:        full.IdleTimeout,
			MaxResponseHeaderBytes: int64(full.MaxHeadBytes),
		},
		clients: make(map[string]*Client),
	}, nil
}

// RoundTrip sends the request and returns when the head of the answer is there. The deadline of the request's ctx bounds the body too.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	req, ok := plain(r)
	if !ok {
		return t.other.RoundTrip(r)
	}
	if r.Body != nil {
		err := error(nil)
		if r.ContentLength > 0 {
			req.Body = make([]byte, r.ContentLength)
			_, err = io.ReadFull(r.Body, req.Body)
		}
		if err = errors.Join(err, r.Body.Close()); err != nil {
			return nil, &Error{"check", r.URL.Host, false, err}
		}
	}
	c, err := t.client(r.URL.Host)
	if err != nil {
		return nil, &Error{"check", r.URL.Host, false, err}
	}
	s, err := c.Open(r.Context(), req)
	if err != nil {
		return nil, err
	}
	return s.response(r), nil
}

// Close closes idle connections and refuses further requests by http; those under way go on (see [Client.Close]).
func (t *Transport) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for _, c := range t.clients {
		_ = c.Close() // always nil
	}
	t.other.CloseIdleConnections()
	return nil
}

// CloseIdleConnections is for [http.Client.CloseIdleConnections].
func (t *Transport) CloseIdleConnections() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.clients {
		c.CloseIdle()
	}
	t.other.CloseIdleConnections()
}

func (t *Transport) client(host string) (*Client, error) {
	addr := host
	if name, port, err := net.SplitHostPort(host); err != nil {
		addr = net.JoinHostPort(strings.Trim(host, "[]"), "80")
	} else if port == "" {
		addr = net.JoinHostPort(name, "80")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, ErrClosed
	}
	if c := t.clients[addr]; c != nil {
		return c, nil
	}
	if len(t.clients) >= maxClients {
		for addr, c := range t.clients {
			if open, _ := c.pool.count(); open == 0 {
				delete(t.clients, addr)
			}
		}
	}
	c, err := New(addr, t.cfg)
	if err == nil {
		t.clients[addr] = c
	}
	return c, err
}

// plain makes a request without its body of r, and tells whether a client can send it.
func plain(r *http.Request) (*Request, bool) {
	body := r.Body != nil && r.Body != http.NoBody
	switch {
	case r.URL == nil, r.URL.Scheme != "http", r.URL.Host == "", r.URL.Opaque != "", r.URL.User != nil, strings.Contains(r.URL.Host, "%"),
		r.Close, len(r.Trailer) > 0, len(r.TransferEncoding) > 0,
		body && (r.ContentLength <= 0 || r.ContentLength > maxSmallBody),
		r.Method == http.MethodConnect, httptrace.ContextClientTrace(r.Context()) != nil:
		return nil, false
	}
	req := &Request{
		Method: cmp.Or(r.Method, http.MethodGet),
		Target: r.URL.RequestURI(),
		Host:   cmp.Or(r.Host, r.URL.Host),
		Header: make(Header, 0, len(r.Header)),
	}
	req.Repeatable = repeatable(req.Method, r.Header)
	for name, values := range r.Header {
		switch name {
		case "Host", "Content-Length", "Transfer-Encoding": // the request has fields for them
			continue
		case "User-Agent": // empty means none, as with net/http
			if len(values) == 1 && values[0] == "" {
				continue
			}
		}
		if reserved(name) {
			return nil, false
		}
		for _, v := range values {
			req.Header = append(req.Header, Field{name, v})
		}
	}
	return req, validHost(req.Host)
}

func repeatable(method string, h http.Header) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	_, key := h["Idempotency-Key"]
	return key
}

// response is the stream as net/http has it.
func (s *Stream) response(r *http.Request) *http.Response {
	resp := &http.Response{
		StatusCode: s.Status, Status: statusText(s.Status),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: s.Header.HTTP(), ContentLength: s.Length, Request: r, Close: !s.x.head.keep,
	}
	if s.x.head.length == inChunks {
		resp.TransferEncoding = []string{"chunked"}
	}
	if names := resp.Header["Trailer"]; names != nil && s.x.head.length == inChunks {
		resp.Trailer = http.Header{}
		for _, list := range names {
			for name := range strings.SplitSeq(list, ",") {
				if name = http.CanonicalHeaderKey(strings.Trim(name, " \t")); name != "" && !reserved(name) {
					resp.Trailer[name] = nil
				}
			}
		}
		delete(resp.Header, "Trailer")
	}
	resp.Body = &responseBody{s, resp}
	return resp
}

func statusText(status int) string {
	return strconv.Itoa(status) + " " + http.StatusText(status)
}

// responseBody fills in the trailers at the end.
type responseBody struct {
	*Stream

	resp *http.Response
}

func (b *responseBody) Read(p []byte) (int, error) {
	n, err := b.Stream.Read(p)
	if errors.Is(err, io.EOF) && b.trail != nil {
		if b.resp.Trailer == nil {
			b.resp.Trailer = http.Header{}
		}
		for _, f := range b.trail {
			if !reserved(f.Name) {
				b.resp.Trailer.Add(f.Name, f.Value)
			}
		}
		b.trail = nil
	}
	return n, err
}

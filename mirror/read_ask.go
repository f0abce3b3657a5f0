package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/skybus-io/skybus/internal/leanhttp"
)

const (
	readConns = 4096           // to one backend at a time, for reads
	readStall = 24 * time.Hour // that an answer may pause: a client that is tired of it leaves
)

// readAnswer is what a backend answers to a read, as it comes.
type readAnswer struct {
	status   int
	header   http.Header
	length   int64    // of the body, -1 where that is not known
	trailers []string // names that were announced
	body     io.ReadCloser
	trailer  func() http.Header // once the body is read
	end      func()
}

func (a *readAnswer) close() {
	_ = a.body.Close() // nothing depends on it any more
	if a.end != nil {
		a.end()
	}
}

// askNode sends a read to a backend, and returns when it begins to answer.
func (m *Mirror) askNode(r *http.Request, n *node, fields leanhttp.Header, body []byte, deadline time.Time) (readAnswer, error) {
	client, err := m.readerOf(n)
	if err != nil {
		return readAnswer{}, err
	}
	if client == nil {
		return m.askTransport(r, n, fields, body, deadline)
	}
	s, err := client.Open(r.Context(), &leanhttp.Request{
		Method: r.Method, Target: r.URL.RequestURI(), Host: r.Host, Header: fields, Body: body, Deadline: deadline, Stall: readStall, Repeatable: true,
	})
	if err != nil {
		return readAnswer{}, fmt.Errorf("mirror: %w", err)
	}
	a := readAnswer{status: s.Status, header: s.Header.HTTP(), length: s.Length, body: s, trailer: func() http.Header { return s.Trailer().HTTP() }}
	for _, list := range a.header["Trailer"] {
		for name := range strings.SplitSeq(list, ",") {
			a.trailers = append(a.trailers, http.CanonicalHeaderKey(strings.TrimSpace(name)))
		}
	}
	return a, nil
}

// readerOf is the client for reads from a backend; nil where [Config].Transport, or TLS, is to be used. It is not that for writes: reads may take all connections of theirs.
func (m *Mirror) readerOf(n *node) (*leanhttp.Client, error) {
	if !m.ownTransport || n.base.Scheme != "http" {
		return nil, nil //nolint:nilnil // there is another way
	}
	addr := n.base.Host
	if n.base.Port() == "" {
		addr += ":80"
	}
	if c := n.reads.client.Load(); c != nil && c.addr == addr {
		return c.Client, nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.reads.client.Load()
	if c != nil && c.addr == addr {
		return c.Client, nil
	}
	client, err := leanhttp.New(addr, leanhttp.Config{MaxOpen: readConns, MaxIdle: leanhttp.DefaultMaxOpen})
	if err != nil {
		return nil, fmt.Errorf("mirror: backend %q: %w", n.Name, err)
	}
	if old := n.reads.client.Swap(&reader{client, addr}); old != nil {
		_ = old.Close() // always nil
	}
	return client, nil
}

// reader is a client for reads.
type reader struct {
	*leanhttp.Client

	addr string
}

var errOtherProtocol = errors.New("the backend changed to another protocol")

// askTransport is askNode by [Config].Transport.
func (m *Mirror) askTransport(r *http.Request, n *node, fields leanhttp.Header, body []byte, deadline time.Time) (readAnswer, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	end := func() { cancel(nil) }
	late := time.AfterFunc(time.Until(deadline), func() { cancel(context.DeadlineExceeded) })
	defer late.Stop()
	u := &url.URL{Scheme: n.base.Scheme, Host: n.base.Host, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery, ForceQuery: r.URL.ForceQuery}
	req := (&http.Request{
		Method: r.Method, URL: u, Host: r.Host, Header: fields.HTTP(), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, ContentLength: int64(len(body)),
	}).WithContext(ctx)
	if len(body) > 0 {
		req.Body = io.NopCloser(bytes.NewReader(body))
	}
	noAgent(req.Header)
	resp, err := m.cfg.Transport.RoundTrip(req)
	if err == nil && resp.StatusCode == http.StatusSwitchingProtocols {
		_ = resp.Body.Close() // nobody asked for that
		err = errOtherProtocol
	}
	if err != nil {
		end()
		return readAnswer{}, fmt.Errorf("mirror: %w", err)
	}
	a := readAnswer{status: resp.StatusCode, header: resp.Header, length: resp.ContentLength, body: resp.Body, trailer: func() http.Header { return resp.Trailer }, end: end}
	for name := range resp.Trailer {
		a.trailers = append(a.trailers, name)
	}
	return a, nil
}

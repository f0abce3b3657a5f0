package mirror

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/skybus-io/skybus/internal/leanhttp"
)

// hashBody is what the ledger keeps of a body.
func hashBody(body []byte) uint32 { return crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)) }

// trySpeed is how fast a backend has to take a body at least, in bytes a second.
const trySpeed = 1 << 20

// tryTimeout is how long an attempt with that body may take.
func (m *Mirror) tryTimeout(body []byte) time.Duration {
	return m.cfg.TryTimeout + time.Duration(len(body)/trySpeed)*time.Second
}

// exchange makes one attempt to send a write to a backend. It ends after tryTimeout, or with ctx; then the backend may apply the write all the same.
// ready is asked last, right before the network has all of the request, whether it may still be sent: this process may have been stopped since it began. Nil means
// that it may.
func (m *Mirror) exchange(ctx context.Context, n *node, w *write, body []byte, ready func() error) (*answer, error) {
	client, err := m.clientOf(n)
	if err != nil {
		return nil, err
	}
	if client == nil {
		return m.roundTrip(ctx, n, w, body, ready)
	}
	resp, err := client.Do(ctx, &leanhttp.Request{
		Method: w.method, Target: w.target, Host: w.host, Header: w.fields, Body: body,
		Deadline: time.Now().Add(m.tryTimeout(body)), Repeatable: true, Ready: ready,
	})
	if err != nil {
		return nil, fmt.Errorf("mirror: backend %q: %w", n.Name, err)
	}
	a := &answer{backend: n.Name, status: resp.Status, fields: endToEnd(resp.Header), body: resp.Body, hash: hashBody(resp.Body), tooLarge: resp.Truncated}
	if a.tooLarge {
		a.body = nil
	}
	return a, nil
}

// leasedConn is a connection of the sender's to a backend, whose HTTP is not ours: nothing is written to it once the lease is lost.
type leasedConn struct {
	net.Conn

	m *Mirror
}

func (c *leasedConn) Write(p []byte) (int, error) {
	if lease := c.m.lease.Load(); lease == nil || !lease.Valid() {
		return 0, errEnded
	}
	return c.Conn.Write(p)
}

// openTransports makes what requests to backends go by, where the Config has nothing: one of them for the sender alone.
func (m *Mirror) openTransports() error {
	if m.cfg.Transport != nil {
		m.sending = m.cfg.Transport
		return nil
	}
	if m.dial == nil {
		m.dial = new(net.Dialer).DialContext
	}
	transport, err := leanhttp.NewTransport(leanhttp.Config{})
	if err != nil {
		return fmt.Errorf("mirror: %w", err)
	}
	sending, err := leanhttp.NewTransport(leanhttp.Config{Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := m.dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &leasedConn{conn, m}, nil
	}})
	if err != nil {
		return fmt.Errorf("mirror: %w", err)
	}
	m.cfg.Transport, m.sending, m.ownTransport = transport, sending, true
	return nil
}

// clientOf is the client for writes to a backend; nil where [Config].Transport, or TLS, is to be used.
func (m *Mirror) clientOf(n *node) (*leanhttp.Client, error) {
	addr, plain := strings.CutPrefix(n.URL, "http://")
	if !plain || !m.ownTransport {
		return nil, nil //nolint:nilnil // there is another way
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.client != nil && n.clientAddr == addr {
		return n.client, nil
	}
	if n.client != nil {
		_ = n.client.Close() // always nil
	}
	if !strings.Contains(addr[strings.LastIndexByte(addr, ']')+1:], ":") {
		addr += ":80"
	}
	client, err := leanhttp.New(addr, leanhttp.Config{Dial: m.dial, MaxOpen: m.cfg.Lanes + 16, MaxAnswerBody: int64(m.cfg.MaxAnswer)})
	if err != nil {
		return nil, fmt.Errorf("mirror: backend %q: %w", n.Name, err)
	}
	n.client, n.clientAddr = client, strings.TrimPrefix(n.URL, "http://")
	return client, nil
}

// closeClient closes idle connections. Requests under way go on.
func (n *nodeState) closeClient() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.client != nil {
		_ = n.client.Close() // always nil
		n.client = nil
	}
	if c := n.reads.client.Swap(nil); c != nil {
		_ = c.Close() // always nil
	}
}

func (m *Mirror) closeClients() {
	m.known.Range(func(_, v any) bool {
		v.(*nodeState).closeClient() //nolint:forcetypeassert // there is nothing else in it
		return true
	})
	if m.ownTransport {
		_ = m.cfg.Transport.(*leanhttp.Transport).Close() //nolint:forcetypeassert // Open made it
		_ = m.sending.(*leanhttp.Transport).Close()       //nolint:forcetypeassert // the same
	}
}

// roundTrip is exchange by an [http.RoundTripper].
func (m *Mirror) roundTrip(ctx context.Context, n *node, w *write, body []byte, ready func() error) (*answer, error) {
	transport := m.cfg.Transport
	if ready != nil {
		transport = m.sending
		if err := ready(); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, m.tryTimeout(body))
	defer cancel()
	base, err := url.Parse(n.URL)
	if err != nil {
		return nil, fmt.Errorf("mirror: backend %q: %w", n.Name, err)
	}
	u, err := url.ParseRequestURI(w.target)
	if err != nil {
		return nil, fmt.Errorf("mirror: write %d: %w", w.seq, err)
	}
	u.Scheme, u.Host = base.Scheme, base.Host
	req := (&http.Request{
		Method: w.method, URL: u, Host: w.host, Header: w.fields.HTTP(), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, ContentLength: int64(len(body)),
	}).WithContext(ctx)
	if len(body) > 0 {
		req.Body = io.NopCloser(bytes.NewReader(body))
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	}
	noAgent(req.Header)
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("mirror: backend %q: %w", n.Name, err)
	}
	defer func() { _ = resp.Body.Close() }() // it was read
	return m.readAnswer(n, resp)
}

// noAgent keeps the transport from saying who it is, where the client has not said who that is.
func noAgent(h http.Header) {
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = []string{""}
	}
}

func (m *Mirror) readAnswer(n *node, resp *http.Response) (*answer, error) {
	a := &answer{backend: n.Name, status: resp.StatusCode}
	data, err := io.ReadAll(io.LimitReader(resp.Body, int64(m.cfg.MaxAnswer)+1))
	if err != nil {
		return nil, fmt.Errorf("mirror: backend %q: %w", n.Name, err)
	}
	if len(data) > m.cfg.MaxAnswer {
		a.tooLarge, data = true, nil
	}
	a.body, a.hash = data, hashBody(data)
	a.fields = fieldsOf(resp.Header, leftOut(resp.Header))
	return a, nil
}

// endToEnd is a header without what is for the next hop only.
func endToEnd(h leanhttp.Header) leanhttp.Header {
	var lists []string
	for _, f := range h {
		if strings.EqualFold(f.Name, "Connection") {
			lists = append(lists, f.Value)
		}
	}
	named := strings.Join(lists, ",")
	return slices.DeleteFunc(h, func(f field) bool {
		return isHopByHop(http.CanonicalHeaderKey(f.Name)) || named != "" && listed(named, f.Name)
	})
}

// listed tells whether a comma-separated list has a name.
func listed(list, name string) bool {
	for item := range strings.SplitSeq(list, ",") {
		if strings.EqualFold(textproto.TrimString(item), name) {
			return true
		}
	}
	return false
}

// isHopByHop tells whether a field, by its canonical name, is for the next hop only, RFC 9110 section 7.6.1, or of the framing of the message.
func isHopByHop(name string) bool {
	switch name {
	case "Connection", "Proxy-Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Content-Length", "Proxy-Authenticate", "Proxy-Authorization":
		return true
	}
	return false
}

// retryAfter is what an answer asks for, RFC 9110 section 10.2.3.
func retryAfter(a *answer) time.Duration {
	for _, f := range a.fields {
		if !strings.EqualFold(f.Name, "Retry-After") {
			continue
		}
		if n, err := strconv.Atoi(textproto.TrimString(f.Value)); err == nil {
			return time.Duration(max(min(n, 1<<20), 0)) * time.Second
		}
		if at, err := http.ParseTime(f.Value); err == nil {
			return max(time.Until(at), 0)
		}
	}
	return 0
}

package mirror

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"io"
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

// exchange makes one attempt to send a write to a backend. It ends after Config.TryTimeout, or with ctx; then the backend may apply the write all the same.
func (m *Mirror) exchange(ctx context.Context, n *node, w *write, body []byte) (*answer, error) {
	client, err := m.clientOf(n)
	if err != nil {
		return nil, err
	}
	if client == nil {
		return m.roundTrip(ctx, n, w, body)
	}
	resp, err := client.Do(ctx, &leanhttp.Request{
		Method: w.method, Target: w.target, Host: w.host, Header: w.fields, Body: body,
		Deadline: time.Now().Add(m.cfg.TryTimeout), Repeatable: true,
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
	client, err := leanhttp.New(addr, leanhttp.Config{MaxOpen: m.cfg.Lanes + 16, MaxAnswerBody: int64(m.cfg.MaxAnswer)})
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
	}
}

// roundTrip is exchange by [Config].Transport.
func (m *Mirror) roundTrip(ctx context.Context, n *node, w *write, body []byte) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.TryTimeout)
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
	resp, err := m.cfg.Transport.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("mirror: backend %q: %w", n.Name, err)
	}
	defer func() { _ = resp.Body.Close() }() // it was read
	return m.readAnswer(n, resp)
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

package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// hashTable is that of the ledger's hashes of answers.
func hashBody(body []byte) uint32 { return crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)) }

// exchange makes one attempt to send a write to a backend. It ends after Config.TryTimeout, or with ctx; then the backend may apply the write all the same.
func (m *Mirror) exchange(ctx context.Context, n *node, w *write, body []byte) (*answer, error) {
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
	h := make(http.Header, len(w.fields)+4)
	for _, f := range w.fields {
		h[f.name] = append(h[f.name], f.value)
	}
	for _, f := range w.stamp() {
		h[f.name] = []string{f.value}
	}
	req := (&http.Request{Method: w.method, URL: u, Host: w.host, Header: h, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, ContentLength: int64(len(body))}).WithContext(ctx)
	if len(body) > 0 {
		req.Body = io.NopCloser(bytes.NewReader(body))
	}
	resp, err := m.cfg.Transport.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("mirror: backend %q: %w", n.Name, err)
	}
	defer resp.Body.Close()
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
	a.fields = fieldsOf(resp.Header, isHopByHop)
	return a, nil
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
		if !strings.EqualFold(f.name, "Retry-After") {
			continue
		}
		if n, err := strconv.Atoi(textproto.TrimString(f.value)); err == nil {
			return time.Duration(max(min(n, 1<<20), 0)) * time.Second
		}
		if at, err := http.ParseTime(f.value); err == nil {
			return max(time.Until(at), 0)
		}
	}
	return 0
}

var errTooLarge = errors.New("mirror: too large")

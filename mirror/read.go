package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/skybus-io/skybus/bus"
)

// maxReadBody is how long the body of a read may be: it may have to be sent to several backends.
const maxReadBody = 1 << 20

// serveRead sends a read to one backend, and to another one where that did not begin to answer.
func (m *Mirror) serveRead(w http.ResponseWriter, r *http.Request) {
	want, err := m.minimumOf(r)
	if err != nil {
		fail(w, err)
		return
	}
	body, release, err := m.readBody(w, r, maxReadBody)
	defer release()
	if err != nil {
		fail(w, err)
		return
	}
	var few [8]*node // no allocation for what is usual
	nodes, err := m.readable(r.Context(), few[:0], want)
	if err != nil {
		fail(w, err)
		return
	}
	resp, end, err := m.ask(r, nodes, body)
	defer end()
	if err != nil {
		if r.Context().Err() == nil {
			m.log.DebugContext(r.Context(), "no backend answered a read", "error", err)
		}
		fail(w, err)
		return
	}
	defer resp.Body.Close()
	m.copyAnswer(w, r, resp)
}

// minimumOf is what a read asks a backend to have applied.
func (m *Mirror) minimumOf(r *http.Request) (minimum, error) {
	if v := r.Header[headerMinSeq]; len(v) > 0 {
		want, ok := m.parseMinimum(v[0], r.Header.Get(headerLane))
		if !ok || len(v) > 1 {
			return want, bus.Errorf(bus.InvalidArgument, "%s, with %s if there is one: want what the answer to a write had", headerMinSeq, headerLane).With("field", headerMinSeq)
		}
		return want, nil
	}
	want, _ := m.cookie(r) // one that was not ours is none
	return want, nil
}

// readable adds the backends to all that may serve a read, the best first; it waits until there is one where the read asks for a write that is not applied yet.
func (m *Mirror) readable(ctx context.Context, all []*node, want minimum) ([]*node, error) {
	if all = m.choose(all, want); len(all) > 0 {
		return all, nil
	}
	if want.seq == 0 {
		return nil, bus.Errorf(bus.Unavailable, "no backend may serve reads now: none is healthy and near enough to what was written last")
	}
	timer := time.NewTimer(m.cfg.ReadWait)
	defer timer.Stop()
	for {
		changed := m.changed.wait()
		if all = m.choose(all, want); len(all) > 0 {
			return all, nil
		}
		select {
		case <-changed:
		case <-timer.C:
			return nil, bus.Errorf(bus.Unavailable, "no backend that may serve reads has applied write %d yet", want.seq)
		case <-ctx.Done():
			return nil, bus.AsError(context.Cause(ctx))
		}
	}
}

var errReadTimeout = errors.New("the backend did not begin to answer in time")

// ask sends a read to the first of the backends that answers. The answer has to be read before end is called, which has to be also after an error.
func (m *Mirror) ask(r *http.Request, nodes []*node, body []byte) (resp *http.Response, end func(), err error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	end = func() { cancel(nil) }
	timer := time.AfterFunc(m.cfg.ReadTimeout, func() { cancel(errReadTimeout) })
	defer timer.Stop()
	header := m.readHeader(r)
	for _, n := range nodes {
		if !m.ejection.Begin(n.Name) {
			continue
		}
		begin := time.Now()
		resp, err = m.cfg.Transport.RoundTrip(newRead(ctx, r, n, header, body))
		switch {
		case err == nil && resp.StatusCode == http.StatusSwitchingProtocols:
			_ = resp.Body.Close() // nobody asked for that
			err = errors.New("another protocol")
		case err == nil:
			n.reads.took(time.Since(begin))
			m.report(n, resp.StatusCode < http.StatusInternalServerError)
			return resp, end, nil
		}
		if r.Context().Err() != nil { // the client has gone, which says nothing of the backend
			return nil, end, bus.AsError(context.Cause(r.Context()))
		}
		m.report(n, false)
		err = fmt.Errorf("backend %q: %w", n.Name, err)
		if ctx.Err() != nil {
			return nil, end, withStatus(http.StatusGatewayTimeout, bus.DeadlineExceeded, "no backend began to answer within %v", m.cfg.ReadTimeout)
		}
		m.log.DebugContext(ctx, "backend did not answer a read, trying the next", "backend", n.Name, "error", err)
	}
	return nil, end, bus.Wrap(bus.Unavailable, "no backend answers", err)
}

// report tells how a read went.
func (m *Mirror) report(n *node, ok bool) {
	if m.ejection.Report(n.Name, ok) {
		m.log.Info("backend ejected from reads, too many failed in a row", "backend", n.Name, "until", m.ejection.Until(n.Name))
	}
}

// newRead is a read as a backend gets it. Header is not changed.
func newRead(ctx context.Context, r *http.Request, n *node, header http.Header, body []byte) *http.Request {
	u := &url.URL{Scheme: n.base.Scheme, Host: n.base.Host, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery, ForceQuery: r.URL.ForceQuery}
	req := (&http.Request{Method: r.Method, URL: u, Host: r.Host, Header: header, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, ContentLength: int64(len(body))}).WithContext(ctx)
	if len(body) > 0 {
		req.Body = io.NopCloser(bytes.NewReader(body))
	}
	return req
}

// readHeader are the fields of a read as backends get them.
func (m *Mirror) readHeader(r *http.Request) http.Header {
	withheld := m.withheld(r.Header)
	h := make(http.Header, len(r.Header)+4)
	for name, values := range r.Header {
		if !withheld(name) {
			h[name] = values
		}
	}
	from := m.forwarded(r)
	values := make([]string, len(from))
	for i, f := range from {
		values[i] = f.Value
		h[f.Name] = values[i : i+1 : i+1]
	}
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = nil // none, instead of the transport's own
	}
	return h
}

//go:build unix

package whole_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

const (
	clientPatience = 10 * time.Second // with all tries
	clientAttempt  = 3 * time.Second  // until the next place is asked
	clientPause    = 50 * time.Millisecond
)

// client asks one of several places, as a careful user would: it prefers one, and asks the others by turns when that does not answer, or
// answers that it cannot now, until clientPatience is over. All it asks may be done twice: it has an id, or an Idempotency-Key, or only reads.
type client struct {
	http  *http.Client
	bases []string
	host  string // that is asked for; empty means where it is
	first int
	avoid atomic.Int64 // until when the first is not asked first, in Unix nanoseconds
}

// clientAvoid is how long a place that did not answer is not asked first.
const clientAvoid = 2 * time.Second

func newClient(bases []string, first int) *client {
	transport := &http.Transport{
		DialContext: (&net.Dialer{Timeout: time.Second}).DialContext, MaxIdleConnsPerHost: 16, IdleConnTimeout: 5 * time.Second,
	}
	return &client{http: &http.Client{Transport: transport, Timeout: clientAttempt}, bases: bases, first: first % len(bases)}
}

func (c *client) close() { c.http.CloseIdleConnections() }

// request is what is asked for. header is names and values by turns.
type request struct {
	method, path string
	header       []string
	body         string
}

// response is what came in the end.
type response struct {
	status int // 0 means that nothing came
	header http.Header
	body   string
	tries  int
	err    string // empty for an answer that settles it: 2xx, or another that is the client's own affair
}

// ask asks until it is answered or has waited for too long.
func (c *client) ask(ctx context.Context, r request) response {
	ctx, cancel := context.WithTimeout(ctx, clientPatience)
	defer cancel()
	var last response
	at := c.first
	if time.Now().UnixNano() < c.avoid.Load() {
		at++
	}
	for tries := 1; ; tries++ {
		next, again := c.try(ctx, c.bases[at%len(c.bases)], r)
		if last.tries == 0 || next.status > 0 || ctx.Err() == nil { // that the time was over says less than what was before
			last = next
		}
		last.tries = tries
		if !again {
			return last
		}
		if at%len(c.bases) == c.first {
			c.avoid.Store(time.Now().Add(clientAvoid).UnixNano())
		}
		at++
		select {
		case <-ctx.Done():
			return last
		case <-time.After(clientPause):
		}
	}
}

// try asks once, and tells whether to ask again.
func (c *client) try(ctx context.Context, base string, r request) (_ response, again bool) {
	req, err := http.NewRequestWithContext(ctx, r.method, base+r.path, strings.NewReader(r.body))
	if err != nil {
		return response{err: err.Error()}, false
	}
	req.Host = c.host // the same at all places: to the mirror it is a part of what tells writes apart
	for i := 0; i+1 < len(r.header); i += 2 {
		req.Header.Set(r.header[i], r.header[i+1])
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return response{err: reason(err)}, true
	}
	defer func() { _ = resp.Body.Close() }() // what matters was read
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return response{err: "answer broken off: " + reason(err)}, true
	}
	out := response{status: resp.StatusCode, header: resp.Header, body: string(body)}
	switch {
	case out.status == http.StatusConflict && resp.Header.Get("Retry-After") != "", // the first try is still under way
		out.status == http.StatusTooManyRequests, out.status >= http.StatusInternalServerError:
		out.err = fmt.Sprintf("%d %s", out.status, bytes.TrimSpace(body[:min(200, len(body))]))
		return out, true
	}
	return out, false
}

// reason is an error without what differs each time, so that they can be counted.
func reason(err error) string {
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return "no answer in time"
	}
	text := err.Error()
	for _, known := range []string{"connection refused", "connection reset by peer", "EOF", "broken pipe"} {
		if strings.Contains(text, known) {
			return known
		}
	}
	return text
}

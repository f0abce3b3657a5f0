package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"
)

// What backends are told to do.
const (
	actDown   = "down"   // let the o.Count-th answer 503
	actBack   = "back"   // let it answer again
	actCounts = "counts" // tell how many writes each has applied
)

const (
	mirrorBody  = 1 << 10
	mirrorPaths = 1000
	proxyIdle   = 256
)

// backends are applications that take bodies, and give one out.
type backends struct {
	servers []*http.Server
	served  chan error
	down    []atomic.Bool
	counts  []atomic.Int64
}

func newBackends(ctx context.Context, o order) (act func(context.Context, order) (answer, error), urls []string, stop func() error, err error) {
	b := &backends{served: make(chan error, o.Count), down: make([]atomic.Bool, o.Count), counts: make([]atomic.Int64, o.Count)}
	data := bytes.Repeat([]byte("x"), mirrorBody)
	for i := range o.Count {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", freePort)
		if err != nil {
			return nil, nil, nil, errors.Join(err, b.stop())
		}
		s := &http.Server{ReadHeaderTimeout: callTimeout, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				_, _ = w.Write(data) // the client counts
				return
			}
			n, err := io.Copy(io.Discard, r.Body)
			if err != nil || n != mirrorBody || b.down[i].Load() {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			b.counts[i].Add(1)
			w.WriteHeader(http.StatusNoContent)
		})}
		b.servers = append(b.servers, s)
		urls = append(urls, "http://"+l.Addr().String())
		go func() { b.served <- s.Serve(l) }()
	}
	return b.act, urls, b.stop, nil
}

func (b *backends) act(_ context.Context, o order) (ans answer, err error) {
	switch o.Variant {
	case actDown, actBack:
		b.down[o.Count].Store(o.Variant == actDown)
	case actCounts:
		for i := range b.counts {
			ans.Counts = append(ans.Counts, b.counts[i].Load())
		}
	default:
		err = fmt.Errorf("backends cannot %q", o.Variant)
	}
	return ans, err
}

func (b *backends) stop() error {
	var errs []error
	for _, s := range b.servers {
		errs = append(errs, s.Close())
		if err := <-b.served; !errors.Is(err, http.ErrServerClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// newProxy is a proxy of the standard library to the first of the addresses.
func newProxy(ctx context.Context, o order) (address string, stop func() error, err error) {
	target, err := url.Parse(o.URLs[0])
	if err != nil {
		return "", nil, err
	}
	transport := &http.Transport{MaxIdleConnsPerHost: proxyIdle, DisableCompression: true}
	address, end, err := serveHTTP(ctx, &httputil.ReverseProxy{
		Transport: transport,
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target); r.SetXForwarded() },
	})
	if err != nil {
		return "", nil, err
	}
	return "http://" + address, func() error {
		defer transport.CloseIdleConnections()
		return end()
	}, nil
}

// mirrorCaller makes requests by as little HTTP as there is, each for the next of many paths.
type mirrorCaller struct {
	leanClient

	paths []leanRequest
	n     atomic.Int64
	want  [2]int
}

// newMirrorCaller makes requests with the method o.Workload at the addresses; connections take those in turns.
func newMirrorCaller(o order) (caller, func() error, error) {
	c := &mirrorCaller{leanClient: leanClient{idle: make(chan *leanConn, maxCallers)}, want: [2]int{http.StatusNoContent, http.StatusAccepted}}
	body := bytes.Repeat([]byte("x"), mirrorBody)
	if o.Workload == http.MethodGet {
		body, c.want = nil, [2]int{http.StatusOK, http.StatusOK}
	}
	for _, text := range o.URLs {
		u, err := url.Parse(text)
		if err != nil {
			return nil, nil, err
		}
		c.requests = append(c.requests, leanRequest{host: u.Host})
	}
	for i := range mirrorPaths {
		head := fmt.Sprintf("%s /items/%d HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/octet-stream\r\n", o.Workload, i)
		if body != nil {
			head += "Content-Length: " + strconv.Itoa(len(body)) + "\r\n"
		}
		c.paths = append(c.paths, leanRequest{bytes: append([]byte(head+"\r\n"), body...)})
	}
	return c.call, c.close, nil
}

func (c *mirrorCaller) call(ctx context.Context, _ int64) error {
	conn, err := c.take(ctx)
	if err != nil {
		return err
	}
	conn.request = c.paths[int(c.n.Add(1))%len(c.paths)].bytes
	status, _, err := conn.do()
	if err == nil && status != c.want[0] && status != c.want[1] {
		err = fmt.Errorf("status %d: want %d", status, c.want[0])
	}
	if err != nil {
		return err // the connection is closed with all others
	}
	c.idle <- conn
	return nil
}

// drainPoll is how often it is asked how far a backend is.
const drainPoll = 20 * time.Millisecond

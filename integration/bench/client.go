package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/skybus-io/skybus/internal/leanhttp"
)

// The clients of the measurement by name.
const (
	clientLean  = "leanhttp.Client"
	clientTrip  = "leanhttp.Transport"
	clientFast  = "fasthttp.HostClient"
	clientPlain = "http.Transport"
)

const clientBody = 1 << 10

// serveHTTP serves h on a free port.
func serveHTTP(ctx context.Context, h http.Handler) (addr string, stop func() error, err error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", freePort)
	if err != nil {
		return "", nil, err
	}
	s := &http.Server{ReadHeaderTimeout: callTimeout, Handler: h}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	return l.Addr().String(), func() error {
		err := s.Close()
		if end := <-served; !errors.Is(end, http.ErrServerClosed) {
			err = errors.Join(err, end)
		}
		return err
	}, nil
}

// startBackend takes bodies, and gives one out.
func startBackend(ctx context.Context) (addr string, stop func() error, err error) {
	data := bytes.Repeat([]byte("x"), clientBody)
	return serveHTTP(ctx, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		if r.Method == http.MethodGet {
			_, _ = w.Write(data) // the client counts
			return
		}
		n, _ := io.Copy(io.Discard, r.Body) // the client compares
		fmt.Fprint(w, n)
	}))
}

func clientHeader() [][2]string {
	return [][2]string{{"Content-Type", "application/octet-stream"}, {"Idempotency-Key", "n2S4yq0Zr1vX7cH5tK9bLd"}, {"Skybus-Seq", "123456789"}}
}

// newHTTPCaller is a client that writes to the backend, or reads from it, each time with a deadline.
func newHTTPCaller(o order) (caller, func() error, error) {
	body := []byte(nil)
	target := "/items/17?full=1"
	if o.Workload == http.MethodPut {
		body = bytes.Repeat([]byte("x"), clientBody)
	}
	method := string(o.Workload)
	switch o.Variant {
	case clientLean:
		return newLeanHTTPCaller(o.URL, method, target, body)
	case clientFast:
		return newFastCaller(o.URL, method, target, body)
	case clientTrip:
		t, err := leanhttp.NewTransport(leanhttp.Config{})
		if err != nil {
			return nil, nil, err
		}
		return newTripCaller(t, o.URL, method, target, body), t.Close, nil
	}
	t := &http.Transport{MaxIdleConnsPerHost: maxCallers, DisableCompression: true}
	return newTripCaller(t, o.URL, method, target, body), func() error { t.CloseIdleConnections(); return nil }, nil
}

func checkHTTP(method string, status, size int) error {
	want := clientBody
	if method == http.MethodPut {
		want = len(fmt.Sprint(clientBody))
	}
	if status != http.StatusOK || size != want {
		return fmt.Errorf("status %d with %d bytes: want 200 with %d", status, size, want)
	}
	return nil
}

func newLeanHTTPCaller(addr, method, target string, body []byte) (caller, func() error, error) {
	c, err := leanhttp.New(addr, leanhttp.Config{})
	if err != nil {
		return nil, nil, err
	}
	var header leanhttp.Header
	for _, f := range clientHeader() {
		header = append(header, leanhttp.Field{Name: f[0], Value: f[1]})
	}
	return func(ctx context.Context, _ int64) error {
		ctx = context.WithoutCancel(ctx)
		req := &leanhttp.Request{Method: method, Target: target, Header: header, Body: body, Deadline: time.Now().Add(callTimeout), Repeatable: true}
		if method == http.MethodPut {
			resp, err := c.Do(ctx, req)
			if err != nil {
				return err
			}
			return checkHTTP(method, resp.Status, len(resp.Body))
		}
		s, err := c.Open(ctx, req)
		if err != nil {
			return err
		}
		n, err := io.Copy(io.Discard, s)
		return cmp.Or(err, s.Close(), checkHTTP(method, s.Status, int(n)))
	}, c.Close, nil
}

func newFastCaller(addr, method, target string, body []byte) (caller, func() error, error) {
	c := &fasthttp.HostClient{
		Addr: addr, MaxConns: maxCallers, NoDefaultUserAgentHeader: true, DisableHeaderNamesNormalizing: true, DisablePathNormalizing: true,
	}
	return func(context.Context, int64) error {
		req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
		defer fasthttp.ReleaseRequest(req)
		defer fasthttp.ReleaseResponse(resp)
		req.Header.SetMethod(method)
		req.SetRequestURI(target)
		req.Header.SetHost(addr)
		for _, f := range clientHeader() {
			req.Header.Set(f[0], f[1])
		}
		req.SetBodyRaw(body)
		if err := c.DoDeadline(req, resp, time.Now().Add(callTimeout)); err != nil {
			return err
		}
		return checkHTTP(method, resp.StatusCode(), len(resp.Body()))
	}, func() error { c.CloseIdleConnections(); return nil }, nil
}

func newTripCaller(t http.RoundTripper, addr, method, target string, body []byte) caller {
	u, err := url.Parse("http://" + addr + target)
	return func(ctx context.Context, _ int64) error {
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		header := make(http.Header)
		for _, f := range clientHeader() {
			header.Set(f[0], f[1])
		}
		req := (&http.Request{Method: method, URL: u, Host: addr, Header: header}).WithContext(ctx)
		if body != nil {
			req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		}
		resp, err := t.RoundTrip(req)
		if err != nil {
			return err
		}
		n, err := io.Copy(io.Discard, resp.Body)
		return cmp.Or(err, resp.Body.Close(), checkHTTP(method, resp.StatusCode, int(n)))
	}
}

// client compares clients that talk to one backend, a server of net/http.
func (b *bench) client(ctx context.Context) (_ []section, err error) {
	c := &crew{dir: b.dir}
	defer func() { err = errors.Join(err, c.close()) }()
	backend, ans, err := c.start(ctx, roleService, order{Part: nameClient})
	if err != nil {
		return nil, err
	}
	var sections []section
	for _, method := range []workload{http.MethodPut, http.MethodGet} {
		var clients []*child
		names := []string{clientLean, clientTrip, clientFast, clientPlain}
		for _, name := range names {
			p, _, err := c.start(ctx, roleClient, order{Part: nameClient, Variant: name, Workload: method, URL: ans.URL})
			if err != nil {
				return nil, err
			}
			clients = append(clients, p)
		}
		for _, callers := range []int{1, 32} {
			s, err := b.clientsOf(ctx, fmt.Sprintf("%s %s 1 KiB, c=%d", nameClient, method, callers), callers, names, clients, backend)
			if err != nil {
				return nil, err
			}
			sections = append(sections, s)
		}
	}
	sections[len(sections)-1].Notes = []string{"client: every request has a deadline, three headers besides Host, and a body checked by its length;" +
		" connections stay open. CPU is that of the client's process with the load generator, and of the backend's. A ratio is leanhttp.Client to the row above it."}
	return sections, nil
}

func (b *bench) clientsOf(ctx context.Context, name string, callers int, names []string, clients []*child, backend *child) (section, error) {
	var variants []variant
	for i, p := range clients {
		if _, err := p.do(order{Op: opLoad, Callers: callers, For: b.set.warmUp() / 2}); err != nil {
			return section{}, fmt.Errorf("%s: %w", name, err)
		}
		variants = append(variants, variant{names[i], func() ([]float64, error) {
			before, err := p.do(order{Op: opUse})
			if err != nil {
				return nil, err
			}
			var l load
			served, err := using(func() error {
				ans, err := p.do(order{Op: opLoad, Callers: callers, For: b.set.window / 2})
				l = ans.Load
				return err
			}, backend)
			if err != nil {
				return nil, err
			}
			after, err := p.do(order{Op: opUse})
			if err != nil {
				return nil, err
			}
			used, calls := after.Use.since(before.Use), float64(l.Calls)
			return []float64{
				calls / l.Elapsed.Seconds(), micros(l.P50), micros(l.P99),
				micros(used.CPU) / calls, float64(used.Mallocs) / calls, micros(served) / calls,
			}, nil
		}})
	}
	rows, err := b.turns(ctx, name, b.set.windows, variants)
	if err != nil {
		return section{}, err
	}
	with := rows[:1:1]
	for _, r := range rows[1:] {
		with = append(with, r, ratio(rows[0], r))
	}
	return section{Name: name, Columns: []string{"requests/s", "p50 us", "p99 us", "CPU us, client", "allocs, client", "CPU us, backend"}, Rows: with}, nil
}

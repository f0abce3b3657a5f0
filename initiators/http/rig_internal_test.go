package http

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/internal/httpx"
	"github.com/skybus-io/skybus/micro"
)

// rig is what a gateway stands on.
type rig struct {
	node   *bustest.Node
	conn   *bus.Conn
	client *micro.Client
}

func newRig(t testing.TB) *rig {
	t.Helper()
	return rigOn(t, bustest.Server(t))
}

// rigOn is another gateway on the same server.
func rigOn(t testing.TB, node *bustest.Node) *rig {
	t.Helper()
	r := bareRig(t, node)
	var err error
	if r.client, err = micro.NewClient(t.Context(), r.conn, micro.ClientConfig{Name: "gateway", Patience: 50 * time.Millisecond, Settings: micro.NoSettings{}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.client.Close() }) // has no error to tell
	return r
}

// bareRig has a connection and nothing that keeps busy, for hours in fake time.
func bareRig(t testing.TB, node *bustest.Node) *rig {
	t.Helper()
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: node})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.NATS().Close() })
	return &rig{node: node, conn: conn}
}

func (r *rig) hub(t testing.TB, limit int) *eventHub {
	t.Helper()
	h := newEventHub(r.client, limit, slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		h.close()
		bustest.Eventually(t, "the last subscriber to go", func() bool { return h.subscribers() == 0 })
		h.mu.Lock()
		defer h.mu.Unlock()
		if len(h.topics) > 0 {
			t.Errorf("%d subscriptions are left", len(h.topics))
		}
	})
	return h
}

func (r *rig) publish(t testing.TB, subject, data string, header ...string) {
	t.Helper()
	msg := &nats.Msg{Subject: subject, Data: []byte(data), Header: nats.Header{}}
	for i := 0; i < len(header); i += 2 {
		msg.Header.Set(header[i], header[i+1])
	}
	if err := r.conn.NATS().PublishMsg(msg); err != nil {
		t.Fatal(err)
	}
}

// eventsHandler answers with the events of an entry "orders", whose {path.id} is the last part of the path.
func eventsHandler(t testing.TB, h *eventHub, events Events) http.Handler {
	t.Helper()
	src, err := events.compile()
	if err != nil {
		t.Fatal(err)
	}
	if err := src.checkSubject(h.conn, nil); err != nil {
		t.Fatal(err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
		err := h.serve(w, r, eventRequest{entry: "orders", src: src, req: initiators.Request{
			ContentType: typeJSON, Body: []byte(`{"id":"` + id + `"}`), Values: func(name string) (string, bool) { return id, name == "path.id" },
		}})
		if err != nil {
			e := bus.AsError(err)
			httpx.Problem{Status: e.HTTPStatus(), Detail: e.Message, Code: string(e.Code)}.Write(w)
		}
	})
}

func serveEvents(t testing.TB, h *eventHub, events Events) string {
	t.Helper()
	srv := httptest.NewServer(eventsHandler(t, h, events))
	t.Cleanup(srv.Close)
	t.Cleanup(h.close) // before the server waits for its handlers
	return srv.URL
}

// seen is an event as a client sees it.
type seen struct{ ID, Name, Data, Retry, Comment string }

// listener is a client of events.
type listener struct {
	events chan seen
	stop   context.CancelFunc
	resp   *http.Response
	last   string // id of the last event that was taken
}

// subscribe connects to url, with headers given as pairs, until the test ends.
func subscribe(t testing.TB, url string, headers ...string) *listener {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", typeEvents)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	tr := &http.Transport{}
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	l := &listener{events: make(chan seen, 1<<16), resp: resp}
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(l.events)
		readEvents(resp.Body, l.events)
	})
	l.stop = sync.OnceFunc(func() {
		cancel()
		reading.Wait()
		_ = resp.Body.Close() // it was read
		tr.CloseIdleConnections()
	})
	t.Cleanup(l.stop)
	return l
}

// readEvents is a client's parser, as the HTML standard describes it.
func readEvents(r io.Reader, out chan<- seen) {
	var e seen
	var data []string
	for in := bufio.NewReader(r); ; {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSuffix(line, "\n")
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "":
			if e.Data = strings.Join(data, "\n"); e != (seen{}) || data != nil {
				out <- e
			}
			e, data = seen{}, nil
		case name == "":
			e.Comment = ":" + value
		case name == "id":
			e.ID = value
		case name == "event":
			e.Name = value
		case name == "data":
			data = append(data, value)
		case name == "retry":
			e.Retry = value
		}
	}
}

// next is the next event that is no comment and not only the time to connect again. Of its id there is the sequence.
func (l *listener) next(t testing.TB) seen {
	t.Helper()
	e, ok := l.more(t)
	if !ok {
		t.Fatal("the stream of events has ended")
	}
	return e
}

// more is next, or tells that the stream of events has ended.
func (l *listener) more(t testing.TB) (seen, bool) {
	t.Helper()
	timeout := time.After(30 * time.Second) // heartbeats are comments, and come on and on
	for {
		select {
		case e, ok := <-l.events:
			if !ok {
				return e, false
			}
			if e.Comment+e.Retry != "" {
				continue
			}
			if e.ID != "" {
				l.last = e.ID
				e.ID, _, _ = strings.Cut(e.ID, "-")
			}
			if e.Name == eventReset {
				e.ID = ""
			}
			return e, true
		case <-timeout:
			t.Fatal("no event came")
		}
	}
}

// ended drains the events and returns those that were left when the stream ended.
func (l *listener) ended(t testing.TB) (rest []seen) {
	t.Helper()
	timeout := time.After(30 * time.Second)
	for {
		select {
		case e, ok := <-l.events:
			if !ok {
				return rest
			}
			rest = append(rest, e)
		case <-timeout:
			t.Fatal("the stream of events goes on")
		}
	}
}

// silent fails the test when an event waits.
func (l *listener) silent(t testing.TB) {
	t.Helper()
	select {
	case e, ok := <-l.events:
		if ok && e.Retry == "" {
			t.Errorf("there is another event %+v", e)
		}
	default:
	}
}

// pipe is a listener of connections within the process, for fake time.
type pipe struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipe() *pipe { return &pipe{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipe) dial(t testing.TB) net.Conn {
	t.Helper()
	here, there := net.Pipe()
	t.Cleanup(func() { _ = here.Close() })
	p.conns <- there
	return here
}

// Accept is net.Listener's.
func (p *pipe) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close is net.Listener's.
func (p *pipe) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

// Addr is net.Listener's.
func (p *pipe) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// serveOn serves a handler as Gateway.Serve does, until stop is called or the test ends.
func serveOn(t testing.TB, l net.Listener, h http.Handler) (stop context.CancelFunc, done <-chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	srv := httpx.Server{Handler: h, Timeout: DefaultTimeout, Drain: DefaultDrain, Logger: slog.New(slog.DiscardHandler)}
	ended, result := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(ended)
		result <- srv.Serve(ctx, l)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return cancel, result
}

package http_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	gateway "github.com/skybus-io/skybus/initiators/http"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/route"
)

// patience is how long a test waits for something that comes at once on a machine with nothing else to do.
const patience = 30 * time.Second

const (
	typeJSON    = "application/json"
	typeMsgpack = "application/msgpack"
	typeForm    = "application/x-www-form-urlencoded"
	typeProblem = "application/problem+json"
)

// house is a gateway with routes and services behind it:
//
//	echo     answers with what it was sent
//	fail     answers with the error that it is sent
//	wait     answers when release is called
//	nowhere  has a step that nobody serves
//	nothing  answers with nothing
//	seen     answers with what it was sent, and headers (no route)
type house struct {
	conn   *bus.Conn
	client *micro.Client
	runner *route.Runner
	calls  atomic.Int64 // of echo

	waiting atomic.Int64
	release func()
	lastID  atomic.Value // of the last request to echo
	lastMsg atomic.Value // its body
}

func build(t testing.TB) *house {
	t.Helper()
	h := &house{}
	srv := bustest.Server(t)
	var err error
	if h.conn, err = bus.Connect(t.Context(), bus.Config{InProcess: srv}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.conn.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	h.serve(t)
	if h.client, err = micro.NewClient(t.Context(), h.conn, micro.ClientConfig{Name: "gateway", Patience: 50 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.client.Close() }) // has no error to tell
	store, err := route.OpenStore(t.Context(), h.conn, route.StoreConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]route.Step{
		"echo": {Service: "app", Endpoint: "echo"}, "fail": {Service: "app", Endpoint: "fail"},
		"wait": {Service: "app", Endpoint: "wait"}, "nowhere": {Service: "nowhere", Endpoint: "get"},
		"nothing": {Service: "app", Endpoint: "nothing"},
	} {
		if _, err := store.Create(t.Context(), name, route.Route{Steps: []route.Step{target}}); err != nil {
			t.Fatal(err)
		}
	}
	may := []route.Step{{Service: "app", Endpoint: "echo"}, {Service: "app", Endpoint: "fail", Required: new(false)}}
	if _, err := store.Create(t.Context(), "may", route.Route{Steps: may}); err != nil {
		t.Fatal(err)
	}
	if h.runner, err = route.NewRunner(t.Context(), h.client, route.Config{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.runner.Close() }) // has no error to tell
	return h
}

// seen is what a request was to the endpoint seen.
type seen struct {
	ID          string      `json:"id"`
	Traceparent string      `json:"traceparent"`
	ContentType string      `json:"content_type"`
	Body        string      `json:"body"`
	LeftMS      int64       `json:"left_ms"`
	Header      nats.Header `json:"header"`
}

// failure is an error as the endpoint fail is asked for it.
type failure struct {
	Code    bus.Code          `json:"code"`
	Message string            `json:"message"`
	Status  int               `json:"status"`
	Details map[string]string `json:"details"`
}

// serve runs the service app until the test ends.
func (h *house) serve(t testing.TB) {
	t.Helper()
	started, released := make(chan struct{}), make(chan struct{})
	h.release = sync.OnceFunc(func() { close(released) })
	s, err := micro.NewService(h.conn, micro.Config{
		Name: "app", Drain: 200 * time.Millisecond, Concurrency: 1000, Hooks: micro.Hooks{Started: func() { close(started) }},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		micro.Handle(s, "echo", func(ctx context.Context, body []byte) ([]byte, error) {
			h.lastID.Store(micro.Info(ctx).RequestID)
			h.lastMsg.Store(string(body))
			h.calls.Add(1)
			return body, nil
		}),
		micro.Handle(s, "nothing", func(context.Context, []byte) ([]byte, error) { return nil, nil }),
		micro.Handle(s, "fail", func(_ context.Context, f failure) ([]byte, error) {
			return nil, &bus.Error{Code: f.Code, Message: f.Message, Status: f.Status, Details: f.Details}
		}),
		micro.Handle(s, "seen", func(ctx context.Context, body []byte) (seen, error) {
			info := micro.Info(ctx)
			left := time.Duration(0)
			if at, ok := ctx.Deadline(); ok {
				left = time.Until(at)
			}
			err := errors.Join(micro.SetReplyHeader(ctx, "X-Reply", "yes"), micro.SetReplyHeader(ctx, "etag", "\"1\""))
			return seen{info.RequestID, info.Traceparent, info.ContentType, strings.ToValidUTF8(string(body), "?"), left.Milliseconds(), micro.RequestHeader(ctx)}, err
		}),
		micro.Handle(s, "wait", func(ctx context.Context, body []byte) ([]byte, error) {
			h.waiting.Add(1)
			defer h.waiting.Add(-1)
			select {
			case <-released:
			case <-ctx.Done():
			}
			return body, ctx.Err()
		}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() { _ = s.Run(ctx) }) // the tests see what goes wrong
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	bustest.Receive(t, "the service", started)
}

func (h *house) gateway(t testing.TB, cfg gateway.Config) *gateway.Gateway {
	t.Helper()
	g, err := gateway.New(h.runner, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// listen serves a gateway by the test package's server and returns its URL.
func (h *house) listen(t testing.TB, cfg gateway.Config) string {
	t.Helper()
	srv := httptest.NewServer(h.gateway(t, cfg))
	t.Cleanup(srv.Close)
	return srv.URL
}

// served is a gateway run by Serve.
type served struct {
	addr string
	stop context.CancelFunc
	done chan error
}

// run runs Serve on a free port until the test ends.
func (h *house) run(t testing.TB) *served {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	s := &served{l.Addr().String(), cancel, make(chan error, 1)}
	g := h.gateway(t, gateway.Config{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.done <- g.Serve(ctx, l)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return s
}

// answer is an HTTP answer, read to its end.
type answer struct {
	status int
	header http.Header
	body   string
	last   bool // the connection is closed after it
}

func (a answer) problem(t testing.TB) problem {
	t.Helper()
	var p problem
	dec := json.NewDecoder(strings.NewReader(a.body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p); err != nil {
		t.Fatalf("%d %s: %v", a.status, a.body, err)
	}
	return p
}

type problem struct {
	Type      string            `json:"type"`
	Title     string            `json:"title"`
	Status    int               `json:"status"`
	Detail    string            `json:"detail"`
	Code      bus.Code          `json:"code"`
	RequestID string            `json:"request_id"`
	Details   map[string]string `json:"details"`
}

// client makes no use of connections of others, and follows nothing.
func client(t testing.TB) *http.Client {
	t.Helper()
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// send sends a request with headers given as pairs.
func send(t testing.TB, method, url, body string, headers ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return read(t, resp)
}

func post(t testing.TB, url, body string, headers ...string) answer {
	t.Helper()
	return send(t, http.MethodPost, url, body, headers...)
}

func read(t testing.TB, resp *http.Response) answer {
	t.Helper()
	defer func() { _ = resp.Body.Close() }() // it was read
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(body), resp.Close}
}

// dial makes a connection that is closed when the test ends.
func (s *served) dial(t testing.TB) net.Conn {
	t.Helper()
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // tests that care close it themselves
	return c
}

// raw sends bytes, reads so many answers, and then what else there is until the server closes. With cut it says at once
// that nothing more will come.
func (s *served) raw(t testing.TB, text string, n int, cut bool) []answer {
	t.Helper()
	c := s.dial(t)
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = io.WriteString(c, text) // the server may hang up early
		if cut {
			_ = c.(*net.TCPConn).CloseWrite()
		}
	}()
	var answers []answer
	for r := bufio.NewReader(c); ; {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return answers
		}
		answers = append(answers, read(t, resp))
		if len(answers) == n && !cut {
			_ = c.(*net.TCPConn).CloseWrite() // the server closes then too
		}
	}
}

func encode(t testing.TB, v any) string {
	t.Helper()
	b, err := bus.MessagePack{}.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

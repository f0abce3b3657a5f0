package httpapi_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/scheduler"
	"github.com/skybus-io/skybus/scheduler/httpapi"
)

// patience is how long a test waits for something that comes at once on a machine with nothing else to do.
const patience = 20 * time.Second

// house is a scheduler and its API on a port of loopback.
type house struct {
	timers *scheduler.Scheduler
	url    string
}

// build opens timers that may call loopback, on a server of their own, and serves them by the test package's server.
func build(t testing.TB, cfg httpapi.Config) *house {
	t.Helper()
	return buildOn(t, bustest.Server(t), cfg)
}

func buildOn(t testing.TB, node *bustest.Node, cfg httpapi.Config) *house {
	t.Helper()
	s := open(t, node)
	srv := httptest.NewServer(handler(t, s, cfg))
	t.Cleanup(srv.Close)
	return &house{s, srv.URL}
}

func open(t testing.TB, node *bustest.Node) *scheduler.Scheduler {
	t.Helper()
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: node})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // the server may be gone
	s, err := scheduler.Open(t.Context(), conn, scheduler.Config{Shards: 2, AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func handler(t testing.TB, s *scheduler.Scheduler, cfg httpapi.Config) *httpapi.Handler {
	t.Helper()
	h, err := httpapi.New(s, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// run fires and delivers until the test ends.
func (h *house) run(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() {
		if err := h.timers.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
}

// received is a request that came to a receiver.
type received struct {
	method, path string
	header       http.Header
	body         string
}

// receiver takes webhooks. answer is the status it answers with, 200 where it is nil.
func receiver(t testing.TB, answer func(*http.Request) int) (url string, got <-chan received) {
	t.Helper()
	ch := make(chan received, 100)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // the test looks at it
		ch <- received{r.Method, r.URL.Path, r.Header, string(body)}
		if answer != nil {
			w.WriteHeader(answer(r))
		}
	}))
	t.Cleanup(srv.Close)
	return srv.URL, ch
}

// served is a handler run by Serve.
type served struct {
	url  string
	stop context.CancelFunc
	done chan error
}

func serve(t testing.TB, h *httpapi.Handler) *served {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	s := &served{"http://" + l.Addr().String(), cancel, make(chan error, 1)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.done <- h.Serve(ctx, l)
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
}

func (a answer) reason() string { return a.header.Get("X-Skyring-Reason") }

// problem is the answer as a problem.
func (a answer) problem(t testing.TB) problem {
	t.Helper()
	var p problem
	a.decode(t, &p)
	if ct := a.header.Get("Content-Type"); ct != "application/problem+json" || p.Status != a.status || p.Detail == "" || p.Code == "" {
		t.Fatalf("%d %s %s is no problem", a.status, ct, a.body)
	}
	return p
}

func (a answer) decode(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.body), v); err != nil {
		t.Fatalf("%d %s: %v", a.status, a.body, err)
	}
}

type problem struct {
	Status  int               `json:"status"`
	Detail  string            `json:"detail"`
	Code    bus.Code          `json:"code"`
	Errors  []fieldError      `json:"errors"`
	Details map[string]string `json:"details"`
}

type fieldError struct {
	Field   string `json:"field"`
	Message string `json:"message"`
}

func (p problem) fields() string {
	var names []string
	for _, e := range p.Errors {
		names = append(names, e.Field)
	}
	return strings.Join(names, " ")
}

// timer is a timer as the API shows it.
type timer struct {
	ID       string            `json:"id"`
	State    string            `json:"state"`
	Revision uint64            `json:"revision"`
	Due      time.Time         `json:"due"`
	At       time.Time         `json:"at"`
	Labels   map[string]string `json:"labels"`
	Headers  map[string]string `json:"headers"`
	Target   struct {
		URI       string `json:"uri"`
		Transport string `json:"transport"`
	} `json:"target"`
	Payload       json.RawMessage `json:"payload"`
	PayloadText   string          `json:"payload_text"`
	PayloadBase64 string          `json:"payload_base64"`
	ContentType   string          `json:"content_type"`
	Repeat        map[string]any  `json:"repeat"`
}

func (a answer) timer(t testing.TB) (tm timer) {
	t.Helper()
	a.decode(t, &tm)
	return tm
}

// send sends a request with headers given as pairs, and follows nothing.
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

// client makes no use of connections of others.
func client(t testing.TB) *http.Client {
	t.Helper()
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func read(t testing.TB, resp *http.Response) answer {
	t.Helper()
	defer func() { _ = resp.Body.Close() }() // it was read
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

// want fails the test unless the answer has the status.
func (a answer) want(t testing.TB, status int) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("%d %q %s, want %d", a.status, a.reason(), a.body, status)
	}
	return a
}

// eventually polls until check returns "", else fails with what it said last.
func eventually(t testing.TB, check func() string) {
	t.Helper()
	said := ""
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if said = check(); said == "" {
			return
		}
	}
	t.Fatal(said)
}

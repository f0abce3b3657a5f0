package getwidgets_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/examples/getwidgets"
	gateway "github.com/skybus-io/skybus/initiators/http"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/route"
)

// patience is how long a test waits for something that comes at once on a machine with nothing else to do.
const patience = 30 * time.Second

func connect(t testing.TB, srv *bustest.Node) *bus.Conn {
	t.Helper()
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: srv})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return conn
}

// demo is the whole demo in this process.
type demo struct {
	url    string
	client *micro.Client
	store  *route.Store
	record *lines
}

// lines is a writer that can be read meanwhile.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// start runs the demo with so many instances of each service until the test ends.
func start(t testing.TB, conn *bus.Conn, instances int) *demo {
	t.Helper()
	d := &demo{record: &lines{}}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	started := make(chan struct{})
	running.Go(func() {
		if err := getwidgets.Run(ctx, conn, instances, getwidgets.Config{Record: d.record}, func() { close(started) }); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	select {
	case <-started:
	case <-time.After(patience):
		t.Fatal("the demo did not start")
	}
	var err error
	if d.client, err = micro.NewClient(t.Context(), conn, micro.ClientConfig{Name: "gateway"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.client.Close() }) // has no error to tell
	bustest.Eventually(t, "the registry to show the demo", func() bool {
		for _, name := range getwidgets.Names() {
			if s := d.client.Registry().Service(name); s == nil || len(s.Online) != instances {
				return false
			}
		}
		return true
	})
	d.serve(t, conn)
	return d
}

// serve runs a gateway and a worker.
func (d *demo) serve(t testing.TB, conn *bus.Conn) {
	t.Helper()
	runner, err := route.NewRunner(t.Context(), d.client, route.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = runner.Close() }) // has no error to tell
	if d.store, err = route.OpenStore(t.Context(), conn, route.StoreConfig{}); err != nil {
		t.Fatal(err)
	}
	g, err := gateway.New(runner, gateway.Config{Pages: getwidgets.Page(), Answer: getwidgets.AnswerPage()})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(g)
	t.Cleanup(srv.Close)
	d.url = srv.URL
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() {
		if err := route.NewWorker(d.client, route.WorkerConfig{}).Run(ctx); err != nil {
			t.Errorf("worker: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
}

func (d *demo) send(t testing.TB, method, path, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, d.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }() // it was read
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

func TestDemo(t *testing.T) {
	t.Parallel()
	d := start(t, connect(t, bustest.Server(t)), 2)
	seen := map[string]bool{}
	for range 40 {
		resp, text := d.send(t, "POST", "/getwidgets", `{"input":"x"}`, "Content-Type", "application/x-www-form-urlencoded", "X-Request-Id", "id-1")
		var got getwidgets.Response
		if err := json.Unmarshal([]byte(text), &got); err != nil || resp.StatusCode != http.StatusOK || got.Output != "Hello World" || len(got.Trail) != 2 {
			t.Fatalf("%d %s", resp.StatusCode, text)
		}
		for i, service := range []string{"authorize.check", "getwidgets.get"} {
			if !strings.HasPrefix(got.Trail[i], service+" on ") {
				t.Errorf("trail %q, want %s at %d", got.Trail, service, i)
			}
			seen[strings.Fields(got.Trail[i])[2]] = true
		}
	}
	if len(seen) != 4 {
		t.Errorf("%d instances answered 40 requests, want 4", len(seen))
	}
	// The asynchronous step is done for each, by and by.
	bustest.Eventually(t, "40 lines of the log service", func() bool { return strings.Count(d.record.String(), "id-1 \"x\"\n") == 40 })
}

func TestDemoPages(t *testing.T) {
	t.Parallel()
	d := start(t, connect(t, bustest.Server(t)), 1)
	browser := []string{"Accept", "text/html,application/xhtml+xml,*/*;q=0.8", "Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "same-origin"}
	resp, page := d.send(t, "GET", "/", "")
	for _, want := range []string{`<form method="post" action="/getwidgets">`, `name="input"`, "</html>"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") || !strings.Contains(resp.Header.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("%d, %v", resp.StatusCode, resp.Header)
	}
	tests := map[string]struct {
		body   string
		status int
		says   []string
	}{
		"answer": {"input=a+%3Cb%3E", 200, []string{
			"<h1>Hello World</h1>", "authorize.check on ", "found a widget for &#34;a &lt;b&gt;&#34;", "stored, done by a worker", "skybus://default.dev.getwidgets/", "<form",
		}},
		"forbidden": {"input=something+forbidden", 403, []string{`<h1 class="bad">403 Forbidden</h1>`, "is not for you", "permission_denied", "<form"}},
		"too long":  {"input=" + strings.Repeat("x", 1001), 400, []string{"400 Bad Request", "1001 bytes"}},
	}
	for name, tt := range tests {
		resp, page := d.send(t, "POST", "/getwidgets", tt.body, browser...)
		if resp.StatusCode != tt.status {
			t.Errorf("%s: %d", name, resp.StatusCode)
		}
		for _, want := range append(tt.says, "</html>") {
			if !strings.Contains(page, want) {
				t.Errorf("%s: the page lacks %q:\n%s", name, want, page)
			}
		}
	}
	if resp, _ := d.send(t, "GET", "/other", ""); resp.StatusCode != http.StatusNotFound {
		t.Errorf("another page: %d", resp.StatusCode)
	}
	// An edited route may answer anything.
	for i, body := range []string{`{"trail":5}`, `{"output":{"a":1},"trail":"x"}`, `{"trail":{"a":[1]}}`, `{"output":null,"trail":null}`, `[1]`, `"x"`} {
		d.echo(t, fmt.Sprint("echo", i), body)
		resp, page := d.send(t, "POST", "/echo", "", browser...)
		if resp.StatusCode != http.StatusOK || !strings.Contains(page, "</html>") {
			t.Errorf("%s: %d %s", body, resp.StatusCode, page)
		}
	}
}

// echo makes the route echo answer with a body, by a service called name.
func (d *demo) echo(t testing.TB, name, body string) {
	t.Helper()
	conn := d.client.Conn()
	started := make(chan struct{})
	svc, err := micro.NewService(conn, micro.Config{Name: name, Hooks: micro.Hooks{Started: func() { close(started) }}})
	if err != nil {
		t.Fatal(err)
	}
	if err := micro.Handle(svc, "get", func(context.Context, []byte) ([]byte, error) { return []byte(body), nil }); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() { _ = svc.Run(ctx) }) // the answer shows what goes wrong
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	<-started
	if _, err := d.store.Put(t.Context(), "echo", route.Route{Steps: []route.Step{{Service: name, Endpoint: "get"}}}, 0); err != nil {
		t.Fatal(err)
	}
	bustest.Eventually(t, "the route to answer "+body, func() bool {
		_, text := d.send(t, "POST", "/echo", "")
		return text == body
	})
}

// When nobody is left the pages and the answers say which service of which route is missing.
func TestDemoUnserved(t *testing.T) {
	t.Parallel()
	conn := connect(t, bustest.Server(t))
	if err := getwidgets.Install(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	d := &demo{}
	var err error
	if d.client, err = micro.NewClient(t.Context(), conn, micro.ClientConfig{Patience: 50 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.client.Close() }) // has no error to tell
	d.serve(t, conn)
	resp, text := d.send(t, "POST", "/getwidgets", "{}")
	if resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(text, `"service":"authorize"`) || !strings.Contains(text, `"route":"getwidgets"`) {
		t.Errorf("%d %s", resp.StatusCode, text)
	}
	resp, page := d.send(t, "POST", "/getwidgets", "{}", "Accept", "text/html")
	for _, want := range []string{"503 Service Unavailable", "nobody serves authorize.check", "skybus instances --service authorize", "<code>nobody</code>"} {
		if resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(page, want) {
			t.Errorf("%d, the page lacks %q:\n%s", resp.StatusCode, want, page)
		}
	}
}

// The demo brings its route along and never undoes an edit of it.
func TestInstallKeepsEdits(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	conn := connect(t, srv)
	for range 2 {
		if err := getwidgets.Install(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
	}
	store, err := route.OpenStore(t.Context(), conn, route.StoreConfig{})
	if err != nil {
		t.Fatal(err)
	}
	installed, err := store.Get(t.Context(), getwidgets.RouteName)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(getwidgets.Route(), installed.Route); diff != "" {
		t.Errorf("installed (-want +got):\n%s", diff)
	}
	edited := installed.Route
	edited.Steps = edited.Steps[2:]
	rev, err := store.Put(t.Context(), getwidgets.RouteName, edited, installed.Revision)
	if err != nil {
		t.Fatal(err)
	}
	srv.Restart(t)
	d := start(t, connect(t, srv), 1)
	got, err := d.store.Get(t.Context(), getwidgets.RouteName)
	if err != nil || got.Revision != rev {
		t.Errorf("after a new start: revision %d, %v, want %d", got.Revision, err, rev)
	}
	_, text := d.send(t, "POST", "/getwidgets", `{"input":"forbidden"}`)
	if !strings.Contains(text, "Hello World") || strings.Contains(text, "authorize") {
		t.Errorf("answered %s, want it without the steps that were taken out", text)
	}
	// What was deleted comes back: the demo needs it.
	if err := d.store.Delete(t.Context(), getwidgets.RouteName); err != nil {
		t.Fatal(err)
	}
	if err := getwidgets.Install(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	if _, err := d.store.Get(t.Context(), getwidgets.RouteName); err != nil {
		t.Error(err)
	}
}

func TestRunHooksAndErrors(t *testing.T) {
	t.Parallel()
	conn := connect(t, bustest.Server(t))
	for instances, id := range map[int]string{0: "", -1: "", 2: "same"} {
		err := getwidgets.Run(t.Context(), conn, instances, getwidgets.Config{Instance: id}, func() { t.Error("started") })
		if err == nil {
			t.Errorf("%d instances called %q: no error", instances, id)
		}
	}
	if err := getwidgets.Run(t.Context(), conn, 1, getwidgets.Config{Instance: "a.b"}, func() { t.Error("started") }); bus.CodeOf(err) != bus.InvalidArgument {
		t.Errorf("bad id: %v", err)
	}
	if _, err := getwidgets.NewService(conn, "other", getwidgets.Config{}); err == nil || !strings.Contains(err.Error(), "log, authorize, getwidgets") {
		t.Errorf("unknown service: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var starts, stops atomic.Int64
	hooks := micro.Hooks{Started: func() { starts.Add(1) }, Stopped: func() { stops.Add(1) }}
	err := getwidgets.Run(ctx, conn, 2, getwidgets.Config{Hooks: hooks}, func() {
		if starts.Load() != 6 {
			t.Errorf("started after %d of 6 instances", starts.Load())
		}
		cancel()
	})
	if err != nil || starts.Load() != 6 || stops.Load() != 6 {
		t.Errorf("Run: %v, %d started, %d stopped", err, starts.Load(), stops.Load())
	}
}

// One service that fails stops the others.
func TestRunAllFails(t *testing.T) {
	t.Parallel()
	conn := connect(t, bustest.Server(t))
	var services []*micro.Service
	for _, name := range getwidgets.Names() {
		s, err := getwidgets.NewService(conn, name, getwidgets.Config{})
		if err != nil {
			t.Fatal(err)
		}
		services = append(services, s)
	}
	services = append(services, services[0]) // cannot run twice
	done := make(chan error, 1)
	go func() { done <- getwidgets.RunAll(t.Context(), getwidgets.Config{}, services) }()
	select {
	case err := <-done:
		if bus.CodeOf(err) != bus.FailedPrecondition {
			t.Errorf("error %v", err)
		}
	case <-time.After(patience):
		t.Fatal("RunAll goes on")
	}
}

package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/examples/getwidgets"
	gateway "github.com/skybus-io/skybus/initiators/http"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/route"
)

func TestMain(m *testing.M) { bustest.Main(m, "github.com/skybus-io/skybus/") }

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

func connect(t testing.TB, srv *bustest.Node) *bus.Conn {
	t.Helper()
	conn, err := bus.Connect(t.Context(), bus.Config{Server: srv.URL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // fails only with the server
	return conn
}

// The program finds services of other processes, and does their asynchronous steps.
func TestRun(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t, bustest.TCP())
	conn := connect(t, srv)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	var record lines
	running.Go(func() {
		if err := getwidgets.Run(ctx, conn, 1, getwidgets.Config{Record: &record}, func() {}); err != nil {
			t.Errorf("services: %v", err)
		}
	})
	defer running.Wait()
	defer cancel()
	serving, stop := context.WithCancel(t.Context())
	var stderr lines
	done := make(chan error, 1)
	go func() { done <- run(serving, []string{"--server", srv.URL(), "--listen", "127.0.0.1:0"}, &stderr) }()

	address := regexp.MustCompile(`http://127\.0\.0\.1:\d+`)
	deadline := time.Now().Add(30 * time.Second)
	for !address.MatchString(stderr.String()) || !strings.Contains(record.String(), `"tea"`) {
		if time.Now().After(deadline) {
			t.Fatalf("the asynchronous step was not done in 10 s:\n%s\n%s", record.String(), stderr.String())
		}
		if url := address.FindString(stderr.String()); url != "" && record.String() == "" {
			if text := post(t, url+"/getwidgets", `{"input":"tea"}`); !strings.Contains(text, "Hello World") {
				t.Fatalf("answered %s", text)
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	begin := time.Now()
	stop()
	if err := <-done; err != nil {
		t.Errorf("run: %v", err)
	}
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("it stopped after %v", took)
	}
}

func post(t testing.TB, url, body string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
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
	return string(text)
}

// A gateway that fails ends the worker too.
func TestServeFails(t *testing.T) {
	t.Parallel()
	conn := connect(t, bustest.Server(t, bustest.TCP()))
	client, err := micro.NewClient(t.Context(), conn, micro.ClientConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }() // has no error to tell
	g, err := gateway.New(nil, gateway.Config{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- serve(t.Context(), route.NewWorker(client, route.WorkerConfig{}), g, l) }()
	select {
	case err := <-done:
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("error %v, want that of the listener", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("serve goes on without a listener")
	}
}

func TestRunRefuses(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t, bustest.TCP())
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }() // nothing was accepted
	var stderr lines
	for name, tt := range map[string]struct {
		args []string
		says string
	}{
		"no such flag":  {[]string{"--colour", "red"}, "colour"},
		"bad namespace": {[]string{"--namespace", "a"}, "namespace"},
		"no server":     {[]string{"--server", "nats://127.0.0.1:1"}, "nats://127.0.0.1:1"},
		"taken port":    {[]string{"--server", srv.URL(), "--listen", l.Addr().String()}, "listen tcp"},
	} {
		if err := run(t.Context(), tt.args, &stderr); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: error %v, want one that says %q", name, err, tt.says)
		}
	}
	if err := run(t.Context(), []string{"--help"}, &stderr); err != nil || !strings.Contains(stderr.String(), "-listen") {
		t.Errorf("help: %v", err)
	}
}

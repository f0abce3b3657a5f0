package micro_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
)

// patience is how long a test waits for something that comes at once on a machine with nothing else to do.
const patience = 30 * time.Second

type hello struct {
	Name  string `json:"name"`
	Times int    `json:"times,omitempty"`
}

type greeting struct {
	Text string `json:"text"`
}

func greet(_ context.Context, req hello) (greeting, error) {
	return greeting{Text: "Hello " + req.Name}, nil
}

// connect makes a connection that is closed when the test ends.
func connect(t testing.TB, s *bustest.Node, change ...func(*bus.Config)) *bus.Conn {
	t.Helper()
	cfg := bus.Config{InProcess: s}
	for _, f := range change {
		f(&cfg)
	}
	conn, err := bus.Connect(t.Context(), cfg)
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

// newClient makes a client that is closed when the test ends.
func newClient(t testing.TB, conn *bus.Conn, cfg micro.ClientConfig) *micro.Client {
	t.Helper()
	c, err := micro.NewClient(t.Context(), conn, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // has no error to tell
	return c
}

// instance is a service that runs.
type instance struct {
	*micro.Service

	id     string
	cancel context.CancelFunc
	done   chan struct{}
	err    error // of Run, once done is closed
}

// stop ends the instance and returns what Run returned.
func (i *instance) stop() error {
	i.cancel()
	<-i.done
	return i.err
}

// serve runs a service with the endpoints that add adds, and returns when others can see it. It is stopped when the test
// ends, if not before.
func serve(t testing.TB, conn *bus.Conn, cfg micro.Config, add func(*micro.Service) error) *instance {
	t.Helper()
	registered := make(chan struct{})
	var once sync.Once
	hook := cfg.Hooks.Registered
	cfg.Hooks.Registered = func() {
		if hook != nil {
			hook()
		}
		once.Do(func() { close(registered) })
	}
	if cfg.Instance == "" {
		cfg.Instance = nuid.Next()
	}
	s, err := micro.NewService(conn, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := add(s); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	i := &instance{Service: s, id: cfg.Instance, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(i.done)
		i.err = s.Run(ctx)
	}()
	t.Cleanup(func() { _ = i.stop() }) // tests that care look themselves
	select {
	case <-registered:
	case <-i.done:
		t.Fatalf("Run returned before the service was registered: %v", i.err)
	case <-time.After(patience):
		t.Fatalf("the service was not registered in %v", patience)
	}
	return i
}

// endpoint adds one endpoint.
func endpoint[Req, Resp any](name string, h func(context.Context, Req) (Resp, error), opts ...micro.EndpointOption) func(*micro.Service) error {
	return func(s *micro.Service) error { return micro.Handle(s, name, h, opts...) }
}

// endpoints adds several.
func endpoints(adds ...func(*micro.Service) error) func(*micro.Service) error {
	return func(s *micro.Service) error {
		for _, add := range adds {
			if err := add(s); err != nil {
				return err
			}
		}
		return nil
	}
}

// sees waits until the client knows n instances of a service as online.
func sees(t testing.TB, c *micro.Client, service string, n int) {
	t.Helper()
	bustest.Eventually(t, "the registry to show the instances of "+service, func() bool {
		s := c.Registry().Service(service)
		return s != nil && len(s.Online) == n || s == nil && n == 0
	})
}

// wantCode checks the code of an error, and that its text has the parts.
func wantCode(t testing.TB, err error, code bus.Code, parts ...string) {
	t.Helper()
	if bus.CodeOf(err) != code {
		t.Errorf("error %v: code %q, want %q", err, bus.CodeOf(err), code)
		return
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
}

// busError is the bus.Error in err.
func busError(t testing.TB, err error) *bus.Error {
	t.Helper()
	e, ok := errors.AsType[*bus.Error](err)
	if !ok {
		t.Fatalf("error %v (%T) is no bus.Error", err, err)
	}
	return e
}

// logBook is a logger whose lines a test can look at.
type logBook struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *logBook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBook) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func (b *logBook) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// answerText answers requests with a JSON body, as a service without any library does.
func answerText(body string) nats.MsgHandler {
	return func(m *nats.Msg) {
		_ = m.RespondMsg(&nats.Msg{Data: []byte(body)}) // who waits in vain fails the test
	}
}

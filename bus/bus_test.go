package bus_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

// freePort is an address of this machine where nobody listens.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func TestConnect(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t, bustest.TCP())
	c, err := bus.Connect(t.Context(), bus.Config{Server: "nats://127.0.0.1:1, " + s.URL(), Namespace: "shop.prod", Name: "cart"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if got, want := c.Namespace(), (bus.Namespace{App: "shop", Env: "prod"}); got != want {
		t.Errorf("namespace %v, want %v", got, want)
	}
	if got := c.NATS().Opts.Name; got != "cart" {
		t.Errorf("name %q", got)
	}
	if c.JetStream() == nil || c.Logger() == nil || c.AsyncErrors() != 0 {
		t.Errorf("JetStream %v, Logger %v, AsyncErrors %d", c.JetStream(), c.Logger(), c.AsyncErrors())
	}
	if err := c.WaitConnected(t.Context()); err != nil {
		t.Errorf("WaitConnected: %v", err)
	}
	select {
	case <-c.Closed():
		t.Error("closed")
	default:
	}
}

func TestConnectDefaults(t *testing.T) {
	t.Parallel()
	c := connect(t, bustest.Server(t), bus.Config{})
	if got := c.Namespace().String(); got != bus.DefaultNamespace {
		t.Errorf("namespace %q, want %q", got, bus.DefaultNamespace)
	}
	if got := c.NATS().Opts.Name; got != "skybus" {
		t.Errorf("name %q, want skybus", got)
	}
}

func TestConnectErrors(t *testing.T) {
	t.Parallel()
	withPassword := bustest.Server(t, bustest.TCP(), bustest.Configure(func(o *server.Options) { o.Username, o.Password = "cart", "right" }))
	stopped := bustest.Server(t)
	stopped.Stop()
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	nobody := freePort(t)
	host := strings.TrimPrefix(withPassword.URL(), "nats://")

	tests := []struct {
		name string
		ctx  context.Context //nolint:containedctx // a table of calls
		cfg  bus.Config
		is   error
		says []string
	}{
		{"nobody listens", t.Context(), bus.Config{Server: "nats://" + nobody}, nats.ErrNoServers, []string{nobody, "nothing answers there", "skybus up"}},
		{"nobody listens, no scheme", t.Context(), bus.Config{Server: nobody}, nats.ErrNoServers, []string{nobody}},
		{"nobody listens, user", t.Context(), bus.Config{Server: "nats://cart:secret@" + nobody + ",token-secret@" + nobody}, nats.ErrNoServers, []string{"nats://" + nobody + "," + nobody}},
		{"server in the process is stopped", t.Context(), bus.Config{InProcess: stopped}, nil, []string{"the server in this process"}},
		{"no URL", t.Context(), bus.Config{Server: "nats://cart:secret@[::1"}, nil, []string{"bus: connect"}},
		{"bad port", t.Context(), bus.Config{Server: "nats://cart:secret@host:port"}, nil, []string{"bus: connect"}},
		{"unknown scheme", t.Context(), bus.Config{Server: nobody + ", htp://cart:secret@localhost"}, nil, []string{`server "htp://localhost"`, "nats://, tls://, ws:// or wss://"}},
		{"bad namespace", t.Context(), bus.Config{Server: nobody, Namespace: "shop"}, nil, []string{`namespace "shop"`}},
		{"reserved namespace", t.Context(), bus.Config{Server: nobody, Namespace: "skybus.dev"}, nil, []string{"reserved"}},
		{"canceled", canceled, bus.Config{Server: withPassword.URL()}, context.Canceled, []string{"bus: connect"}},
		{"late", late, bus.Config{Server: withPassword.URL()}, context.DeadlineExceeded, []string{"bus: connect"}},
		{"no credentials", t.Context(), bus.Config{Server: withPassword.URL()}, nats.ErrAuthorization, []string{"credentials"}},
		{"wrong password", t.Context(), bus.Config{Server: "nats://cart:secret@" + host}, nats.ErrAuthorization, []string{host, "credentials"}},
		{"wrong password as option", t.Context(), bus.Config{Server: withPassword.URL(), Options: []nats.Option{nats.UserInfo("cart", "secret")}}, nats.ErrAuthorization, []string{"credentials"}},
		{"bad option", t.Context(), bus.Config{Server: withPassword.URL(), Options: []nats.Option{nats.RootCAs("/no/such/file")}}, nil, []string{"bus: connect"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			begin := time.Now()
			c, err := bus.Connect(tt.ctx, tt.cfg)
			if took := time.Since(begin); took > soon {
				t.Errorf("took %v, want the error at once", took)
			}
			if err == nil {
				_ = c.Close()
				t.Fatal("connected")
			}
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("%v is not %v", err, tt.is)
			}
			for _, want := range tt.says {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("the error tells the password: %v", err)
			}
		})
	}
}

func TestConnectWithCredentials(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t, bustest.Configure(func(o *server.Options) { o.Username, o.Password = "cart", "right" }))
	c := connect(t, s, bus.Config{Options: []nats.Option{nats.UserInfo("cart", "right")}})
	works(t, c, clientID(t, c))
}

// The deadline counts where a server takes the connection and says nothing.
func TestConnectToSilence(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	c, err := bus.Connect(ctx, bus.Config{Server: l.Addr().String()})
	if err == nil {
		_ = c.Close()
		t.Fatal("connected")
	}
	if took := time.Since(begin); took > soon-100*time.Millisecond {
		t.Errorf("took %v, want the deadline of 100 ms", took)
	}
}

func TestReconnect(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	c := connect(t, s, bus.Config{})
	echo(t, c)
	loss, other, ended := make(chan struct{}, 1), make(chan struct{}), make(chan struct{}, 1)
	defer c.NotifyLoss(loss)()
	defer c.NotifyLoss(other)() // nobody reads it, which must hold up nobody
	stop := c.NotifyLoss(ended)
	stop()
	stop()

	for range 2 {
		stopServer(t, s, c)
		waitLost(t, c)
		ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, errors.New("no patience"))
		err := c.WaitConnected(ctx)
		cancel()
		if err == nil || !strings.Contains(err.Error(), "no patience") {
			t.Errorf("WaitConnected while down: %v, want the context's cause", err)
		}
		if len(loss) != 0 {
			t.Error("told of a loss before there is a connection to look with")
		}

		s.Start(t)
		bustest.Receive(t, "notice of the loss", loss)
		if err := c.WaitConnected(t.Context()); err != nil {
			t.Errorf("WaitConnected: %v", err)
		}
		if _, err := request(t, c, patience, &nats.Msg{Subject: "echo"}); err != nil {
			t.Errorf("request: %v", err)
		}
	}
	if len(ended) != 0 {
		t.Error("told of a loss after stop")
	}
	select {
	case <-c.Closed():
		t.Error("a lost connection counts as closed")
	default:
	}
}

// A subscription that lost messages is a loss like a reconnect.
func TestSlowConsumerIsALoss(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	c := connect(t, s, bus.Config{})
	loss := make(chan struct{}, 1)
	defer c.NotifyLoss(loss)()
	release := make(chan struct{})
	defer close(release)
	sub := subscribe(t, c, "flood", func(*nats.Msg) { <-release })
	if err := sub.SetPendingLimits(1, 1024); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if err := c.Publish(&nats.Msg{Subject: "flood"}); err != nil {
			t.Fatal(err)
		}
	}
	bustest.Receive(t, "notice of the loss", loss)
	if c.AsyncErrors() == 0 {
		t.Error("the error is not counted")
	}
}

func TestWaitConnectedReturnsOnClose(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	c := connect(t, s, bus.Config{})
	stopServer(t, s, c)
	waitLost(t, c)
	done := make(chan error, 1)
	go func() { done <- c.WaitConnected(t.Context()) }()
	select {
	case err := <-done:
		t.Fatalf("returned while the server was down: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	if err := c.Close(); err != nil {
		t.Errorf("close while the server is down: %v", err)
	}
	if err := bustest.Receive(t, "WaitConnected", done); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("got %v, want %v", err, nats.ErrConnectionClosed)
	}
}

func TestLog(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	var mu sync.Mutex
	var log bytes.Buffer
	text := func() string {
		mu.Lock()
		defer mu.Unlock()
		return log.String()
	}
	c := connect(t, s, bus.Config{Logger: slog.New(slog.NewTextHandler(lockedWriter{&mu, &log}, nil))})
	stopServer(t, s, c)
	s.Start(t)
	bustest.Eventually(t, "connection is back", func() bool { return strings.Contains(text(), "connection is back") })
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`level=WARN msg="connection lost" component=bus`, `level=INFO msg="connection is back" component=bus`} {
		if !strings.Contains(text(), want) {
			t.Errorf("log has no %q:\n%s", want, text())
		}
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	b  *bytes.Buffer
}

func (w lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

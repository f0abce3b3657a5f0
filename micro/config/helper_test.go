package config_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/micro/config"
)

func connect(t testing.TB, cfg bus.Config) *bus.Conn {
	t.Helper()
	c, err := bus.Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.NATS().Close() })
	return c
}

func open(t testing.TB, c *bus.Conn, cfg config.Config) *config.Values {
	t.Helper()
	if cfg.Layers == nil {
		cfg.Layers = []config.Layer{}
	}
	v, err := config.Open(t.Context(), c, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() }) // has no error to tell
	return v
}

// writer writes the configuration as the command line does.
type writer struct {
	t     testing.TB
	ns    bus.Namespace
	table *kv.Table[[]byte]
}

func newWriter(t testing.TB, c *bus.Conn) writer {
	t.Helper()
	table, err := config.Table(t.Context(), c, false)
	if err != nil {
		t.Fatal(err)
	}
	return writer{t, c.Namespace(), table}
}

func (w writer) key(s config.Scope, key string) string {
	w.t.Helper()
	k, err := config.BucketKey(w.ns, s, key)
	if err != nil {
		w.t.Fatal(err)
	}
	return k
}

func (w writer) put(s config.Scope, key, value string) {
	w.t.Helper()
	if _, err := w.table.Put(w.t.Context(), w.key(s, key), []byte(value)); err != nil {
		w.t.Fatal(err)
	}
}

func (w writer) remove(s config.Scope, key string) {
	w.t.Helper()
	if err := w.table.Delete(w.t.Context(), w.key(s, key)); err != nil {
		w.t.Fatal(err)
	}
}

// start is a server, what is read and who writes.
func start(t testing.TB, cfg config.Config) (*config.Values, writer) {
	t.Helper()
	conn := connect(t, bus.Config{InProcess: bustest.Server(t)})
	return open(t, conn, cfg), newWriter(t, conn)
}

// becomes waits for a value.
func becomes[T comparable](t testing.TB, v *config.Values, s config.Scope, key string, want T, opts ...config.Option[T]) {
	t.Helper()
	var def T
	bustest.Eventually(t, fmt.Sprintf("%q of %v to be %v", key, s, want), func() bool { return config.Get(v, s, key, def, opts...) == want })
}

// watched collects what a watch yields, until the test ends.
func watched[T any](t testing.TB, v *config.Values, s config.Scope, key string, def T, opts ...config.Option[T]) <-chan T {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	told := make(chan T, 100)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for x := range config.Watch(ctx, v, s, key, def, opts...) {
			told <- x
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return told
}

// book is a logger whose lines a test can look at.
type book struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *book) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *book) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func (b *book) logger() *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }

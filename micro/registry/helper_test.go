package registry_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/micro/registry"
)

// patience is how long a test waits for something that comes at once on a machine with nothing else to do.
const patience = 30 * time.Second

// quickly is how announcements are made in tests that do not care for more.
func quickly() registry.AnnounceConfig {
	return registry.AnnounceConfig{Heartbeat: quickHeartbeat, TTL: registry.DefaultTTL}
}

// quick are the shortest signs of life.
const (
	quickHeartbeat = 200 * time.Millisecond
	quickTTL       = time.Second
)

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

func open(t testing.TB, conn *bus.Conn, log *slog.Logger) *registry.Registry {
	t.Helper()
	r, err := registry.Open(t.Context(), conn, registry.Config{Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() }) // has no error to tell
	return r
}

// tables are the buckets as who writes to them sees them.
func tables(t testing.TB, conn *bus.Conn) (*kv.Table[registry.Record], *kv.Table[registry.Load]) {
	t.Helper()
	records, err := kv.Open[registry.Record](t.Context(), conn, registry.InstancesBucket, kv.Config{})
	if err != nil {
		t.Fatal(err)
	}
	liveness, err := kv.Open[registry.Load](t.Context(), conn, registry.LivenessBucket, kv.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return records, liveness
}

func record(service, instance string) registry.Record {
	return registry.Record{Service: service, Instance: instance, Version: "1.0.0", Registered: true}
}

// announcement is an announcer that runs.
type announcement struct {
	*registry.Announcer

	cancel context.CancelFunc
	done   chan struct{}
	err    error // of Run, once done is closed
}

// stop ends the announcement and returns what Run returned.
func (a *announcement) stop() error {
	a.cancel()
	<-a.done
	return a.err
}

// announce announces an instance until the test ends, if it is not stopped before.
func announce(t testing.TB, conn *bus.Conn, r registry.Record, cfg registry.AnnounceConfig) *announcement {
	t.Helper()
	return run(t, newAnnouncer(t, conn, r, cfg))
}

func newAnnouncer(t testing.TB, conn *bus.Conn, r registry.Record, cfg registry.AnnounceConfig) *registry.Announcer {
	t.Helper()
	a, err := registry.NewAnnouncer(conn, r, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// run runs an announcer until the test ends, if it is not stopped before.
func run(t testing.TB, a *registry.Announcer) *announcement {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	running := &announcement{Announcer: a, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(running.done)
		running.err = a.Run(ctx)
	}()
	t.Cleanup(func() { _ = running.stop() }) // tests that care look themselves
	return running
}

// state is how the registry sees an instance; empty when it does not.
func state(r *registry.Registry, service, instance string) registry.State {
	if i := find(r, service, instance); i != nil {
		return i.State
	}
	return ""
}

func find(r *registry.Registry, service, instance string) *registry.Instance {
	s := r.Service(service)
	if s == nil {
		return nil
	}
	for _, list := range [][]*registry.Instance{s.Online, s.Rest} {
		for _, i := range list {
			if i.Instance == instance {
				return i
			}
		}
	}
	return nil
}

// becomes waits until the registry sees an instance in a state.
func becomes(t testing.TB, r *registry.Registry, service, instance string, want registry.State) {
	t.Helper()
	bustest.Eventually(t, service+"/"+instance+" to be "+string(want), func() bool { return state(r, service, instance) == want })
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

func (b *logBook) logger() *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }

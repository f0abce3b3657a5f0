package scheduler_test

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/scheduler"
)

// memory is a transport that hands deliveries to a function.
type memory struct {
	deliver func(ctx context.Context, d *scheduler.Delivery) error

	mu   sync.Mutex
	seen []scheduler.Delivery
	at   []time.Time
}

func newMemory(deliver func(ctx context.Context, d *scheduler.Delivery) error) *memory {
	return &memory{deliver: deliver}
}

func (m *memory) Check(context.Context, scheduler.Target) error { return nil }

func (m *memory) Deliver(ctx context.Context, d *scheduler.Delivery) error {
	m.mu.Lock()
	m.seen, m.at = append(m.seen, *d), append(m.at, time.Now())
	m.mu.Unlock()
	if m.deliver == nil {
		return nil
	}
	return m.deliver(ctx, d)
}

func (m *memory) all() []scheduler.Delivery {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.seen)
}

func (m *memory) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.seen)
}

var _ scheduler.Transport = (*memory)(nil)

// process is a scheduler with a connection of its own.
type process struct {
	*scheduler.Scheduler

	conn *bus.Conn
	stop func() // and wait
}

// launch makes a process. It runs until the test ends or stop is called.
func launch(t *testing.T, n *bustest.Node, cfg scheduler.Config) *process {
	t.Helper()
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: n})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	s, err := scheduler.Open(t.Context(), conn, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	t.Cleanup(stop)
	return &process{s, conn, stop}
}

// toMemory is a target of one.
func toMemory(name string) scheduler.Target {
	return scheduler.Target{Transport: "memory", URI: "memory://" + name}
}

func config(m *memory) scheduler.Config {
	return scheduler.Config{Shards: 2, Transports: map[string]scheduler.Transport{"memory": m}}
}

func set(t *testing.T, s *process, spec scheduler.Spec) scheduler.Timer {
	t.Helper()
	if spec.After == 0 && spec.At.IsZero() && spec.Repeat == nil {
		spec.After = time.Millisecond
	}
	spec.Target = scheduler.Target{
		Transport: cmp.Or(spec.Target.Transport, "memory"), URI: cmp.Or(spec.Target.URI, "memory://a"), Timeout: spec.Target.Timeout,
	}
	timer, err := s.Create(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return timer
}

// events are those of a kind, or of all, told from now on.
type events struct {
	mu  sync.Mutex
	all []scheduler.Event
}

func watch(t *testing.T, s *process) *events {
	t.Helper()
	e := &events{}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	wg.Go(func() {
		for event, err := range s.Watch(ctx, scheduler.EventFilter{}) {
			if err != nil {
				continue
			}
			e.mu.Lock()
			e.all = append(e.all, event)
			e.mu.Unlock()
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return e
}

func (e *events) of(id string) (kinds []scheduler.EventKind) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, event := range e.all {
		if event.ID == id {
			kinds = append(kinds, event.Kind)
		}
	}
	return kinds
}

func (e *events) last(id string, kind scheduler.EventKind) (last scheduler.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, event := range e.all {
		if event.ID == id && event.Kind == kind {
			last = event
		}
	}
	return last
}

func gone(t *testing.T, s *process, id string) {
	t.Helper()
	bustest.Eventually(t, "timer "+id+" to be gone", func() bool {
		_, err := s.Get(t.Context(), id)
		return bus.CodeOf(err) == bus.NotFound
	})
}

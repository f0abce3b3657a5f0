package scheduler_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/scheduler"
)

const patience = 30 * time.Second // for what takes milliseconds on a machine that is not busy

// probe is a transport that remembers what it was given, and answers as told.
type probe struct {
	answer func(d *scheduler.Delivery) error // nil means success

	mu   sync.Mutex
	got  []scheduler.Delivery
	more chan struct{} // closed at the next delivery
}

var _ scheduler.Transport = (*probe)(nil)

func newProbe() *probe { return &probe{more: make(chan struct{})} }

func (*probe) Check(context.Context, scheduler.Target) error { return nil }

func (p *probe) Deliver(_ context.Context, d *scheduler.Delivery) error {
	p.mu.Lock()
	p.got = append(p.got, *d)
	close(p.more)
	p.more = make(chan struct{})
	p.mu.Unlock()
	if p.answer != nil {
		return p.answer(d)
	}
	return nil
}

func (p *probe) all() []scheduler.Delivery {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.got)
}

// wait returns once n deliveries have come.
func (p *probe) wait(t *testing.T, n int) []scheduler.Delivery {
	t.Helper()
	deadline := time.After(patience)
	for {
		p.mu.Lock()
		got, more := slices.Clone(p.got), p.more
		p.mu.Unlock()
		if len(got) >= n {
			return got
		}
		select {
		case <-more:
		case <-deadline:
			t.Fatalf("%d deliveries came, want %d", len(got), n)
		}
	}
}

// target is one of the probe.
func target() scheduler.Target { return scheduler.Target{Transport: "probe", URI: "probe:x"} }

// rig is a server with a connection.
type rig struct {
	node *bustest.Node
	conn *bus.Conn
}

func newRig(t *testing.T, opts ...bustest.Option) *rig {
	t.Helper()
	n := bustest.Server(t, opts...)
	return &rig{n, connect(t, n)}
}

func connect(t *testing.T, n *bustest.Node) *bus.Conn {
	t.Helper()
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: n})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// open opens a scheduler that does not run.
func (r *rig) open(t *testing.T, cfg scheduler.Config) *scheduler.Scheduler {
	t.Helper()
	if cfg.Transports == nil {
		cfg.Transports = map[string]scheduler.Transport{"probe": newProbe()}
	}
	s, err := scheduler.Open(t.Context(), r.conn, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// run opens a scheduler with a probe and runs it until stop is called, or the test ends.
func (r *rig) run(t *testing.T, cfg scheduler.Config) (s *scheduler.Scheduler, p *probe, stop func()) {
	t.Helper()
	p = newProbe()
	cfg.Transports = map[string]scheduler.Transport{"probe": p}
	s = r.open(t, cfg)
	return s, p, start(t, s)
}

func start(t *testing.T, s *scheduler.Scheduler) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func create(t *testing.T, s *scheduler.Scheduler, spec scheduler.Spec) scheduler.Timer {
	t.Helper()
	if spec.Target.URI == "" {
		spec.Target = target()
	}
	tm, err := s.Create(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return tm
}

func wantCode(t *testing.T, err error, code bus.Code, details ...string) {
	t.Helper()
	if bus.CodeOf(err) != code {
		t.Fatalf("error %v, want the code %q", err, code)
	}
	e := bus.AsError(err)
	for i := 0; i+1 < len(details); i += 2 {
		if e.Details[details[i]] != details[i+1] {
			t.Fatalf("error %v has the details %v, want %s %q", err, e.Details, details[i], details[i+1])
		}
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !f(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, patience)
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
}

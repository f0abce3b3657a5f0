package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/scheduler"
)

const (
	benchNamespace = "bench.timers"
	benchTransport = "sink"
	benchPatience  = 30 * time.Second // for what is still missing after the last time due
	benchPoll      = 10 * time.Millisecond
	benchMax       = 10_000_000
)

type timersBenchCmd struct {
	Count   int           `help:"How many timers." default:"10000" env:"-"`
	Within  time.Duration `help:"They are due evenly spread over so long." default:"10s" env:"-"`
	Lead    time.Duration `help:"How long after the start the first one is due: they should be stored by then. Default: 2s, and 1s for each 10000." placeholder:"DURATION" env:"-"`
	Size    byteSize      `help:"Size of their payloads." default:"100" env:"-"`
	Workers int           `help:"How many are delivered at a time." default:"256" env:"-"`
}

// Help is shown below the usage.
func (*timersBenchCmd) Help() string {
	return `It makes timers in the namespace ` + benchNamespace + `, fires them by a scheduler of its own in this process, and delivers them to
itself, so that what is measured is the server, and this machine. It removes what it made. One such run at a time.

Lateness counts from the time due: fired is when the scheduler had it fired, delivered when the target was called. Timers that were not
stored before they were due are counted and left out of it.

Examples:

    skybus timers bench
    skybus timers bench --count 100000 --within 10s --server nats://nats.example.org:4222
    skybus timers bench --count 10000 --within 1s -o json`
}

// Validate finds the mistakes that need no look at the server.
func (c *timersBenchCmd) Validate() error {
	switch {
	case c.Count < 1 || c.Count > benchMax:
		return fmt.Errorf("--count %d: want 1 to %d", c.Count, benchMax)
	case c.Within < 0 || c.Lead < 0:
		return fmt.Errorf("--within %v, --lead %v: want 0 or more", c.Within, c.Lead)
	case c.Size > scheduler.MaxPayload:
		return fmt.Errorf("--size %d: want at most %d", c.Size, scheduler.MaxPayload)
	case c.Workers < 1:
		return fmt.Errorf("--workers %d: want 1 or more", c.Workers)
	}
	return nil
}

// benchSink is where the timers of a bench are delivered to.
type benchSink struct {
	mu        sync.Mutex
	fired     []time.Duration // after the time due
	delivered []time.Duration
	seen      map[string]bool
	again     int // deliveries of what had been delivered
	early     int
	stored    func(id string) (late bool)
	late      int // was stored when it was due already

	count atomic.Int64
}

var _ scheduler.Transport = (*benchSink)(nil)

// Check takes everything.
func (*benchSink) Check(context.Context, scheduler.Target) error { return nil }

// Deliver notes how late it is.
func (b *benchSink) Deliver(_ context.Context, d *scheduler.Delivery) error {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.seen[d.ID] {
		b.again++
		return nil
	}
	b.seen[d.ID] = true
	b.count.Add(1)
	fired := d.Fired.Sub(d.Due)
	if fired < 0 {
		b.early++
	}
	if b.stored(d.TimerID) {
		b.late++
		return nil
	}
	b.fired, b.delivered = append(b.fired, fired), append(b.delivered, now.Sub(d.Due))
	return nil
}

// benchResult is what a bench prints.
type benchResult struct {
	Timers     int       `json:"timers"`
	Payload    int64     `json:"payload_bytes"`
	Created    int       `json:"created"`
	Failed     int       `json:"failed"`
	CreateRate float64   `json:"created_per_second"`
	Delivered  int64     `json:"delivered"`
	Again      int       `json:"delivered_again"`
	Early      int       `json:"early"`
	Late       int       `json:"stored_too_late"`
	Fired      quantiles `json:"fired_after_ms"`
	Called     quantiles `json:"delivered_after_ms"`
}

// quantiles are milliseconds.
type quantiles struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

func newQuantiles(all []time.Duration) quantiles {
	if len(all) == 0 {
		return quantiles{}
	}
	slices.Sort(all)
	at := func(part float64) float64 {
		i := min(int(part*float64(len(all))), len(all)-1)
		return float64(all[i].Round(10*time.Microsecond)) / float64(time.Millisecond)
	}
	return quantiles{at(0.5), at(0.99), at(1)}
}

// String is the quantiles for people.
func (q quantiles) String() string {
	return fmt.Sprintf("p50 %.2f ms, p99 %.2f ms, max %.2f ms", q.P50, q.P99, q.Max)
}

// Run measures.
func (c *timersBenchCmd) Run(ctx context.Context, app *App) error {
	cfg, err := app.busConfig()
	if err != nil {
		return err
	}
	cfg.Namespace = benchNamespace
	dial, cancel := app.withTimeout(ctx)
	defer cancel()
	conn, err := bus.Connect(dial, cfg)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // nothing of it is to stay
	b := &bench{cmd: c, app: app, conn: conn, due: make([]time.Time, c.Count), stored: make([]atomic.Bool, c.Count)}
	b.sink = &benchSink{seen: make(map[string]bool, c.Count), stored: b.storedLate}
	s, err := scheduler.Open(dial, conn, scheduler.Config{
		Transports: map[string]scheduler.Transport{benchTransport: b.sink}, Workers: 2 * c.Workers, PerDestination: c.Workers, Drain: time.Second, Logger: app.log,
	})
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }() // the sink has nothing to close
	if err := b.sweep(dial); err != nil {
		return err
	}
	result, err := b.run(ctx, s)
	clean, cancelClean := app.withTimeout(context.WithoutCancel(ctx))
	defer cancelClean()
	if err = errors.Join(err, b.sweep(clean)); err != nil {
		return err
	}
	if err := printOne(app, result, result.rows()); err != nil {
		return err
	}
	if missing := int64(result.Created) - result.Delivered; missing > 0 {
		return fmt.Errorf("%s of %d did not arrive within %v", plural(int(missing), "timer"), result.Created, benchPatience)
	}
	return nil
}

func (r *benchResult) rows() [][]any {
	rows := [][]any{
		{"created", fmt.Sprintf("%d, %.0f/s", r.Created, r.CreateRate)},
		{"delivered", r.Delivered},
		{"fired late", r.Fired},
		{"delivered late", r.Called},
	}
	for _, n := range []struct {
		name string
		n    int
	}{{"not created", r.Failed}, {"delivered again", r.Again}, {"early", r.Early}, {"stored too late", r.Late}} {
		if n.n > 0 {
			rows = append(rows, []any{n.name, n.n})
		}
	}
	return rows
}

// bench is a run.
type bench struct {
	cmd    *timersBenchCmd
	app    *App
	conn   *bus.Conn
	sink   *benchSink
	due    []time.Time   // of each timer
	stored []atomic.Bool // that it was stored before it was due
}

// benchID is the id of the i-th timer.
func benchID(i int) string { return fmt.Sprintf("b%d", i) }

func (b *bench) storedLate(id string) bool {
	var i int
	_, err := fmt.Sscanf(id, "b%d", &i)
	return err != nil || i < 0 || i >= len(b.stored) || !b.stored[i].Load()
}

// run creates the timers and waits until they were delivered.
func (b *bench) run(ctx context.Context, s *scheduler.Scheduler) (result *benchResult, err error) {
	running, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	failed := make(chan error, 1)
	wg.Go(func() { failed <- s.Run(running) })
	defer func() {
		stop()
		wg.Wait()
	}()
	result = &benchResult{Timers: b.cmd.Count, Payload: int64(b.cmd.Size)}
	begun := time.Now()
	lead := b.cmd.Lead
	if lead == 0 {
		lead = 2*time.Second + time.Duration(b.cmd.Count)*time.Second/10_000
	}
	first := begun.Add(lead)
	bar := newProgress(b.app, "timers made", 0)
	i := 0
	for _, err := range s.CreateMany(ctx, b.specs(first)) {
		if err != nil {
			if result.Failed++; result.Failed == 1 {
				bar.clear()
				b.app.warn("a timer was not created: %s", message(err))
			}
		} else {
			result.Created++
			b.stored[i].Store(time.Now().Before(b.due[i]))
		}
		i++
		bar.add(1)
	}
	bar.end()
	result.CreateRate = float64(result.Created) / time.Since(begun).Seconds()
	if err := b.wait(ctx, failed, int64(result.Created)); err != nil {
		return nil, err
	}
	b.sink.mu.Lock()
	defer b.sink.mu.Unlock()
	result.Delivered, result.Again, result.Early, result.Late = b.sink.count.Load(), b.sink.again, b.sink.early, b.sink.late
	result.Fired, result.Called = newQuantiles(b.sink.fired), newQuantiles(b.sink.delivered)
	return result, nil
}

// specs are the timers, the first one due at first.
func (b *bench) specs(first time.Time) iter.Seq[scheduler.Spec] {
	payload := make([]byte, b.cmd.Size)
	return func(yield func(scheduler.Spec) bool) {
		for i := range b.cmd.Count {
			b.due[i] = first.Add(time.Duration(float64(b.cmd.Within) * float64(i) / float64(b.cmd.Count)))
			if !yield(scheduler.Spec{ID: benchID(i), At: b.due[i], Payload: payload, Target: scheduler.Target{Transport: benchTransport, URI: "sink"}}) {
				return
			}
		}
	}
}

// wait returns when all were delivered, or the last one was due too long ago.
func (b *bench) wait(ctx context.Context, failed <-chan error, want int64) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	bar := newProgress(b.app, "timers delivered", 0)
	defer bar.end()
	tick := time.NewTicker(benchPoll)
	defer tick.Stop()
	deadline := b.due[len(b.due)-1].Add(benchPatience)
	for seen := int64(0); time.Now().Before(deadline); {
		n := b.sink.count.Load()
		if bar.add(n - seen); n >= want {
			return nil
		}
		seen = n
		select {
		case <-tick.C:
		case err := <-failed:
			return either(err, errors.New("the scheduler ended by itself"))
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// sweep removes what this run, or one that was killed, has left.
func (b *bench) sweep(ctx context.Context) error {
	js := b.conn.JetStream()
	for i := range scheduler.MaxShards {
		stream, err := js.Stream(ctx, fmt.Sprintf("SKYBUS_TMR_%d", i))
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			break
		}
		if err != nil {
			return fmt.Errorf("clean up: %w", err)
		}
		ours := fmt.Sprintf(".%s.", benchNamespace)
		if err := stream.Purge(ctx, jetstream.WithPurgeSubject(fmt.Sprintf("skybus.tmr.%d.*%s>", i, ours))); err != nil {
			return fmt.Errorf("clean up: %w", err)
		}
		consumers := stream.ListConsumers(ctx)
		for info := range consumers.Info() {
			subjects := append(info.Config.FilterSubjects, info.Config.FilterSubject)
			if !slices.ContainsFunc(subjects, func(s string) bool { return strings.Contains(s, ours) }) {
				continue
			}
			if err := stream.DeleteConsumer(ctx, info.Name); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
				return fmt.Errorf("clean up: %w", err)
			}
		}
		if err := consumers.Err(); err != nil {
			return fmt.Errorf("clean up: %w", err)
		}
	}
	return nil
}

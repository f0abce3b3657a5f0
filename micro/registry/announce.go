package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/backoff"
	"github.com/skybus-io/skybus/kv"
)

// Defaults of an announcement.
const (
	DefaultHeartbeat = 3 * time.Second
	DefaultTTL       = 10 * time.Second
)

const (
	withdrawTimeout = 2 * time.Second
	retryMin        = 50 * time.Millisecond
	retryMax        = time.Second
)

// AnnounceConfig is how an instance announces itself.
type AnnounceConfig struct {
	Heartbeat time.Duration // 0 means 3 s
	TTL       time.Duration // 0 means 10 s; at least twice the heartbeat, at least 1 s
	Load      func() Load   // called before each heartbeat; nil means none is told
	Announced func()        // called each time the record was written
	Logger    *slog.Logger  // nil means discard
}

// Announcer keeps the record and the liveness of one instance in the registry.
type Announcer struct {
	conn *bus.Conn
	cfg  AnnounceConfig
	log  *slog.Logger
	key  string

	instances *kv.Table[Record]
	liveness  *kv.Table[Load]

	mu     sync.Mutex
	record Record
}

// NewAnnouncer checks the record and the configuration. Nothing is written before [Announcer.Run].
func NewAnnouncer(conn *bus.Conn, record Record, cfg AnnounceConfig) (*Announcer, error) {
	if err := checkRecord(record); err != nil {
		return nil, err
	}
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = DefaultHeartbeat
	}
	if cfg.TTL == 0 {
		cfg.TTL = DefaultTTL
	}
	if cfg.Heartbeat < 0 || cfg.TTL < 2*cfg.Heartbeat || cfg.TTL < time.Second {
		return nil, bus.Errorf(bus.InvalidArgument, "registry: TTL %v with heartbeat %v: want a TTL of at least 1s and two heartbeats", cfg.TTL, cfg.Heartbeat)
	}
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Announcer{
		conn:   conn,
		cfg:    cfg,
		log:    log.With("component", "registry", "service", record.Service, "instance", record.Instance),
		key:    conn.Namespace().Key(record.Service, record.Instance),
		record: record,
	}, nil
}

func checkRecord(r Record) error {
	if err := bus.CheckToken("service", r.Service); err != nil {
		return err
	}
	if err := bus.CheckToken("instance", r.Instance); err != nil {
		return err
	}
	if err := bus.CheckVersion(r.Version); err != nil {
		return err
	}
	for _, e := range r.Endpoints {
		if err := bus.CheckToken("endpoint", e.Name); err != nil {
			return err
		}
	}
	return nil
}

// Run announces the instance and keeps it announced until ctx ends, then withdraws it. Where the record is lost, by a
// restarted memory server or a mistaken reaper, it is written again within about a second; where somebody deletes the
// whole bucket, within some seconds. While JetStream is away Run keeps trying. Its only error is that the instance could not
// be withdrawn, which its TTL mends.
func (a *Announcer) Run(ctx context.Context) error {
	if !a.open(ctx) {
		return nil
	}
	var w recordWatch
	w.lost = make(chan struct{}, 1)
	var feed sync.WaitGroup
	feed.Go(func() { _ = a.instances.Follow(ctx, a.key, w.apply) }) // ends with ctx or the connection
	reconnected := make(chan struct{}, 1)
	defer a.conn.NotifyLoss(reconnected)()
	a.beat(ctx, &w, reconnected)
	feed.Wait()
	return a.withdraw(ctx)
}

// recordWatch is what the feed says of the announcer's own record.
type recordWatch struct {
	lost    chan struct{} // told when the record is no longer as it should be
	missing atomic.Bool
}

func (w *recordWatch) apply(batch []kv.Entry[Record]) {
	gone := len(batch) == 0 // the first batch: there is none so far
	for _, e := range batch {
		if gone = e.Deleted || e.Err != nil; gone {
			notify(w.lost)
		}
	}
	w.missing.Store(gone)
}

// open binds the tables, trying until it works or ctx ends.
func (a *Announcer) open(ctx context.Context) bool {
	wait := retryMin
	for {
		var err error
		if a.instances, a.liveness, err = tables(ctx, a.conn, a.cfg.Logger, false); err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		a.log.WarnContext(ctx, "registry is not there yet", "error", err)
		if !backoff.Sleep(ctx, jitter(wait)) {
			return false
		}
		wait = min(2*wait, retryMax)
	}
}

// beat writes liveness and record until ctx ends. Liveness goes first: whoever sees the record sees it alive.
func (a *Announcer) beat(ctx context.Context, w *recordWatch, reconnected <-chan struct{}) {
	var revision uint64 // of the liveness key
	announced := false
	wait := retryMin
	for {
		next := jitter(a.cfg.Heartbeat)
		rev, err := a.beatOnce(ctx, revision)
		if err == nil && !announced {
			err = a.writeRecord(ctx)
		}
		switch {
		case err == nil:
			revision, announced, wait = rev, true, retryMin
		case ctx.Err() != nil:
			return
		default:
			a.log.DebugContext(ctx, "heartbeat failed", "error", err)
			revision, announced = 0, false
			next = jitter(wait)
			wait = min(2*wait, retryMax)
		}
		select {
		case <-ctx.Done():
			return
		case <-reconnected:
		case <-w.lost:
			announced = false
		case <-time.After(next):
			if w.missing.Load() { // removed before the feed had told that it was there
				announced = false
			}
		}
	}
}

// beatOnce renews the liveness. When it is gone or was never written the record may be gone too.
func (a *Announcer) beatOnce(ctx context.Context, revision uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.Heartbeat)
	defer cancel()
	load := Load{}
	if a.cfg.Load != nil {
		load = a.cfg.Load()
	}
	if revision != 0 {
		return a.liveness.Update(ctx, a.key, load, revision, kv.TTL(a.cfg.TTL))
	}
	return a.liveness.Put(ctx, a.key, load, kv.TTL(a.cfg.TTL))
}

func (a *Announcer) writeRecord(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.Heartbeat)
	defer cancel()
	a.mu.Lock()
	record := a.record
	a.mu.Unlock()
	if _, err := a.instances.Put(ctx, a.key, record); err != nil {
		return err
	}
	if a.cfg.Announced != nil {
		a.cfg.Announced()
	}
	return nil
}

// withdraw removes the record before the liveness: a watcher that sees a record without liveness takes it for dead.
func (a *Announcer) withdraw(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), withdrawTimeout)
	defer cancel()
	if err := errors.Join(a.instances.Delete(ctx, a.key), a.liveness.Delete(ctx, a.key)); err != nil {
		return fmt.Errorf("registry: withdraw %s: %w", a.key, err)
	}
	return nil
}

func notify(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// jitter spreads d by a tenth, so that instances started together do not beat together.
func jitter(d time.Duration) time.Duration {
	return d - d/20 + rand.N(d/10+1)
}

package registry

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

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
	Announced func()        // called each time the record was written because it was not there, or may not have been
	Logger    *slog.Logger  // nil means discard
	// AnswerPing makes the announcer answer ctl.<service>.<instance>.ping as long as it runs, so that others know the
	// instance to be alive. Services answer it themselves.
	AnswerPing bool
}

// Announcer keeps the record and the liveness of one instance in the registry.
type Announcer struct {
	conn    *bus.Conn
	cfg     AnnounceConfig
	log     *slog.Logger
	key     string
	lost    chan struct{} // told when the record has to be written again
	session string

	updating semaphore // held while a change is made
	writing  semaphore // held while the record is written

	// Of who claims or runs.
	instances *kv.Table[Record]
	liveness  *kv.Table[Load]
	pong      *nats.Subscription
	alive     uint64 // revision of the liveness, 0 when that is not known

	mu        sync.Mutex
	record    Record
	revision  uint64 // of the record in the bucket; 0 when it is not known
	owned     bool   // the record in the bucket was this announcer's, and still is unless somebody took it
	announced bool   // by Run
}

// NewAnnouncer checks the record and the configuration: see [MaxRecord] and the other limits. Nothing is written before
// [Announcer.Claim] or [Announcer.Run].
func NewAnnouncer(conn *bus.Conn, record Record, cfg AnnounceConfig) (*Announcer, error) {
	record = record.clone()
	record.Session = rand.Text()
	if _, err := encodeRecord(&record); err != nil {
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
		conn:     conn,
		cfg:      cfg,
		log:      log.With("component", "registry", "service", record.Service, "instance", record.Instance),
		key:      conn.Namespace().Key(record.Service, record.Instance),
		lost:     make(chan struct{}, 1),
		updating: make(semaphore, 1),
		writing:  make(semaphore, 1),
		record:   record,
		session:  record.Session,
	}, nil
}

// Record is the record as it is announced, or will be.
func (a *Announcer) Record() Record {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.record.clone()
}

// Run announces the instance and keeps it announced until ctx ends, then withdraws it. Where the record is lost, by a
// restarted memory server or a mistaken reaper, it is written again within about a second; where somebody deletes the
// whole bucket, within some seconds. While JetStream is away Run keeps trying.
//
// Run ends with already_exists when another process has taken the id, as it may when this one did not answer for longer
// than the TTL: nothing is withdrawn then, and the caller should stop serving. Its only other error is that the instance
// could not be withdrawn, which its TTL mends. Without a [Announcer.Claim] before, Run takes the id whoever has it. A ctx
// that has ended makes Run give a claimed id back.
func (a *Announcer) Run(ctx context.Context) error {
	if a.cfg.AnswerPing {
		if err := a.answerPings(); err != nil {
			return err
		}
	} else {
		a.stopAnswering()
	}
	defer a.stopAnswering()
	if !a.open(ctx) {
		return nil
	}
	w := recordWatch{session: a.session, lost: a.lost, foreign: make(chan struct{}, 1)}
	following, unfollow := context.WithCancel(ctx)
	var feed sync.WaitGroup
	feed.Go(func() { _ = a.instances.Follow(following, a.key, w.apply) }) // ends with ctx or the connection
	reconnected := make(chan struct{}, 1)
	defer a.conn.NotifyLoss(reconnected)()
	err := a.beat(ctx, &w, reconnected)
	unfollow()
	feed.Wait()
	if err != nil {
		a.forget()
		return err
	}
	return a.withdraw(ctx)
}

// recordWatch is what the feed says of the announcer's own record.
type recordWatch struct {
	session string
	lost    chan struct{} // told when the record is no longer as it should be
	foreign chan struct{} // told when it may be another's
	missing atomic.Bool
}

func (w *recordWatch) apply(batch []kv.Entry[Record]) {
	gone := len(batch) == 0 // the first batch: there is none so far
	for _, e := range batch {
		if gone = e.Deleted || e.Err != nil; gone {
			notify(w.lost)
		} else if e.Value.Session != w.session {
			notify(w.foreign)
		}
	}
	w.missing.Store(gone)
}

// open binds the tables, trying until it works or ctx ends.
func (a *Announcer) open(ctx context.Context) bool {
	wait := retryMin
	for a.instances == nil || a.liveness == nil {
		err := a.openTables(ctx)
		if err == nil {
			break
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
	return true
}

func (a *Announcer) openTables(ctx context.Context) (err error) {
	if a.instances == nil || a.liveness == nil {
		a.instances, a.liveness, err = tables(ctx, a.conn, a.cfg.Logger, false)
	}
	return err
}

// beat writes liveness and record until ctx ends or the id is another's. Liveness goes first: whoever sees the record sees
// it alive.
func (a *Announcer) beat(ctx context.Context, w *recordWatch, reconnected <-chan struct{}) error {
	written := false
	wait := retryMin
	for ctx.Err() == nil {
		next := jitter(a.cfg.Heartbeat)
		err := a.beatOnce(ctx)
		if err == nil && !written {
			err = a.announce(ctx)
		}
		switch {
		case err == nil:
			written, wait = true, retryMin
		case ctx.Err() != nil: // the loop ends
		case errors.Is(err, errTaken):
			return err
		default:
			a.log.DebugContext(ctx, "heartbeat failed", "error", err)
			written = written && a.alive != 0
			next = jitter(wait)
			wait = min(2*wait, retryMax)
		}
		select {
		case <-ctx.Done():
		case <-reconnected:
		case <-w.lost:
			written = false
		case <-w.foreign:
			if err := a.verify(ctx); errors.Is(err, errTaken) {
				return err
			}
		case <-time.After(next):
			if w.missing.Load() { // removed before the feed had told that it was there
				written = false
			}
		}
	}
	return nil
}

// beatOnce renews the liveness. When it is gone, or was never written, the record may be another's. As long as that is not
// known, JetStream being away, it is tried again as it was: the bucket of records may have no leader for longer.
func (a *Announcer) beatOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.Heartbeat)
	defer cancel()
	load := Load{}
	if a.cfg.Load != nil {
		load = a.cfg.Load()
	}
	if a.alive != 0 {
		revision, err := a.liveness.Update(ctx, a.key, load, a.alive, kv.TTL(a.cfg.TTL))
		if err == nil || errors.Is(err, kv.ErrConflict) {
			a.alive = revision // none after a conflict
		}
		return err
	}
	err := a.verify(ctx)
	if err == nil {
		a.alive, err = a.liveness.Put(ctx, a.key, load, kv.TTL(a.cfg.TTL))
	}
	return err
}

// announce writes the record and tells of it.
func (a *Announcer) announce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.Heartbeat)
	defer cancel()
	if err := a.writing.acquire(ctx); err != nil {
		return err
	}
	a.mu.Lock()
	record, owned := a.record.clone(), a.owned
	a.mu.Unlock()
	err := a.put(ctx, record, owned)
	a.mu.Lock()
	a.announced = a.announced || err == nil
	a.mu.Unlock()
	a.writing.release()
	if err != nil {
		return err
	}
	a.tell(EventOnline, record)
	if a.cfg.Announced != nil {
		a.cfg.Announced()
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
	return d - d/20 + mathrand.N(d/10+1)
}

// semaphore is a lock whose wait ends with a ctx.
type semaphore chan struct{}

func (s semaphore) acquire(ctx context.Context) error {
	select {
	case s <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s semaphore) release() { <-s }

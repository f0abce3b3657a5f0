package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/backoff"
	"github.com/skybus-io/skybus/kv"
)

const (
	reapAfter    = offlineFor // until then [Service.Offline] needs the record
	reapParallel = 16
	reapRounds   = 4 // in the time after which a record is removed
)

// ReaperConfig is how a reaper works. The zero value works.
type ReaperConfig struct {
	// After is how long an instance must have been without liveness. 0 means a minute, during which callers go around an
	// instance that is frozen ([Service.Offline]).
	After time.Duration
	// Ping is how long an instance has to answer a ping. 0 means 1 s.
	Ping time.Duration
	// Parallel is how many instances are asked at a time. 0 means 16.
	Parallel int
	// Reaped is called with each record that was removed, from several goroutines. Nil means nobody cares.
	Reaped func(Record)
	// Logger hears of each. Nil means discard.
	Logger *slog.Logger
}

// Reaper removes the records of instances that are gone. Any number of them may run beside each other, and next to the
// instances: each record is removed once, and never that of an instance that came back.
type Reaper struct {
	conn     *bus.Conn
	registry *Registry
	cfg      ReaperConfig
	log      *slog.Logger
	undead   map[string]string // sessions of who answers without liveness, by key
}

// NewReaper checks cfg. The registry says who has no liveness, and since when: since it was opened, for who had none then. It
// has to be open as long as the reaper runs.
func NewReaper(conn *bus.Conn, registry *Registry, cfg ReaperConfig) (*Reaper, error) {
	if got, want := conn.Namespace().String()+".", registry.prefix; got != want {
		return nil, bus.Errorf(bus.InvalidArgument, "registry: reaper in namespace %q with a registry of %q", conn.Namespace(), want[:len(want)-1])
	}
	if cfg.After < 0 || cfg.Ping < 0 || cfg.Parallel < 0 {
		return nil, bus.Errorf(bus.InvalidArgument, "registry: reaper: After, Ping and Parallel must not be negative")
	}
	if cfg.After == 0 {
		cfg.After = reapAfter
	}
	if cfg.Ping == 0 {
		cfg.Ping = pingTimeout
	}
	if cfg.Parallel == 0 {
		cfg.Parallel = reapParallel
	}
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Reaper{conn: conn, registry: registry, cfg: cfg, log: log.With("component", "reaper"), undead: map[string]string{}}, nil
}

// Run removes records until ctx ends: those without liveness for the time After, and at most a quarter of it longer, whose
// instance does not answer ctl.<service>.<instance>.ping. Who answers is left alone, and told of once. What cannot be
// removed, because JetStream is away say, is tried again. Run returns nil; it must not be called twice at the same time.
func (p *Reaper) Run(ctx context.Context) error {
	for backoff.Sleep(ctx, jitter(p.cfg.After/reapRounds)) {
		p.round(ctx)
	}
	return nil
}

// round asks all that are due.
func (p *Reaper) round(ctx context.Context) {
	due := p.registry.lostBefore(time.Now().Add(-p.cfg.After))
	answers := make([]bool, len(due))
	places := make(chan struct{}, p.cfg.Parallel)
	var asked sync.WaitGroup
	for n, i := range due {
		places <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		asked.Go(func() {
			defer func() { <-places }()
			answers[n] = p.reap(ctx, i)
		})
	}
	asked.Wait()
	undead := map[string]string{}
	for n, i := range due {
		if !answers[n] {
			continue
		}
		key := p.conn.Namespace().Key(i.Service, i.Instance)
		undead[key] = i.Session
		if told, ok := p.undead[key]; !ok || told != i.Session {
			p.log.WarnContext(ctx, "instance answers, but gives no sign of life to the registry", "service", i.Service, "instance", i.Instance)
		}
	}
	p.undead = undead
}

// reap removes the record of an instance if it is dead, and tells whether it answered.
func (p *Reaper) reap(ctx context.Context, i *Instance) (alive bool) {
	got, err := ping(ctx, p.conn, i.Service, i.Instance, p.cfg.Ping)
	if err == nil && got == answered {
		return true
	}
	if err == nil && ctx.Err() == nil {
		removing, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTimeout) // what was removed is told, also at a stop
		err = p.remove(removing, i)
		cancel()
	} else if err == nil {
		return false
	}
	switch {
	case err == nil:
	case errors.Is(err, errCameBack), ctx.Err() != nil:
		return false
	default:
		p.log.DebugContext(ctx, "a lost instance stays for now", "service", i.Service, "instance", i.Instance, "error", err)
		return false
	}
	p.log.InfoContext(ctx, "removed an instance that is gone", "service", i.Service, "instance", i.Instance, "host", i.Host, "pid", i.PID)
	if err := tell(p.conn, EventOffline, i.Record); err != nil {
		p.log.DebugContext(ctx, "event is not told", "event", EventOffline, "error", err)
	}
	if p.cfg.Reaped != nil {
		p.cfg.Reaped(i.clone())
	}
	return false
}

// removeTimeout is how long the servers have to remove a record.
const removeTimeout = 5 * time.Second

// errCameBack says that an instance is alive, or was removed by another.
var errCameBack = errors.New("instance is back or gone")

// remove deletes the record that was seen, if there is still no liveness. An instance that comes back between these two
// writes its record anew: either the deletion finds another revision, or the instance finds that its record is gone.
func (p *Reaper) remove(ctx context.Context, i *Instance) error {
	ctx, cancel := context.WithTimeout(ctx, withdrawTimeout)
	defer cancel()
	key := p.conn.Namespace().Key(i.Service, i.Instance)
	alive, err := p.registry.liveness.Get(ctx, key)
	switch {
	case err == nil || alive.Revision != 0: // or unreadable
		return errCameBack
	case !errors.Is(err, kv.ErrNotFound):
		return err
	}
	err = p.registry.instances.Delete(ctx, key, kv.IfRevision(i.revision))
	if errors.Is(err, kv.ErrConflict) {
		return fmt.Errorf("%w: %w", errCameBack, err)
	}
	return err
}

// lostBefore are the instances that have had no liveness since then, or for longer.
func (r *Registry) lostBefore(then time.Time) []*Instance {
	r.mu.Lock()
	defer r.mu.Unlock()
	var due []*Instance
	for key, since := range r.lost {
		service, instance, _ := r.splitKey(key)
		if i := r.Service(service).Instance(instance); i != nil && i.State == Offline && !since.After(then) {
			due = append(due, i)
		}
	}
	return due
}

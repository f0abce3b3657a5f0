// Package registry knows which instances of which services there are.
//
// An instance has a record (who it is, what it serves; written when it changes) and a liveness (its load; written every
// few seconds, gone by itself when the writing stops). A record without liveness is an instance that died or froze: it is
// offline, though its record still tells of it.
//
// A [Registry] keeps a copy of both, filled by one feed each, so that a lookup costs nanoseconds and no message. The copy
// follows within a millisecond or so; after a lost connection or a restarted server it is right again within a second
// (package kv). It never forgets because the servers are away: the last known state stays until something newer is known.
//
// Who dies or freezes is offline when its TTL is over, and within a second of that. Where the servers could not take signs of
// life, having to elect a leader (4 to 9 s) or to restart, a TTL that is over proves nothing: then nobody is shown as offline
// until 5 s after the election, or after this registry's connection is back. Who lives has told so by then.
//
// An [Announcer] writes both for one instance, again whenever they are lost, and changes the record as the instance runs:
// attributes, endpoints, whether it is registered. An id belongs to one process at a time ([Announcer.Claim]). A [Reaper]
// removes the records of those who died.
//
// # Order
//
// A copy sees the states of an instance in order, but not every one ([Registry.Watch]). Between instances, and between the
// registry and messages, there is none but by [Registry.WaitTold].
package registry

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/kv"
)

// earlyTime is how long a new record is held back for its liveness, and the end of a liveness for the deletion of its record.
// They come by different feeds, in any order: an instance that starts or stops would seem dead for a moment.
const earlyTime = 250 * time.Millisecond

// Buckets of the registry.
const (
	InstancesBucket = "skybus_instances"
	LivenessBucket  = "skybus_liveness"
)

// Load is what an instance tells of its work with each heartbeat.
type Load struct {
	InFlight int    `json:"in_flight"`
	Limit    int    `json:"limit"`
	Latency  int64  `json:"latency_us"` // mean since the last heartbeat, microseconds
	Shed     uint64 `json:"shed"`       // requests refused since the start
}

// State says whether an instance can be called.
type State string

// The states of an instance.
const (
	Online       State = "online"       // registered and alive
	Unregistered State = "unregistered" // alive, wants no requests but by its own name
	Offline      State = "offline"      // its liveness is gone
)

// Instance is one instance as the registry sees it now. It is shared and must not be changed.
type Instance struct {
	Record
	State State

	revision uint64 // of the record
	load     *atomic.Pointer[Load]
}

// Load is what the instance last told of its work; the zero Load when it never did.
func (i *Instance) Load() Load {
	if i.load == nil {
		return Load{}
	}
	if l := i.load.Load(); l != nil {
		return *l
	}
	return Load{}
}

// Service is all instances of one name. It is shared and must not be changed.
type Service struct {
	Name string
	// Online are the instances that take requests, by id.
	Online []*Instance
	// Rest are the unregistered and the offline ones, by id.
	Rest []*Instance

	lost   time.Time           // when the last of them to do so went offline
	common map[string]Endpoint // of the online ones, by name
}

// offlineFor is how long a lost instance counts for [Service.Offline]: longer than a skybus server takes to drop a client
// that does not answer.
const offlineFor = time.Minute

// Offline tells whether an instance of s stopped giving signs of life without deregistering, less than a minute ago. A frozen
// process still has its subscriptions, and the server goes on giving it its share of a queue group until it notices. It is
// false for nil.
func (s *Service) Offline() bool {
	return s != nil && !s.lost.IsZero() && time.Since(s.lost) < offlineFor
}

// Endpoint is what all online instances that have the endpoint say of it: it is idempotent, say, where each of them says
// so, but internal where one of them does. It tells whether one has it.
func (s *Service) Endpoint(name string) (Endpoint, bool) {
	if s == nil {
		return Endpoint{}, false
	}
	e, ok := s.common[name]
	return e, ok
}

// Instance is the instance of that id, in whatever state, nil when none is known.
func (s *Service) Instance(id string) *Instance {
	if s == nil {
		return nil
	}
	for _, list := range [...][]*Instance{s.Online, s.Rest} {
		for _, i := range list {
			if i.Instance == id {
				return i
			}
		}
	}
	return nil
}

// stored is a record with its revision in the bucket.
type stored struct {
	Record

	revision uint64
}

// Config is what [Open] may be told.
type Config struct {
	Logger *slog.Logger // nil means discard
	// Bind: the buckets of the registry are not created. Where they are missing, Open fails with [kv.ErrNoBucket].
	Bind bool
}

// Registry is a local copy of all instances of one namespace. It is safe for concurrent use.
type Registry struct {
	prefix   string
	snapshot atomic.Pointer[map[string]*Service]
	log      *slog.Logger
	stop     context.CancelFunc

	instances *kv.Table[Record]
	liveness  *kv.Table[Load]

	feeds sync.WaitGroup

	mu      sync.Mutex
	records map[string]stored // by key
	alive   map[string]*atomic.Pointer[Load]
	lost    map[string]time.Time   // when a record was first seen without liveness, by key
	early   map[string]*time.Timer // keys of records that came before their liveness
	fading  map[string]*time.Timer // keys of livenesses that ended before their record
	doubt   time.Time              // until then no liveness ends
	loaded  bool                   // what there was at first is in
	changed chan struct{}          // closed at the next change of a snapshot

	watchers map[*watcher]struct{}
	dealing  chan struct{} // closed when a watcher has dealt with a change; nil while nobody waits for that
}

// Open loads the instances of conn's namespace and follows them until [Registry.Close]. ctx bounds the loading.
func Open(ctx context.Context, conn *bus.Conn, cfg Config) (*Registry, error) {
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	instances, liveness, err := tables(ctx, conn, log, cfg.Bind)
	if err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	r := &Registry{
		prefix:  conn.Namespace().String() + ".",
		log:     log.With("component", "registry"),
		records: map[string]stored{},
		alive:   map[string]*atomic.Pointer[Load]{},
		lost:    map[string]time.Time{},
		early:   map[string]*time.Timer{},
		fading:  map[string]*time.Timer{},
		changed: make(chan struct{}),

		watchers: map[*watcher]struct{}{},

		instances: instances,
		liveness:  liveness,
	}
	r.snapshot.Store(&map[string]*Service{})
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	r.stop = stop
	r.feeds.Go(func() { r.heed(run, conn) })
	// Liveness first, so that no record appears offline only because its liveness was not read yet.
	if err := follow(ctx, run, &r.feeds, liveness, r.prefix+">", r.applyLiveness); err != nil {
		_ = r.Close()
		return nil, fmt.Errorf("registry: %w", err)
	}
	if err := follow(ctx, run, &r.feeds, instances, r.prefix+">", r.applyRecords); err != nil {
		_ = r.Close()
		return nil, fmt.Errorf("registry: %w", err)
	}
	r.waitEarly(ctx)
	return r, nil
}

// waitEarly waits for the records that were just written to be shown, alive or not: who lists once sees them.
func (r *Registry) waitEarly(ctx context.Context) {
	for {
		r.mu.Lock()
		held, changed := len(r.early), r.changed
		r.mu.Unlock()
		if held == 0 {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// follow starts a feed and returns when its first batch is applied.
func follow[T any](ctx, run context.Context, wg *sync.WaitGroup, t *kv.Table[T], pattern string, apply func([]kv.Entry[T])) error {
	loaded := make(chan struct{})
	failed := make(chan error, 1)
	var once sync.Once
	wg.Go(func() {
		failed <- t.Follow(run, pattern, func(batch []kv.Entry[T]) {
			apply(batch)
			once.Do(func() { close(loaded) })
		})
	})
	select {
	case <-loaded:
		return nil
	case err := <-failed:
		return err
	case <-ctx.Done():
		return fmt.Errorf("load: %w", context.Cause(ctx))
	}
}

func tables(ctx context.Context, conn *bus.Conn, log *slog.Logger, bind bool) (*kv.Table[Record], *kv.Table[Load], error) {
	instances, err := kv.Open[Record](ctx, conn, InstancesBucket, kv.Config{Bind: bind, NoExpiry: true, Logger: log, Description: "skybus: who serves what"})
	if err != nil {
		return nil, nil, err
	}
	liveness, err := kv.Open[Load](ctx, conn, LivenessBucket, kv.Config{Bind: bind, Logger: log, Description: "skybus: who is alive"})
	return instances, liveness, err
}

// Close ends the feeds. What was read last can still be looked up.
func (r *Registry) Close() error {
	r.stop()
	r.feeds.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	for key := range r.early {
		r.settleLocked(key)
	}
	for key := range r.fading {
		r.keepLocked(key)
	}
	return nil
}

// Service is the service of that name, nil when no instance of it is known.
func (r *Registry) Service(name string) *Service {
	return (*r.snapshot.Load())[name]
}

// Services is all services by name. The map is shared and must not be changed.
func (r *Registry) Services() map[string]*Service {
	return *r.snapshot.Load()
}

// Changed is closed when an instance comes, goes or changes after the call. A load is no change.
func (r *Registry) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

func (r *Registry) applyRecords(batch []kv.Entry[Record]) {
	r.mu.Lock()
	defer r.mu.Unlock()
	touched := map[string]struct{}{}
	for _, e := range batch {
		service, instance, ok := r.splitKey(e.Key)
		switch {
		case !ok:
			r.log.Warn("key in the registry is not <app>.<env>.<service>.<instance>", "key", e.Key)
			continue
		case e.Err != nil:
			r.log.Warn("record in the registry is not readable", "key", e.Key, "error", e.Err)
			continue
		case e.Deleted:
			delete(r.records, e.Key)
			delete(r.lost, e.Key)
			r.settleLocked(e.Key)
			if r.keepLocked(e.Key) {
				delete(r.alive, e.Key)
			}
		default:
			_, known := r.records[e.Key]
			fresh := r.loaded || time.Since(e.Created).Abs() < time.Second // its liveness may not be written yet
			if fresh && !known && r.alive[e.Key] == nil {
				r.early[e.Key] = time.AfterFunc(earlyTime, func() { r.settle(e.Key, service) })
			}
			record := e.Value
			record.Service, record.Instance = service, instance // the key decides
			r.records[e.Key] = stored{record, e.Revision}
		}
		touched[service] = struct{}{}
	}
	r.loaded = true
	r.publishLocked(touched)
}

func (r *Registry) applyLiveness(batch []kv.Entry[Load]) {
	r.mu.Lock()
	defer r.mu.Unlock()
	touched := map[string]struct{}{}
	for _, e := range batch {
		service, _, ok := r.splitKey(e.Key)
		if !ok || e.Err != nil { // written by something else: the next heartbeat says whether the instance is alive
			continue
		}
		load, known := r.alive[e.Key]
		r.keepLocked(e.Key)
		_, told := r.records[e.Key]
		switch {
		case e.Deleted && known && told:
			r.fading[e.Key] = time.AfterFunc(earlyTime, func() { r.fade(e.Key, service) })
		case e.Deleted:
			delete(r.alive, e.Key)
			touched[service] = struct{}{}
		case known:
			load.Store(&e.Value)
		default:
			load = &atomic.Pointer[Load]{}
			load.Store(&e.Value)
			r.alive[e.Key] = load
			r.settleLocked(e.Key)
			touched[service] = struct{}{}
		}
	}
	r.publishLocked(touched)
}

func (r *Registry) splitKey(key string) (service, instance string, ok bool) {
	rest, ok := strings.CutPrefix(key, r.prefix)
	if !ok {
		return "", "", false
	}
	service, instance, _ = strings.Cut(rest, ".")
	// Both become tokens of subjects that are sent to, and anybody may have written the key.
	return service, instance, bus.CheckToken("service", service) == nil && bus.CheckToken("instance", instance) == nil
}

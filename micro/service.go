package micro

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro/registry"
)

// Config describes a service. Name is required, the zero value of all else works.
type Config struct {
	// Name is the service's token in every subject it serves: 1 to 64 characters of A-Z a-z 0-9 _ -.
	Name string
	// Version is a semantic version. Empty means 0.0.0.
	Version string
	// Instance is this instance's id, a token. Empty means a new random one.
	Instance string
	// Description is shown in listings.
	Description string
	// Region and Host tell where the instance runs. An empty Host means the machine's name.
	Region string
	Host   string
	// Metadata is shown by $SRV.INFO beside skybus's own keys.
	Metadata map[string]string
	// Concurrency is how many requests each endpoint handles at a time. Above it requests are refused at once with the
	// code unavailable. 0 means 256.
	Concurrency int
	// Timeout is how long a handler may take for a caller that does not tell how long it waits. 0 means 30 s.
	Timeout time.Duration
	// Drain is how long a stopping service waits for its handlers before their ctx ends. 0 means 10 s.
	Drain time.Duration
	// Heartbeat and TTL are how often the instance says that it is alive, and how long that counts. 0 means 3 s and 10 s.
	Heartbeat time.Duration
	TTL       time.Duration
	// Hooks are told of the service's life.
	Hooks Hooks
	// Logger hears of panics and dropped messages. Nil means the connection's.
	Logger *slog.Logger
}

// Hooks are called one at a time as a service runs. Each may be nil. They must return soon: the service waits for them.
type Hooks struct {
	Started      func() // requests can arrive
	Registered   func() // others can see the instance; again after its record was lost and written anew
	Unregistered func() // the instance takes no new requests
	Stopped      func() // everything is finished
}

// Service is one instance of a service: endpoints, added before [Service.Run], and their figures.
type Service struct {
	conn    *bus.Conn
	cfg     Config
	log     *slog.Logger
	from    []string // the address, as the header value of replies
	started time.Time
	running atomic.Bool
	drops   dropCounts

	mu        sync.Mutex
	endpoints map[string]*endpoint
}

// NewService checks cfg and makes a service that does nothing before [Service.Run].
func NewService(conn *bus.Conn, cfg Config) (*Service, error) {
	if err := bus.CheckToken("service name", cfg.Name); err != nil {
		return nil, err
	}
	if cfg.Version == "" {
		cfg.Version = "0.0.0"
	}
	if err := bus.CheckVersion(cfg.Version); err != nil {
		return nil, err
	}
	if cfg.Instance == "" {
		cfg.Instance = newInstanceID()
	}
	if err := bus.CheckToken("instance", cfg.Instance); err != nil {
		return nil, err
	}
	if cfg.Name == "_" || cfg.Instance == "all" {
		return nil, bus.Errorf(bus.InvalidArgument, "service %q, instance %q: the service _ and the instance all stand for every one", cfg.Name, cfg.Instance)
	}
	if cfg.Concurrency < 0 || cfg.Timeout < 0 || cfg.Drain < 0 {
		return nil, bus.Errorf(bus.InvalidArgument, "service %q: Concurrency, Timeout and Drain must not be negative", cfg.Name)
	}
	cfg.Concurrency = orDefault(cfg.Concurrency, DefaultConcurrency)
	cfg.Timeout = orDefault(cfg.Timeout, DefaultHandlerTimeout)
	cfg.Drain = orDefault(cfg.Drain, DefaultDrain)
	if cfg.Host == "" {
		cfg.Host, _ = os.Hostname() // a machine without a name has none to show
	}
	if cfg.Logger == nil {
		cfg.Logger = conn.Logger()
	}
	s := &Service{
		conn:      conn,
		cfg:       cfg,
		log:       cfg.Logger.With("component", "micro", "service", cfg.Name, "instance", cfg.Instance),
		started:   time.Now().UTC(),
		endpoints: map[string]*endpoint{},
	}
	s.from = []string{s.Address().String()}
	if _, err := s.announcer(nil); err != nil {
		return nil, err
	}
	return s, nil
}

// newInstanceID is short enough for people and has 60 random bits.
func newInstanceID() string { return strings.ToLower(rand.Text()[:12]) }

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// Address is the instance's own address.
func (s *Service) Address() bus.Address {
	return bus.Address{Namespace: s.conn.Namespace(), Service: s.cfg.Name, Instance: s.cfg.Instance}
}

func (s *Service) sortedEndpoints() []*endpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	eps := make([]*endpoint, 0, len(s.endpoints))
	for _, name := range slices.Sorted(maps.Keys(s.endpoints)) {
		eps = append(eps, s.endpoints[name])
	}
	return eps
}

func (s *Service) announcer(announced func()) (*registry.Announcer, error) {
	record := registry.Record{
		Service:     s.cfg.Name,
		Instance:    s.cfg.Instance,
		Version:     s.cfg.Version,
		Description: s.cfg.Description,
		Region:      s.cfg.Region,
		Host:        s.cfg.Host,
		PID:         os.Getpid(),
		Build:       buildRevision(),
		Started:     s.started,
		Registered:  true,
	}
	for _, ep := range s.sortedEndpoints() {
		record.Endpoints = append(record.Endpoints, ep.record())
	}
	return registry.NewAnnouncer(s.conn, record, registry.AnnounceConfig{
		Heartbeat: s.cfg.Heartbeat,
		TTL:       s.cfg.TTL,
		Load:      s.load,
		Announced: announced,
		Logger:    s.cfg.Logger,
	})
}

// Run serves until ctx ends: it subscribes, announces the instance and, at the end, leaves the queue groups, withdraws the
// instance, finishes what it was given (also what was still on its way in) and sends the last replies. Requests that come
// meanwhile go to other instances. Run can be called once; the connection stays open.
func (s *Service) Run(ctx context.Context) error {
	if !s.running.CompareAndSwap(false, true) {
		return bus.Errorf(bus.FailedPrecondition, "service %q: Run was called before", s.cfg.Name)
	}
	announcer, err := s.announcer(s.cfg.Hooks.Registered)
	if err != nil {
		return err
	}
	handlers := newHandlers(ctx)
	subs, err := s.subscribe(ctx, handlers)
	if err != nil {
		return err
	}
	call(s.cfg.Hooks.Started)
	announced := make(chan error, 1)
	announcing, withdraw := context.WithCancel(context.WithoutCancel(ctx))
	defer withdraw()
	go func() { announced <- announcer.Run(announcing) }()

	closed := false
	select {
	case <-ctx.Done():
	case <-s.conn.Closed():
		closed = true
	}
	deadline := time.Now().Add(s.cfg.Drain)
	subs.drainQueues(deadline)
	withdraw()
	err = <-announced
	call(s.cfg.Hooks.Unregistered)
	subs.drainRest(deadline)
	if closed {
		_ = handlers.end(0) // nobody can be answered
		err = bus.Errorf(bus.Unavailable, "service %q: the connection was closed while it ran", s.cfg.Name)
	} else {
		if left := handlers.end(time.Until(deadline)); left > 0 {
			err = errors.Join(err, bus.Errorf(bus.DeadlineExceeded, "service %q: %d requests were not finished within %v and given up", s.cfg.Name, left, s.cfg.Drain))
		}
		if err == nil || s.conn.NATS().IsConnected() { // else the withdrawal has waited for the connection, in vain
			err = errors.Join(err, s.flush(ctx))
		}
	}
	call(s.cfg.Hooks.Stopped)
	return err
}

func (s *Service) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer cancel()
	if err := s.conn.NATS().FlushWithContext(ctx); err != nil {
		return bus.Errorf(bus.Unavailable, "service %q: the last replies may not be sent: %w", s.cfg.Name, err)
	}
	return nil
}

func call(hook func()) {
	if hook != nil {
		hook()
	}
}

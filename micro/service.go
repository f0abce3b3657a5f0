package micro

import (
	"crypto/rand"
	"encoding/json"
	"hash/maphash"
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
	"github.com/skybus-io/skybus/micro/stream"
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
	// MaxBody is the largest request and response, in bytes; above it they are refused with resource_exhausted (413). Four times
	// as much is held at a time of those that fit into no message. 0 means 64 MiB.
	MaxBody int
	// Streams adjusts the streams.
	Streams stream.Config
	// Heartbeat and TTL are how often the instance says that it is alive, and how long that counts. 0 means 3 s and 10 s.
	Heartbeat time.Duration
	TTL       time.Duration
	// Unregistered starts the service without taking requests but those sent to it by name, until [Service.SetRegistered].
	Unregistered bool
	// Interceptors wrap the handlers of all endpoints; the first is the outermost. They run once a request is decoded, within
	// its deadline.
	Interceptors []Interceptor
	// LogLevel is the level of the program's log, which the control verb "log" reads and sets. Nil means it cannot.
	LogLevel *slog.LevelVar
	// Hooks are told of the service's life.
	Hooks Hooks
	// Logger hears of panics and dropped messages. Nil means the connection's.
	Logger *slog.Logger
}

// Service is one instance of a service: its endpoints, which may come and go while it runs, and their figures. It is safe
// for concurrent use.
type Service struct {
	conn      *bus.Conn
	cfg       Config
	log       *slog.Logger
	from      []string // the address, as the header value of replies
	started   time.Time
	announcer *registry.Announcer
	running   atomic.Bool // Run was called
	drops     dropCounts
	mux       *stream.Mux
	bodies    *bodies
	requests  requests
	hooks     hookQueue
	intercept UnaryHandler // Config.Interceptors around what the endpoint does; nil where there are none

	turn  chan struct{} // held while subscriptions change
	stale chan struct{} // told when the record is to be written and nobody waits for it

	attributing chan struct{} // held while an attribute changes
	updating    atomic.Int64  // how many Update the announcer now
	schemasLeft sync.Once     // told that schemas were left out

	mu         sync.Mutex
	endpoints  map[string]*endpoint
	leaving    map[*endpoint]struct{} // removed, with handlers that are not done
	registered bool
	run        *run // nil before Run
	stopped    bool // Run stops, or has
	attributes map[string]json.RawMessage

	// Of the record: how often it had to change, and what of that is written.
	wanted, written uint64
	shown           bool // it was written once
	shownRegistered bool
	told            bool // the hook Registered, not followed by Unregistered
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
	if cfg.Name == "_" || cfg.Instance == everyInstance {
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
		conn:        conn,
		cfg:         cfg,
		log:         cfg.Logger.With("component", "micro", "service", cfg.Name, "instance", cfg.Instance),
		started:     time.Now().UTC(),
		turn:        make(chan struct{}, 1),
		stale:       make(chan struct{}, 1),
		attributing: make(chan struct{}, 1),
		endpoints:   map[string]*endpoint{},
		leaving:     map[*endpoint]struct{}{},
		registered:  !cfg.Unregistered,
		attributes:  map[string]json.RawMessage{},
	}
	s.requests.seed = maphash.MakeSeed()
	s.from = []string{s.Address().String()}
	if len(cfg.Interceptors) > 0 {
		s.intercept = Chain(cfg.Interceptors...)(ownInterceptors)
	}
	if err := s.openMux(); err != nil {
		return nil, err
	}
	var err error
	s.announcer, err = registry.NewAnnouncer(conn, s.record(), registry.AnnounceConfig{
		Heartbeat: cfg.Heartbeat,
		TTL:       cfg.TTL,
		Load:      s.load,
		Announced: s.announced,
		Logger:    cfg.Logger,
	})
	return s, err
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

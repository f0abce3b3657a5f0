// Package scheduler keeps durable timers in NATS JetStream and delivers what is due.
//
// A timer is stored when Create returns, and survives the processes that made it, fire it and deliver it. It fires once for each time
// due: never early by the server's clock, within milliseconds while any process runs [Scheduler.Run], and a second later
// by the server itself while none does. What has fired is delivered at least once, with the same Delivery.ID each time, retried
// as the timer says and then kept as a dead letter. Deliveries of different timers have no order.
//
// See docs/timers.md for a guide and docs/adr for why it is built so.
package scheduler

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/outlier"
)

// Defaults of a [Config].
const (
	DefaultShards         = 4
	DefaultClusterShards  = 2 // where the server is one of a cluster
	DefaultGrace          = time.Second
	DefaultWorkers        = 256
	DefaultPerDestination = 32
	DefaultDrain          = 10 * time.Second
)

// Bounds of a [Config].
const (
	MaxShards = 64
	minGrace  = 100 * time.Millisecond
	maxGrace  = time.Minute
)

// Config adjusts a scheduler. The zero value works.
type Config struct {
	// Shards is how many streams the timers are spread over: the first who opens them decides for good, and who wants another number
	// later gets the error failed_precondition. 0 means those that are there; where there are none 4, or 2 on a cluster, where each shard is forced
	// to disk by itself on three servers. At most 64.
	Shards int
	// Compress has the server compress the streams of the timers (S2): a timer of 100 bytes takes 220 bytes of disk instead of 550, while the
	// server holds up what fires as it compresses what it has. The first who opens them decides for good; later ones are not asked.
	Compress bool
	// Grace is how long after the time due the server fires by itself what no owner has fired. It is also how far the clocks of clients
	// may be uncertain, so it has to be well above the time that the server takes to answer: 100 ms to 1 min, 0 means 1 s.
	Grace time.Duration

	// Transports are further ones beside http, nats, call, route and tcp, by their names, which are tokens. Closed by Close.
	Transports map[string]Transport
	// AllowNetworks may be called by http and tcp, although they are not public addresses: loopback, private and other special-purpose
	// networks are refused otherwise.
	AllowNetworks []netip.Prefix
	// AllowPorts of http and tcp targets. Empty means 80, 443 and those from 1024 on.
	AllowPorts []uint16
	// Publish are the prefixes of subjects that the transport nats may publish under; they end in a dot. Empty means <app>.<env>.pub. alone.
	Publish []string

	// Workers is how many deliveries Run makes at once. 0 means 256.
	Workers int
	// PerDestination is how many of them go to one destination (host and port, subject, service), so that one that hangs keeps nobody else waiting: at most half of
	// Workers, whatever it says. 0 means 32.
	PerDestination int
	// Drain is how long Run, when it is stopped, lets deliveries finish. 0 means 10 s.
	Drain time.Duration
	// VirtualTime is for tests: time goes ahead by [Scheduler.Advance]. There must be no other scheduler in the namespace.
	VirtualTime bool
	// Name tells processes apart, in logs and leases. Empty means the host and the process id.
	Name string
	// Logger hears of faults. Nil means discard.
	Logger *slog.Logger
}

func (c Config) withDefaults() (Config, error) {
	if c.Shards < 0 || c.Shards > MaxShards {
		return c, bus.Errorf(bus.InvalidArgument, "scheduler: Config.Shards is %d, it must be 1 to %d", c.Shards, MaxShards)
	}
	if c.Grace != 0 && (c.Grace < minGrace || c.Grace > maxGrace) {
		return c, bus.Errorf(bus.InvalidArgument, "scheduler: Config.Grace is %s, it must be %s to %s", c.Grace, minGrace, maxGrace)
	}
	if c.Workers < 0 || c.PerDestination < 0 || c.Drain < 0 {
		return c, bus.Errorf(bus.InvalidArgument, "scheduler: Config.Workers, PerDestination and Drain must not be negative")
	}
	setDefault(&c.Grace, DefaultGrace)
	setDefault(&c.Workers, DefaultWorkers)
	setDefault(&c.PerDestination, DefaultPerDestination)
	c.PerDestination = max(1, min(c.PerDestination, c.Workers/2))
	setDefault(&c.Drain, DefaultDrain)
	if c.Name == "" {
		host, _ := os.Hostname() // a name for people
		c.Name = host + "-" + strconv.Itoa(os.Getpid())
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

func setDefault[T int | time.Duration](v *T, value T) {
	if *v == 0 {
		*v = value
	}
}

// Scheduler creates, finds and changes timers, and with Run fires and delivers them. It is safe for concurrent use.
type Scheduler struct {
	conn       *bus.Conn
	cfg        Config
	log        *slog.Logger
	js         jetstream.JetStream
	creating   *outbox // for CreateMany
	firing     *outbox // for owners
	shards     []*shard
	transports map[string]Transport
	room       room
	zones      *zones
	ahead      atomic.Int64                    // nanoseconds of virtual time, see package schedulertest
	owned      atomic.Int64                    // shards that this process fires
	epoch      atomic.Pointer[context.Context] // ends when answers of before may be lost
	endEpochs  func()
	endLeaders func()
	counters   counters
	outliers   *outlier.Detector // of destinations

	closeOnce sync.Once
	closeErr  error
}

// shard is one of the streams that hold the timers.
type shard struct {
	space

	stream jetstream.Stream
	clock  *clock
	owner  atomic.Pointer[owner] // nil while this process does not fire its timers
	kept   atomic.Pointer[owner] // the one that lost the shard a moment ago
}

// Open binds to the timers of conn's namespace and makes the streams that hold them, if they are not there. It fires and delivers nothing: timers
// can be made and changed, and are fired by whoever runs [Scheduler.Run]. conn stays the caller's.
func Open(ctx context.Context, conn *bus.Conn, cfg Config) (*Scheduler, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Scheduler{conn: conn, cfg: cfg, log: cfg.Logger.With("component", "scheduler"), js: conn.JetStream(), outliers: newOutliers()}
	s.creating, s.firing = newOutbox(conn.NATS(), createWait), newOutbox(conn.NATS(), createWait)
	if err := s.openShards(ctx); err != nil {
		return nil, err
	}
	s.room.open(conn, s.shards[0].stream.CachedInfo().Config.Replicas)
	if s.transports, err = s.builtin(); err != nil {
		return nil, err
	}
	for name, t := range cfg.Transports {
		if err := bus.CheckToken("transport", name); err != nil {
			return nil, bus.Errorf(bus.InvalidArgument, "scheduler: Config.Transports: %s", bus.AsError(err).Message).With("field", "Config.Transports")
		}
		if _, taken := s.transports[name]; taken || t == nil {
			return nil, bus.Errorf(bus.InvalidArgument, "scheduler: Config.Transports: %q is built in, or nil", name).With("field", "Config.Transports")
		}
		s.transports[name] = t
	}
	s.endEpochs, s.endLeaders = s.keepEpochs(), s.hearLeaders(ctx)
	return s, nil
}

// Close closes the transports, and leaves the connection to who has it. Run and CreateMany must have returned, and no other method may be called any
// more. Further calls of Close do nothing, and return what the first one did.
func (s *Scheduler) Close() error {
	s.closeOnce.Do(func() {
		s.endEpochs()
		s.endLeaders()
		s.creating.close()
		s.firing.close()
		var errs []error
		for name, t := range s.transports {
			if c, ok := t.(io.Closer); ok {
				if err := c.Close(); err != nil {
					errs = append(errs, fmt.Errorf("scheduler: close transport %q: %w", name, err))
				}
			}
		}
		s.closeErr = errors.Join(errs...)
	})
	return s.closeErr
}

// shard is where the timer is kept.
func (s *Scheduler) shard(id string) *shard {
	return s.shards[shardOf(s.shards[0].namespace, id, len(s.shards))]
}

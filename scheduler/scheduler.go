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
	"io"
	"log/slog"
	"net/netip"
	"time"

	"github.com/skybus-io/skybus/bus"
)

// Defaults of a [Config].
const (
	DefaultShards         = 4
	DefaultGrace          = time.Second
	DefaultWorkers        = 256
	DefaultPerDestination = 32
	DefaultDrain          = 10 * time.Second
)

// Config adjusts a scheduler. The zero value works.
type Config struct {
	// Shards is how many streams the timers are spread over, if they are made now: the first who opens them decides for
	// good. 0 means 4; at most 64.
	Shards int
	// Grace is how long after the time due the server fires by itself what no owner has fired. It is also how far the clocks of clients
	// may be uncertain: 100 ms to 1 min, 0 means 1 s. All schedulers of a namespace should have the same.
	Grace time.Duration

	// Transports are further ones beside http, nats, call, route and tcp, by their names, which are tokens. Closed by Close.
	Transports map[string]Transport
	// AllowNetworks may be called by http and tcp, although they are not public addresses: loopback, private and other special-purpose
	// networks are refused otherwise.
	AllowNetworks []netip.Prefix
	// AllowPorts of http and tcp targets. Empty means 80, 443 and those from 1024 on.
	AllowPorts []uint16
	// Publish are the prefixes of subjects that the transport nats may publish under. Empty means <app>.<env>.pub. alone.
	Publish []string

	// Workers is how many deliveries Run makes at once. 0 means 256.
	Workers int
	// PerDestination is how many of them go to one destination (host and port, subject, service). 0 means 32.
	PerDestination int
	// Drain is how long Run, when it is stopped, lets deliveries finish. 0 means 10 s.
	Drain time.Duration
	// Name tells processes apart, in logs and leases. Empty means the host and the process id.
	Name string
	// Logger hears of faults. Nil means discard.
	Logger *slog.Logger
}

// Scheduler creates, finds and changes timers, and with Run fires and delivers them. It is safe for concurrent use.
type Scheduler struct {
	conn       *bus.Conn
	cfg        Config
	log        *slog.Logger
	shards     int
	transports map[string]Transport
	clock      *clock
	closers    []io.Closer
}

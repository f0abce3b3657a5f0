package tcp

import (
	"crypto/tls"
	"log/slog"
	"net"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators/http/limit"
)

// Defaults of a server, and the most that some limits can be.
const (
	DefaultMaxFrame      = 64 << 10
	DefaultPipeline      = 16
	DefaultMaxInFlight   = 256 // as many as an instance of a service takes by default: clients are held up, and not refused
	DefaultMaxConns      = 1024
	DefaultMaxConnsPerIP = 256
	DefaultTimeout       = 10 * time.Second
	DefaultFrameTimeout  = 30 * time.Second
	DefaultIdleTimeout   = 5 * time.Minute
	DefaultWriteTimeout  = 10 * time.Second
	DefaultKeepAlive     = 15 * time.Second
	DefaultDrain         = 10 * time.Second

	MaxMaxFrame = 64 << 20 // what a call of a service can carry
	MaxPipeline = 1 << 16
	maxPlaces   = 1 << 20 // of connections and of requests in flight
)

// Config adjusts a server. The zero value works: lines, each a call that is answered.
type Config struct {
	// Name is what the log calls the server. Empty means nothing.
	Name string
	// Framing tells where frames begin and end, in both directions. Nil means Line{}.
	Framing Framing
	// ContentType is the media type of what frames hold. Empty means JSON for those that are JSON and those that are empty, and application/octet-stream for others.
	ContentType string
	// OneWay answers nothing, not even what goes wrong.
	OneWay bool
	// Errors makes what error frames hold. Nil means JSONErrors.
	Errors ErrorForm
	// TLS is what clients speak, within 5 s of connecting; ClientAuth in it asks for their certificates. Nil means plain TCP.
	TLS *tls.Config

	// MaxFrame is how many bytes a frame may hold; who sends a longer one is told so and hung up on. 0 means 65,536; at most 64 MiB.
	MaxFrame int
	// Pipeline is how many frames of a connection may be read that are not answered yet. 0 means 16; at most 65,536.
	Pipeline int
	// MaxInFlight is how many requests of all connections are worked on at a time. A frame that waits for longer than Timeout is answered with
	// unavailable, and not sent on. 0 means 256; at most 1,048,576.
	MaxInFlight int
	// MaxConns is how many connections there may be at a time. Others are told so in an error frame, and closed. 0 means 1024; at most 1,048,576.
	MaxConns int
	// MaxConnsPerIP is how many of them may come from one IP address. 0 means 256, negative means no limit: behind a proxy all come from one.
	MaxConnsPerIP int

	// Rates are how many frames may come: from each address (IP), from each client by the common name of its certificate (Key), and from all together. While there are too
	// many, nothing is read; a frame that waits for longer than Timeout is answered with resource_exhausted, and not sent on. The zero value means any number.
	Rates limit.Whole
	// ProxyProtocol are the addresses and networks of balancers that say before all else whose connection it is, by the PROXY protocol, version 1 or 2. They must do so, within 5 s. Who
	// comes from elsewhere is who it is, and is hung up on where it begins with such a header. Nil trusts none.
	ProxyProtocol []string

	// Timeout is how long a request may take once its frame is read. 0 means 10 s.
	Timeout time.Duration
	// FrameTimeout is how long a frame may take from its first byte to its last. 0 means 30 s.
	FrameTimeout time.Duration
	// IdleTimeout is how long a connection may neither send nor wait for an answer. 0 means 5 min.
	IdleTimeout time.Duration
	// WriteTimeout is how long a client may take to take an answer, once what the system holds for it is full. 0 means 10 s.
	WriteTimeout time.Duration
	// KeepAlive is how long a connection is silent until the system asks the other side for a sign of life; after nine questions without one it is closed. 0
	// means 15 s, negative means never.
	KeepAlive time.Duration
	// Drain is how long Serve, once it is stopped, lets what is in flight finish. 0 means 10 s.
	Drain time.Duration

	// Logger hears of faults, not of requests. Nil means discard.
	Logger *slog.Logger
}

// Validate tells what [New] would refuse: invalid_argument, with the field among its details.
func (c Config) Validate() error {
	_, err := c.withDefaults()
	return err
}

func (c Config) withDefaults() (Config, error) {
	if c.Framing == nil {
		c.Framing = Line{}
	}
	if c.Errors == nil {
		c.Errors = JSONErrors
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	for _, limit := range []struct {
		field     string
		value     *int
		def, most int
	}{
		{"MaxFrame", &c.MaxFrame, DefaultMaxFrame, MaxMaxFrame},
		{"Pipeline", &c.Pipeline, DefaultPipeline, MaxPipeline},
		{"MaxInFlight", &c.MaxInFlight, DefaultMaxInFlight, maxPlaces},
		{"MaxConns", &c.MaxConns, DefaultMaxConns, maxPlaces},
	} {
		if *limit.value == 0 {
			*limit.value = limit.def
		}
		if *limit.value < 1 || *limit.value > limit.most {
			return c, outside(limit.field, *limit.value, 1, limit.most)
		}
	}
	if c.MaxConnsPerIP == 0 {
		c.MaxConnsPerIP = DefaultMaxConnsPerIP
	}
	for _, d := range []struct {
		field string
		value *time.Duration
		def   time.Duration
	}{
		{"Timeout", &c.Timeout, DefaultTimeout},
		{"FrameTimeout", &c.FrameTimeout, DefaultFrameTimeout},
		{"IdleTimeout", &c.IdleTimeout, DefaultIdleTimeout},
		{"WriteTimeout", &c.WriteTimeout, DefaultWriteTimeout},
		{"Drain", &c.Drain, DefaultDrain},
	} {
		if *d.value == 0 {
			*d.value = d.def
		}
		if *d.value < 0 {
			return c, outside(d.field, *d.value, "more than 0", "any")
		}
	}
	if c.KeepAlive == 0 {
		c.KeepAlive = DefaultKeepAlive
	}
	if err := c.Rates.Validate("Rates."); err != nil {
		return c, bus.AsError(err).With("field", "Rates")
	}
	if _, err := limit.ParseProxies("ProxyProtocol", c.ProxyProtocol); err != nil {
		return c, bus.AsError(err).With("field", "ProxyProtocol")
	}
	return c, c.checkFraming()
}

// checkFraming checks a framing that says what is wrong with it.
func (c Config) checkFraming() error {
	if f, ok := c.Framing.(interface{ Validate() error }); ok {
		if err := f.Validate(); err != nil {
			return bus.AsError(err).With("field", "Framing")
		}
	}
	if f, ok := c.Framing.(Fixed); ok && f.Size > c.MaxFrame {
		return bus.Errorf(bus.InvalidArgument, "tcp: frames of %d bytes are longer than what is taken, %d: want smaller ones, or a larger max_frame", f.Size, c.MaxFrame).With("field", "Framing")
	}
	return nil
}

func outside(field string, value, least, most any) error {
	return bus.Errorf(bus.InvalidArgument, "tcp: Config.%s is %v, it must be %v to %v", field, value, least, most).With("field", field)
}

// keepAlive has the system ask for signs of life, where the connection can.
func (c Config) keepAlive(nc net.Conn) {
	if tc, ok := nc.(interface {
		SetKeepAliveConfig(cfg net.KeepAliveConfig) error
	}); ok {
		_ = tc.SetKeepAliveConfig(net.KeepAliveConfig{Enable: c.KeepAlive > 0, Idle: c.KeepAlive, Interval: c.KeepAlive}) // a connection that is gone already shows soon
	}
}

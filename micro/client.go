package micro

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"sync"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro/balance"
	"github.com/skybus-io/skybus/micro/registry"
	"github.com/skybus-io/skybus/micro/stream"
)

// ClientConfig adjusts a client. The zero value works.
type ClientConfig struct {
	// Name is what services see as the caller: the client's address is skybus://<namespace>.<name>/<random id>. Empty
	// means that it does not tell.
	Name string
	// Region and Host are where the client runs, for policies such as [balance.Nearest]. An empty Host means the machine's
	// name.
	Region string
	Host   string
	// Timeout is how long a call may take whose ctx has no deadline. 0 means 10 s.
	Timeout time.Duration
	// AttemptTimeout is how long one attempt of an idempotent call may take before another is made, and how long [Send]
	// waits before it sends to another instance too. 0 means 2 s. Other calls have one attempt that may take as long as
	// the call.
	AttemptTimeout time.Duration
	// Patience is how long a call tries again when nobody serves it, within its deadline: services may be starting or
	// moving. 0 means 2 s, negative means not at all.
	Patience time.Duration
	// Policy chooses the instances of services that have none in Policies. Nil leaves it to the queue group.
	Policy balance.Policy
	// Policies choose the instances, by service. A nil value leaves it to the queue group.
	Policies map[string]balance.Policy
	// Outliers says when instances that fail are left out.
	Outliers OutlierConfig
	// RetryBudget bounds what is tried again, for each service.
	RetryBudget RetryBudgetConfig
	// Interceptors are around every call, the first outermost; see [Interceptor]. [Notify] and [CallAll] are no calls of one
	// request and one response, and pass none.
	Interceptors []Interceptor
	// Settings are asked at every call for what may change while the client runs. Nil means the live configuration of the
	// namespace, which the client opens and closes; give a [config.Values] to share one, [NoSettings] for a client that
	// follows none.
	Settings Settings
	// MaxBody is the largest request and response, in bytes; above it calls fail with resource_exhausted (413). Four times as
	// much is held at a time of those that fit into no message. 0 means 64 MiB.
	MaxBody int
	// Streams adjusts the streams.
	Streams stream.Config
	// Registry is a registry to share. Nil means one of the client's own.
	Registry *registry.Registry
	// Logger hears of the client's registry, of instances that are left out and of settings that mean nothing. Nil means the
	// connection's.
	Logger *slog.Logger
}

// Client calls services. It is safe for concurrent use; a program needs one.
type Client struct {
	conn     *bus.Conn
	cfg      ClientConfig
	log      *slog.Logger
	registry *registry.Registry
	owned    bool
	from     string
	unary    UnaryHandler // nil without interceptors
	peers    peers
	settings *liveSettings
	foreign  foreigners
	mux      *stream.Mux
	bodies   *bodies
}

// NewClient makes a client and, unless it is given them, a registry and settings for it. Loading these needs JetStream; ctx
// bounds it, or Timeout, but at least 10 s, where ctx has no deadline. A login that may read no configuration is refused with permission_denied;
// where there is none yet, and the login may not make it, the client goes without until somebody has made it.
func NewClient(ctx context.Context, conn *bus.Conn, cfg ClientConfig) (*Client, error) {
	cfg.Timeout = orDefault(cfg.Timeout, DefaultCallTimeout)
	cfg.AttemptTimeout = orDefault(cfg.AttemptTimeout, DefaultAttemptTimeout)
	cfg.Patience = orDefault(cfg.Patience, DefaultPatience)
	cfg.Policies = maps.Clone(cfg.Policies)
	if cfg.Timeout < 0 || cfg.AttemptTimeout < 0 {
		return nil, bus.Errorf(bus.InvalidArgument, "client: Timeout and AttemptTimeout must not be negative")
	}
	if cfg.Host == "" {
		cfg.Host, _ = os.Hostname() // a machine without a name is near to nobody
	}
	if cfg.Logger == nil {
		cfg.Logger = conn.Logger()
	}
	c := &Client{conn: conn, cfg: cfg, log: cfg.Logger.With("component", "client"), registry: cfg.Registry}
	c.peers.init(cfg)
	c.foreign.init(conn)
	c.settings = newLiveSettings(cfg.Settings, c.log)
	if len(cfg.Interceptors) > 0 {
		c.unary = Chain(cfg.Interceptors...)(c.innermost)
	}
	if cfg.Name != "" {
		if err := bus.CheckToken("client name", cfg.Name); err != nil {
			return nil, err
		}
		c.from = bus.Address{Namespace: conn.Namespace(), Service: cfg.Name, Instance: newInstanceID()}.String()
	}
	if err := c.openMux(); err != nil {
		return nil, err
	}
	if err := c.load(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// load opens what the client was not given, side by side.
func (c *Client) load(ctx context.Context) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, max(c.cfg.Timeout, DefaultCallTimeout)) // it is no call
		defer cancel()
	}
	var loading sync.WaitGroup
	var err error
	if c.cfg.Settings == nil {
		loading.Go(func() {
			if c.settings.own, err = openSettings(ctx, c.conn, c.cfg.Logger); err == nil {
				c.settings.source = c.settings.own
			}
		})
	}
	var rerr error
	if c.registry == nil {
		if c.registry, rerr = registry.Open(ctx, c.conn, registry.Config{Logger: c.cfg.Logger}); rerr == nil {
			c.owned = true
		}
	}
	loading.Wait()
	return errors.Join(rerr, err)
}

// Conn is the connection the client calls over.
func (c *Client) Conn() *bus.Conn { return c.conn }

// Address is what services see as the caller; empty for a client without a name.
func (c *Client) Address() string { return c.from }

// Registry is what the client knows of the services.
func (c *Client) Registry() *registry.Registry { return c.registry }

// Close ends the client's streams, and its own registry and settings. Calls still work, by what was known last, unless they are
// too large for a message.
func (c *Client) Close() error {
	_ = c.mux.Close() // has no error
	if c.settings.own != nil {
		c.settings.own.close()
	}
	if c.owned {
		return c.registry.Close()
	}
	return nil
}

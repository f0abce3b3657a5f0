package micro

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro/registry"
)

// ClientConfig adjusts a client. The zero value works.
type ClientConfig struct {
	// Name is what services see as the caller: the client's address is skybus://<namespace>.<name>/<random id>. Empty
	// means that it does not tell.
	Name string
	// Timeout is how long a call may take whose ctx has no deadline. 0 means 10 s.
	Timeout time.Duration
	// AttemptTimeout is how long one attempt of an idempotent call may take before another is made. 0 means 2 s. Other
	// calls have one attempt that may take as long as the call.
	AttemptTimeout time.Duration
	// Patience is how long a call tries again when nobody serves it, within its deadline: services may be starting or
	// moving. 0 means 2 s, negative means not at all.
	Patience time.Duration
	// Registry is a registry to share. Nil means one of the client's own.
	Registry *registry.Registry
	// Logger hears of the client's registry. Nil means the connection's.
	Logger *slog.Logger
}

// Client calls services. It is safe for concurrent use; a program needs one.
type Client struct {
	conn     *bus.Conn
	cfg      ClientConfig
	registry *registry.Registry
	owned    bool
	from     string
}

// NewClient makes a client and, unless it is given one, a registry for it. Loading that needs JetStream; ctx bounds it, or
// Timeout where ctx has no deadline.
func NewClient(ctx context.Context, conn *bus.Conn, cfg ClientConfig) (*Client, error) {
	cfg.Timeout = orDefault(cfg.Timeout, DefaultCallTimeout)
	cfg.AttemptTimeout = orDefault(cfg.AttemptTimeout, DefaultAttemptTimeout)
	cfg.Patience = orDefault(cfg.Patience, DefaultPatience)
	if cfg.Timeout < 0 || cfg.AttemptTimeout < 0 {
		return nil, bus.Errorf(bus.InvalidArgument, "client: Timeout and AttemptTimeout must not be negative")
	}
	if cfg.Logger == nil {
		cfg.Logger = conn.Logger()
	}
	c := &Client{conn: conn, cfg: cfg, registry: cfg.Registry}
	if cfg.Name != "" {
		if err := bus.CheckToken("client name", cfg.Name); err != nil {
			return nil, err
		}
		c.from = bus.Address{Namespace: conn.Namespace(), Service: cfg.Name, Instance: newInstanceID()}.String()
	}
	if c.registry == nil {
		if _, ok := ctx.Deadline(); !ok {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, cfg.Timeout)
			defer cancel()
		}
		r, err := registry.Open(ctx, conn, registry.Config{Logger: cfg.Logger})
		if err != nil {
			return nil, err
		}
		c.registry, c.owned = r, true
	}
	return c, nil
}

// Conn is the connection the client calls over.
func (c *Client) Conn() *bus.Conn { return c.conn }

// Address is what services see as the caller; empty for a client without a name.
func (c *Client) Address() string { return c.from }

// Registry is what the client knows of the services.
func (c *Client) Registry() *registry.Registry { return c.registry }

// Close ends the client's own registry. Calls still work, by what was known last.
func (c *Client) Close() error {
	if c.owned {
		return c.registry.Close()
	}
	return nil
}

// Request is one call, encoded. [Call] is the typed way to make one.
type Request struct {
	Service  string
	Endpoint string
	// Version restricts the call to instances of that version, Instance to one instance, of whatever version.
	Version  string
	Instance string
	// ContentType says how Body is encoded. Empty means JSON.
	ContentType string
	Body        []byte
	// Prior is the response so far, for endpoints that amend one; others are not sent it.
	Prior []byte
	// Patience is how long to try again when nobody serves the call. 0 means the client's, negative not at all.
	Patience time.Duration
	// Attempt is the number of the first attempt, for work that was tried before. 0 means 1.
	Attempt int
	// Idempotent allows another attempt after a time-out, also where the endpoint does not say so.
	Idempotent bool
}

// Reply is the answer to a Request.
type Reply struct {
	ContentType string
	Body        []byte
	// From is the address of the instance that answered; empty when it did not tell.
	From string
	// Attempts is the number of the last attempt, 1 for a request sent once.
	Attempts int
}

type callOption func(*Request)

func (o callOption) applyCall(r *Request) { o(r) }

// ToVersion restricts a call to instances of one version.
func ToVersion(version string) CallOption {
	return callOption(func(r *Request) { r.Version = version })
}

// ToInstance restricts a call to one instance, registered or not.
func ToInstance(id string) CallOption {
	return callOption(func(r *Request) { r.Instance = id })
}

// Call calls target, "service.endpoint", with req and decodes the answer into a Resp. It encodes with the connection's
// codec; a []byte goes and comes as it is. The deadline of ctx, or the client's own, travels with the request.
//
// The error is a [bus.Error] with what the service said, or with: invalid_argument for a bad target or a req that does not
// encode; unimplemented when the service has no such endpoint; unavailable when nobody serves it, or all of them are
// overloaded; deadline_exceeded, after which the request may have been handled; resource_exhausted (413) when req is too
// large; internal when the answer does not decode.
func Call[Resp any](ctx context.Context, c *Client, target string, req any, opts ...CallOption) (Resp, error) {
	var resp Resp
	service, endpoint, err := ParseTarget(target)
	if err != nil {
		return resp, err
	}
	codec := c.conn.Codec()
	body, raw := req.([]byte)
	if !raw {
		if body, err = codec.Marshal(req); err != nil {
			return resp, bus.Errorf(bus.InvalidArgument, "request of type %T does not encode as %s: %w", req, codec.ContentType(), err)
		}
	}
	r := Request{Service: service, Endpoint: endpoint, ContentType: codec.ContentType(), Body: body}
	for _, o := range opts {
		o.applyCall(&r)
	}
	reply, err := c.Do(ctx, r)
	if err != nil {
		return resp, err
	}
	err = c.Decode(reply, &resp)
	return resp, err
}

// Decode reads the body of a reply into v. A *[]byte gets it as it is; an empty body is the zero value.
func (c *Client) Decode(reply Reply, v any) error {
	if b, ok := v.(*[]byte); ok {
		*b = reply.Body
		return nil
	}
	if len(reply.Body) == 0 {
		return nil
	}
	codec, err := c.conn.CodecFor(reply.ContentType)
	if err == nil {
		err = codec.Unmarshal(reply.Body, v)
	}
	if err != nil {
		return bus.Errorf(bus.Internal, "answer of %s does not decode into %T: %w", orDefault(reply.From, "the service"), v, err)
	}
	return nil
}

// ParseTarget splits "service.endpoint" and checks both.
func ParseTarget(target string) (service, endpoint string, err error) {
	service, endpoint, ok := strings.Cut(target, ".")
	if !ok {
		return "", "", bus.Errorf(bus.InvalidArgument, "target %.80q: want service.endpoint", target)
	}
	if err := bus.CheckToken("service", service); err != nil {
		return "", "", err
	}
	if err := bus.CheckToken("endpoint", endpoint); err != nil {
		return "", "", err
	}
	return service, endpoint, nil
}

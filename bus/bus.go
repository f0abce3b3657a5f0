// Package bus is the ground every skybus program stands on: a NATS connection bound to a namespace, the codecs and the
// envelope of its messages, and the errors that cross the wire.
//
// # Delivery
//
// A request is delivered at most once per attempt: either a reply comes, or the server says at once that nobody listens
// ([ErrNoResponders], nothing was delivered), or the deadline passes and nobody knows. Only what provably was not
// delivered is safe to send again without asking; package micro builds its retry rules on that.
//
// # Order
//
// Messages of one connection to one subject arrive in the order they were sent. Across connections, and across the
// members of a queue group, there is no order.
//
// # Failure
//
// A lost connection is made again for ever, every 50 to 100 ms. Requests made meanwhile wait for it within their
// deadline; those in flight when it broke are not sent again. Subscriptions survive, what was published while the
// connection was down does not: [Conn.NotifyLoss] tells who must look again.
package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	reconnectWait   = 50 * time.Millisecond
	reconnectJitter = 50 * time.Millisecond
	dialTimeout     = 2 * time.Second
	pingInterval    = 10 * time.Second
	drainTimeout    = 10 * time.Second
	writeTimeout    = 10 * time.Second
)

// Config tells [Connect] where to connect and as what. The zero value is a connection to a server on this machine in
// the namespace default.dev.
type Config struct {
	// Server is one NATS URL (nats, tls, ws, wss) or several separated by commas. Empty means nats://127.0.0.1:4222.
	Server string
	// InProcess, when set, is a server inside this process that is used instead of Server.
	InProcess nats.InProcessConnProvider
	// Namespace is "<app>.<env>", the first two tokens of every subject. Empty means default.dev.
	Namespace string
	// Name is the connection's name in the server's monitoring. Empty means "skybus".
	Name string
	// Codec encodes what this side sends. Nil means MessagePack.
	Codec Codec
	// Codecs are decoded beside MessagePack, JSON and raw bytes, found by their content type.
	Codecs []Codec
	// AcceptInboxes are prefixes, ending in a dot, of reply subjects that requests may carry beside "_INBOX.", "_R_."
	// (replies across accounts) and this connection's own inbox prefix.
	AcceptInboxes []string
	// Store is the size in bytes of the JetStream store that the limits of skybus's streams and buckets scale to when
	// they are created. 0 means the account's limit or, when it has none, 1 GiB, or less where the server has no room for so much.
	Store int64
	// Logger hears what an operator acts on: connection lost, made, closed, errors outside any call. Nil means discard.
	Logger *slog.Logger
	// Options are passed to nats.Connect after skybus's own: credentials, TLS, an inbox prefix. Handlers of the
	// connection's events among them are called after skybus's own handlers. Who logs in with credentials (a user's token)
	// and names no inbox prefix gets _INBOX.<its public key>, which is what the roles of package auth allow.
	Options []nats.Option
}

// Conn is a NATS connection with a namespace. It is safe for concurrent use.
type Conn struct {
	nc     *nats.Conn
	js     jetstream.JetStream
	ns     Namespace
	codec  Codec
	codecs map[string]Codec
	inbox  []string
	store  int64
	most   atomic.Int64 // that the store has room for, where nobody has said how large it is and it was found to be smaller; else 0
	plain  *slog.Logger
	log    *slog.Logger
	closed chan struct{}

	denials     *denials
	asyncErrors atomic.Uint64

	mu        sync.Mutex
	connected chan struct{} // closed while connected
	watchers  map[chan<- struct{}]struct{}
}

// Connect connects to NATS and returns when the connection stands. It tries each server once, so that a wrong address
// is an error at once and not a silent wait; after that the connection is kept for ever, until [Conn.Close]. Each
// address of a server is given two seconds; when ctx ends before, Connect gives up. ctx has no meaning after it returned.
func Connect(ctx context.Context, cfg Config) (*Conn, error) {
	ns, err := ParseNamespace(cfg.Namespace)
	if err != nil {
		return nil, err
	}
	for _, prefix := range cfg.AcceptInboxes {
		if len(prefix) < 2 || !strings.HasSuffix(prefix, ".") {
			return nil, Errorf(InvalidArgument, "inbox prefix %q: want it to end in a dot, as in _INBOX.", prefix)
		}
	}
	if cfg.InProcess == nil {
		if err := checkSchemes(cfg.Server); err != nil {
			return nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("bus: connect: %w", err)
	}
	c := &Conn{
		ns:       ns,
		codec:    cfg.Codec,
		codecs:   map[string]Codec{},
		store:    cfg.Store,
		log:      cfg.Logger,
		closed:   make(chan struct{}),
		denials:  newDenials(),
		watchers: map[chan<- struct{}]struct{}{},
	}
	if c.codec == nil {
		c.codec = MessagePack{}
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.plain, c.log = c.log, c.log.With("component", "bus")
	for _, codec := range append([]Codec{MessagePack{}, JSON{}, Raw{}, c.codec}, cfg.Codecs...) {
		c.codecs[codec.ContentType()] = codec
	}
	c.connected = make(chan struct{})
	close(c.connected)
	if err := c.dial(ctx, cfg); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Conn) dial(ctx context.Context, cfg Config) error {
	server := cfg.Server
	if server == "" {
		server = nats.DefaultURL
	}
	name := cfg.Name
	if name == "" {
		name = "skybus"
	}
	opts := []nats.Option{
		nats.Name(name),
		nats.Timeout(dialTimeout),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(), // a server may be back before it knows its users
		nats.ReconnectWait(reconnectWait),
		nats.ReconnectJitter(reconnectJitter, reconnectJitter),
		nats.PingInterval(pingInterval),
		nats.DrainTimeout(drainTimeout),
		nats.FlusherTimeout(writeTimeout), // a stalled peer blocks everybody for as long
	}
	if cfg.InProcess != nil {
		opts = append(opts, nats.InProcessServer(cfg.InProcess))
		server = "the server in this process"
	}
	opts = append(opts, cfg.Options...)
	nc, err := connect(ctx, cfg.Server, append(opts, useOwnInbox, batchWrites(c.denials.reset), c.handleEvents))
	if err != nil {
		return connectError(server, err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return fmt.Errorf("bus: jetstream: %w", err)
	}
	c.nc, c.js = nc, js
	c.inbox = append([]string{"_INBOX.", "_R_."}, cfg.AcceptInboxes...)
	if prefix := nc.Opts.InboxPrefix; prefix != "" {
		c.inbox = append(c.inbox, prefix+".")
	}
	return nil
}

// handleEvents is a nats.Option. It comes last, so that a user's handlers are added to ours and replace none.
func (c *Conn) handleEvents(o *nats.Options) error {
	lost, back, closed, failed := o.DisconnectedErrCB, o.ReconnectedCB, o.ClosedCB, o.AsyncErrorCB
	o.DisconnectedErrCB = func(nc *nats.Conn, err error) {
		c.onDisconnect(err)
		if lost != nil {
			lost(nc, err)
		}
	}
	o.ReconnectedCB = func(nc *nats.Conn) {
		c.onReconnect(nc)
		if back != nil {
			back(nc)
		}
	}
	o.ClosedCB = func(nc *nats.Conn) {
		c.onClosed()
		if closed != nil {
			closed(nc)
		}
	}
	o.AsyncErrorCB = func(nc *nats.Conn, sub *nats.Subscription, err error) {
		c.onError(sub, err)
		if failed != nil {
			failed(nc, sub, err)
		}
	}
	return nil
}

// connect is nats.Connect that gives up when ctx ends.
func connect(ctx context.Context, server string, opts []nats.Option) (*nats.Conn, error) {
	type result struct {
		nc  *nats.Conn
		err error
	}
	done := make(chan result, 1)
	go func() {
		nc, err := nats.Connect(server, opts...)
		done <- result{nc, err}
	}()
	select {
	case r := <-done:
		return r.nc, r.err
	case <-ctx.Done():
		go func() {
			if r := <-done; r.nc != nil {
				r.nc.Close() // too late for anybody
			}
		}()
		return nil, context.Cause(ctx)
	}
}

func connectError(server string, err error) error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err // the rest of it is the URL with its password
	}
	hint := ""
	switch {
	case errors.Is(err, nats.ErrNoServers):
		hint = " (nothing answers there; `skybus up` starts a platform with a server of its own)"
	case errors.Is(err, nats.ErrAuthorization):
		hint = " (check the credentials)"
	}
	return fmt.Errorf("bus: connect %s: %w%s", withoutUsers(server), err, hint)
}

// checkSchemes refuses URLs that nats.go would take for those of NATS whatever they begin with.
func checkSchemes(server string) error {
	for u := range strings.SplitSeq(server, ",") {
		scheme, _, ok := strings.Cut(strings.TrimSpace(u), "://")
		if ok && !slices.Contains([]string{"nats", "tls", "ws", "wss"}, strings.ToLower(scheme)) {
			return Errorf(InvalidArgument, "server %.80q: want a URL that begins with nats://, tls://, ws:// or wss://", withoutUsers(strings.TrimSpace(u)))
		}
	}
	return nil
}

// withoutUsers is a list of NATS URLs without the names, passwords and tokens in it.
func withoutUsers(server string) string {
	urls := strings.Split(server, ",")
	for i, u := range urls {
		scheme, rest, ok := strings.Cut(u, "://")
		if !ok {
			scheme, rest = "", u
		}
		if at := strings.LastIndexByte(rest, '@'); at >= 0 {
			urls[i] = strings.TrimPrefix(scheme+"://", "://") + rest[at+1:]
		}
	}
	return strings.Join(urls, ",")
}

// NATS is the connection beneath, for what skybus does not wrap. Closing it closes c.
func (c *Conn) NATS() *nats.Conn { return c.nc }

// JetStream is the JetStream context of the connection.
func (c *Conn) JetStream() jetstream.JetStream { return c.js }

// Namespace is where c's subjects and keys live.
func (c *Conn) Namespace() Namespace { return c.ns }

// Codec is what this side encodes with unless told otherwise.
func (c *Conn) Codec() Codec { return c.codec }

// Logger is the logger of the Config, never nil.
func (c *Conn) Logger() *slog.Logger { return c.plain }

// AsyncErrors counts errors the connection met outside of any call: slow consumers, permission violations. A violation that
// ended a call counts too: one-way messages and calls are told apart by nothing but that somebody waited.
func (c *Conn) AsyncErrors() uint64 { return c.asyncErrors.Load() }

// Closed is closed when the connection is closed for good, by [Conn.Close] or by the server (a revoked user, a protocol
// error). A program that did not close it itself should stop: nothing reconnects it.
func (c *Conn) Closed() <-chan struct{} { return c.closed }

// Close drains the connection and closes it: subscriptions end, what they already hold is delivered, what was published
// is sent. It returns when that is done, at most 10 s later. Further calls wait for the same end. A message handler that
// calls it waits for itself, for those 10 s.
func (c *Conn) Close() error {
	err := c.nc.Drain()
	if errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, nats.ErrConnectionReconnecting) {
		err = nil
	}
	if err != nil {
		c.nc.Close()
		return fmt.Errorf("bus: close: %w", err)
	}
	<-c.closed
	return nil
}

// WaitConnected returns when the connection stands, or with an error when ctx ends or the connection is closed first.
func (c *Conn) WaitConnected(ctx context.Context) error {
	for !c.nc.IsConnected() {
		c.mu.Lock()
		connected := c.connected
		c.mu.Unlock()
		select {
		case <-c.closed:
			return fmt.Errorf("bus: %w", nats.ErrConnectionClosed)
		default:
		}
		var untold <-chan time.Time
		select {
		case <-connected:
			// nats.go tells of a loss a moment after it happened.
			connected, untold = nil, time.After(time.Millisecond)
		default:
		}
		select {
		case <-connected:
		case <-untold:
		case <-c.closed:
		case <-ctx.Done():
			return fmt.Errorf("bus: not connected: %w", context.Cause(ctx))
		}
	}
	return nil
}

// NotifyLoss makes c send to ch, without blocking, whenever messages may have been missed: after each reconnect and when
// a subscription of this connection was too slow. Whoever keeps state from messages looks again then. stop ends it.
func (c *Conn) NotifyLoss(ch chan<- struct{}) (stop func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watchers[ch] = struct{}{}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.watchers, ch)
	}
}

func (c *Conn) notifyLocked() {
	for ch := range c.watchers {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

func (c *Conn) onDisconnect(err error) {
	c.denials.reset() // again: what was refused on the lost connection may have been told since the next is being made
	c.mu.Lock()
	select {
	case <-c.connected:
		c.connected = make(chan struct{})
	default:
	}
	c.mu.Unlock()
	if err != nil {
		c.log.Warn("connection lost", "error", err)
	}
}

func (c *Conn) onReconnect(nc *nats.Conn) {
	c.mu.Lock()
	select {
	case <-c.connected:
	default:
		close(c.connected)
	}
	c.notifyLocked()
	c.mu.Unlock()
	c.log.Info("connection is back", "server", nc.ConnectedUrlRedacted())
}

func (c *Conn) onClosed() {
	c.log.Debug("connection closed")
	close(c.closed)
}

func (c *Conn) onError(sub *nats.Subscription, err error) {
	c.asyncErrors.Add(1)
	attrs := []any{"error", err}
	if sub != nil {
		attrs = append(attrs, "subject", sub.Subject)
	}
	level := slog.LevelWarn
	if errors.Is(err, nats.ErrPermissionViolation) && c.onDenied(err) {
		level = slog.LevelDebug // somebody has it as an error
	}
	c.log.Log(context.Background(), level, "error on the connection", attrs...)
	if errors.Is(err, nats.ErrSlowConsumer) {
		c.mu.Lock()
		c.notifyLocked()
		c.mu.Unlock()
	}
}

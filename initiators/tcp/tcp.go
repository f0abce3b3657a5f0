// Package tcp is the initiator for TCP: each frame that a client sends, by default a line, becomes one request to a target, whose
// answer goes back as a frame.
//
// # Frames
//
// A [Framing] says where a frame ends: [Line], [Prefix], [Fixed], or one of your own. A frame that is JSON is sent on as JSON, any
// other as bytes ([Config].ContentType says otherwise); a mapping of the target ([initiators.Mapping]) can make JSON of text, by the
// placeholders {line} (the frame as text, where it is UTF-8), {frame} (the frame in base64), {remote} (the client's address and port), {connection} (an id of
// the connection), {number} (of the frame on it, from 1) and {tls.cn} (the common name of the client's certificate, where one was asked for and verified).
//
// What fails is answered with a frame too, by default {"error":{"code":"...","message":"...","request_id":"..."}} ([Config].Errors). So is an answer
// that the framing cannot express: one with a line feed in it where frames are lines (JSON is written without its line feeds first), or a longer one than a
// prefix can tell. An error that does not fit either is cut, and where nothing of it fits the connection is closed, once what was answered before is sent. An error without a
// request_id is about the connection, which is closed after it.
//
// # Order and delivery
//
// Answers come in the order of the frames. The requests of a connection are worked on side by side, up to [Config].Pipeline, and so reach the
// target in no order; with a Pipeline of 1 each waits for the answer to the one before it. A request is sent once: what the target promises holds. A connection that
// breaks cancels its requests. One whose client has said that nothing more will come (a half-closed one) is answered to its end.
//
// With [Config].OneWay nothing is ever written. Frames that were read are sent on also when the connection breaks; what fails is counted, and no more.
//
// # Limits
//
// Beyond Pipeline frames of a connection, [Config].MaxInFlight of all, or [Config].Rates, nothing is read, so that TCP holds the client up. Whoever is idle, does not finish a frame, or does not
// take answers is hung up on. At most MaxConns × MaxFrame + MaxInFlight × MaxFrame bytes are held of frames, and Pipeline answers of each
// connection that takes them too slowly.
package tcp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/initiators/http/limit"
	"github.com/skybus-io/skybus/internal/backoff"
)

const (
	lateTimeout      = 250 * time.Millisecond // for frames that are on their way when a stop begins
	lingerTimeout    = 500 * time.Millisecond // for a client to read the last it is told, and to close
	cutOffTimeout    = time.Second            // for clients to take what they are told when they are cut off
	handshakeTimeout = 5 * time.Second
	maxRefusals      = 64 // connections that are being told why they are refused
)

// Server brings frames to a target. It is safe for concurrent use.
type Server struct {
	target   initiators.Target
	cfg      Config
	log      *slog.Logger
	counts   counts
	places   chan struct{} // of requests in flight
	refusals chan struct{}
	door     door
	rates    *limit.Entry // nil for none
	proxies  limit.Proxies
	narrow   sync.Once // says that errors do not fit into frames
}

// New makes a server for target, which stays the caller's, must be safe for concurrent use, and must return when its ctx ends.
// The error is invalid_argument with the field of cfg among its details.
func New(target initiators.Target, cfg Config) (*Server, error) {
	if target == nil {
		return nil, bus.Errorf(bus.InvalidArgument, "tcp: there is no target")
	}
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	log := cfg.Logger.With("component", "tcp")
	if cfg.Name != "" {
		log = log.With("listener", cfg.Name)
	}
	proxies, err := limit.ParseProxies("ProxyProtocol", cfg.ProxyProtocol)
	if err != nil {
		return nil, err
	}
	limiter, err := limit.New(limit.Config{})
	if err != nil {
		return nil, err
	}
	return &Server{
		rates:    limiter.Whole(cfg.Rates),
		proxies:  proxies,
		target:   target,
		cfg:      cfg,
		log:      log,
		places:   make(chan struct{}, cfg.MaxInFlight),
		refusals: make(chan struct{}, maxRefusals),
		door:     door{most: cfg.MaxConns, mostPerIP: cfg.MaxConnsPerIP},
	}, nil
}

// Serve takes connections from l until ctx ends. Then it closes l, reads for a moment what is still on its way, answers what was read, and closes
// each connection once its client has seen that: a frame that was not answered then was not sent on. After Config.Drain it cuts off what is left, with an error frame, and
// returns an error. It returns when all it began has ended. Several listeners may be served at a time; they share the limits.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	v := &serving{Server: s, conns: map[*conn]struct{}{}}
	work, cutOff := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cutOff(nil)
	stop := context.AfterFunc(ctx, func() { _ = l.Close() }) // what it says, Accept says too
	err := v.accept(ctx, work, l)
	if stop() {
		_ = l.Close() // it failed by itself
		err = fmt.Errorf("tcp: %w", err)
	} else {
		err = nil
	}
	v.stop()
	return errors.Join(err, v.drain(cutOff))
}

// accept takes connections until that fails for good.
func (v *serving) accept(ctx, work context.Context, l net.Listener) error {
	for failures := 0; ; {
		nc, err := l.Accept()
		if err == nil {
			failures = 0
			v.take(ctx, work, nc)
			continue
		}
		// Such as too many open files: it may be over in a moment.
		if e, ok := errors.AsType[interface {
			error
			Temporary() bool
		}](err); !ok || !e.Temporary() {
			return err
		}
		if failures++; failures == 1 {
			v.log.WarnContext(ctx, "no connection can be taken now", "error", err)
		}
		v.counts.refuse(ReasonAccept)
		if !backoff.Sleep(ctx, backoff.Full(failures, 10*time.Millisecond, time.Second)) {
			return err
		}
	}
}

// take serves a connection, or tells it why not.
func (v *serving) take(ctx, work context.Context, nc net.Conn) {
	v.cfg.keepAlive(nc)
	ip := addressOf(nc.RemoteAddr())
	behind := v.proxies.Trusts(ip)
	if behind {
		ip = netip.Addr{} // whose it is will be said
	}
	if reason, err := v.door.enter(ip); reason != "" {
		v.counts.refuse(reason)
		v.log.DebugContext(ctx, "connection refused", "remote", nc.RemoteAddr().String(), "reason", string(reason))
		v.refuse(work, nc, err)
		return
	}
	c := newConn(v, nc, ip, behind)
	v.add(c)
	v.running.Go(func() {
		defer func() { v.door.leave(c.ip) }()
		defer v.remove(c)
		if behind && !v.meet(work, c) {
			return
		}
		v.counts.accepted.Add(1)
		c.serve(work)
	})
}

// meet lets a connection in once its balancer has said whose it is, or tells it why not.
func (v *serving) meet(work context.Context, c *conn) bool {
	reason, err := ReasonProxy, c.introduce()
	if err == nil {
		reason, err = v.door.know(c.ip)
	}
	if err == nil {
		return true
	}
	c.ip = netip.Addr{} // as it was let in
	if errors.Is(err, errNobody) {
		_ = c.raw.Close() // nobody waits for anything on it
		return false
	}
	v.counts.refuse(reason)
	v.log.DebugContext(work, "connection refused", "remote", c.remote, "reason", string(reason), "error", err)
	if reason == ReasonProxy && c.tls != nil {
		_ = c.raw.Close() // there is no telling it in TLS
		return false
	}
	c.turnAway(work, err)
	return false
}

// refuse tells a client why it is not served, unless many others are being told.
func (v *serving) refuse(work context.Context, nc net.Conn, err error) {
	select {
	case v.refusals <- struct{}{}:
	default:
		_ = nc.Close() // nobody waits for anything on it
		return
	}
	c := newConn(v, nc, netip.Addr{}, false)
	v.add(c)
	v.running.Go(func() {
		defer func() { <-v.refusals }()
		defer v.remove(c)
		c.turnAway(work, err)
	})
}

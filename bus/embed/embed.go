// Package embed runs a NATS server with JetStream inside the process: alone, or as
// a member of a cluster with other processes that do the same.
//
// Clients reach it over TCP at [Server.URL], or without a network through
// [Server.InProcessConn]. Its streams are kept in one directory, which belongs to
// one process at a time. It takes no signals, prints nothing and never ends the
// process: all of that stays with the program around it.
//
// What was acknowledged survives a crash of the process, and a crash of the
// machine as far as [Config.Sync] says.
package embed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats-server/v2/server"
)

const (
	readyTimeout = 10 * time.Second
	pollInterval = 50 * time.Millisecond

	// How long Close waits for the store, and for clients that read nothing.
	closeTimeout  = 10 * time.Second // a store with millions of timers takes a while
	clientTimeout = time.Second

	// A frozen client keeps its share of the work until the server drops it, here
	// after 20 to 30 s instead of NATS's 6 minutes.
	pingInterval = 10 * time.Second
	maxPingsOut  = 2
)

// Config describes a server. Only Dir is required.
type Config struct {
	// Name is unique in a cluster and never changes: JetStream knows its members by
	// it. Empty means a random name, made once and kept in Dir.
	Name string

	// Listen is host:port for clients. Empty means 127.0.0.1:4222, an empty host
	// 127.0.0.1, and port 0 or -1 a free one; 0.0.0.0 listens everywhere.
	Listen string

	// Dir holds the streams. It is created if missing.
	Dir string

	// Sync says when written messages are forced to disk: "always" before each
	// acknowledgement, a duration like "1s" that often, "" as NATS does, every
	// 2 minutes. A crash of the process alone loses nothing in any case.
	Sync string

	// Cluster is the name of the cluster to be a member of. Empty means none.
	Cluster string

	// ClusterListen is host:port for the other members, as Listen. Empty means
	// 127.0.0.1:6222. It needs a Cluster.
	ClusterListen string

	// Routes are the cluster addresses of other members, nats://host:port or
	// host:port with 6222 as the default port. One that runs is enough, and its own
	// address may be among them. Without any the server waits to be found.
	Routes []string

	// MaxStore limits the streams on disk, in bytes. 0 means 75 % of what is free on
	// Dir's volume at start.
	MaxStore int64

	// MaxPayload is the largest message, in bytes. 0 means 1 MiB.
	MaxPayload int32

	// Logger takes the server's log: its notices at Debug, as they are many. nil
	// means discard.
	Logger *slog.Logger
}

// Server is a running server. Its methods may be called at the same time.
type Server struct {
	nats  *server.Server
	lock  *flock.Flock
	dir   string
	url   string
	route string
	wait  time.Duration
	close func() error
}

// Start starts a server and returns when it takes connections and JetStream runs.
// A member of a cluster does not wait for the others: streams work once a majority
// is there, which [Server.Ready] tells.
//
// It fails with [ErrAddrInUse], [ErrDirInUse] or [ErrNameInUse] when another program
// is in the way. The end of ctx makes it give up, but not in the middle of reading a large
// store.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	s, err := start(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("embed: start: %w", err)
	}
	return s, nil
}

func start(ctx context.Context, cfg Config) (_ *Server, err error) {
	o, err := cfg.options()
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = lock.Unlock()
		}
	}()
	if o.ServerName == "" {
		if o.ServerName, err = storedName(cfg.Dir); err != nil {
			return nil, err
		}
	}
	if err := checkName(ctx, o); err != nil {
		return nil, err
	}
	if err := prepareAddrs(ctx, o); err != nil {
		return nil, err
	}
	ns, err := run(ctx, o, newLog(cfg.Logger))
	if err != nil {
		// Somebody took the address after it was looked at.
		return nil, errors.Join(probe(ctx, o), err)
	}
	return newServer(ns, cfg, lock), nil
}

// run starts the server and waits until it is ready, or has shut it down.
func run(ctx context.Context, o *server.Options, log *natsLog) (*server.Server, error) {
	ns, err := server.NewServer(o)
	if err != nil {
		return nil, err
	}
	ns.SetLoggerV2(log, false, false, false)
	ns.Start()
	if err := ready(ctx, ns, log); err != nil {
		ns.Shutdown()
		ns.WaitForShutdown()
		return nil, err
	}
	log.running()
	return ns, nil
}

func ready(ctx context.Context, ns *server.Server, log *natsLog) error {
	deadline := time.Now().Add(readyTimeout)
	for {
		// The server says why it cannot start through its log only.
		if err := log.startError(); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if ns.ReadyForConnections(pollInterval) {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not ready for connections after %v", readyTimeout)
		}
	}
	if !ns.JetStreamEnabled() {
		return errors.New("jetstream did not start")
	}
	return nil
}

func newServer(ns *server.Server, cfg Config, lock *flock.Flock) *Server {
	s := &Server{nats: ns, lock: lock, dir: cfg.Dir, wait: closeTimeout}
	if a, ok := ns.Addr().(*net.TCPAddr); ok {
		s.url = natsURL(a)
	}
	if a := ns.ClusterAddr(); a != nil {
		s.route = natsURL(a)
	}
	s.close = sync.OnceValue(s.shutdown)
	return s
}

// natsURL is where this machine reaches a, also when a listens everywhere.
func natsURL(a *net.TCPAddr) string {
	host := a.IP.String()
	if a.IP.IsUnspecified() {
		host = defaultHost
	}
	return "nats://" + net.JoinHostPort(host, strconv.Itoa(a.Port))
}

// URL returns nats://host:port for clients on this machine, with the port that was
// picked if the configuration left it open.
func (s *Server) URL() string { return s.url }

// ClusterURL returns nats://host:port for the routes of other members on this
// machine, "" without a cluster.
func (s *Server) ClusterURL() string { return s.route }

// Dir returns the directory as configured.
func (s *Server) Dir() string { return s.dir }

// MaxStore returns the limit of the streams on disk, in bytes: Config.MaxStore, or what
// the server chose.
func (s *Server) MaxStore() int64 {
	if cfg := s.nats.JetStreamConfig(); cfg != nil {
		return cfg.MaxStore
	}
	return 0
}

// Name returns the server's name, configured or kept in the directory.
func (s *Server) Name() string { return s.nats.Name() }

// InProcessConn returns a new connection that needs no network, for
// nats.InProcessServer(s). It fails after Close.
func (s *Server) InProcessConn() (net.Conn, error) {
	c, err := s.nats.InProcessConn()
	if err != nil {
		return nil, fmt.Errorf("embed: in-process connection: %w", err)
	}
	return c, nil
}

// Ready returns nil when JetStream can take writes. Otherwise it tells what is
// missing: in a cluster a majority that agrees on a leader, anywhere JetStream
// itself, which the server switches off when its disk fails.
func (s *Server) Ready() error {
	switch {
	case !s.nats.Running():
		return errors.New("embed: server is closed")
	case !s.nats.JetStreamEnabled():
		return errors.New("embed: jetstream is off: look for its error in the log, then restart")
	case !s.nats.JetStreamIsClustered():
		return nil
	}
	j, err := s.nats.Jsz(nil)
	switch {
	case err != nil:
		return fmt.Errorf("embed: jetstream: %w", err)
	case j.Meta == nil || j.Meta.Leader == "":
		return errors.New("embed: cluster has no leader: a majority of its servers must run and reach each other")
	case !s.nats.JetStreamIsCurrent():
		return errors.New("embed: server is catching up with the cluster")
	}
	return nil
}

// Close stops the server: a cluster member hands over what it leads, the store is
// written, connections are cut, ports and directory are free again. More calls wait
// for the first and return what it did.
//
// It takes at most 1.5 s, in a cluster 10 s. If the store is not closed by then it
// returns an error, and the directory stays locked until the process ends.
func (s *Server) Close() error { return s.close() }

func (s *Server) shutdown() error {
	done := make(chan struct{})
	go func() {
		s.nats.Shutdown()
		close(done)
	}()
	begin := time.Now()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return s.unlock()
		case <-tick.C:
		}
		// Shutdown waits up to 10 s for each client that is frozen with messages on
		// their way to it. It has closed the store and the ports by then, so nobody
		// else needs to: the listener goes last.
		switch d := time.Since(begin); {
		case d > clientTimeout && s.nats.Addr() == nil:
			return s.unlock()
		case d > s.wait:
			return fmt.Errorf("embed: close: store not closed after %v", s.wait)
		}
	}
}

func (s *Server) unlock() error {
	if err := s.lock.Unlock(); err != nil {
		return fmt.Errorf("embed: close: %w", err)
	}
	return nil
}

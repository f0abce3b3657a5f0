package bustest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

const (
	startTimeout = 30 * time.Second
	pollInterval = 10 * time.Millisecond
)

var errStopped = errors.New("bustest: server is stopped")

// Node is one NATS server. It is a [nats.InProcessConnProvider] that leads to
// whichever server runs at the time, so connections made through it come back
// after a restart.
//
// Start, Stop, Restart and Close are for one goroutine at a time; everything else
// may be called beside them.
type Node struct {
	dir     string
	ownsDir bool     // Close removes dir
	clients *clients // shared by a cluster's servers
	tcp     bool
	opts    []Option // the first start adds its port

	mu  sync.Mutex
	srv *server.Server // nil while stopped
	url string         // "" before the first start, and without a port
}

func newNode(dir string, opts []Option) *Node {
	return &Node{
		dir:     dir,
		clients: &clients{},
		tcp:     !newConfig(opts).nats.DontListen,
		opts:    slices.Clone(opts),
	}
}

var _ nats.InProcessConnProvider = (*Node)(nil)

// InProcessConn returns a new connection to the server, for [nats.InProcessServer].
// It fails while the server is stopped.
func (n *Node) InProcessConn() (net.Conn, error) {
	s := n.Server()
	if s == nil {
		return nil, errStopped
	}
	return s.InProcessConn()
}

// Server returns the running server, nil while it is stopped. A restart makes
// another one.
func (n *Node) Server() *server.Server {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.srv
}

// URL returns nats://127.0.0.1:port of a server with [TCP], the same over
// restarts. Without a port it returns a URL where nobody can listen, to go with
// [nats.InProcessServer].
func (n *Node) URL() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.url == "" {
		return "nats://127.0.0.1:0"
	}
	return n.url
}

// Connect returns a connection that is closed when the test ends: over TCP if the
// server has a port, within the process if not. It reconnects without end, about
// every 50 ms; opts come after these defaults. It fails the test on error.
func (n *Node) Connect(t testing.TB, opts ...nats.Option) *nats.Conn {
	t.Helper()
	if !n.tcp {
		opts = append([]nats.Option{nats.InProcessServer(n)}, opts...)
	}
	return n.clients.connect(t, n.URL(), opts)
}

// Stop shuts the server down and waits until it is: the store is closed, and the
// connections that Connect made have noticed. It does nothing if the server is
// stopped.
func (n *Node) Stop() {
	n.mu.Lock()
	s := n.srv
	n.srv = nil
	n.mu.Unlock()
	if s == nil {
		return
	}
	s.Shutdown()
	s.WaitForShutdown()
	n.clients.waitLeft(s.ID())
}

// Start starts a stopped server with the same store, options and port, and returns
// when it takes connections. It does nothing if the server runs, and fails the
// test on error.
func (n *Node) Start(t testing.TB) {
	t.Helper()
	deadline := time.Now().Add(startTimeout)
	for {
		err := n.start()
		if err == nil {
			return
		}
		// Somebody's outgoing connection may sit on the port for a moment.
		if !isAddrInUse(err) || time.Now().After(deadline) {
			t.Fatalf("bustest: start: %v", err)
		}
		time.Sleep(pollInterval)
	}
}

// Restart is [Node.Stop] and [Node.Start].
func (n *Node) Restart(t testing.TB) {
	t.Helper()
	n.Stop()
	n.Start(t)
}

// Close stops a server from [Open] for good and removes its store. A second call
// does nothing. Servers from [Server] and [Cluster] need no Close.
func (n *Node) Close() error {
	n.Stop()
	if !n.ownsDir {
		return nil
	}
	if err := os.RemoveAll(n.dir); err != nil {
		return fmt.Errorf("bustest: close: %w", err)
	}
	return nil
}

func (n *Node) start() error {
	if n.Server() != nil {
		return nil
	}
	c := newConfig(n.opts)
	c.nats.StoreDir = n.dir
	if c.forget {
		// The old one goes when the test's directory goes.
		dir, err := os.MkdirTemp(n.dir, "")
		if err != nil {
			return err
		}
		c.nats.StoreDir = dir
	}
	if err := portTaken(c.nats); err != nil {
		return err
	}
	s, err := server.NewServer(c.nats)
	if err != nil {
		return err
	}
	log := &logger{w: c.log}
	s.SetLoggerV2(log, false, false, false)
	s.Start()
	if err := ready(s, log); err != nil {
		s.Shutdown()
		s.WaitForShutdown()
		// Somebody took the port after it was looked at.
		return errors.Join(err, portTaken(c.nats))
	}
	n.started(s)
	return nil
}

// started keeps the port that the first start picked.
func (n *Node) started(s *server.Server) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.srv = s
	if n.tcp && n.url == "" {
		port := s.Addr().(*net.TCPAddr).Port
		n.url = fmt.Sprintf("nats://127.0.0.1:%d", port)
		n.opts = append(n.opts, fixedPort(port))
	}
}

func ready(s *server.Server, log *logger) error {
	if err := log.fatal(); err != nil {
		return err
	}
	if !s.ReadyForConnections(startTimeout) {
		if err := log.fatal(); err != nil {
			return err
		}
		return fmt.Errorf("not ready for connections after %v", startTimeout)
	}
	if !s.JetStreamEnabled() {
		return errors.New("jetstream is not enabled")
	}
	return nil
}

// portTaken returns an error if the server cannot listen where it has to. The
// server itself keeps no error value that says so.
func portTaken(o *server.Options) error {
	for _, port := range []int{o.Port, o.Cluster.Port} {
		if o.DontListen || port <= 0 {
			continue
		}
		l, err := listen(port)
		if isAddrInUse(err) {
			return err
		}
		if err == nil {
			_ = l.Close()
		}
	}
	return nil
}

func listen(port int) (net.Listener, error) {
	return new(net.ListenConfig).Listen(context.Background(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
}

func isAddrInUse(err error) bool {
	const wsaAddrInUse = syscall.Errno(10048) // what windows returns, no such number elsewhere
	return errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, wsaAddrInUse)
}

// Package bustest starts real NATS servers with JetStream for tests: one in the
// process without a port ([Server]), several as a cluster over loopback
// ([Cluster]), or one in fake time where hours pass in milliseconds ([Bubble]).
//
// A server costs about ten milliseconds, so a test takes one for itself, runs in
// parallel with others, and needs no clean-up of its own:
//
//	s := bustest.Server(t)
//	nc := s.Connect(t)
//
// A test stops, starts and restarts its servers to see what its code does then.
// What is not possible inside one process is a kill without a chance to write: a
// stopped server has always closed its files.
//
// The package is for tests alone: it imports the server and [testing].
package bustest

import (
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

// Limits of a test server. They are fixed so that a test meets the same limits on
// every machine; the server's own rule takes a share of the disk.
const (
	maxMemory = 1 << 30
	maxStore  = 8 << 30
)

// Option adjusts the servers that [Server], [Open] and [Cluster] start. Options
// apply in the order given, and again at each restart.
type Option func(*config)

type config struct {
	nats   *server.Options
	log    io.Writer
	forget bool
}

func fixedPort(port int) Option {
	return func(c *config) { c.nats.Port = port }
}

// TCP makes the server listen on a free port of 127.0.0.1, besides connections
// within the process. The port stays the same over a restart. Not possible in a
// [Bubble].
func TCP() Option {
	return func(c *config) {
		c.nats.DontListen = false
		c.nats.Host, c.nats.Port = "127.0.0.1", server.RANDOM_PORT
	}
}

// Memory makes the server forget everything at each stop, whatever storage its
// streams ask for. The default keeps streams with file storage over a restart,
// and loses only those with memory storage.
func Memory() Option {
	return func(c *config) { c.forget = true }
}

// MaxPayload sets the largest message the server takes, in bytes. The default is
// NATS's own, 1 MiB.
func MaxPayload(bytes int32) Option {
	return func(c *config) { c.nats.MaxPayload = bytes }
}

// Log writes the server's log to w, which must be safe for concurrent use;
// t.Output() is a good w. The default is no log.
func Log(w io.Writer) Option {
	return func(c *config) { c.log = w }
}

// Configure calls f with the server's options, for what has no option here:
// accounts, TLS, store limits. It does so several times, with new options each
// time, so f must set the same again. Storage directory, ports and cluster belong
// to this package.
func Configure(f func(*server.Options)) Option {
	return func(c *config) { f(c.nats) }
}

// Server starts a NATS server with JetStream in this process, its store in
// t.TempDir, and stops it when the test ends. It has no port unless asked for
// with [TCP]. It fails the test if the server does not start.
func Server(t testing.TB, opts ...Option) *Node {
	t.Helper()
	n := newNode(t.TempDir(), opts)
	if n.tcp && inBubble() {
		t.Fatal("bustest: server: TCP does not work in a bubble: fake time stands still while a goroutine waits for the network")
	}
	t.Cleanup(n.Stop)
	n.Start(t)
	return n
}

// Open starts a server like [Server] where there is no test to own it: in an
// Example, in TestMain. The store is a temporary directory that [Node.Close]
// removes.
func Open(opts ...Option) (*Node, error) {
	dir, err := os.MkdirTemp("", "bustest-")
	if err != nil {
		return nil, fmt.Errorf("bustest: open: %w", err)
	}
	n := newNode(dir, opts)
	n.ownsDir = true
	if err := n.start(); err != nil {
		_ = os.RemoveAll(dir)
		return nil, fmt.Errorf("bustest: open: %w", err)
	}
	return n, nil
}

func newConfig(opts []Option) config {
	c := config{nats: &server.Options{
		DontListen:             true,
		NoSigs:                 true,
		NoLog:                  true,
		JetStream:              true,
		JetStreamMaxMemory:     maxMemory,
		JetStreamMaxStore:      maxStore,
		DisableJetStreamBanner: true,
	}}
	for _, o := range opts {
		o(&c)
	}
	return c
}

package bustest

import (
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// Clients of a test come back quickly, so that a restart costs it little.
	reconnectWait   = 50 * time.Millisecond
	reconnectJitter = 10 * time.Millisecond

	noticeTimeout = 2 * time.Second
)

// clients are the connections that Connect made to a server or a cluster.
type clients struct {
	mu    sync.Mutex
	conns []*nats.Conn
}

func (c *clients) connect(t testing.TB, url string, opts []nats.Option) *nats.Conn {
	t.Helper()
	all := append([]nats.Option{
		nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectWait),
		nats.ReconnectJitter(reconnectJitter, reconnectJitter),
		// A test that stops its server expects the disconnect; the default prints it.
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}),
	}, opts...)
	nc, err := nats.Connect(url, all...)
	if err != nil {
		t.Fatalf("bustest: connect %q: %v", url, err)
	}
	t.Cleanup(nc.Close)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conns = append(c.conns, nc)
	return nc
}

// waitLeft waits until no connection believes to be at the server with that id,
// which is down. Until a client notices, it loses what it sends; from then on it
// holds it back for the next server.
func (c *clients) waitLeft(id string) {
	c.mu.Lock()
	conns := c.conns
	c.mu.Unlock()
	deadline := time.Now().Add(noticeTimeout)
	for _, nc := range conns {
		for nc.ConnectedServerId() == id && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond)
		}
	}
}

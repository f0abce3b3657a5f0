package bustest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// The server elects a new leader within 9 s of losing one.
	readyTimeout = 30 * time.Second
	portAttempts = 5
	probeStream  = "BUSTEST_PROBE"
)

// Group is a JetStream cluster made by [Cluster]. Its methods may be called
// beside each other, as far as those of [Node] may.
type Group struct {
	nodes   []*Node
	clients *clients
}

// Cluster starts n servers that form one JetStream cluster over loopback TCP and
// stops them when the test ends. It returns when streams with n replicas (5 at
// most) can be created, after a second or two. n is 2 or more, and 3 for most
// tests. It fails the test if there is no cluster in time.
func Cluster(t testing.TB, n int, opts ...Option) *Group {
	t.Helper()
	switch {
	case n < 2:
		t.Fatalf("bustest: cluster: %d servers are no cluster", n)
	case inBubble():
		t.Fatal("bustest: cluster: does not work in a bubble: fake time stands still while a goroutine waits for the network")
	}
	opts = append([]Option{TCP()}, opts...)
	for attempt := 1; ; attempt++ {
		g, err := newGroup(t, n, opts)
		if err != nil {
			t.Fatalf("bustest: cluster: %v", err)
		}
		err = g.start()
		if err == nil {
			g.WaitReady(t)
			return g
		}
		g.stop()
		// Ports were free a moment ago; somebody else may have been faster.
		if !isAddrInUse(err) || attempt == portAttempts {
			t.Fatalf("bustest: cluster: %v", err)
		}
	}
}

// Node returns the i-th server, counted from 0 as in [Group.Leader].
func (g *Group) Node(i int) *Node { return g.nodes[i] }

// URL returns the addresses of all servers separated by commas, as [nats.Connect]
// takes them. They stay the same over restarts.
func (g *Group) URL() string {
	urls := make([]string, len(g.nodes))
	for i, n := range g.nodes {
		urls[i] = n.URL()
	}
	return strings.Join(urls, ",")
}

// Connect returns a connection to any of the servers, as [Node.Connect] does to
// one. It moves to another server when its own stops.
func (g *Group) Connect(t testing.TB, opts ...nats.Option) *nats.Conn {
	t.Helper()
	return g.clients.connect(t, g.URL(), opts)
}

// Leader waits until the stream of the default account has a leader and returns
// the index of that server. It fails the test if there is none in 30 s.
func (g *Group) Leader(t testing.TB, stream string) int {
	t.Helper()
	leader := -1
	wait(t, fmt.Sprintf("a leader of stream %q", stream), func() error {
		leader = slices.IndexFunc(g.nodes, func(n *Node) bool {
			s := n.Server()
			return s != nil && s.JetStreamIsStreamLeader(server.DEFAULT_GLOBAL_ACCOUNT, stream)
		})
		if leader < 0 {
			return errors.New("no leader")
		}
		return nil
	})
	return leader
}

// WaitReady waits until the servers that run agree on a leader, have caught up
// with it in every stream they hold, and store a new stream on all of them. Call
// it between two steps of a rolling restart. It fails the test after 30 s, which
// is what comes of it while a majority is stopped.
func (g *Group) WaitReady(t testing.TB) {
	t.Helper()
	wait(t, "cluster", g.current)

	running := g.running()
	s := running[0]
	nc, err := nats.Connect(s.ClientURL(), nats.InProcessServer(s))
	if err != nil {
		t.Fatalf("bustest: wait: %v", err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatalf("bustest: wait: %v", err)
	}
	replicas := min(len(running), 5)
	wait(t, "a stream on all servers", func() error { return probe(js, replicas) })
}

// probe creates a stream and removes it.
func probe(js jetstream.JetStream, replicas int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:     probeStream,
		Subjects: []string{probeStream},
		Storage:  jetstream.MemoryStorage,
		Replicas: replicas,
	})
	if err != nil {
		return err
	}
	return js.DeleteStream(ctx, probeStream)
}

func (g *Group) running() []*server.Server {
	var running []*server.Server
	for _, n := range g.nodes {
		if s := n.Server(); s != nil {
			running = append(running, s)
		}
	}
	return running
}

// current returns what is missing until the servers that run have one leader and
// all of its state.
func (g *Group) current() error {
	running := g.running()
	if len(running) == 0 {
		return errors.New("no server runs")
	}
	leaders := make(map[string]bool)
	for _, s := range running {
		if !s.JetStreamIsCurrent() {
			return fmt.Errorf("server %s is behind", s.Name())
		}
		j, err := s.Jsz(&server.JSzOptions{Accounts: true, Streams: true})
		if err != nil {
			return err
		}
		if j.Meta == nil || j.Meta.Leader == "" {
			return fmt.Errorf("server %s knows no leader", s.Name())
		}
		leaders[j.Meta.Leader] = true
		if err := streamsCurrent(s, j.AccountDetails); err != nil {
			return err
		}
	}
	if len(leaders) > 1 {
		return errors.New("servers do not agree on a leader")
	}
	for _, s := range running {
		if leaders[s.Name()] && s.JetStreamIsLeader() {
			return nil
		}
	}
	return errors.New("the leader does not run")
}

func streamsCurrent(s *server.Server, accounts []*server.AccountDetail) error {
	for _, a := range accounts {
		for _, st := range a.Streams {
			if !s.JetStreamIsStreamCurrent(a.Name, st.Name) {
				return fmt.Errorf("server %s is behind in stream %q", s.Name(), st.Name)
			}
			if st.Cluster != nil && st.Cluster.Leader == "" {
				return fmt.Errorf("server %s knows no leader of stream %q", s.Name(), st.Name)
			}
		}
	}
	return nil
}

// newGroup returns servers that know each other's route ports, not yet started.
func newGroup(t testing.TB, n int, opts []Option) (*Group, error) {
	t.Helper()
	ports, err := freePorts(n)
	if err != nil {
		return nil, err
	}
	routes := make([]*url.URL, n)
	for i, p := range ports {
		routes[i] = &url.URL{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", p)}
	}
	g := &Group{clients: &clients{}}
	for i, p := range ports {
		node := newNode(t.TempDir(), append(slices.Clip(opts), member(i, p, routes)))
		node.clients = g.clients
		g.nodes = append(g.nodes, node)
	}
	t.Cleanup(g.stop)
	return g, nil
}

func member(i, port int, routes []*url.URL) Option {
	return func(c *config) {
		c.nats.ServerName = fmt.Sprintf("n%d", i)
		c.nats.Cluster = server.ClusterOpts{Name: "bustest", Host: "127.0.0.1", Port: port}
		c.nats.Routes = slices.Clone(routes)
	}
}

func (g *Group) start() error {
	for _, n := range g.nodes {
		if err := n.start(); err != nil {
			return err
		}
	}
	return nil
}

func (g *Group) stop() {
	for _, n := range g.nodes {
		n.Stop()
	}
}

// freePorts returns n ports of 127.0.0.1 that nobody listens on.
func freePorts(n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		// Held until all are known, so that no two are the same.
		l, err := listen(0)
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }()
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}

// wait calls f until it returns nil, and fails the test with f's last error.
func wait(t testing.TB, what string, f func() error) {
	t.Helper()
	for deadline := time.Now().Add(readyTimeout); ; time.Sleep(pollInterval) {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("bustest: waited %v for %s: %v", readyTimeout, what, err)
		}
	}
}

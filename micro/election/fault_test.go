package election_test

import (
	"sync"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro/election"
)

// crowd is candidates that all lead as long as they can, watched for two that are valid at once.
type crowd struct {
	mu      sync.Mutex
	current *election.Leadership
	elected int
}

func (c *crowd) take(t *testing.T, l *election.Leadership) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current != nil && c.current.Valid() {
		t.Errorf("%v and %v lead", c.current.Term(), l.Term())
	}
	if c.current != nil && l.Term().Compare(c.current.Term()) <= 0 {
		t.Errorf("term %v after %v", l.Term(), c.current.Term())
	}
	c.current = l
	c.elected++
}

func (c *crowd) leader() *election.Leadership {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current
}

// run adds a candidate.
func (c *crowd) run(t *testing.T, e *election.Election, candidate string) {
	t.Helper()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			l, err := e.Campaign(t.Context(), service, candidate)
			if err != nil {
				return // the test is over
			}
			c.take(t, l)
			select {
			case <-l.Lost():
			case <-t.Context().Done():
				return // Close resigns
			}
		}
	}()
	t.Cleanup(func() { <-ended })
}

// The server that leads the stream of the leases stops. Nobody may lead for a while, never two.
func TestClusterLeaderLost(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a cluster")
	}
	t.Parallel()
	cluster := bustest.Cluster(t, 3)
	var c crowd
	elections := make([]*election.Election, 3)
	for i := range elections {
		elections[i] = open(t, connect(t, bus.Config{Server: cluster.URL()}), election.Config{TTL: ttl})
		c.run(t, elections[i], string(rune('a'+i)))
	}
	bustest.Eventually(t, "a leader", func() bool { return c.leader() != nil })
	for range 2 {
		i := cluster.Leader(t, "KV_skybus_leases")
		stopped := time.Now()
		cluster.Node(i).Stop()
		bustest.Eventually(t, "a leader that can renew", func() bool {
			l := c.leader()
			h, err := elections[0].Leader(t.Context(), service)
			return err == nil && l.Valid() && h.Term == l.Term()
		})
		t.Logf("a leader, known to the servers, %v after the stream's leader stopped; %d elections so far", time.Since(stopped), c.elections())
		cluster.Node(i).Start(t)
		cluster.WaitReady(t)
	}
}

func (c *crowd) elections() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.elected
}

// Without a quorum a leadership ends at its deadline, and nobody is elected before the quorum is back.
func TestQuorumLost(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a cluster")
	}
	t.Parallel()
	cluster := bustest.Cluster(t, 3)
	var c crowd
	for i := range 2 {
		c.run(t, open(t, connect(t, bus.Config{Server: cluster.Node(0).URL()}), election.Config{TTL: ttl}), string(rune('a'+i)))
	}
	bustest.Eventually(t, "a leader", func() bool { return c.leader() != nil })
	l := c.leader()
	cluster.Node(1).Stop()
	cluster.Node(2).Stop()
	stopped := time.Now()
	if bustest.Receive(t, "the leadership to end", l.Lost()); l.Valid() {
		t.Error("valid and lost")
	}
	t.Logf("the leadership ended %v after the quorum was gone", time.Since(stopped))
	if took := time.Since(stopped); took > ttl+time.Second {
		t.Errorf("the leadership lasted for %v without a quorum", took)
	}
	<-time.After(2 * ttl)
	if n := c.elections(); n != 1 || c.leader().Valid() {
		t.Errorf("%d elections without a quorum", n-1)
	}
	cluster.Node(1).Start(t)
	cluster.Node(2).Start(t)
	bustest.Eventually(t, "a leader after that", func() bool { return c.elections() > 1 && c.leader().Valid() })
}

package mirror

import (
	"testing"
	"time"

	"github.com/skybus-io/skybus/internal/outlier"
)

// Which backends may serve a read.
func TestChoose(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, tt := range map[string]struct {
		change func(n *node)
		want   minimum
		maxLag time.Duration
		first  bool // it comes first, as its priority has it
		last   bool // it is left when the other is out of use
	}{
		"level":             {change: func(*node) {}, first: true, last: true},
		"inactive":          {change: func(n *node) { n.Active = false }},
		"maintenance":       {change: func(n *node) { n.Maintenance = true }},
		"unhealthy":         {change: func(n *node) { n.health.down.Store(true) }},
		"gap":               {change: func(n *node) { n.state.Store(StateGap) }},
		"down":              {change: func(n *node) { n.state.Store(StateDown) }, last: true},
		"behind":            {change: func(n *node) { n.state.Store(StateBehind) }, first: true, last: true},
		"near":              {change: func(n *node) { n.lag.Store(900) }, first: true, last: true},
		"far":               {change: func(n *node) { n.lag.Store(1100) }},
		"far, any lag will": {change: func(n *node) { n.lag.Store(1100) }, maxLag: -1, first: true, last: true},
		"not heard of": {change: func(n *node) {
			n.progress.Store(&progress{Waiting: 1})
			n.reads.heard.Store(now.Add(-2 * time.Second).UnixNano())
		}},
		"level, not heard": {change: func(n *node) { n.reads.heard.Store(now.Add(-time.Hour).UnixNano()) }, first: true, last: true},
		"lacks a write":    {change: func(n *node) { n.reads.missing.Store(101); n.reads.since.Store(now.Add(-2 * time.Second).UnixNano()) }},
		"lacked a write":   {change: func(n *node) { n.reads.missing.Store(100); n.reads.since.Store(now.Add(-2 * time.Second).UnixNano()) }, first: true, last: true},
		"has the lane":     {change: func(n *node) { n.floor.Store(50) }, want: minimum{100, 3}, first: true, last: true},
		"lacks the lane":   {change: func(n *node) { n.marks[3].Store(99) }, want: minimum{100, 3}},
		"lacks another":    {change: func(n *node) { n.marks[2].Store(99); n.floor.Store(99) }, want: minimum{100, -1}},
	} {
		a, b := levelNode("a", now), levelNode("b", now)
		tt.change(a)
		m := &Mirror{cfg: Config{Reads: ByPriority, MaxLag: orDefault(tt.maxLag, time.Second)}}
		m.ejection = outlier.New(outlier.Config{})
		m.clock.Store(now.UnixNano())
		m.nodes.Store(&[]*node{a, b})
		if got := m.choose(nil, tt.want); len(got) == 0 || (got[0] == a) != tt.first {
			t.Errorf("%s: of two %v", name, got)
		}
		m.nodes.Store(&[]*node{a})
		if got := m.choose(nil, tt.want); (len(got) == 1) != tt.last {
			t.Errorf("%s: alone %v", name, got)
		}
	}
}

// levelNode is a backend that has applied all of 100 writes.
func levelNode(name string, heard time.Time) *node {
	n := &node{Backend: Backend{Name: name, Active: true}, nodeState: newNodeState(4)}
	for i := range n.marks {
		n.marks[i].Store(100)
	}
	n.floor.Store(100)
	n.state.Store(StateLive)
	n.progress.Store(&progress{Read: 100})
	n.reads.heard.Store(heard.UnixNano())
	return n
}

// Who answers slowly is asked again after a while.
func TestExpected(t *testing.T) {
	t.Parallel()
	var slow, fast nodeReads
	for range 50 {
		slow.took(100 * time.Millisecond)
		fast.took(10 * time.Millisecond)
	}
	now := time.Now()
	if slow.expected(now) < 5*fast.expected(now) {
		t.Errorf("%v and %v", slow.expected(now), fast.expected(now))
	}
	fast.sampled.Store(now.Add(time.Minute).UnixNano()) // it alone was asked since
	if later := now.Add(time.Minute); slow.expected(later) > fast.expected(later) {
		t.Errorf("after a minute %v and %v", slow.expected(later), fast.expected(later))
	}
}

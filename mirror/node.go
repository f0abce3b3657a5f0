package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/internal/backoff"
	"github.com/skybus-io/skybus/internal/leanhttp"
	"github.com/skybus-io/skybus/kv"
)

const (
	readTimeout  = 2 * time.Second
	seenTimeout  = 5 * time.Second
	reloadEvery  = 5 * time.Second // of what backends have applied, should a message of it have been lost
	followPause  = 100 * time.Millisecond
	unknownState = State("")
)

// node is a backend as this process knows it. It is not changed; the state it points to is.
type node struct {
	Backend
	*nodeState

	base     *url.URL
	revision uint64 // of the backend's record
}

// nodeState is what is known about a backend beside its record.
type nodeState struct {
	marks    []atomic.Uint64 // what is applied and committed, by lane
	floor    atomic.Uint64   // the lowest of them
	lag      atomic.Int64    // milliseconds
	state    atomic.Value    // State
	progress atomic.Pointer[progress]
	health   nodeHealth
	reads    nodeReads
	counts   nodeCounts

	mu         sync.Mutex // held to change what is applied
	of         Backend    // whose writes they are: the newest record that is known
	newest     seenProgress
	client     *leanhttp.Client // for writes; nil before the first
	clientAddr string
}

// applied tells whether the backend has applied the write, and committed it.
func (n *nodeState) applied(lane int, seq uint64) bool { return n.marks[lane].Load() >= seq }

func (n *nodeState) State() State {
	s, _ := n.state.Load().(State)
	return s
}

// follow keeps nodes up to date until ctx ends. It returns when they are.
func (m *Mirror) follow(open, ctx context.Context) error {
	sub, err := m.conn.NATS().Subscribe(m.space.feed(), m.hear)
	if err != nil {
		return fmt.Errorf("mirror: %w", err)
	}
	known := make(chan struct{})
	ended := make(chan error, 1)
	m.following.Go(func() {
		defer func() { _ = sub.Unsubscribe() }() // fails only when the connection is closed
		var once sync.Once
		for {
			var there sync.Once // the first batch is all that there is: without settings they went before anything was heard of them
			err := m.backends.Follow(ctx, m.space.key("*"), func(batch []kv.Entry[Backend]) {
				there.Do(func() { m.checkSettings(ctx, batch) })
				m.change(ctx, batch)
				once.Do(func() { close(known) })
			})
			if err == nil || ctx.Err() != nil {
				return
			}
			select {
			case ended <- err: // nobody waits any more once it was known
			default:
			}
			if !backoff.Sleep(ctx, followPause) {
				return
			}
		}
	})
	m.following.Go(func() { m.reload(ctx) })
	if !m.cfg.Observe {
		m.following.Go(func() { m.checkHealth(ctx) })
		m.following.Go(func() { m.pulse(ctx) })
	}
	select {
	case <-known:
		return nil
	case err := <-ended:
		return fmt.Errorf("mirror: backends: %w", err)
	case <-open.Done():
		return fmt.Errorf("mirror: backends: %w", context.Cause(open))
	}
}

// change takes over changed records of backends.
func (m *Mirror) change(ctx context.Context, batch []kv.Entry[Backend]) {
	nodes := slices.Clone(*m.nodes.Load())
	for _, entry := range batch {
		name := lastToken(entry.Key)
		if name == settingsName {
			if !m.origin.isOf(entry) { // of a mirror that was removed and made anew only the new one may be heard of
				m.noteRemoval(ctx)
			}
			continue
		}
		nodes = slices.DeleteFunc(nodes, func(n *node) bool { return n.Name == name })
		if entry.Deleted {
			if v, ok := m.known.LoadAndDelete(name); ok {
				v.(*nodeState).closeClient() //nolint:forcetypeassert // there is nothing else in it
			}
			continue
		}
		if entry.Err != nil || entry.Value.Name != name || entry.Value.check() != nil {
			m.log.ErrorContext(ctx, "backend left out, its record is not valid", "backend", name, "error", entry.Err)
			continue
		}
		v, _ := m.known.LoadOrStore(name, newNodeState(m.cfg.Lanes))
		state, _ := v.(*nodeState)
		base, err := url.Parse(entry.Value.URL)
		if err != nil {
			continue // it was checked
		}
		n := &node{Backend: entry.Value, nodeState: state, base: base, revision: entry.Revision}
		m.load(ctx, n)
		n.renew(n.Backend)
		nodes = append(nodes, n)
	}
	slices.SortFunc(nodes, func(a, b *node) int { return byPriority(a.Backend, b.Backend) })
	if !m.cfg.Observe && anyActive(*m.nodes.Load()) && !anyActive(nodes) {
		m.log.WarnContext(ctx, "no backend is active any more: reads and writes are refused, and what was stored is sent to nobody")
	}
	m.nodes.Store(&nodes)
	m.edited.notify()
	m.changed.notify()
}

// checkSettings finds in all there is of the mirror whether it is removed.
func (m *Mirror) checkSettings(ctx context.Context, all []kv.Entry[Backend]) {
	if !slices.ContainsFunc(all, func(e kv.Entry[Backend]) bool { return lastToken(e.Key) == settingsName }) {
		m.noteRemoval(ctx)
	}
}

// anyActive tells whether one of the backends is active.
func anyActive(nodes []*node) bool {
	return slices.ContainsFunc(nodes, func(n *node) bool { return n.Active })
}

func newNodeState(lanes int) *nodeState {
	n := &nodeState{marks: make([]atomic.Uint64, lanes)}
	n.state.Store(unknownState)
	return n
}

// load reads what a backend has applied.
func (m *Mirror) load(ctx context.Context, n *node) {
	seen := n.seen()
	raw, err := m.rawProgress(ctx, n.Name)
	if errors.Is(err, errNone) {
		raw, err = &storedMessage{}, nil
	}
	var p progress
	if err == nil && raw.Seq > 0 {
		err = json.Unmarshal(raw.Data, &p)
	}
	switch {
	case err != nil:
		if ctx.Err() == nil {
			m.log.DebugContext(ctx, "progress of a backend not read, it will be", "backend", n.Name, "error", err)
		}
	case raw.Seq < seen.revision:
		m.log.WarnContext(ctx, "the last record of what a backend has applied is gone, with its stream or the end of that", "backend", n.Name, "record", seen.revision, "last", raw.Seq)
		n.lose(seen.revision, raw.Seq)
	case raw.Seq > 0:
		n.take(&p, raw.Seq)
	}
}

// hear takes a commit of the sender.
func (m *Mirror) hear(msg *nats.Msg) {
	name := lastToken(msg.Subject)
	nodes := *m.nodes.Load()
	i := slices.IndexFunc(nodes, func(n *node) bool { return n.Name == name })
	if i < 0 {
		return
	}
	var p progress
	if json.Unmarshal(msg.Data, &p) != nil {
		return // not ours
	}
	revision, err := parseUint(first(msg.Header, "Nats-Sequence"))
	if err != nil {
		return
	}
	if nodes[i].take(&p, revision) {
		m.changed.notify()
	}
}

// seenProgress is the newest record of what a backend has applied that this process has seen, of whatever generation.
type seenProgress struct {
	*progress // nil before the first

	revision uint64 // of what is stored now, as far as it is known
	lost     bool   // that is an older one
}

// goneFrom tells whether the record is no longer what is stored.
func (s *seenProgress) goneFrom(stored uint64) bool {
	return s.progress != nil && (stored < s.revision || s.lost && stored == s.revision)
}

func (n *nodeState) seen() seenProgress {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.newest
}

// lose notes that after a revision there is an earlier one. The record that was seen stays: what was applied once is.
func (n *nodeState) lose(seen, stored uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.newest.revision == seen {
		n.newest.revision, n.newest.lost = stored, true
	}
}

// take adopts a record that is newer than what was known.
func (n *nodeState) take(p *progress, revision uint64) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if revision <= n.newest.revision {
		return false
	}
	n.newest = seenProgress{progress: p, revision: revision}
	n.adopt()
	return true
}

// renew makes the progress that of the backend's record.
func (n *nodeState) renew(b Backend) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.of = b
	n.adopt()
}

func (n *nodeState) adopt() {
	p, b := n.newest.progress, n.of
	switch {
	case p == nil || p.Generation < b.Generation:
		p = unreadProgress(b.Generation, b.From)
	case p.Generation > b.Generation: // its record is yet to come, and may begin earlier
		p = unreadProgress(b.Generation, min(b.From, p.floor()))
	}
	if p == n.progress.Load() {
		return
	}
	n.floor.Store(min(n.floor.Load(), p.floor()))
	for i, mark := range p.lanes(len(n.marks)) {
		n.marks[i].Store(mark)
	}
	n.floor.Store(p.floor())
	n.lag.Store(p.Lag)
	n.state.Store(p.State)
	n.reads.heard.Store(time.Now().UnixNano())
	n.progress.Store(p)
}

// reload reads what backends have applied now and then, and when messages were lost.
func (m *Mirror) reload(ctx context.Context) {
	loss := make(chan struct{}, 1)
	defer m.conn.NotifyLoss(loss)()
	tick := time.NewTicker(reloadEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-loss:
		case <-tick.C:
		}
		m.lookAfterStreams(ctx)
		for _, n := range *m.nodes.Load() {
			m.load(ctx, n)
		}
		m.changed.notify()
	}
}

// seen waits until this process knows what it has written.
func (m *Mirror) seen(ctx context.Context, b Backend) error {
	return m.await(ctx, func() bool {
		return slices.ContainsFunc(*m.nodes.Load(), func(n *node) bool { return n.Backend == b })
	})
}

func (m *Mirror) gone(ctx context.Context, name string) error {
	return m.await(ctx, func() bool {
		return !slices.ContainsFunc(*m.nodes.Load(), func(n *node) bool { return n.Name == name })
	})
}

// await waits for a change after which done holds. Somebody else may have changed the same again: it does not wait for ever.
func (m *Mirror) await(ctx context.Context, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, seenTimeout)
	defer cancel()
	for {
		changed := m.changed.wait()
		if done() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil // it is stored; this process will hear of it
		}
	}
}

// broadcast wakes all who wait. The zero value works.
type broadcast struct {
	mu sync.Mutex
	ch chan struct{} // nil while nobody waits
}

func (b *broadcast) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *broadcast) notify() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}

func parseUint(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("mirror: %w", err)
	}
	return n, nil
}

package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/internal/backoff"
	"github.com/skybus-io/skybus/kv"
)

const (
	releaseTime = 2 * time.Second
	senderPause = 200 * time.Millisecond
)

// Run sends writes to the backends whenever no other process does, until ctx ends. Then it takes nothing more, lets requests finish for Config.Drain, commits,
// gives way to another process and returns nil. Faults of servers and backends it waits out; an error means that it could not begin. Once the mirror is
// removed it sends nothing, and waits for the end of ctx. It may be called once at a time.
func (m *Mirror) Run(ctx context.Context) error {
	leases, err := kv.OpenLeases(ctx, m.conn)
	if err != nil {
		if ctx.Err() != nil {
			return nil // it was stopped before it began
		}
		return fmt.Errorf("mirror: %w", err)
	}
	m.checkLetters(ctx)
	there, stop := m.whileThere(ctx)
	defer stop()
	m.takeTurns(there, leases)
	<-ctx.Done()
	return nil
}

// takeTurns sends whenever this process has the lease, until ctx ends.
func (m *Mirror) takeTurns(ctx context.Context, leases *kv.Leases) {
	key := m.conn.Namespace().Key(leaseKind, m.cfg.Name)
	for ctx.Err() == nil {
		lease, err := leases.Wait(ctx, key, m.cfg.Owner, m.cfg.Lease)
		if err != nil {
			if ctx.Err() == nil {
				m.log.WarnContext(ctx, "sending not taken over, trying again", "error", err)
				backoff.Sleep(ctx, m.cfg.Lease)
			}
			continue
		}
		err = m.send(ctx, lease)
		release, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTime)
		if rerr := lease.Release(release); rerr != nil {
			m.log.DebugContext(ctx, "sending not given up, it is free in a moment", "error", rerr)
		}
		cancel()
		if err != nil && ctx.Err() == nil {
			m.log.WarnContext(ctx, "sending given up, trying again", "error", err)
			backoff.Sleep(ctx, senderPause)
		}
	}
}

var errLeaseLost = errors.New("mirror: the lease was lost")

// sender sends the writes of a mirror to its backends, as long as it has the lease.
type sender struct {
	m     *Mirror
	lease *kv.Lease
	ready func() error // hold, made once
	term  string
	ctx   context.Context //nolint:containedctx // of requests and commits: it ends after that of appliers
	tail  *tail
	made  time.Time // when the stream of writes was
	clock serverClock

	held     held
	outcomes outcomes
	judges   judges

	letterFault, parkedSaid seldom

	failed chan error
	wg     sync.WaitGroup // committers and the tail

	appliers map[string]*applier // of send alone
}

// send is the sender until ctx ends or the lease is lost.
func (m *Mirror) send(ctx context.Context, lease *kv.Lease) error {
	hard, kill := context.WithCancelCause(context.WithoutCancel(ctx))
	defer kill(nil)
	s := &sender{m: m, lease: lease, term: lease.Term().String(), ctx: hard, failed: make(chan error, 1), appliers: map[string]*applier{}}
	s.ready = s.hold
	defer s.wg.Wait()
	defer kill(nil)
	begin, cancel := context.WithTimeout(ctx, readTimeout)
	info, err := m.stream.Info(begin)
	cancel()
	if err != nil {
		return fmt.Errorf("mirror: %w", err)
	}
	s.made = info.Created
	s.held.load = func(b *spilled) ([]byte, error) { return m.loadBody(hard, b) }
	defer s.held.wg.Wait()
	s.outcomes.open(m.cfg.AnswerTimeout)
	s.tail = newTail(s, info.State.LastSeq)
	if err := s.openJudges(ctx); err != nil {
		return err
	}
	m.log.InfoContext(ctx, "sending", "term", s.term)
	m.lease.Store(lease)
	m.counts.takeovers.Add(1)
	m.counts.sending.Store(true)
	defer m.counts.sending.Store(false)
	soft, stop := context.WithCancel(ctx)
	defer stop()
	s.wg.Go(func() { s.tail.run(soft) })
	s.wg.Go(func() { s.housekeep(soft) })
	s.wg.Go(func() { s.sweepBodies(soft) })
	err = s.watch(ctx, soft)
	stop()
	if err == nil {
		s.drain()
	}
	kill(err)
	for _, a := range s.appliers {
		a.leave()
		a.cut()
		a.wg.Wait()
	}
	return err
}

// watch keeps an applier for each active backend.
func (s *sender) watch(ctx, soft context.Context) error {
	var last *[]*node
	for {
		edited := s.m.edited.wait()
		if nodes := s.m.nodes.Load(); nodes != last {
			last = nodes
			if err := s.reconcile(soft, *nodes); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.lease.Lost():
			return errLeaseLost
		case <-s.m.conn.Closed():
			return errEnded
		case err := <-s.failed:
			return err
		case <-edited:
		}
	}
}

func (s *sender) reconcile(ctx context.Context, nodes []*node) error {
	for name, a := range s.appliers {
		i := slices.IndexFunc(nodes, func(n *node) bool { return n.Name == name })
		if i >= 0 && nodes[i].Active && nodes[i].Generation == a.node.Generation && nodes[i].URL == a.node.URL {
			a.pause(nodes[i].Maintenance)
			continue
		}
		a.leave()
		s.judges.leave(a)
		a.cut()
		a.wg.Wait()
		close(a.ended)
		<-a.quiet
		delete(s.appliers, name)
	}
	for _, n := range nodes {
		if !n.Active || s.appliers[n.Name] != nil {
			continue
		}
		if err := s.start(ctx, n); err != nil {
			return err
		}
	}
	s.judges.poke()
	return nil
}

// start makes a backend one that is sent writes.
func (s *sender) start(ctx context.Context, n *node) error {
	a := &applier{s: s, node: n, slots: newSlots(s.m.cfg.DrainRequests, s.m.cfg.Lanes), wakeup: make(chan struct{}, 1), ended: make(chan struct{}), quiet: make(chan struct{})}
	a.ctx, a.stop = context.WithCancel(ctx)
	a.requests, a.cut = context.WithCancel(s.ctx)
	a.paused.Store(n.Maintenance)
	if err := a.begin(s.ctx); err != nil {
		a.stop()
		a.cut()
		return fmt.Errorf("mirror: backend %q: %w", n.Name, err)
	}
	s.appliers[n.Name] = a
	n.health.applier.Store(a)
	s.judges.join(a, s.tail.position())
	s.clock.measure(s.ctx, s.m, n.Name)
	a.since.Store(s.now().UnixNano())
	if a.gap {
		s.m.log.ErrorContext(ctx, "backend out of use: writes that it lacks are gone; give it another's data, then set it again with from", "backend", n.Name, "after", a.read)
	}
	s.wg.Go(func() {
		defer n.health.applier.CompareAndSwap(a, nil)
		if err := a.committer(s.ctx); err != nil && s.ctx.Err() == nil {
			s.fail(fmt.Errorf("mirror: backend %q: %w", n.Name, err))
		}
	})
	if !a.gap {
		a.readAlone()
	}
	return nil
}

// hold tells by errEnded that the lease is lost.
func (s *sender) hold() error {
	if !s.lease.Valid() {
		return errEnded
	}
	return nil
}

// holds tells whether this is still the sender.
func (s *sender) holds() bool {
	select {
	case <-s.m.conn.Closed():
		return false
	default:
		return s.lease.Valid()
	}
}

func (s *sender) fail(err error) {
	select {
	case s.failed <- err:
	default: // it fails already
	}
}

// drain lets requests finish that are on their way, and commits.
func (s *sender) drain() {
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		for _, a := range s.appliers {
			a.leave()
		}
		for _, a := range s.appliers {
			a.wg.Wait()
		}
	}()
	timer := time.NewTimer(s.m.cfg.Drain)
	defer timer.Stop()
	select {
	case <-finished:
	case <-timer.C:
		s.m.log.Warn("requests to backends cut off, the next sender repeats them", "after", s.m.cfg.Drain)
	}
	ctx, cancel := context.WithTimeout(s.ctx, commitFinal)
	defer cancel()
	for _, a := range s.appliers {
		close(a.ended)
		select {
		case <-a.quiet:
		case <-ctx.Done():
			continue // its committer still tries
		}
		if err := a.commit(ctx, commitTimeout); err != nil {
			s.m.log.WarnContext(ctx, "progress not stored, the next sender repeats the last requests", "backend", a.node.Name, "error", err)
		}
	}
}

// leave ends all reading for the backend. Requests that are under way go on.
func (a *applier) leave() {
	a.stop() // first: it does not join again then
	a.s.tail.leave(a)
}

// pause follows the maintenance of a backend.
func (a *applier) pause(on bool) {
	if on == a.paused.Load() {
		return
	}
	if !on {
		a.since.Store(a.s.now().UnixNano())
	}
	a.paused.Store(on)
	a.ready.notify()
	a.wake()
}

// expect gives a write its outcome, where somebody waits for it.
func (s *sender) expect(w *write) {
	if w.answerTo == "" || w.ack == Queued {
		return
	}
	w.outcome = s.outcomes.of(w.seq, func() *outcome {
		o := &outcome{ack: w.ack, primary: s.m.cfg.Primary, room: &s.outcomes.room}
		for _, n := range *s.m.nodes.Load() {
			if n.Active && !n.Maintenance && n.State() != StateGap {
				o.voters = append(o.voters, n.Name)
			}
		}
		if o.primary == "" && len(o.voters) > 0 {
			o.primary = o.voters[0]
		}
		seq, to := w.seq, w.answerTo
		o.tell = func(a *answer) { s.outcomes.forget(seq); s.tell(to, a) }
		return o
	})
}

// tell tells a client's process what its backends answered.
func (s *sender) tell(to string, a *answer) {
	if s.m.waiters.tell(to, a) {
		return
	}
	if !s.m.conn.IsInbox(to) || strings.ContainsAny(to, "*> ") {
		return // whoever may store a write must not choose where we publish
	}
	if err := s.m.conn.Publish(&nats.Msg{Subject: to, Data: a.encode()}); err != nil {
		s.m.log.Debug("answer not told", "error", err)
	}
}

// outcomesKept is how many of the last writes may have somebody who still waits, when a sender begins.
const outcomesKept = 4096

// answersHeld is how many bytes of answers wait for others.
const answersHeld = 64 << 20

// outcomes are those not decided yet, by sequence.
type outcomes struct {
	timeout time.Duration
	room    room

	mu    sync.Mutex
	all   map[uint64]*timedOutcome
	swept time.Time
}

type timedOutcome struct {
	*outcome
	since time.Time
}

func (o *outcomes) open(timeout time.Duration) {
	o.timeout, o.all, o.swept = timeout, map[uint64]*timedOutcome{}, time.Now()
	o.room.limit = answersHeld
}

// of is the outcome of a write, as made by the first who asks.
func (o *outcomes) of(seq uint64, build func() *outcome) *outcome {
	o.mu.Lock()
	defer o.mu.Unlock()
	t, ok := o.all[seq]
	if !ok {
		t = &timedOutcome{build(), time.Now()}
		o.all[seq] = t
		o.sweepLocked(t.since)
	}
	return t.outcome
}

func (o *outcomes) forget(seq uint64) {
	o.mu.Lock()
	delete(o.all, seq)
	o.mu.Unlock()
}

// sweep gives up those for which nobody waits any more.
func (o *outcomes) sweep() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sweepLocked(time.Now())
}

func (o *outcomes) sweepLocked(now time.Time) {
	if now.Sub(o.swept) < o.timeout/4 {
		return
	}
	o.swept = now
	for seq, t := range o.all {
		if now.Sub(t.since) > o.timeout {
			t.giveUp()
			delete(o.all, seq)
		}
	}
}

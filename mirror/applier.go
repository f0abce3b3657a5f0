package mirror

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// applier applies writes to one backend: lanes beside each other, those of a lane one after the other.
type applier struct {
	s        *sender
	node     *node           // as of when it began; its record may only change in flags that do not concern what is applied
	ctx      context.Context //nolint:containedctx // of all its lanes: ends when nothing new is to be sent
	stop     context.CancelFunc
	requests context.Context //nolint:containedctx // the same: ends when what is on its way is to be cut off
	cut      context.CancelFunc
	wg       sync.WaitGroup // lanes and the reader
	wakeup   chan struct{}  // of the committer
	ended    chan struct{}  // closed when nothing is applied any more: the committer ends
	quiet    chan struct{}  // closed by the committer then
	gap      bool           // writes it lacks are gone
	lost     bool           // with a former stream

	paused  atomic.Bool  // by maintenance
	since   atomic.Int64 // Unix nanoseconds of the servers since when it is sent writes
	behind  atomic.Bool  // it reads for itself, and is far behind
	slots   *slots
	breaker breaker
	ready   broadcast // something that lanes wait for may have changed

	mu     sync.Mutex
	lanes  []lane
	read   uint64 // up to where writes were offered
	queued int
	bytes  int
	dirty  bool      // something was applied since the last snapshot
	unread unread    // by the reader of its own
	first  time.Time // when the first write was stored that is to be read, zero where there was none
	last   time.Time // when the last one was that was read, zero before
	begun  int64     // Unix nanoseconds at which the write was stored after which it began, 0 where that is not known
	room   broadcast
	ledger []entry // of what was applied since the last snapshot

	fresh int64 // Unix nanoseconds of the first of them, 0 for none

	uncommitted atomic.Int64 // Unix nanoseconds since when something applied is not committed, 0 for nothing
	revision    uint64       // of the progress; the committer's
	committed   []byte       // the same
	book        logbook      // the same
	told        State        // the same: what the log says of the backend
}

// lane holds the writes that wait. The first is on its way while the lane is running.
type lane struct {
	mark    uint64 // up to here all of the lane is applied
	queue   []*write
	running bool
}

// at is up to where a lane has applied everything. An idle one follows what was read.
func (a *applier) at(l *lane) uint64 {
	if len(l.queue) == 0 {
		return max(a.read, l.mark)
	}
	return l.mark
}

// position is up to where writes were offered.
func (a *applier) position() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.read
}

// offer takes a write, unless there is no room for it.
func (a *applier) offer(w *write) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.offerLocked(w)
}

func (a *applier) offerLocked(w *write) bool {
	if w.seq <= a.read { // it came with the ring already
		return true
	}
	if w.lane < 0 { // nothing to apply
		a.read, a.last, a.dirty = w.seq, w.at, true
		return true
	}
	l := &a.lanes[w.lane]
	if w.seq <= l.mark {
		a.read, a.last, a.dirty = w.seq, w.at, true
		return true
	}
	if a.queued > 0 && (a.queued >= a.s.m.cfg.Window || a.bytes+w.size > a.s.m.cfg.WindowBytes) {
		return false
	}
	if len(l.queue) == 0 {
		l.mark = w.seq - 1
	}
	a.read, a.last, a.dirty = w.seq, w.at, true
	l.queue = append(l.queue, w)
	a.queued++
	a.bytes += w.size
	if !l.running {
		l.running = true
		a.wg.Go(func() { a.run(w.lane) })
	}
	return true
}

// offerWait takes a write as soon as there is room.
func (a *applier) offerWait(w *write) error {
	if a.offer(w) {
		return nil
	}
	for {
		room := a.room.wait()
		if a.offer(w) {
			return nil
		}
		select {
		case <-room:
		case <-a.ctx.Done():
			return errEnded
		}
	}
}

// readAlone reads for this backend only, until it is level with the others. It is called before anything else reads for it.
func (a *applier) readAlone() {
	a.mu.Lock()
	a.unread = unread{alone: true, taken: a.s.tail.taken.Load()}
	a.mu.Unlock()
	a.wg.Go(func() {
		if a.s.tail.join(a) {
			return
		}
		_ = a.s.read(a.ctx, a.position(), func(w *write, pending uint64) error { // it ends with ctx
			a.mu.Lock()
			a.unread.read(pending, a.s.tail.taken.Load())
			waiting := a.waitingLocked()
			a.mu.Unlock()
			if waiting < outcomesKept {
				a.s.expect(w)
			}
			if err := a.offerWait(w); err != nil {
				return err
			}
			if a.s.tail.join(a) {
				return errJoined
			}
			return nil
		})
	})
}

func (a *applier) readWithOthers() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unread = unread{}
	a.behind.Store(false)
}

// waitingLocked is how many writes the backend has not applied, and notes whether it is far behind.
func (a *applier) waitingLocked() uint64 {
	n := a.unread.now(a.s.tail.taken.Load())
	a.behind.Store(n > behindAfter || a.behind.Load() && n > 0)
	return n + uint64(a.queued) //nolint:gosec // not negative
}

// unread is how many writes a reader that is alone has before it. What it is told beside a message was true when that was sent, which may be long ago: so
// it counts itself, by what it reads and what is stored meanwhile.
type unread struct {
	alone bool
	n     uint64
	taken uint64 // by the tail, when n was so many
}

// read notes a message, and how many there were behind it when it was sent.
func (u *unread) read(pending, taken uint64) {
	u.n = max(u.now(taken), 1) - 1
	u.n, u.taken = max(u.n, pending), taken
}

func (u *unread) now(taken uint64) uint64 {
	if !u.alone {
		return 0
	}
	return u.n + (taken - u.taken)
}

// run applies the writes of a lane until none is left.
func (a *applier) run(i int) {
	for {
		w := a.head(i)
		if w == nil {
			return
		}
		ans, err := a.apply(w)
		if err != nil {
			return
		}
		a.done(i, w, ans)
	}
}

// head is the next write of a lane; without one the lane is no longer running.
func (a *applier) head(i int) *write {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := &a.lanes[i]
	if len(l.queue) == 0 || a.ctx.Err() != nil {
		l.running = false
		return nil
	}
	return l.queue[0]
}

// done notes that a write is applied.
func (a *applier) done(i int, w *write, ans *answer) {
	a.mu.Lock()
	l := &a.lanes[i]
	l.queue[0] = nil
	if l.queue = l.queue[1:]; len(l.queue) == 0 {
		l.queue, l.mark = nil, w.seq // its array may have become long
	} else {
		l.mark = l.queue[0].seq - 1
	}
	a.queued--
	a.bytes -= w.size
	a.dirty = true
	a.ledger = append(a.ledger, entry{seq: w.seq, status: uint16(ans.status), hash: ans.hash}) //nolint:gosec // below 1000
	if a.fresh == 0 {
		a.fresh = time.Now().UnixNano()
		a.uncommitted.CompareAndSwap(0, a.fresh)
	}
	half := a.queued <= a.s.m.cfg.Window/2 && a.bytes <= a.s.m.cfg.WindowBytes/2
	a.mu.Unlock()
	if half {
		a.room.notify()
	}
	a.wake()
	if ctx := a.s.ctx; a.s.m.log.Enabled(ctx, slog.LevelDebug) {
		a.s.m.log.DebugContext(ctx, "write applied", "backend", a.node.Name, "seq", w.seq, "lane", w.lane, "method", w.method, "status", ans.status)
	}
	w.finish(ans)
}

// wake makes the committer look.
func (a *applier) wake() {
	select {
	case a.wakeup <- struct{}{}:
	default:
	}
}

// finish tells a client that waits.
func (w *write) finish(ans *answer) {
	if w.outcome != nil {
		w.outcome.add(ans)
	}
}

// snapshot is what there is to commit.
func (a *applier) snapshot(term string) (*progress, []entry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := &progress{Generation: a.node.Generation, Term: term, Read: a.read, Waiting: a.waitingLocked(), State: a.state(), Bytes: uint64(a.bytes), Lost: a.lost, Stream: a.s.made.UnixNano()} //nolint:gosec // not negative
	if p.ReadAt = a.begun; !a.last.IsZero() {
		p.ReadAt = a.last.UnixNano()
	}
	var oldest time.Time
	for i := range a.lanes {
		l := &a.lanes[i]
		if at := a.at(l); at != a.read {
			p.Marks = append(p.Marks, [2]uint64{uint64(i), at}) //nolint:gosec // not negative
		}
		if len(l.queue) > 0 && (oldest.IsZero() || l.queue[0].at.Before(oldest)) {
			oldest = l.queue[0].at
		}
	}
	if oldest.IsZero() {
		oldest = a.unreadSince()
	}
	if !oldest.IsZero() {
		p.Lag = max(a.s.now().Sub(oldest).Milliseconds(), 0)
	}
	entries := a.ledger
	a.ledger, a.dirty, a.fresh = nil, false, 0
	return p, entries
}

// unreadSince is when what is still to be read was stored, or before that; zero where nothing is known to be.
func (a *applier) unreadSince() time.Time {
	switch {
	case a.last.IsZero():
		return a.first
	case a.unread.now(a.s.tail.taken.Load()) > 0:
		return a.last
	}
	return time.Time{}
}

func (a *applier) state() State {
	switch {
	case a.gap:
		return StateGap
	case a.paused.Load():
		return StateMaintenance
	case a.breaker.open():
		return StateDown
	case a.behind.Load():
		return StateBehind
	}
	return StateLive
}

package mirror

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/internal/backoff"
)

const (
	readPause     = 50 * time.Millisecond
	readHeartbeat = time.Second
	readBytes     = 1 << 20 // that a reader asks for at once: answers to commits come behind it; never less than a message may have
	readCheck     = 2 * time.Second
	behindAfter   = 1000 // writes; from then on a backend is being brought level

	ringWrites = 512
	ringBytes  = 4 << 20
)

var errJoined = errors.New("mirror: reads with the others now")

// read calls f with all writes after a sequence, in order, until ctx ends or f fails. Faults of servers it waits out.
func (s *sender) read(ctx context.Context, after uint64, f func(w *write, pending uint64) error) error {
	var at int64 // when the last one was stored
	take := func(w *write, pending uint64) error {
		err := f(w, pending)
		if err == nil {
			at = w.at.UnixNano()
		}
		return err
	}
	for {
		last, err := s.readOnce(ctx, after, at, take)
		after = max(after, last)
		if ctx.Err() != nil {
			return fmt.Errorf("mirror: %w", context.Cause(ctx))
		}
		if ended, ok := errors.AsType[*handlerError](err); ok {
			return ended.error
		}
		s.m.log.DebugContext(ctx, "reading writes again", "after", after, "error", err)
		backoff.Sleep(ctx, readPause)
	}
}

// handlerError is one of f, not of reading.
type handlerError struct{ error }

func (e *handlerError) Unwrap() error { return e.error }

// readOnce reads with one consumer, which breaks sometimes, and returns the last sequence that f took. The one before was stored at a time, 0 where that is not known.
func (s *sender) readOnce(ctx context.Context, after uint64, at int64, f func(w *write, pending uint64) error) (uint64, error) {
	attempt, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	switch replaced, err := s.m.replaced(attempt, after, at); {
	case err != nil:
		return after, err
	case replaced:
		s.fail(errAnew)
		return after, &handlerError{errAnew}
	}
	consumer, err := s.m.js.OrderedConsumer(attempt, streamWrites, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{s.m.space.writes()}, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: after + 1,
		MaxResetAttempts: 1, InactiveThreshold: 30 * time.Second,
	})
	if err != nil {
		return after, fmt.Errorf("mirror: read writes: %w", err)
	}
	messages, err := consumer.Messages(jetstream.PullMaxBytes(readBytes), jetstream.PullHeartbeat(readHeartbeat), jetstream.PullExpiry(10*readHeartbeat))
	if err != nil {
		return after, fmt.Errorf("mirror: read writes: %w", err)
	}
	ctx, stop := context.WithCancel(ctx)
	var read atomic.Uint64
	read.Store(after)
	var wg sync.WaitGroup
	wg.Go(func() { s.guard(ctx, &read); stop() })
	defer messages.Stop() // not beside Next: a consumer that begins anew just then is stopped no more
	defer wg.Wait()
	defer stop()
	next := jetstream.NextContext(ctx)
	for {
		msg, err := messages.Next(next)
		if err != nil {
			return after, fmt.Errorf("mirror: read writes: %w", err)
		}
		w, meta, err := s.m.readWrite(msg)
		if err != nil {
			s.m.log.ErrorContext(ctx, "write left out, it is not the mirror's", "error", err)
			if meta == nil {
				continue
			}
			w = &write{seq: meta.Sequence.Stream, lane: -1, at: meta.Timestamp}
		}
		if w.seq <= after {
			return after, errMissed // an ordered consumer that began anew
		}
		if err := s.sameNumbers(ctx, after, w.seq); err != nil {
			return after, err
		}
		if err := f(w, meta.NumPending); err != nil {
			return after, &handlerError{err}
		}
		after = w.seq
		read.Store(after)
	}
}

// guard returns when a reader should begin anew: messages may be lost, or there is a write that it should have got long ago, or ctx ended.
func (s *sender) guard(ctx context.Context, read *atomic.Uint64) {
	loss := make(chan struct{}, 1)
	defer s.m.conn.NotifyLoss(loss)()
	tick := time.NewTicker(readCheck)
	defer tick.Stop()
	var last uint64
	for {
		select {
		case <-ctx.Done():
			return
		case <-loss:
			return
		case <-tick.C:
		}
		now := read.Load()
		if now == last && s.missed(ctx, now) && read.Load() == now {
			return
		}
		last = now
	}
}

var errMissed = errors.New("mirror: the reader did not hear of a write")

// missed tells whether there is a write after a sequence, which a reader that heard nothing for a while should have got.
func (s *sender) missed(ctx context.Context, after uint64) bool {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	_, err := s.m.stream.GetMsg(ctx, after+1, jetstream.WithGetMsgSubject(s.m.space.writes()))
	return err == nil
}

// tail reads what is stored as it comes, for all backends that are level. One that falls behind reads for itself until it is level again.
type tail struct {
	s *sender

	mu       sync.Mutex
	pos      uint64        // what was read
	taken    atomic.Uint64 // writes that were read
	attached map[*applier]bool
	ring     []*write // the last ones, for who comes
	before   uint64   // what was read before the first of ring
	bytes    int      // of ring
}

func newTail(s *sender, after uint64) *tail {
	return &tail{s: s, pos: after, before: after, attached: map[*applier]bool{}}
}

func (t *tail) run(ctx context.Context) {
	_ = t.s.read(ctx, t.pos, func(w *write, _ uint64) error { t.take(w); return nil }) // it ends with ctx
}

// take gives a write to all attached backends. One that has no room is left to itself.
func (t *tail) take(w *write) {
	t.s.expect(w)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pos = w.seq
	t.taken.Add(1)
	t.ring = append(t.ring, w)
	t.bytes += w.size
	for len(t.ring) > ringWrites || t.bytes > ringBytes && len(t.ring) > 1 {
		t.before, t.bytes = t.ring[0].seq, t.bytes-t.ring[0].size
		t.ring[0] = nil
		t.ring = t.ring[1:]
	}
	for a := range t.attached {
		if !a.offer(w) {
			delete(t.attached, a)
			a.readAlone()
		}
	}
}

// join attaches a backend that has read nearly all, and tells whether it did.
func (t *tail) join(a *applier) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if a.ctx.Err() != nil {
		return false // it left, and must not be offered anything more
	}
	read := a.position()
	if read < t.before {
		return false
	}
	for _, w := range t.ring {
		if w.seq > read && !a.offer(w) {
			return false
		}
	}
	a.readWithOthers()
	t.attached[a] = true
	return true
}

// position is up to where it has read.
func (t *tail) position() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pos
}

func (t *tail) leave(a *applier) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.attached, a)
}

package scheduler

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
)

const (
	createWindow = 4096            // timers of one CreateMany that are under way at once
	createBytes  = 32 << 20        // of their payloads
	createWait   = 5 * time.Second // for an answer, before a timer is stored once more by itself
	againAtOnce  = 64              // of those
	replaceTries = 5
)

// Create stores a timer. Once it returns the timer is stored as durably as the servers are configured.
//
// The error has the code invalid_argument for a spec that can never work, with its field in the detail "field"; permission_denied for a target
// that is not allowed, with the setting that allows it; already_exists where a timer with the id, or the key, is pending, with its id in the
// detail "id"; resource_exhausted where the server has no room; unavailable where nothing was stored and it may be tried again. After
// deadline_exceeded or canceled nobody knows. Without a deadline ctx is given 10 s.
func (s *Scheduler) Create(ctx context.Context, spec Spec) (Timer, error) {
	d, err := s.draft(ctx, spec)
	if err == nil {
		err = s.room.take(ctx, d.size())
	}
	if err != nil {
		return Timer{}, err
	}
	return s.createDraft(ctx, d, false)
}

// createDraft stores a timer; unsure tells that it may be stored already.
func (s *Scheduler) createDraft(ctx context.Context, d *draft, unsure bool) (Timer, error) {
	sh := s.shard(d.id)
	expect := uint64(0)
	for range replaceTries {
		msg, err := d.message(sh, s.cfg.Grace, expect)
		if err != nil {
			return Timer{}, err
		}
		seq, err := s.storeUnsure(ctx, sh, msg, unsure)
		if err == nil {
			return s.created(d, seq), nil
		}
		if reason(err) == "uncertain" && s.fired(ctx, sh, d) {
			return s.created(d, 0), nil
		}
		if !errors.Is(err, errConflict) {
			return Timer{}, err
		}
		// The id is taken, unless what is there is only what a cancel left behind.
		last, seq, err := s.last(ctx, sh, msg.Subject)
		switch {
		case errors.Is(err, errNone):
			expect = 0
		case err != nil:
			return Timer{}, err
		case d.is(last):
			return s.created(d, seq), nil
		case !isGone(last):
			return Timer{}, d.taken()
		default:
			expect = seq
		}
	}
	return Timer{}, d.taken()
}

// size is about what the timer takes in the store.
func (d *draft) size() int { return len(d.payload) + storedOverhead }

const storedOverhead = 400 // of headers and the like

// is tells whether d was stored, and has gone on since to be the pending message m: a recurring one, with its next occurrence.
func (d *draft) is(m *nats.Msg) bool {
	p, err := readStored(m.Subject, 0, time.Time{}, m.Header, m.Data)
	return err == nil && p.record.Gen == d.record.Gen
}

// fired tells whether a timer whose creation was not answered is being delivered already.
func (s *Scheduler) fired(ctx context.Context, sh *shard, d *draft) bool {
	deliveries, err := s.deliveries(ctx, sh, d.id)
	return err == nil && slices.ContainsFunc(deliveries, func(m *stored) bool { return m.record.Gen == d.record.Gen })
}

func (d *draft) message(sh *shard, grace time.Duration, expect uint64) (*nats.Msg, error) {
	return sh.pendingMessage(d.id, d.due, &d.record, d.payload, grace, sh.clock.at(time.Now()), expect)
}

func (d *draft) taken() error {
	if d.record.Key != "" {
		return bus.Errorf(bus.AlreadyExists, "a timer with the key %q is pending", d.record.Key).With("id", d.id).With("field", "key")
	}
	return bus.Errorf(bus.AlreadyExists, "timer %q exists already", d.id).With("id", d.id).With("field", "id")
}

// created tells of a timer that was stored.
func (s *Scheduler) created(d *draft, seq uint64) Timer {
	t := d.timer(seq)
	s.tell(Event{Kind: Created, ID: d.id, Time: t.Created, Due: t.Due, Occurrence: d.record.N})
	return t
}

// timer is the draft as it was stored.
func (d *draft) timer(seq uint64) Timer {
	m := &stored{id: d.id, kind: kindPending, seq: seq, due: d.due, record: d.record, payload: d.payload}
	return m.timer()
}

// CreateMany stores timers and yields what came of each, in the order of specs, while it stores the next ones: thousands are under
// way at once. An error is that of one spec, as Create's, and does not end the sequence. specs is read in a goroutine of its own, ahead of
// the loop, and CreateMany does not end before a call of it under way has: when ctx ends or the loop is left, the rest of specs is not taken, while
// of those that were, some may be stored that it did not yield. At most 4096 timers, and 32 MiB of their payloads, are under way.
func (s *Scheduler) CreateMany(ctx context.Context, specs iter.Seq[Spec]) iter.Seq2[Timer, error] {
	return func(yield func(Timer, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		window, news := make(chan *creation, createWindow), make(chan struct{}, 1)
		unsure := make(chan *creation, createWindow+2) // all there are: nobody who tells waits
		room := newBudget(createBytes)
		told := &notes{s: s, of: map[*shard]*notesOf{}}
		defer told.flush()
		wg.Go(func() {
			defer close(window)
			for spec := range specs {
				if ctx.Err() != nil {
					return
				}
				if !room.take(ctx, len(spec.Payload)) {
					return
				}
				select {
				case window <- s.begin(ctx, spec, news, unsure):
				case <-ctx.Done():
					return
				}
			}
		})
		wg.Go(func() { s.createAll(ctx, unsure) })
		for c := range window {
			tm, err := s.finish(ctx, c, news, told)
			room.give(c.size)
			if !yield(tm, err) {
				return
			}
		}
	}
}

// creation is a timer on its way to the server.
type creation struct {
	draft *draft
	shard *shard
	size  int // of the payload
	body  []byte
	begun time.Time
	first error // of the first attempt, where that was no plain yes

	known  atomic.Bool // what came of it
	seq    uint64      // by the first attempt
	made   Timer       // by another one
	err    error
	news   chan<- struct{}
	unsure chan<- *creation
}

// answered is told what came of the first attempt.
func (c *creation) answered(seq uint64, err error) {
	if c.first = err; err != nil {
		c.unsure <- c
		return
	}
	c.seq = seq
	c.ended()
}

func (c *creation) ended() {
	c.known.Store(true)
	select {
	case c.news <- struct{}{}:
	default:
	}
}

// begin sends a timer and waits for nothing. news hears when it is known what came of it, unsure takes it where that is no plain yes.
func (s *Scheduler) begin(ctx context.Context, spec Spec, news chan<- struct{}, unsure chan<- *creation) *creation {
	c := &creation{size: len(spec.Payload), begun: time.Now(), news: news, unsure: unsure}
	if c.draft, c.err = s.draft(ctx, spec); c.err == nil {
		c.err = s.room.take(ctx, c.draft.size())
	}
	var msg *nats.Msg
	if c.err == nil {
		c.shard = s.shard(c.draft.id)
		msg, c.err = c.draft.message(c.shard, s.cfg.Grace, 0)
	}
	if c.err != nil {
		c.known.Store(true)
		return c
	}
	c.body = msg.Data
	if err := s.creating.send(msg, c); err != nil {
		c.answered(0, err)
	}
	return c
}

// finish waits until it is known what came of a timer.
func (s *Scheduler) finish(ctx context.Context, c *creation, news <-chan struct{}, told *notes) (Timer, error) {
	for !c.known.Load() {
		select {
		case <-news:
		case <-ctx.Done():
			return Timer{}, storeEnded(context.Cause(ctx), true)
		}
	}
	if c.err != nil || c.first != nil {
		return c.made, c.err
	}
	told.add(c.shard, noteOf(c.draft.id, c.seq, c.body, c.shard.clock.at(time.Now())))
	return s.created(c.draft, c.seq), nil
}

// createAll finds or stores timers whose first attempt was no plain yes, whoever takes the results at what pace. One that was stored is recognised only as long
// as it is pending or being delivered, so that is looked at first, for many at a time.
func (s *Scheduler) createAll(ctx context.Context, unsure <-chan *creation) {
	places := make(chan struct{}, againAtOnce)
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		var some []*creation
		select {
		case c := <-unsure:
			some = append(some, c)
		case <-ctx.Done():
			return
		}
		for more := true; more && len(some) < fetchSize; {
			select {
			case c := <-unsure:
				some = append(some, c)
			default:
				more = false
			}
		}
		for _, c := range s.unknown(ctx, some) {
			wg.Go(func() {
				select {
				case places <- struct{}{}:
					c.made, c.err = s.createAgain(ctx, c)
					<-places
				case <-ctx.Done():
					c.err = storeEnded(context.Cause(ctx), unanswered(c.first))
				}
				c.ended()
			})
		}
	}
}

// unknown is those of which it is not seen at once that they are stored. The others it ends.
func (s *Scheduler) unknown(ctx context.Context, some []*creation) (rest []*creation) {
	shards := map[*shard][]*creation{}
	for _, c := range some {
		if !unanswered(c.first) || !s.conn.NATS().IsConnected() {
			rest = append(rest, c)
			continue
		}
		shards[c.shard] = append(shards[c.shard], c)
	}
	for sh, some := range shards {
		ids := make([]string, len(some))
		for i, c := range some {
			ids[i] = c.draft.id
		}
		pending, due, err := s.pendingAndDue(ctx, sh, ids)
		if err != nil {
			s.log.DebugContext(ctx, "timers whose answers were lost not looked for together", "error", err)
		}
		for _, c := range some {
			m, fired := due[c.draft.id]
			if !fired { // else what is pending a server that was killed has forgotten to remove
				m = pending[c.draft.id]
			}
			if m == nil || !bytes.Equal(m.body, c.body) {
				rest = append(rest, c)
				continue
			}
			if !fired {
				s.note(sh, noteOf(c.draft.id, m.seq, m.body, sh.clock.at(time.Now())))
			}
			c.made = s.created(c.draft, m.seq)
			c.ended()
		}
	}
	return rest
}

// createAgain stores a timer that may be stored already. As long as the servers are away all that wait for them do so for the same time.
func (s *Scheduler) createAgain(ctx context.Context, c *creation) (Timer, error) {
	unsure := unanswered(c.first)
	wait, cancel := context.WithDeadline(ctx, c.begun.Add(storeTimeout))
	defer cancel()
	if err := s.conn.WaitConnected(wait); err != nil {
		return Timer{}, storeEnded(err, unsure)
	}
	return s.createDraft(ctx, c.draft, unsure)
}

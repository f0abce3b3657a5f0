package kv

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	feedMessages = 16 << 10 // what may wait in a feed's subscription
	feedBytes    = 16 << 20
	feedBuffer   = 256

	settleTime  = 250 * time.Millisecond // until a load is compared once more: interest may still be on its way to other servers
	loadSpacing = 100 * time.Millisecond // from the beginning of a load to the next, at least
	loadShare   = 4                      // a load takes at most one part in so many of the time
	fullEvery   = time.Minute
	reviveLimit = time.Second
	believeOld  = 5 // looks in a row until a bucket that is older than what was seen is taken as it is
)

// want is what a feed is to do next; the higher includes the lower.
type want int

const (
	wantCheck want = iota // compare, and read what is newer
	wantLoad              // read everything
)

// held is what a feed knows of a key.
type held struct {
	seq     uint64
	time    time.Time
	deleted bool
}

// feed follows a bucket. Everything in it belongs to the goroutine of run, but for what the channels carry.
type feed struct {
	b       *bucket
	pattern string
	out     *outbox
	live    chan *nats.Msg
	loss    chan struct{}
	elected chan *nats.Msg
	done    chan struct{}

	sub      *nats.Subscription
	dropped  int
	connects uint64
	keys     map[string]held

	loaded   bool      // keys is a state that was complete once
	created  time.Time // of the bucket
	loadedTo uint64    // deletions up to here may have been forgotten
	covered  uint64    // nothing up to here was missed
	high     uint64    // the highest sequence seen
	heard    uint64    // the sequence the subscription brought last

	next    want
	loadAt  time.Time  // no load before
	fullAt  time.Time  // when to load again though nothing was noticed
	state   streamInfo // the leader's last word
	idle    streamInfo // its word at the last load
	missing int        // looks that found no bucket
	older   int        // looks that found an older bucket
}

func (b *bucket) newFeed(pattern string) *feed {
	return &feed{
		b:       b,
		pattern: pattern,
		out:     newOutbox(),
		live:    make(chan *nats.Msg, feedBuffer),
		loss:    make(chan struct{}, 1),
		elected: make(chan *nats.Msg, 1),
		done:    make(chan struct{}),
		keys:    map[string]held{},
		next:    wantLoad,
	}
}

// run feeds the outbox until ctx ends or the connection is closed.
func (f *feed) run(ctx context.Context) {
	stop := f.b.conn.NotifyLoss(f.loss)
	defer stop()
	defer close(f.done)
	f.connects = f.b.nc.Stats().Reconnects
	if err := f.subscribe(); err != nil {
		f.out.fail(err)
		return
	}
	defer func() { _ = f.sub.Unsubscribe() }() // fails only when the connection is closed
	// Without permission there are no advisories: the checks find what they would have told.
	if adv, err := f.b.nc.ChanSubscribe("$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED."+f.b.stream, f.elected); err == nil {
		defer func() { _ = adv.Unsubscribe() }() // as above
	}

	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.b.conn.Closed():
			f.out.fail(nats.ErrConnectionClosed)
			return
		case m := <-f.live:
			if f.hear(m) {
				f.ask(timer)
			}
		case <-f.loss:
			if f.missed() {
				f.ask(timer)
			}
		case <-f.elected:
			f.ask(timer)
		case <-timer.C:
			timer.Reset(f.look(ctx))
		}
	}
}

// ask makes the feed load everything soon.
func (f *feed) ask(timer *time.Timer) {
	f.next = wantLoad
	timer.Reset(max(0, time.Until(f.loadAt)))
}

// subscribe hears the bucket's writes from now on and nothing of before.
func (f *feed) subscribe() error {
	if f.sub != nil {
		_ = f.sub.Unsubscribe() // fails only when the connection is closed
	}
	sub, err := f.b.nc.Subscribe(f.b.feedSubject(f.pattern), func(m *nats.Msg) {
		select {
		case f.live <- m:
		case <-f.done:
		}
	})
	if err != nil {
		return err
	}
	if err := sub.SetPendingLimits(feedMessages, feedBytes); err != nil {
		return err
	}
	f.sub, f.dropped, f.heard = sub, 0, 0
	return nil
}

// missed tells whether messages of this feed were missed, now that somebody's were.
func (f *feed) missed() bool {
	connects := f.b.nc.Stats().Reconnects
	dropped, _ := f.sub.Dropped() // an error says that the connection is closed
	if connects == f.connects && dropped == f.dropped {
		return false
	}
	f.connects, f.dropped = connects, dropped
	return true
}

// hear takes a message of the feed and tells whether it shows that another one was missed.
func (f *feed) hear(m *nats.Msg) (gap bool) {
	if m.Sub != f.sub {
		return false
	}
	r, err := f.b.parse(m)
	if err != nil || m.Subject != f.b.feedSubject(r.key) {
		return false // not from the server
	}
	if r.seq <= f.heard {
		gap = f.loaded // sequences begin anew: another bucket
	}
	f.heard = r.seq
	if f.loaded && r.seq > f.covered {
		gap = gap || f.skipped(r, number(m.Header, headerLastSequence))
	}
	f.apply(r)
	return gap
}

// skipped tells whether something was missed before r, which follows previous on its key.
func (f *feed) skipped(r record, previous uint64) bool {
	if f.pattern == ">" {
		if r.seq != f.covered+1 {
			return true
		}
		f.covered = r.seq
		return false
	}
	return previous > f.loadedTo && previous != f.keys[r.key].seq
}

// apply takes r if it is newer than what is known of its key.
func (f *feed) apply(r record) {
	if r.seq <= f.keys[r.key].seq {
		return
	}
	f.keys[r.key] = held{r.seq, r.time, r.deleted}
	f.high = max(f.high, r.seq)
	f.out.put(r)
}

// look does what is wanted next and returns how long to wait for the next look.
func (f *feed) look(ctx context.Context) time.Duration {
	err := f.b.conn.WaitConnected(ctx)
	if err == nil && f.next == wantCheck {
		err = f.check(ctx)
	}
	if err == nil && f.next == wantLoad {
		begin := time.Now()
		err = f.load(ctx)
		f.loadAt = begin.Add(max(loadSpacing, loadShare*time.Since(begin)))
		if err == nil {
			f.next, f.missing, f.older = wantCheck, 0, 0
			return settleTime
		}
	}
	switch {
	case err == nil:
		f.missing = 0
		return f.b.cfg.Check*4/5 + rand.N(f.b.cfg.Check*2/5+1)
	case apiCode(err) == codeNoStream:
		return f.vanished(ctx)
	case ctx.Err() == nil:
		f.b.log.Debug("the feed will look again", "pattern", f.pattern, "error", err)
	}
	return pause()
}

// check compares what was seen with the leader's state, reads what is newer, and wants a load if that is not enough.
func (f *feed) check(ctx context.Context) error {
	info, err := f.b.info(ctx)
	if err != nil {
		return err
	}
	before := f.state
	f.state = info
	f.drain()
	switch {
	case !info.Created.Equal(f.created), info.State.LastSeq < max(f.high, f.covered):
		f.next = wantLoad
	case info.State.LastSeq > f.covered:
		err = f.catchUp(ctx)
	case info.State.LastSeq == before.State.LastSeq && info.State.Messages < before.State.Messages:
		f.next = wantLoad // somebody purged, or deletions went away
	}
	if time.Now().After(f.fullAt) && info.State != f.idle.State {
		f.next = wantLoad
	}
	return err
}

// drain takes what the subscription has already brought.
func (f *feed) drain() {
	for {
		select {
		case m := <-f.live:
			if f.hear(m) {
				f.next = wantLoad
			}
		default:
			return
		}
	}
}

// catchUp reads what is newer than covered.
func (f *feed) catchUp(ctx context.Context) error {
	filter := f.b.prefix + f.pattern
	req := getRequest{MultiLast: []string{filter}, Seq: f.covered + 1}
	upTo := uint64(0)
	for {
		p, err := f.b.directGet(ctx, req)
		switch {
		case errors.Is(err, errTooMany):
			records, upTo, err := f.b.scan(ctx, filter, f.covered+1)
			if err != nil {
				return err
			}
			f.take(records, upTo)
			return nil
		case errors.Is(err, errNone):
			return nil // or the replica is behind: the next check asks again
		case err != nil:
			return err
		case p.upTo < upTo:
			return errBehind
		}
		if upTo == 0 {
			upTo = p.upTo
		}
		f.take(p.records, 0)
		if p.pending == 0 {
			f.take(nil, upTo)
			return nil
		}
		req.Seq = p.next()
	}
}

func (f *feed) take(records []record, upTo uint64) {
	for _, r := range records {
		f.apply(r)
	}
	f.covered = max(f.covered, upTo)
}

// load reads the whole state and merges it.
func (f *feed) load(ctx context.Context) error {
	f.missed() // from here on it counts anew
	s, err := f.b.snapshot(ctx, f.pattern)
	if err != nil {
		return err
	}
	anew := f.loaded && !s.info.Created.Equal(f.created)
	if !anew && s.upTo < max(f.high, f.covered) {
		if f.older++; f.older < believeOld {
			return errBehind
		}
		anew = true
	}
	if anew {
		f.b.log.Warn("the bucket was lost or restored: everything is read anew", "pattern", f.pattern)
		// What the old bucket sent may still wait in the subscription.
		if err := f.subscribe(); err != nil {
			return err
		}
		if s, err = f.b.snapshot(ctx, f.pattern); err != nil {
			return err
		}
	}
	f.merge(s, anew)
	f.created, f.state, f.idle = s.info.Created, s.info, s.info
	f.fullAt = time.Now().Add(fullEvery*9/10 + rand.N(fullEvery/5))
	if !f.loaded {
		f.loaded = true
		f.out.load()
	}
	return nil
}

// merge takes a snapshot. Anew says that it is of another bucket, where the same sequence means something else.
func (f *feed) merge(s snapshot, anew bool) {
	before := f.keys
	if anew {
		f.keys, f.high, f.covered = map[string]held{}, 0, 0
	}
	present := make(map[string]struct{}, len(s.records))
	for _, r := range s.records {
		present[r.key] = struct{}{}
		h, known := before[r.key]
		switch {
		case !anew:
			f.apply(r)
		case known && h == (held{r.seq, r.time, r.deleted}):
			f.keys[r.key], f.high = h, max(f.high, r.seq)
		default:
			f.apply(r)
		}
	}
	for key, h := range before {
		if _, ok := present[key]; ok || !anew && h.seq > s.upTo {
			continue
		}
		if !h.deleted {
			f.out.put(record{key: key, seq: h.seq, deleted: true})
		}
		delete(f.keys, key)
	}
	f.covered = max(f.covered, s.upTo)
	f.loadedTo = s.upTo
}

// vanished deals with a bucket that is not there: once that is sure its keys are gone, and it is created again.
func (f *feed) vanished(ctx context.Context) time.Duration {
	f.next = wantLoad
	if f.missing++; f.missing < 2 {
		return pause()
	}
	f.merge(snapshot{}, true)
	if err := f.b.recreate(ctx); err != nil {
		if ctx.Err() == nil {
			f.b.log.Debug("the bucket cannot be created yet", "error", err)
		}
		return min(reviveLimit, time.Duration(f.missing)*pause())
	}
	return 0
}

package kv

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
)

const (
	feedMessages = 16 << 10 // what may wait in a feed's subscription
	feedBytes    = 16 << 20
	feedBuffer   = 256
)

// held is what a feed knows of a key.
type held struct {
	seq     uint64
	time    time.Time
	ttl     time.Duration
	deleted bool
}

func (r *record) held() held { return held{r.seq, r.time, r.ttl, r.deleted} }

// feed follows a bucket: it hears what is written, and sends for what it may have missed. Its state belongs to the
// goroutine of run. What it asks the servers is asked by another one, one question at a time, so that it never waits for
// an answer while there is something to hear.
type feed struct {
	b       *bucket
	pattern string
	out     *outbox
	live    chan *nats.Msg
	loss    chan struct{}
	elected chan *nats.Msg
	denied  chan *bus.Error
	found   chan finding
	done    chan struct{}

	sub      *nats.Subscription
	dropped  int
	connects uint64

	// Sequences. Nothing up to covered was missed; what came after from was heard without a gap, up to heard.
	covered  uint64
	from     uint64
	heard    uint64
	gap      uint64 // something up to here was missed
	high     uint64 // the highest seen
	loadedTo uint64 // deletions up to here may have been forgotten

	keys    map[string]held
	before  map[string]held // what was known of the bucket before this one, until this one is loaded
	loaded  bool            // keys is a state that was complete once
	created time.Time       // of the bucket

	plan
}

// run feeds the outbox until ctx ends or the connection is closed.
func (f *feed) run(ctx context.Context) {
	stop := f.b.conn.NotifyLoss(f.loss)
	defer stop()
	defer close(f.done)
	f.connects = f.b.nc.Stats().Reconnects
	first := f.connects
	defer f.b.conn.NotifyDenied(f.denied, bus.Access{Subscribe: []string{f.b.feedSubject(f.pattern)}})()
	if err := f.subscribe(); err != nil {
		f.out.fail(err)
		return
	}
	defer func() { _ = f.sub.Unsubscribe() }() // fails only when the connection is closed
	// Without permission there are no advisories: the checks find what they would have told.
	if adv, err := f.b.nc.ChanSubscribe(f.b.electedSubject(), f.elected); err == nil {
		defer func() { _ = adv.Unsubscribe() }() // as above
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	f.timer = time.NewTimer(0)
	defer f.timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.b.conn.Closed():
			f.out.fail(nats.ErrConnectionClosed)
			return
		case m := <-f.live:
			f.hear(m)
		case <-f.loss:
			if f.missed() {
				f.ask()
			}
		case <-f.elected:
			f.ask()
		case err := <-f.denied:
			if f.b.nc.Stats().Reconnects == first {
				f.out.fail(err)
				return
			}
			f.b.log.WarnContext(ctx, "the feed is refused since the connection is back: changes are learned of late", "error", err)
		case <-f.timer.C:
			q, loaded := f.question(), f.loaded
			wg.Go(func() {
				found := f.b.find(ctx, q)
				if !loaded {
					_ = f.b.conn.Flush(ctx) // a refusal is told first; without an answer there is none to tell of
				}
				f.found <- found
			})
		case found := <-f.found:
			if err := f.refused(found); err != nil {
				f.out.fail(err)
				return
			}
			f.conclude(ctx, found)
		}
	}
}

// refused is why the feed cannot begin: the server refuses what it asks, or its subscription.
func (f *feed) refused(found finding) error {
	if f.loaded {
		return nil
	}
	select {
	case err := <-f.denied:
		return err
	default:
	}
	if bus.CodeOf(found.err) == bus.PermissionDenied {
		return found.err
	}
	return nil
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
	f.sub, f.dropped, f.heard, f.from = sub, 0, 0, 0
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

// hear takes a message of the feed, and asks when it shows that another one was missed.
func (f *feed) hear(m *nats.Msg) {
	if m.Sub != f.sub {
		return
	}
	r, err := f.b.parse(m)
	if err != nil || m.Subject != f.b.feedSubject(r.key) {
		return // not from the server
	}
	if known := f.keys[r.key]; r.seq <= f.heard || r.seq <= known.seq && r.time.After(known.time) {
		f.ask() // sequences begin anew: another bucket
	}
	if r.seq != f.heard+1 {
		f.from = r.seq - 1
	}
	f.heard = r.seq
	previous := number(m.Header, headerLastSequence)
	switch {
	case f.pattern == ">" && f.covered >= f.from:
		f.covered = max(f.covered, r.seq)
	case f.pattern == ">":
		f.skipped(f.from)
	case previous > max(f.loadedTo, f.covered) && previous != f.keys[r.key].seq:
		f.skipped(r.seq - 1)
	}
	f.apply(r)
}

// skipped notes that something up to gap was missed. A load that is under way may bring it.
func (f *feed) skipped(gap uint64) {
	f.gap = gap
	if loading := f.busy && f.next == taskLoad; f.loaded && !loading {
		f.ask()
	}
}

// apply takes r if it is newer than what is known of its key.
func (f *feed) apply(r record) {
	if r.seq <= f.keys[r.key].seq {
		return
	}
	f.keys[r.key] = r.held()
	f.high = max(f.high, r.seq)
	f.out.put(r)
}

// advance notes that everything up to upTo is known.
func (f *feed) advance(upTo uint64) {
	f.covered = max(f.covered, upTo)
	if f.pattern == ">" && f.covered >= f.from {
		f.covered = max(f.covered, f.heard)
	}
}

// renew begins with another bucket: its sequences mean something else, and what the old one sent may still wait in the
// subscription.
func (f *feed) renew() {
	if f.before == nil {
		f.before = map[string]held{}
	}
	maps.Copy(f.before, f.keys)
	f.keys = map[string]held{}
	f.covered, f.gap, f.high, f.loadedTo = 0, 0, 0, 0
	if err := f.subscribe(); err != nil {
		f.out.fail(err) // the connection is closed
	}
}

// merge takes a snapshot: what is newer in it, and that what is not in it is gone.
func (f *feed) merge(s snapshot) {
	present := make(map[string]struct{}, len(s.records))
	for _, r := range s.records {
		present[r.key] = struct{}{}
		if h := r.held(); f.before[r.key] == h && f.keys[r.key].seq == 0 {
			f.keys[r.key], f.high = h, max(f.high, r.seq) // restored as it was
			continue
		}
		f.apply(r)
	}
	for key, h := range f.keys {
		if _, ok := present[key]; ok || h.seq > s.upTo {
			continue
		}
		f.gone(key, h)
		delete(f.keys, key)
	}
	for key, h := range f.before {
		if _, ok := f.keys[key]; !ok {
			f.gone(key, h)
		}
	}
	f.before = nil
	f.expire()
	f.loadedTo = s.upTo
	f.advance(s.upTo)
}

func (f *feed) gone(key string, h held) {
	if !h.deleted {
		f.out.put(record{key: key, seq: h.seq, deleted: true})
	}
}

// expire tells of keys that were there when they were heard of and should have expired long ago.
func (f *feed) expire() {
	for key, h := range f.keys {
		if f.b.stale(record{time: h.time, ttl: h.ttl, deleted: h.deleted}) {
			f.gone(key, h)
			h.deleted = true
			f.keys[key] = h
		}
	}
}

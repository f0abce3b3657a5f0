package scheduler

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/internal/backoff"
)

const (
	nearTime     = 5 * time.Second // before a timer is due it is fetched whole
	nearBytes    = 64 << 20        // of those that are held whole
	fetchSize    = 500
	fireWindow   = 8192 // fires under way at once
	recurWorkers = 32
	recurQueue   = 4096
	retryLater   = 10 * time.Millisecond
	readAgain    = 5 * time.Minute
)

// owner fires the timers of a shard on time. Being the only one saves work, it is not what keeps timers from firing twice: every fire
// compares and sets, so of several owners, the server, and who changes or cancels a timer exactly one wins.
type owner struct {
	s  *Scheduler
	sh *shard

	wakeFire  chan struct{} // the next timer is due earlier than it was
	wakeFetch chan struct{}
	recurring chan *stored
	loading   chan struct{} // of capacity 1: held by who reads the stream
	sweeping  chan struct{} // of capacity 1: held by who has retries
	window    chan struct{} // of capacity fireWindow: as many as fires under way

	retries retrying

	mu      sync.Mutex
	far     *queue // what is due later, and what has no room among the near
	near    nearQueue
	overdue *queue    // what should have fired and perhaps did not, by when to look
	read    uint64    // up to here the stream was read
	loaded  bool      // it was read once
	since   time.Time // when the server may have begun to fire what is overdue: since its start, or the last change of its leader
	moved   time.Time // when it was last seen to fire
	busy    int       // timers that were taken out and are not done with
	lately  fifo[firedTimer]
}

func (s *Scheduler) newOwner(sh *shard) *owner {
	return &owner{
		s: s, sh: sh,
		wakeFire: make(chan struct{}, 1), wakeFetch: make(chan struct{}, 1),
		recurring: make(chan *stored, recurQueue), loading: make(chan struct{}, 1), sweeping: make(chan struct{}, 1), window: make(chan struct{}, fireWindow),
		far: newQueue(), overdue: newQueue(), near: nearQueue{byID: map[string]*nearTimer{}},
	}
}

// run fires the shard's timers until ctx ends.
func (o *owner) run(ctx context.Context) error {
	if _, err := o.sh.clock.now(ctx); err != nil {
		return err
	}
	loss := make(chan struct{}, 1)
	defer o.s.conn.NotifyLoss(loss)()
	o.resume()
	o.begins()
	stop, err := o.listen(ctx, loss)
	if err != nil {
		return err
	}
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() { o.fetchAll(ctx) })
	wg.Go(func() { o.sweep(ctx) })
	wg.Go(func() { o.keepTime(ctx) })
	for range recurWorkers {
		wg.Go(func() { o.recur(ctx) })
	}
	wg.Go(func() { o.load(ctx, loss) })
	o.fireAll(ctx)
	return nil
}

// resume takes what is known from an earlier time as a guess, since nothing was heard meanwhile.
func (o *owner) resume() {
	for {
		select {
		case m := <-o.recurring:
			o.again(m, 0)
			continue
		default:
		}
		break
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.loaded = false
	for m := o.near.first(); m != nil; m = o.near.first() {
		o.near.pop()
		o.far.put(m.id, m.due, m.seq)
	}
}

// listen hears what is stored from now on, and of new leaders of the stream: they may have begun anew to fire what is overdue.
func (o *owner) listen(ctx context.Context, loss chan<- struct{}) (stop func(), err error) {
	var subs []*nats.Subscription
	stop = func() {
		for _, sub := range subs {
			_ = sub.Unsubscribe() // fails only when the connection is closed
		}
	}
	err = o.s.listen(ctx, map[string]nats.MsgHandler{
		o.sh.feed(): o.hear,
		o.sh.elected(): func(*nats.Msg) {
			select {
			case loss <- struct{}{}:
			default:
			}
		},
	}, &subs)
	if err != nil {
		stop()
		return nil, err
	}
	return stop, nil
}

// hear takes what was told of messages that were stored.
func (o *owner) hear(m *nats.Msg) { readNotes(m.Data, o.learn) }

// glance takes the body of a message that was read without its subject and sequence: that of a pending one, or of a delivery of a timer
// that may not be pending any more. It is from sequence seq or later. Before anything comes of it the timer is fetched.
func (o *owner) glance(body []byte, seq uint64) (mine bool) {
	b, err := readBrief(body)
	id, mine := strings.CutPrefix(b.name, o.sh.name(""))
	if err != nil || !mine || b.paused {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if t, ok := o.near.byID[id]; ok && t.m.due <= b.due {
		return true
	}
	o.far.guess(id, b.due, seq)
	if e, _ := o.far.first(); e.id == id {
		wake(o.wakeFetch)
	}
	return true
}

// take takes a pending message that was read.
func (o *owner) take(m *nats.Msg, seq uint64) {
	b, err := readBrief(m.Data)
	o.learn(note{id: idOf(m.Subject), seq: seq, due: b.due, gone: err != nil || b.paused, body: m.Data})
}

// learn takes the state of a timer, unless it knows a newer one.
func (o *owner) learn(n note) {
	horizon := o.sh.clock.at(time.Now()).Add(nearTime).UnixNano()
	o.mu.Lock()
	defer o.mu.Unlock()
	if n.gone {
		o.far.remove(n.id, n.seq)
		o.near.remove(n.id, n.seq)
		return
	}
	if n.body == nil || n.due > horizon || o.near.bytes > nearBytes && n.due > o.nearEnd() {
		o.near.remove(n.id, n.seq)
		o.far.put(strings.Clone(n.id), n.due, n.seq)
		if e, _ := o.far.first(); e.seq == n.seq {
			wake(o.wakeFetch)
		}
		return
	}
	m, err := readStored(o.sh.subject(kindPending, n.id), n.seq, time.Time{}, nil, n.body)
	if err != nil {
		return
	}
	o.far.remove(n.id, n.seq)
	if o.near.put(m) {
		wake(o.wakeFire)
	}
}

// nearEnd is up to when timers are held whole although those that are held are enough.
func (o *owner) nearEnd() int64 {
	if m := o.near.first(); m != nil {
		return m.due
	}
	return 0
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// load reads what is stored already, and once more what may have been missed.
func (o *owner) load(ctx context.Context, loss <-chan struct{}) {
	for ctx.Err() == nil {
		if err := o.loadOnce(ctx); err != nil {
			if ctx.Err() == nil {
				o.s.log.WarnContext(ctx, "timers not read, trying again; what is due meanwhile the server fires a little late", "shard", o.sh.shard, "error", err)
			}
			backoff.Sleep(ctx, backoff.Full(3, storePause, readIdle))
			continue
		}
		// What is lost between servers nobody tells of.
		timer := time.NewTimer(readAgain)
		select {
		case <-timer.C:
		case <-loss:
			o.begins()
			o.removeForgotten(ctx)
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// begins notes that the server begins anew to fire what is overdue.
func (o *owner) begins() {
	now := o.sh.clock.at(time.Now())
	o.mu.Lock()
	defer o.mu.Unlock()
	o.since = now
}

// loadOnce reads what was stored since it did so last.
func (o *owner) loadOnce(ctx context.Context) error {
	select {
	case o.loading <- struct{}{}:
		defer func() { <-o.loading }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	info, err := o.sh.stream.Info(ctx)
	if err != nil {
		return err
	}
	o.mu.Lock()
	if info.State.LastSeq < o.read { // another stream of that name
		o.read, o.far, o.near = 0, newQueue(), nearQueue{byID: map[string]*nearTimer{}}
	}
	from := o.read + 1
	o.mu.Unlock()
	started, n := time.Now(), 0
	for {
		// All that the stream has, since with a filter the server counts, for each page, all that is still to come; without headers, which cost
		// both sides more than all the rest.
		if from, err = o.s.bodies(ctx, o.sh, from, func(body []byte, seq uint64) {
			if o.glance(body, seq) {
				n++
			}
		}); err != nil {
			o.mu.Lock()
			o.read = max(o.read, from-1)
			o.mu.Unlock()
			return err
		}
		// The replicas that answered may be behind the leader: there must be nothing else that was stored before.
		_, seq, err := o.s.following(ctx, o.sh, o.sh.all(kindPending), from)
		if err != nil && !errors.Is(err, errNone) {
			return err
		}
		if err != nil || seq > info.State.LastSeq {
			break
		}
		if !backoff.Sleep(ctx, retryLater) {
			return context.Cause(ctx)
		}
	}
	o.mu.Lock()
	o.read, o.loaded = max(o.read, info.State.LastSeq), true
	o.mu.Unlock()
	if n > 0 {
		o.s.log.DebugContext(ctx, "timers read", "shard", o.sh.shard, "timers", n, "took", time.Since(started).String())
	}
	return ctx.Err()
}

// fetchAll fetches timers whole a while before they are due.
func (o *owner) fetchAll(ctx context.Context) {
	for ctx.Err() == nil {
		ids, wait := o.nextFetch()
		if len(ids) == 0 {
			if !pause(ctx, o.wakeFetch, wait) {
				return
			}
			continue
		}
		patterns := make([]string, len(ids))
		for i, e := range ids {
			patterns[i] = o.sh.subject(kindPending, e.id)
		}
		if err := o.fetch(ctx, ids, patterns); err != nil {
			o.putBack(ids)
			if ctx.Err() == nil {
				o.s.log.WarnContext(ctx, "timers about to be due not read, trying again", "shard", o.sh.shard, "error", err)
				backoff.Sleep(ctx, storePause)
			}
		}
		o.done(len(ids))
	}
}

// fetch takes the last messages of subjects. Replicas answer that may be behind: for what they do not have the leader is asked.
func (o *owner) fetch(ctx context.Context, ids []entry, subjects []string) error {
	missing := make(map[string]uint64, len(ids))
	for _, e := range ids {
		missing[e.id] = e.seq
	}
	err := o.s.lasts(ctx, o.sh, subjects, func(m *nats.Msg, seq uint64) {
		if id := idOf(m.Subject); seq >= missing[id] {
			delete(missing, id)
			o.take(m, seq)
		}
	})
	if err != nil || !o.sh.replicated() {
		return err
	}
	for i, e := range ids {
		if _, ok := missing[e.id]; !ok {
			continue
		}
		m, seq, err := o.s.last(ctx, o.sh, subjects[i])
		if errors.Is(err, errNone) {
			continue
		}
		if err != nil {
			return err
		}
		o.take(m, seq)
	}
	return nil
}

// done tells that n timers that were taken out are done with.
func (o *owner) done(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.busy -= n
}

// nextFetch takes out those that are due soon, or tells how long to wait for the next.
func (o *owner) nextFetch() (due []entry, wait time.Duration) {
	now := o.sh.clock.at(time.Now())
	horizon := now.Add(nearTime).UnixNano()
	o.mu.Lock()
	defer o.mu.Unlock()
	room := min(fetchSize, 1+(nearBytes-o.near.bytes)/o.near.typical())
	for len(due) < room && o.near.bytes < nearBytes {
		e, ok := o.far.first()
		if !ok {
			return due, time.Hour
		}
		if e.due > horizon {
			return due, time.Duration(e.due - horizon)
		}
		due = append(due, o.far.pop())
		o.busy++
	}
	return due, retryLater // the near have no room
}

func (o *owner) putBack(ids []entry) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range ids {
		if _, heard := o.near.byID[e.id]; !heard {
			o.far.put(e.id, e.due, e.seq)
		}
	}
}

// pause waits for d or a wake, and tells whether ctx goes on.
func pause(ctx context.Context, wake <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-wake:
	case <-ctx.Done():
		return false
	}
	return true
}

// keepTime measures the server's clock while nobody else does.
func (o *owner) keepTime(ctx context.Context) {
	for backoff.Sleep(ctx, clockFresh) {
		_, _ = o.sh.clock.now(ctx) // what fails is tried again, and told of where it matters
	}
}

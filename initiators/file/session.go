package file

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skybus-io/skybus/internal/backoff"
	"github.com/skybus-io/skybus/kv"
)

const (
	mostOpen     = 128 // files that were read and wait for the target, or for their checkpoint
	summaryEvery = time.Second
	tellEvery    = time.Minute // how often the log hears of the same trouble
)

// session is the work of a process on a source as long as it has the lease.
type session struct {
	s     *Source
	table *kv.Table[row]
	lease *kv.Lease
	term  string
	root  *os.Root
	home  uint64 // device of root
	since time.Time

	queue  chan *record
	window chan struct{} // of capacity Config.Window: as many as records that no checkpoint covers
	slots  chan struct{} // of capacity mostOpen
	wake   chan struct{} // the keeper has something to do
	fresh  atomic.Int64  // records done since the keeper looked

	mu     sync.Mutex
	known  map[string]*stored // by id
	places map[place]map[*stored]bool
	active map[string]*reading
	told   map[string]time.Time // troubles, by what is troubled

	// Of the reader alone.
	sights  map[string]sighting
	settled map[string]sighting // files that are finished and stay where they are

	summarised time.Time // of the keeper alone, as is
	last       Stats
}

// begin makes a session, with the checkpoints there are.
func (s *Source) begin(ctx context.Context, table *kv.Table[row], lease *kv.Lease, root *os.Root) (*session, error) {
	home, err := homeDevice(root)
	if err != nil {
		return nil, err
	}
	n := &session{
		s: s, table: table, lease: lease, term: lease.Term().String(), root: root, home: home, since: time.Now().UTC(),
		queue: make(chan *record, s.cfg.Parallel), window: make(chan struct{}, s.cfg.Window),
		slots: make(chan struct{}, mostOpen), wake: make(chan struct{}, 1),
		known: map[string]*stored{}, places: map[place]map[*stored]bool{}, active: map[string]*reading{}, told: map[string]time.Time{},
		sights: map[string]sighting{}, settled: map[string]sighting{},
	}
	return n, n.load(ctx)
}

func homeDevice(root *os.Root) (uint64, error) {
	f, err := root.Open(".")
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }() // nothing was written
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	p, err := placeOf(f, info, 0)
	return p.device, err
}

var errDrain = errors.New("what was being sent was not done in time")

// run reads, sends and keeps checkpoints until ctx ends, nothing is left (Config.Once), or the source belongs to somebody else.
func (n *session) run(ctx context.Context) error {
	hard, kill := context.WithCancelCause(context.WithoutCancel(ctx))
	defer kill(nil)
	soft, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	fail := func(err error) {
		stop(err)
		kill(err)
	}
	var senders, others sync.WaitGroup
	for range n.s.cfg.Parallel {
		senders.Go(func() { n.send(hard, soft) })
	}
	over := make(chan struct{}) // nothing is read or sent any more
	others.Go(func() {
		select {
		case <-n.lease.Lost():
			fail(errLeaseLost)
		case <-over:
		}
	})
	var kept error
	others.Go(func() {
		if kept = n.keep(hard, over); kept != nil {
			fail(kept)
		}
	})
	var err error
	if n.s.cfg.Follow != "" {
		err = n.follow(soft)
	} else {
		err = n.watch(soft)
	}
	if err != nil {
		stop(err)
	}
	drain := time.AfterFunc(n.s.cfg.Drain, func() { kill(errDrain) })
	defer drain.Stop()
	close(n.queue)
	senders.Wait()
	close(over)
	others.Wait()
	n.closeAll()
	for _, why := range []error{context.Cause(hard), kept, err} {
		if why != nil && (ctx.Err() == nil || !errors.Is(why, context.Canceled)) {
			return why
		}
	}
	return nil
}

// keep writes checkpoints, and finishes files, until over is closed, and once more then.
func (n *session) keep(ctx context.Context, over <-chan struct{}) error {
	tick := time.NewTicker(n.s.cfg.Checkpoint)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-n.wake:
		case <-over:
			return n.keepLast(ctx)
		}
		err := n.keepOnce(ctx, false)
		switch {
		case err == nil:
			n.fine(ctx, Bucket)
		case errors.Is(err, errLeaseLost), errors.Is(err, errFenced), ctx.Err() != nil:
			return err
		default: // to begin anew would send all again that no checkpoint covers
			n.trouble(ctx, Bucket, err)
		}
	}
}

// keepLast writes down what is done. What was sent and is not done is not waited for.
func (n *session) keepLast(ctx context.Context) error {
	if ctx.Err() != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), releaseTime)
		defer cancel()
	}
	return n.keepOnce(ctx, true)
}

func (n *session) keepOnce(ctx context.Context, last bool) error {
	n.fresh.Store(0)
	if err := n.commit(ctx); err != nil {
		return err
	}
	return n.summarise(ctx, last)
}

// commit writes down how far each file is.
func (n *session) commit(ctx context.Context) error {
	n.mu.Lock()
	all := make([]*reading, 0, len(n.active))
	for _, r := range n.active {
		all = append(all, r)
	}
	n.mu.Unlock()
	var errs []error
	for _, r := range all {
		errs = append(errs, r.commit(ctx))
	}
	return errors.Join(errs...)
}

// summarise tells others what this process does, now and then while that changes.
func (n *session) summarise(ctx context.Context, last bool) error {
	stats := n.s.Stats()
	stats.Active = !last
	if !last && (time.Since(n.summarised) < summaryEvery || stats == n.last) {
		return nil
	}
	n.summarised, n.last = time.Now(), stats
	if !n.lease.Valid() {
		return errLeaseLost
	}
	cfg := &n.s.cfg
	_, err := n.table.Put(ctx, n.s.conn.Namespace().Key("source", cfg.Name), row{Source: &Summary{
		Dir: cfg.dir(), Follow: cfg.Follow, Format: cfg.Format, Owner: cfg.Owner, Since: n.since, Updated: time.Now().UTC(), Stats: stats,
	}})
	return err
}

// nudge has the keeper look.
func (n *session) nudge() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// room waits until a record more may be sent that no checkpoint covers.
func (n *session) room(ctx context.Context) error {
	select {
	case n.window <- struct{}{}:
	default:
		n.nudge()
		select {
		case n.window <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	n.s.counts.unfinished.Add(1)
	return nil
}

// covered gives back room for records that will not be sent again.
func (n *session) covered(records int64) {
	n.s.counts.unfinished.Add(-records)
	for range records {
		<-n.window
	}
}

func (n *session) activate(r *reading) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.active[r.id] = r
}

// busyAt tells whether the file at a place is being worked on. Where it is not, its checkpoint is known, as only the reader begins with files.
func (n *session) busyAt(at place) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range n.active {
		if r.place() == at {
			return true
		}
	}
	return false
}

// idle tells whether no file is being worked on.
func (n *session) idle() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.active) == 0
}

// deactivate ends a reading.
func (n *session) deactivate(r *reading) {
	r.close()
	n.mu.Lock()
	delete(n.active, r.id)
	n.mu.Unlock()
	close(r.over)
	<-n.slots
}

// closeAll lets go of what is not finished; the next process goes on with it.
func (n *session) closeAll() {
	n.mu.Lock()
	all := make([]*reading, 0, len(n.active))
	for _, r := range n.active {
		all = append(all, r)
	}
	n.mu.Unlock()
	for _, r := range all {
		n.deactivate(r)
	}
	n.s.counts.unfinished.Store(0)
}

// trouble counts a fault that is waited out, and tells of it, seldom while it lasts.
func (n *session) trouble(ctx context.Context, what string, err error) {
	n.s.counts.fault(err)
	now := time.Now()
	n.mu.Lock()
	silent := now.Sub(n.told[what]) < tellEvery
	if !silent {
		n.told[what] = now
	}
	n.mu.Unlock()
	if !silent {
		n.s.log.WarnContext(ctx, "trouble, trying again", "with", what, "error", err)
	}
}

// fine ends a trouble.
func (n *session) fine(ctx context.Context, what string) {
	n.mu.Lock()
	_, was := n.told[what]
	delete(n.told, what)
	n.mu.Unlock()
	if was {
		n.s.log.InfoContext(ctx, "the trouble is over", "with", what)
	}
}

// until tries f until it works or patient ends.
func (n *session) until(patient context.Context, what string, f func() error) error {
	for attempt := 1; ; attempt++ {
		err := f()
		if err == nil {
			if attempt > 1 {
				n.fine(patient, what)
			}
			return nil
		}
		n.trouble(patient, what, err)
		if !backoff.Sleep(patient, backoff.Full(attempt, n.s.cfg.RetryFirst, n.s.cfg.RetryLast)) {
			return context.Cause(patient)
		}
	}
}

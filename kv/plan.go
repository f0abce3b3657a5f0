package kv

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/jscode"
)

const (
	settleTime  = 250 * time.Millisecond // from a load to the next check: interest may still be on its way to other servers
	loadSpacing = 100 * time.Millisecond // from the beginning of a load to the next, at least
	loadShare   = 4                      // a load takes at most one part in so many of the time
	fullEvery   = time.Minute
	reviveLimit = time.Second
	believeOld  = 5 // loads in a row until a bucket that is older than what was seen is taken as it is
)

// task is what a feed can ask of the servers.
type task int

const (
	taskLoad     task = iota // read everything
	taskCheck                // compare with the leader's state
	taskCatchUp              // read what is newer than what is covered
	taskRecreate             // create the bucket, which is gone
)

// plan is what a feed is to ask next, and what it remembers for that.
type plan struct {
	timer  *time.Timer
	next   task
	busy   bool      // a question is under way
	asked  bool      // a load is due, whatever is under way
	begun  time.Time // when it got under way
	floor  uint64    // the highest sequence known then
	loadAt time.Time // no load before
	fullAt time.Time // when to load though nothing was noticed

	state   streamInfo // the leader's last word
	idle    streamInfo // its word at the last load
	missing int        // answers in a row that there is no bucket
	older   int        // loads in a row that found an older bucket
}

// question is all that is needed to answer it elsewhere.
type question struct {
	task    task
	pattern string
	covered uint64
}

// finding is the answer.
type finding struct {
	task     task
	err      error
	info     streamInfo // of a check
	snapshot snapshot   // of a load
	records  []record   // of catching up
	upTo     uint64
}

func (b *bucket) newFeed(pattern string) *feed {
	return &feed{
		b:       b,
		pattern: pattern,
		out:     newOutbox(),
		live:    make(chan *nats.Msg, feedBuffer),
		loss:    make(chan struct{}, 1),
		elected: make(chan *nats.Msg, 1),
		denied:  make(chan *bus.Error, 1),
		found:   make(chan finding, 1),
		done:    make(chan struct{}),
		keys:    map[string]held{},
	}
}

// ask makes the feed load everything soon.
func (f *feed) ask() {
	f.asked = true
	if !f.busy {
		f.wait(taskLoad, 0)
	}
}

// wait plans the next question. A load that is due goes first.
func (f *feed) wait(next task, d time.Duration) {
	if f.asked && next != taskRecreate {
		next, d = taskLoad, 0
	}
	if next == taskLoad {
		d = max(d, time.Until(f.loadAt))
	}
	f.next = next
	f.timer.Reset(d)
}

func (f *feed) question() question {
	f.busy = true
	if f.next == taskLoad {
		f.asked = false
		f.missed() // counts anew from here on
		f.begun = time.Now()
		f.loadAt = f.begun.Add(loadSpacing)
	}
	f.floor = max(f.high, f.covered)
	return question{f.next, f.pattern, f.covered}
}

// find asks the servers.
func (b *bucket) find(ctx context.Context, q question) finding {
	a := finding{task: q.task, err: b.conn.WaitConnected(ctx)}
	if a.err != nil {
		return a
	}
	switch q.task {
	case taskLoad:
		a.snapshot, a.err = b.snapshot(ctx, q.pattern)
	case taskCheck:
		a.info, a.err = b.info(ctx)
	case taskCatchUp:
		a.records, a.upTo, a.err = b.newer(ctx, q.pattern, q.covered+1)
	case taskRecreate:
		a.err = b.recreate(ctx)
	}
	return a
}

// conclude takes an answer and plans the next question.
func (f *feed) conclude(ctx context.Context, a finding) {
	f.busy = false
	switch {
	case a.err != nil && a.task == taskRecreate:
		f.b.log.DebugContext(ctx, "the bucket cannot be created yet", "error", a.err)
		f.wait(taskLoad, min(reviveLimit, time.Duration(f.missing)*pause()))
	case jscode.Of(a.err) == jscode.NoStream:
		f.vanished()
	case a.err != nil:
		f.b.log.DebugContext(ctx, "the feed will ask again", "pattern", f.pattern, "error", a.err)
		next := taskCheck
		if a.task == taskLoad {
			next = taskLoad
		}
		f.wait(next, pause())
	case a.task == taskLoad:
		f.load(ctx, a.snapshot)
	case a.task == taskCheck:
		f.check(a.info)
	case a.task == taskCatchUp:
		for _, r := range a.records {
			f.apply(r)
		}
		f.advance(a.upTo)
		f.rest()
	case a.task == taskRecreate:
		f.wait(taskLoad, 0)
	}
}

// rest plans the next check, in a while.
func (f *feed) rest() {
	f.wait(taskCheck, f.b.cfg.Check*4/5+rand.N(f.b.cfg.Check*2/5+1))
}

// check compares what was seen with the leader's state.
func (f *feed) check(info streamInfo) {
	before := f.state
	f.state, f.missing = info, 0
	f.expire()
	shrunk := info.State.LastSeq == before.State.LastSeq && info.State.Messages < before.State.Messages
	switch {
	case !info.Created.Equal(f.created), info.State.LastSeq < f.floor:
		f.ask()
	case shrunk: // somebody purged, or deletions went away
		f.ask()
	case time.Now().After(f.fullAt) && info.State != f.idle.State:
		f.ask()
	case info.State.LastSeq > f.covered:
		f.wait(taskCatchUp, 0)
	default:
		f.rest()
	}
}

// load takes a snapshot, unless it shows that this is another bucket: then everything is read once more, from a clean
// beginning.
func (f *feed) load(ctx context.Context, s snapshot) {
	f.missing = 0
	f.loadAt = f.begun.Add(max(loadSpacing, loadShare*time.Since(f.begun)))
	anew := !f.created.IsZero() && !s.info.Created.Equal(f.created)
	if !anew && s.upTo < f.floor {
		if f.older++; f.older < believeOld {
			f.wait(taskLoad, pause())
			return
		}
		anew = true
	}
	f.older = 0
	f.created = s.info.Created
	if anew {
		f.b.log.WarnContext(ctx, "the bucket was lost or restored: everything is read anew", "pattern", f.pattern)
		f.renew()
		f.loadAt = time.Time{}
		f.wait(taskLoad, 0)
		return
	}
	f.merge(s)
	f.state, f.idle = s.info, s.info
	f.fullAt = time.Now().Add(fullEvery*9/10 + rand.N(fullEvery/5))
	if !f.loaded {
		f.loaded = true
		f.out.load()
	}
	if f.gap > f.covered {
		f.asked = true
	}
	f.wait(taskCheck, settleTime)
}

// vanished deals with a bucket that is not there: once that is sure its keys are gone, and it is created again.
func (f *feed) vanished() {
	if f.missing++; f.missing < 2 {
		f.wait(taskLoad, pause())
		return
	}
	if f.missing == 2 {
		for key, h := range f.keys {
			f.gone(key, h)
		}
		f.keys, f.created = map[string]held{}, time.Time{}
		f.renew()
	}
	f.wait(taskRecreate, 0)
}

// newer reads what was stored of pattern from sequence from on: of each key the last at least. upTo is 0 when it is not
// known up to where that is complete.
func (b *bucket) newer(ctx context.Context, pattern string, from uint64) (records []record, upTo uint64, err error) {
	filter := b.prefix + pattern
	req := getRequest{MultiLast: []string{filter}, Seq: from}
	for {
		p, err := b.directGet(ctx, req)
		switch {
		case errors.Is(err, errTooMany):
			return b.scan(ctx, filter, from)
		case errors.Is(err, errNone):
			return records, 0, nil // there is nothing, or the replica is behind
		case err != nil:
			return nil, 0, err
		case p.upTo < upTo:
			return nil, 0, errBehind
		case upTo == 0:
			upTo = p.upTo
		}
		records = append(records, p.records...)
		if p.pending == 0 {
			return records, upTo, nil
		}
		req.Seq = p.next()
	}
}

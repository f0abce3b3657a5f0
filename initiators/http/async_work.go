package http

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/backoff"
	"github.com/skybus-io/skybus/kv"
)

// DefaultAsyncWork is how many requests a gateway works on at a time that are answered later.
const DefaultAsyncWork = 64

const (
	laterAckWait    = 10 * time.Second // after which another gateway is given the work of one that died
	laterFetchWait  = 5 * time.Second
	laterFinish     = time.Second // for work in flight when the gateway stops; the rest is given back
	laterReopen     = 200 * time.Millisecond
	laterReopenMax  = 2 * time.Second
	laterBackoff    = time.Second
	laterBackoffMax = 5 * time.Minute
	laterStranger   = 5 * time.Second // until another gateway is asked about an entry that this one does not have
	laterStrange    = time.Hour       // after which nobody has it
	laterCrowd      = time.Second
)

// run works until ctx ends. What is in flight then has 1 s, and is done again by another gateway if that is not enough. It returns when the
// connection is closed for good. lull is what was told before.
func (l *later) run(ctx context.Context, lull *laterLull) {
	working, giveBack := context.WithCancel(context.WithoutCancel(ctx))
	crew := &laterCrew{later: l, ctx: working, places: make(chan struct{}, l.places), reconnected: make(chan struct{}, 1), busy: map[string]int{}}
	defer l.conn.NotifyLoss(crew.reconnected)()
	defer func() {
		timer := time.AfterFunc(laterFinish, giveBack)
		crew.running.Wait()
		timer.Stop()
		giveBack()
	}()
	wait := laterReopen
	for ctx.Err() == nil {
		consumer, err := l.open(ctx)
		for err == nil && ctx.Err() == nil {
			if err = crew.fetch(ctx, consumer); err == nil && ctx.Err() == nil {
				wait = laterReopen
				lull.goesOn(ctx)
			}
		}
		if ctx.Err() != nil {
			return
		}
		lull.waits(ctx, err)
		select {
		case <-ctx.Done():
		case <-l.conn.Closed():
			return
		case <-time.After(wait/2 + rand.N(wait/2)):
		}
		wait = min(2*wait, laterReopenMax)
	}
}

// open binds stream and consumer, creating what is not there: a memory store forgets them in a restart.
func (l *later) open(ctx context.Context) (jetstream.Consumer, error) {
	if err := openLater(ctx, l.conn); err != nil {
		return nil, err
	}
	ns := l.conn.Namespace()
	consumer, err := l.conn.JetStream().CreateOrUpdateConsumer(ctx, LaterStream, jetstream.ConsumerConfig{
		Durable:       ns.App + "=" + ns.Env, // "=" is in no token, so no two namespaces share a name
		FilterSubject: l.subject(">"),
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       laterAckWait,
		MaxAckPending: -1, // else what waits for its next attempt would hold up all else
		MaxDeliver:    -1,
	})
	if err != nil {
		return nil, fmt.Errorf("consumer of %s: %w", LaterStream, err)
	}
	return consumer, nil
}

// laterCrew is the work under way in one run.
type laterCrew struct {
	later   *later
	ctx     context.Context //nolint:containedctx // of the work, which outlives the loop that begins it
	places  chan struct{}
	running sync.WaitGroup

	reconnected chan struct{}

	mu   sync.Mutex
	busy map[string]int // places taken, by entry
}

// fetch begins what there is to do, as far as there are free places, of which it waits for one.
func (c *laterCrew) fetch(ctx context.Context, consumer jetstream.Consumer) error {
	select {
	case c.places <- struct{}{}:
	case <-ctx.Done():
		return nil
	}
	free := 1
	for len(c.places) < cap(c.places) { // nobody else takes any
		c.places <- struct{}{}
		free++
	}
	defer func() {
		for range free {
			<-c.places
		}
	}()
	there, err := consumer.FetchNoWait(free)
	if err != nil {
		return fetchError(err)
	}
	if n := c.beginAll(ctx, there); n > 0 || there.Error() != nil {
		free -= n
		return fetchError(there.Error())
	}
	wait, cancel := context.WithTimeout(ctx, laterFetchWait)
	defer cancel()
	c.running.Go(func() {
		select {
		case <-c.reconnected: // the server has forgotten that somebody waits
			cancel()
		case <-c.later.conn.Closed():
			cancel()
		case <-wait.Done():
		}
	})
	next, err := consumer.Fetch(1, jetstream.FetchContext(wait))
	if err != nil {
		return fetchError(err)
	}
	free -= c.beginAll(ctx, next)
	return fetchError(next.Error())
}

// beginAll begins the work of a batch and returns how many places that took.
func (c *laterCrew) beginAll(ctx context.Context, batch jetstream.MessageBatch) (n int) {
	for msg := range batch.Messages() {
		if ctx.Err() != nil {
			_ = msg.Nak() // else it would come again only after the wait for an acknowledgement
			continue
		}
		n++
		c.begin(msg)
	}
	return n
}

// begin works at msg in a place that is taken for it. One entry has half of the places at most: one that hangs leaves some for others.
func (c *laterCrew) begin(msg jetstream.Msg) {
	entry := entryIn(msg.Subject())
	c.mu.Lock()
	crowded := c.busy[entry] >= max(1, cap(c.places)/2)
	if !crowded {
		c.busy[entry]++
	}
	c.mu.Unlock()
	if crowded {
		_ = msg.NakWithDelay(laterCrowd + rand.N(laterCrowd)) // fails while the connection is down; then it comes again after the wait for an acknowledgement
		<-c.places
		return
	}
	c.running.Go(func() {
		defer func() {
			c.mu.Lock()
			if c.busy[entry]--; c.busy[entry] == 0 {
				delete(c.busy, entry)
			}
			c.mu.Unlock()
			<-c.places
		}()
		c.later.work(c.ctx, msg)
	})
}

func fetchError(err error) error {
	for _, none := range []error{nats.ErrTimeout, jetstream.ErrNoMessages, context.DeadlineExceeded, context.Canceled} {
		if errors.Is(err, none) {
			return nil
		}
	}
	return err
}

// work makes one attempt at a stored request, and settles it.
func (l *later) work(ctx context.Context, msg jetstream.Msg) {
	release := bus.KeepInProgress(msg, laterAckWait)
	err := l.settle(ctx, msg)
	release()
	if err != nil {
		l.log.WarnContext(ctx, "a request that is answered later will be done again", "subject", msg.Subject(), "error", err)
	}
}

// settle answers a stored request and takes it from the queue, or leaves it there for later.
func (l *later) settle(ctx context.Context, msg jetstream.Msg) error {
	work, err := readWork(msg)
	if err != nil {
		l.log.WarnContext(ctx, "what no gateway stored is dropped", "subject", msg.Subject(), "error", err)
		return msg.Term()
	}
	look, cancel := context.WithTimeout(ctx, claimTimeout)
	e, err := l.records.Get(look, l.key(work.ID))
	cancel()
	a := &laterAttempt{later: l, msg: msg, work: work, rec: e.Value, revision: e.Revision}
	switch {
	case errors.Is(err, kv.ErrNotFound): // it was lost, not the request
		a.rec = laterRecord{State: statePending, Entry: work.Entry, Principal: work.Subject, Accepted: work.Accepted}
	case err != nil:
		return errors.Join(err, msg.NakWithDelay(laterCrowd))
	case e.Value.State != statePending:
		return msg.Ack()
	}
	handler, cfg, ok := l.answerer(work.Entry)
	a.cfg = cfg
	switch {
	case !ok && time.Since(work.Accepted) < laterStrange:
		return msg.NakWithDelay(laterStranger)
	case !ok:
		a.rec.State, a.rec.Error = stateGone, "there is no entry "+work.Entry+" any more"
		return a.conclude(ctx)
	case a.rec.Attempts >= cfg.Attempts:
		a.rec.State, a.rec.Error = stateGone, cmp.Or(a.rec.Error, "the gateways that tried it died")
		return a.conclude(ctx)
	}
	return a.make(ctx, handler)
}

// laterAttempt is one attempt at a stored request.
type laterAttempt struct {
	later    *later
	msg      jetstream.Msg
	work     laterWork
	cfg      Async
	rec      laterRecord
	revision uint64
}

// make makes the attempt. It is counted before it is made, so that a request that kills gateways is given up too.
func (a *laterAttempt) make(ctx context.Context, handler http.Handler) error {
	a.rec.Attempts++
	if err := a.write(ctx, pendingFor); err != nil {
		return a.notWritten(err)
	}
	answer := a.later.answer(ctx, a.work, handler, a.cfg)
	if ctx.Err() != nil { // the gateway stops
		a.rec.Attempts--
		return errors.Join(a.write(context.WithoutCancel(ctx), pendingFor), a.msg.Nak())
	}
	a.rec.judge(answer, a.cfg)
	return a.conclude(ctx)
}

// judge takes an answer, or notes why it is tried again or given up.
func (rec *laterRecord) judge(answer *keptAnswer, cfg Async) {
	if !triedAgain(answer.Status) {
		rec.State, rec.Answer, rec.Error = stateDone, answer, ""
		if answer.Status >= http.StatusBadRequest {
			rec.State = stateFailed
		}
		return
	}
	rec.Error = fmt.Sprintf("%d %s: %.500s", answer.Status, http.StatusText(answer.Status), answer.detail())
	if rec.Attempts >= cfg.Attempts {
		rec.State = stateGone
	}
}

// conclude stores how the request stands, and then only takes it from the queue.
func (a *laterAttempt) conclude(ctx context.Context) error {
	ttl := pendingFor
	if a.rec.State != statePending {
		ttl = cmp.Or(time.Duration(a.cfg.Keep), DefaultAsyncKeep)
		a.rec.Finished = time.Now().UTC()
		a.rec.Expires = a.rec.Finished.Add(ttl)
	}
	if err := a.write(ctx, ttl); err != nil {
		return a.notWritten(err)
	}
	switch a.rec.State {
	case stateDone, stateFailed:
		a.later.stats.answered.Add(1)
	case statePending:
		return a.msg.NakWithDelay(max(laterBackoff/10, backoff.Full(a.rec.Attempts, laterBackoff, laterBackoffMax)))
	case stateGone:
		a.later.stats.givenUp.Add(1)
		a.later.log.WarnContext(ctx, "a request that was to be answered later is given up",
			"entry", a.work.Entry, "id", a.work.ID, "attempts", a.rec.Attempts, "error", a.rec.Error)
	}
	return a.msg.Ack()
}

func (a *laterAttempt) write(ctx context.Context, ttl time.Duration) (err error) {
	ctx, cancel := context.WithTimeout(ctx, claimTimeout)
	defer cancel()
	l := a.later
	if a.revision == 0 {
		a.revision, err = l.records.Create(ctx, l.key(a.work.ID), a.rec, kv.TTL(ttl))
	} else {
		a.revision, err = l.records.Update(ctx, l.key(a.work.ID), a.rec, a.revision, kv.TTL(ttl))
	}
	return err
}

// notWritten leaves the request in the queue. That another gateway wrote, which was faster or was believed to be dead, is no error.
func (a *laterAttempt) notWritten(err error) error {
	if errors.Is(err, kv.ErrConflict) || errors.Is(err, kv.ErrExists) {
		err = nil
	}
	return errors.Join(err, a.msg.NakWithDelay(laterCrowd+rand.N(laterCrowd)))
}

// answer makes one attempt.
func (l *later) answer(ctx context.Context, work laterWork, handler http.Handler, cfg Async) *keptAnswer {
	ctx, cancel := context.WithTimeout(withLater(ctx, &work), time.Duration(cfg.Timeout))
	defer cancel()
	rec := newRecorder(nil, int(cfg.MaxAnswer), nil)
	r, err := work.request(ctx)
	if err != nil {
		writeJSON(rec, http.StatusBadRequest, map[string]string{"detail": err.Error()})
		return rec.kept()
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(work.Body)), int64(len(work.Body))
	func() {
		defer func() {
			if p := recover(); p != nil {
				l.log.ErrorContext(ctx, "answering a request later panicked", "entry", work.Entry, "panic", p, "stack", string(debug.Stack()))
				rec = newRecorder(nil, int(cfg.MaxAnswer), nil)
				rec.WriteHeader(http.StatusInternalServerError)
			}
		}()
		handler.ServeHTTP(rec, r)
	}()
	return rec.kept()
}

// readWork reads a stored request. Who may not store any can still have JetStream send its answers here, without headers or as a copy of what is stored.
func readWork(msg jetstream.Msg) (work laterWork, err error) {
	env, err := bus.ReadEnvelope(msg.Headers())
	if err != nil {
		return work, err
	}
	if env.RequestID == "" || env.ContentType != (bus.MessagePack{}).ContentType() || len(msg.Headers()[jetstream.SequenceHeader]) > 0 {
		return work, errors.New("it is no request of a gateway")
	}
	if err := (bus.MessagePack{}).Unmarshal(msg.Data(), &work); err != nil {
		return work, err
	}
	if err := bus.CheckToken("request", work.ID); err != nil {
		return work, err
	}
	if entryIn(msg.Subject()) != work.Entry {
		return work, fmt.Errorf("it is of entry %.80q", work.Entry)
	}
	return work, nil
}

type laterContext struct{}

// withLater marks the ctx of a request that was stored: it passed all that is asked of who sends one.
func withLater(ctx context.Context, work *laterWork) context.Context {
	return context.WithValue(ctx, laterContext{}, work)
}

// laterOf is the stored request that is being answered, nil for one that somebody waits for.
func laterOf(ctx context.Context) *laterWork {
	work, _ := ctx.Value(laterContext{}).(*laterWork)
	return work
}

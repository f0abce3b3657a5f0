package micro

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/skybus-io/skybus/bus"
)

// mostHedges is how many attempts of one call are under way at the same time.
const mostHedges = 16

// errDropped is why an attempt is given up when another one was answered.
var errDropped = errors.New("another attempt was quicker")

// Hedge sends the request to another instance each time that `after` passed without an answer, while the earlier attempts
// go on; the first answer is the call's and the others are cancelled. It may so be handled several times, also at
// once: that is for requests where this does no harm, and the caller says so by asking for it.
//
// An attempt that nobody took, was refused, or ended in unavailable or deadline_exceeded, is replaced at once, but for a
// small wait that grows. Any other error is an answer. Each instance has one attempt at a time, unless there is
// only one, which may have two; there are never more than 16, and [RetryBudgetConfig] bounds them too.
func Hedge(after time.Duration) CallOption {
	return callOption(func(r *Request) {
		r.Hedge = after
		if after == 0 {
			r.Hedge = -1 // refused with the rest of what is out of range
		}
	})
}

// Send is [Call], hedged: where no answer came within the time that is set as "client.timeout.retry" (AttemptTimeout of
// the client, 2 s, where it is not), another instance is sent the request too, and so on until ctx ends or, where it has
// no deadline, "client.timeout.total" (Timeout of the client, 10 s). The request may be handled several times: see [Hedge].
func Send[Resp any](ctx context.Context, c *Client, target string, req any, opts ...CallOption) (Resp, error) {
	return Call[Resp](ctx, c, target, req, append([]CallOption{asSend}, opts...)...)
}

// SendOnce is [Call] with one attempt: what may have reached an instance is not tried again, and nobody is waited for. Only where
// the attempt was addressed to an instance that proves to be gone, another one is asked at once.
func SendOnce[Resp any](ctx context.Context, c *Client, target string, req any, opts ...CallOption) (Resp, error) {
	return Call[Resp](ctx, c, target, req, append([]CallOption{asSendOnce}, opts...)...)
}

const (
	asSend     sending = false
	asSendOnce sending = true
)

// sending makes a call one of Send (false) or SendOnce (true).
type sending bool

func (once sending) applyCall(r *Request) { r.send, r.Once = !bool(once), bool(once) }

// hedge is one hedged call.
type hedge struct {
	*attempts

	results  chan *attempt
	running  sync.WaitGroup
	inFlight int
	last     *attempt
	retry    time.Duration
}

// hedged makes attempts that may overlap. It returns when none of them runs any more.
func (a *attempts) hedged(ctx context.Context) (Reply, error) {
	h := &hedge{attempts: a, results: make(chan *attempt, mostHedges), retry: firstRetry}
	run, drop := context.WithCancelCause(ctx)
	defer h.running.Wait()
	defer drop(errDropped)
	every := time.NewTicker(a.req.Hedge)
	defer every.Stop()
	var replace <-chan time.Time
	h.start(run)
	for {
		select {
		case t := <-h.results:
			h.inFlight--
			h.last = t
			a.learn(t)
			if t.err == nil || !replaceable(t.err) {
				return t.reply, a.explain(t.err)
			}
			if replace == nil && h.mayReplace(ctx, t) {
				if wait := a.pause(ctx, h.retry); wait > 0 {
					replace = time.After(wait)
				}
				h.retry = min(2*h.retry, lastRetry)
			}
		case <-replace:
			replace = nil
			if !late(ctx) {
				h.start(run)
			}
		case <-every.C:
			if h.inFlight > 0 && h.room() && !late(ctx) && a.peer.budget.Retry() {
				h.start(run)
			}
		case <-ctx.Done():
			for h.inFlight > 0 { // they end with ctx, or have ended before it
				t := <-h.results
				h.inFlight--
				if h.last == nil || t.err == nil || errors.Is(h.last.err, bus.ErrNoResponders) {
					h.last = t
				}
			}
			return h.last.reply, a.explain(h.last.err)
		}
		if h.inFlight == 0 && replace == nil {
			return h.last.reply, a.explain(h.last.err)
		}
	}
}

func (h *hedge) start(ctx context.Context) {
	_ = h.client.conn.WaitConnected(ctx) // the others wait for the same
	t := h.plan()
	h.inFlight++
	h.running.Go(func() {
		h.run(ctx, t)
		h.results <- t // has room for all
	})
}

// room tells whether one more attempt may run.
func (h *hedge) room() bool {
	n := len(h.fit(h.client.registry.Service(h.req.Service)))
	if h.req.Instance != "" {
		n = 1
	}
	return h.inFlight < min(max(2, n), mostHedges)
}

// replaceable tells whether err leaves open what another attempt would bring.
func replaceable(err error) bool {
	code := bus.CodeOf(err)
	return code == bus.Unavailable || code == bus.DeadlineExceeded
}

// mayReplace tells whether a failed attempt is followed by another.
func (h *hedge) mayReplace(ctx context.Context, t *attempt) bool {
	if errors.Is(t.err, bus.ErrNoResponders) {
		return h.again(ctx, t)
	}
	return ctx.Err() == nil && h.inFlight < mostHedges && h.peer.budget.Retry()
}

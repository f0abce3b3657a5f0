package http

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/backoff"
	"github.com/skybus-io/skybus/kv"
)

// keeper opens what answers are kept in when an entry needs it first, and works on what is answered later.
type keeper struct {
	gateway *Gateway
	conn    *bus.Conn
	log     *slog.Logger

	stats keptStats

	opening chan struct{} // of capacity 1: held by who opens
	opened  atomic.Pointer[keptIn]
	wanted  chan struct{} // closed when there is an entry that is answered later
	want    func()
	stop    context.CancelFunc
	running sync.WaitGroup
}

// keptStats counts since the gateway was made.
type keptStats struct {
	replayed, accepted, answered, givenUp atomic.Uint64
}

// keptIn is what answers are kept in.
type keptIn struct {
	once  *once
	later *later
}

func newKeeper(g *Gateway, conn *bus.Conn) *keeper {
	k := &keeper{gateway: g, conn: conn, log: g.log, opening: make(chan struct{}, 1), wanted: make(chan struct{}), stop: func() {}}
	k.want = sync.OnceFunc(func() { close(k.wanted) })
	return k
}

// need begins the work where a table has entries that are answered later.
func (k *keeper) need(t *table) {
	for _, e := range t.byName {
		if e.async != nil {
			k.want()
			return
		}
	}
}

// begin works on what is answered later, once there is an entry for it, until close.
func (k *keeper) begin(ctx context.Context) {
	ctx, k.stop = context.WithCancel(context.WithoutCancel(ctx))
	k.running.Go(func() {
		select {
		case <-k.wanted:
		case <-ctx.Done():
			return
		}
		lull := &laterLull{log: k.log}
		for attempt := 1; ctx.Err() == nil; attempt++ {
			in, err := k.open(ctx)
			if err == nil {
				in.later.run(ctx, lull)
				return
			}
			if ctx.Err() == nil {
				lull.waits(ctx, err)
			}
			_ = backoff.Sleep(ctx, laterReopen+backoff.Full(attempt, laterReopen, laterReopenMax))
		}
	})
}

func (k *keeper) close() {
	k.stop()
	k.running.Wait()
}

// open is what answers are kept in, which it opens the first time.
func (k *keeper) open(ctx context.Context) (*keptIn, error) {
	if in := k.opened.Load(); in != nil {
		return in, nil
	}
	ctx, cancel := context.WithTimeout(ctx, claimTimeout)
	defer cancel()
	select {
	case k.opening <- struct{}{}:
		defer func() { <-k.opening }()
	case <-ctx.Done():
		return nil, unavailable(AnswersBucket, context.Cause(ctx))
	}
	if in := k.opened.Load(); in != nil {
		return in, nil
	}
	keys, err := openAnswers[onceRecord](ctx, k.conn, false)
	var requests *kv.Table[laterRecord]
	if err == nil {
		requests, err = openAnswers[laterRecord](ctx, k.conn, false)
	}
	if err != nil {
		return nil, bus.Wrap(bus.Unavailable, "this gateway cannot keep answers now", err) // whatever is the matter, it is not the client's
	}
	in := &keptIn{
		once:  &once{records: keys, ns: k.conn.Namespace(), log: k.log, stats: &k.stats},
		later: &later{conn: k.conn, records: requests, log: k.log, answerer: k.gateway.answerer, places: k.gateway.cfg.AsyncWork, stats: &k.stats},
	}
	k.opened.Store(in)
	return in, nil
}

// find is open, but makes nothing: where no answer was ever kept, the error is kv.ErrNoBucket.
func (k *keeper) find(ctx context.Context) (*keptIn, error) {
	if k.opened.Load() == nil {
		look, cancel := context.WithTimeout(ctx, claimTimeout)
		defer cancel()
		if _, err := openAnswers[laterRecord](look, k.conn, true); errors.Is(err, kv.ErrNoBucket) {
			return nil, err
		}
	}
	return k.open(ctx)
}

// prepare makes what answers of e are kept in, which gateways only bind to.
func prepare(ctx context.Context, conn *bus.Conn, e Entry) error {
	if e.Async == nil && e.Idempotency == nil {
		return nil
	}
	_, err := openAnswers[onceRecord](ctx, conn, false)
	if err == nil && e.Async != nil {
		err = openLater(ctx, conn)
	}
	return err
}

// setKept checks what the entry says of events, and of answers that are kept.
func (e *served) setKept() error {
	if e.Events != nil {
		var err error
		if e.events, err = e.Events.compile(); err != nil {
			return err
		}
		e.events.opening = e.timeout
		if s := e.gateway.sources; s.Client != nil {
			if err := e.events.checkSubject(s.Client.Conn(), s.PublishPrefixes); err != nil {
				return err
			}
		}
	}
	if e.Async != nil {
		cfg, err := e.Async.withDefaults()
		if err != nil {
			return err
		}
		e.async = &cfg
	}
	if e.Idempotency != nil {
		cfg, err := e.Idempotency.withDefaults()
		if err != nil {
			return err
		}
		e.once = &cfg
	}
	return nil
}

package http

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/initiators/http/auth"
	"github.com/skybus-io/skybus/internal/backoff"
	"github.com/skybus-io/skybus/internal/httpx"
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
		for attempt := 1; ctx.Err() == nil; attempt++ {
			in, err := k.open(ctx)
			if err == nil {
				in.later.run(ctx)
				return
			}
			if ctx.Err() == nil {
				k.log.WarnContext(ctx, "requests that are answered later are waiting", "error", err)
			}
			_ = backoff.Sleep(ctx, laterReopen+backoff.Full(attempt, laterReopen, laterBackoffMax))
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
	keys, err := openAnswers[onceRecord](ctx, k.conn)
	var requests *kv.Table[laterRecord]
	if err == nil {
		requests, err = openAnswers[laterRecord](ctx, k.conn)
	}
	if err != nil {
		k.log.WarnContext(ctx, "answers cannot be kept", "error", err)
		return nil, bus.Wrap(bus.Unavailable, "this gateway cannot keep answers now", err) // whatever is the matter, it is not the client's
	}
	in := &keptIn{
		once:  &once{records: keys, ns: k.conn.Namespace(), log: k.log, stats: &k.stats},
		later: &later{conn: k.conn, records: requests, log: k.log, answerer: k.gateway.answerer, places: k.gateway.cfg.AsyncWork, stats: &k.stats},
	}
	k.opened.Store(in)
	return in, nil
}

// prepare makes what answers of e are kept in, which gateways only bind to.
func prepare(ctx context.Context, conn *bus.Conn, e Entry) error {
	if e.Async == nil && e.Idempotency == nil {
		return nil
	}
	_, err := openAnswers[onceRecord](ctx, conn)
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

// captureTarget notes what a target would be sent.
type captureTarget struct{}

var _ initiators.Target = captureTarget{}

type captureContext struct{}

// Send notes the request.
func (captureTarget) Send(ctx context.Context, req initiators.Request) (initiators.Reply, error) {
	if to, ok := ctx.Value(captureContext{}).(*initiators.Request); ok {
		*to = req
	}
	return initiators.Reply{}, nil
}

// stream answers with events.
func (x *exchange) stream(req initiators.Request) error {
	src := x.entry.events
	req.Values = x.value
	if src.Call != "" {
		var mapped initiators.Request
		target := x.choose(&req)
		if _, err := target.Send(context.WithValue(x.request.Context(), captureContext{}, &mapped), req); err != nil {
			return err
		}
		req = mapped
	}
	return x.gateway.hub.serve(x, x.request, x.entry.name, src, req)
}

// hold reads the body, so that it can be stored and compared as it came.
func (x *exchange) hold() ([]byte, error) {
	r := x.request
	if bodiless(r.Method) {
		return nil, nil
	}
	body, problem := httpx.ReadBody(x.server, r, x.entry.maxBody)
	if problem != nil {
		err := bus.Errorf(bus.Code(problem.Code), "%s", problem.Detail)
		err.Status = problem.Status
		return nil, err
	}
	r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	return body, nil
}

// keep answers a request with what is kept for its key, or later, or as all others. An error is the answer then.
func (x *exchange) keep(as offer, target initiators.Target, req initiators.Request, body []byte) (err error) {
	e, r := x.entry, x.request
	handler := x.answering(as, target, req)
	prefer := parsePrefer(r.Header.Values("Prefer"))
	isLater := e.async != nil && (prefer.async || e.async.Always)
	keyed := e.once != nil && isWrite(r.Method)
	if !isLater && !keyed {
		handler.ServeHTTP(x, r)
		return nil
	}
	rc := http.NewResponseController(x.server)
	_ = rc.SetWriteDeadline(time.Now().Add(maxKeyWait + e.longest + slack)) // a writer without deadlines needs none
	in, err := x.gateway.keeper.open(r.Context())
	if err != nil {
		return err
	}
	if isLater {
		handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			in.later.accept(w, r, prefer, x.work(r, body), func(err error) { x.gateway.fail(w, r, x.answer, err) })
		})
	}
	if !keyed {
		handler.ServeHTTP(x, r)
		return nil
	}
	in.once.serve(x, r, *e.once, e.name, x.principal(), body, handler, func(failed error) { err = failed })
	return err
}

// answering answers the request by its target, to whom it is told to.
func (x *exchange) answering(as offer, target initiators.Target, req initiators.Request) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inner := *x
		inner.ResponseWriter, inner.request, inner.status, inner.written = w, r, 0, 0
		req.Key = keyOf(r.Context())
		if err := inner.call(as, target, req); err != nil {
			inner.gateway.fail(&inner, r, inner.answer, err)
		}
		x.answer = inner.answer
	})
}

// work is the request as it is stored until it is answered.
func (x *exchange) work(r *http.Request, body []byte) laterWork {
	path := make(map[string]string, len(x.entry.params))
	for _, name := range x.entry.params {
		path[name] = r.PathValue(name)
	}
	work := newWork(r, x.entry.name, body, path)
	if guard := x.gateway.cfg.Guard; guard != nil {
		maps.DeleteFunc(work.Header, func(name string, _ []string) bool { return guard.Hides(name) })
	}
	work.Subject = x.principal()
	if x.who != nil {
		work.Principal, _ = json.Marshal(x.who) // strings, and what JSON once was
	}
	http.Header(work.Header).Set(requestIDHeader, x.answer.RequestID)
	return work
}

// principal is who asks, as keys and answers are kept for; empty where nobody has to say.
func (x *exchange) principal() string {
	if x.who == nil || x.who.Kind == auth.Anonymous {
		return ""
	}
	return x.who.Key()
}

// asked is who a stored request is from; nil where nobody was asked.
func (work *laterWork) asked() (*auth.Principal, error) {
	if len(work.Principal) == 0 {
		return nil, nil
	}
	dec := json.NewDecoder(bytes.NewReader(work.Principal))
	dec.UseNumber()
	var who auth.Principal
	if err := dec.Decode(&who); err != nil {
		return nil, bus.Errorf(bus.DataLoss, "the stored request does not say who it is from: %w", err)
	}
	return &who, nil
}

// answerer answers stored requests of an entry.
func (g *Gateway) answerer(name string) (http.Handler, Async, bool) {
	e := g.table.Load().byName[name]
	if e == nil || e.async == nil {
		return nil, Async{}, false
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := &exchange{ResponseWriter: w, server: w, gateway: g, request: r, begin: time.Now(), entry: e, trace: childTrace(r.Header)}
		x.answer = Answer{Route: e.name, RequestID: requestID(r), entry: e}
		var err error
		if work := laterOf(r.Context()); work != nil && g.cfg.Guard != nil {
			x.who, err = work.asked()
		}
		var target initiators.Target
		var as offer
		var req initiators.Request
		if err == nil {
			target, as, req, err = x.prepare()
		}
		if err == nil {
			req.Key = keyOf(r.Context())
			err = x.call(as, target, req)
		}
		if err != nil {
			g.fail(x, r, x.answer, err)
		}
	}), *e.async, true
}

// tellLater answers how a request stands that is answered later.
func (x *exchange) tellLater(r *http.Request) {
	g := x.gateway
	x.answer.RequestID = requestID(r)
	x.Header()[requestIDHeader] = []string{x.answer.RequestID}
	fail := func(err error) { g.fail(x, r, x.answer, err) }
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		g.refuseMethod(x, r, []string{http.MethodGet, http.MethodHead})
		return
	}
	in, err := g.keeper.open(r.Context())
	if err != nil {
		fail(err)
		return
	}
	in.later.status(x, r, func(string) (string, bool) {
		if g.cfg.Guard != nil {
			if x.who, err = g.cfg.Guard.Authenticate(r); err != nil {
				fail(err)
				return "", false
			}
		}
		if err = x.count(nil); err != nil {
			fail(err)
			return "", false
		}
		return x.principal(), true
	}, fail)
}

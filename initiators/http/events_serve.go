package http

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/internal/httpx"
	"github.com/skybus-io/skybus/micro"
)

const (
	stopRetryFirst = time.Second // how long clients of a gateway that stops wait before they connect to another
	stopRetrySpan  = 4 * time.Second
	flushBytes     = 32 << 10 // of events that a client missed, before they are sent
	allowedEvery   = 15 * time.Second
)

// errStopping is why a client is sent away.
var errStopping = errors.New("the gateway is being stopped")

// eventRequest is what a client of events asks for.
type eventRequest struct {
	entry   string
	src     *eventSource
	req     initiators.Request
	allowed func() error // tells, now and then, whether the client may still hear it; nil: it may
}

// eventAnswer is the answer to one client.
type eventAnswer struct {
	eventRequest

	hub      *eventHub
	sub      *subscriber
	w        http.ResponseWriter
	rc       *http.ResponseController
	stopping <-chan struct{} // of the server
	unsent   int             // bytes that were written and not flushed
	late     bool            // the client did not take what it was sent in time
}

// serve answers with events until they end, the client goes, or the gateway stops. An error says that the answer has not begun.
func (h *eventHub) serve(w http.ResponseWriter, r *http.Request, asked eventRequest) error {
	if !acceptsEvents(r.Header.Values("Accept")) {
		e := bus.Errorf(bus.InvalidArgument, "the answer is %s, which the header Accept does not allow", typeEvents)
		e.Status = http.StatusNotAcceptable
		return e
	}
	src := asked.src
	leave, err := h.enter(asked.entry, src.MaxSubscribers)
	if err != nil {
		return err
	}
	defer leave()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	a := &eventAnswer{
		eventRequest: asked, hub: h, sub: newSubscriber(src.Buffer), w: w, rc: http.NewResponseController(w), stopping: httpx.Stopping(r.Context()),
	}
	defer func() {
		if a.late || a.sub.fellBehind() {
			h.stats.slow.Add(1)
		}
	}()
	switch {
	case r.Method == http.MethodHead:
		a.begin()
		return nil
	case src.Call != "":
		return a.call(ctx)
	case src.Stream != "":
		return a.stored(ctx, r.Header.Values(headerLastEventID))
	}
	return a.published(ctx)
}

// join joins the topic of the entry's subject, as it is for this request.
func (a *eventAnswer) join(ctx context.Context) (*topic, error) {
	subject, err := a.src.subject.Expand(a.req.Values)
	if err != nil {
		return nil, err
	}
	if err := checkHearable(a.hub.conn, subject); err != nil {
		return nil, err
	}
	return a.hub.join(ctx, topicKey{a.src.Stream, subject, a.src.Name})
}

// published answers with what is published from now on.
func (a *eventAnswer) published(ctx context.Context) error {
	t, err := a.join(ctx)
	if err != nil {
		return err
	}
	defer t.leave()
	defer t.detach(a.sub)
	t.attach(a.sub, place{})
	a.begin()
	a.follow(ctx)
	return nil
}

// stored answers with events of a stream, from the last one that the client has.
func (a *eventAnswer) stored(ctx context.Context, id []string) error {
	last, err := lastEventID(id)
	if err != nil {
		return err
	}
	t, err := a.join(ctx)
	if err != nil {
		return err
	}
	defer t.leave()
	defer t.detach(a.sub)
	at, reset, err := t.begins(ctx, a.src, last)
	if err != nil {
		return openError(t.key, err)
	}
	if last.known {
		a.hub.stats.resumed.Add(1)
	}
	a.begin()
	if reset != nil {
		a.hub.stats.resets.Add(1)
		if a.write(reset.frame) != nil || a.flush() != nil {
			return nil
		}
	}
	err = a.catchUp(ctx, t, at)
	switch {
	case err == nil:
		a.follow(ctx)
	case errors.Is(err, errStopping):
		a.sendAway()
	case ctx.Err() == nil:
		a.hub.log.DebugContext(ctx, "a client of events is cut off before it has what it missed", "stream", a.src.Stream, "error", err)
	}
	return nil
}

// catchUp sends what the client missed, until it hears all that follows. It ends with errStopping when the gateway stops, whatever it waits for.
func (a *eventAnswer) catchUp(ctx context.Context, t *topic, at place) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel(nil)
	watching.Go(func() {
		select {
		case <-a.stopping:
		case <-a.hub.closing:
		case <-ctx.Done():
		}
		cancel(errStopping)
	})
	err := t.catchUp(ctx, a.sub, at, func(e event) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		a.hub.stats.events.Add(1)
		if err := a.write(e.frame); err != nil || a.unsent < flushBytes {
			return err
		}
		return a.flush()
	})
	if err == nil {
		return a.flush()
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// call answers with the messages of a streaming endpoint.
func (a *eventAnswer) call(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	st, err := a.open(ctx, cancel)
	if err != nil {
		return err
	}
	var receiving sync.WaitGroup
	defer receiving.Wait()
	defer cancel(nil)
	defer func() { _ = st.Close() }() // has no error
	receiving.Go(func() {
		for {
			data, err := st.Recv(ctx)
			e := newEvent(eventID{}, "", eventData(a.req.ContentType, data)) // answers are in the codec of the request
			switch {
			case errors.Is(err, io.EOF):
				e = newEvent(eventID{}, eventEnd, nil)
			case err != nil:
				e = problemEvent(err)
			}
			if a.sub.offer(ctx, e) != nil || err != nil {
				a.sub.end()
				return
			}
		}
	})
	a.begin()
	a.follow(ctx)
	return nil
}

// open opens the stream, within the time that a request of the entry may take: an instance that hangs is not waited for. ctx is the stream's, and
// cancel ends it.
func (a *eventAnswer) open(ctx context.Context, cancel context.CancelCauseFunc) (*micro.ClientStream, error) {
	late := bus.Errorf(bus.DeadlineExceeded, "%s.%s did not take the stream within %v", a.src.service, a.src.endpoint, a.src.opening)
	timer := time.AfterFunc(a.src.opening, func() { cancel(late) })
	st, err := a.hub.client.OpenStream(micro.WithRequestID(ctx, a.req.ID), micro.Request{
		Service: a.src.service, Endpoint: a.src.endpoint, ContentType: a.req.ContentType, Body: a.req.Body, Header: a.req.Header,
	})
	inTime := timer.Stop()
	switch {
	case err == nil && inTime:
		return st, nil
	case err == nil:
		_ = st.Close() // has no error
		return nil, late
	case errors.Is(context.Cause(ctx), late):
		return nil, late
	}
	return nil, err
}

func problemEvent(err error) event {
	e := bus.AsError(err)
	return jsonEvent(eventID{}, eventFailed, httpx.Problem{
		Type: "about:blank", Title: http.StatusText(e.HTTPStatus()), Status: e.HTTPStatus(), Detail: e.Message, Code: string(e.Code), Details: e.Details,
	})
}

// begin sends the head of the answer.
func (a *eventAnswer) begin() {
	h := a.w.Header()
	h.Set("Content-Type", typeEvents)
	h.Set("Cache-Control", "no-store, no-transform")
	h.Set("X-Accel-Buffering", "no") // proxies that hold answers back do not
	_ = a.rc.SetWriteDeadline(time.Now().Add(eventWriteTimeout))
	a.w.WriteHeader(http.StatusOK)
	_ = a.write(retryFrame(time.Duration(a.src.Retry))) // the next write fails too
	_ = a.flush()
}

// follow sends what comes until there is a reason to stop.
func (a *eventAnswer) follow(ctx context.Context) {
	every := time.Duration(a.src.Heartbeat)
	heartbeat := time.NewTimer(every)
	defer heartbeat.Stop()
	most := time.Duration(a.src.MaxDuration)
	over := time.NewTimer(most - rand.N(most/10+1))
	defer over.Stop()
	again := time.NewTicker(allowedEvery)
	defer again.Stop()
	for {
		select {
		case <-again.C:
			if !a.mayGoOn(ctx) {
				return
			}
			continue
		case <-a.sub.ready:
			if !a.deliver() {
				return
			}
		case <-heartbeat.C:
			if a.write(comment()) != nil || a.flush() != nil {
				return
			}
		case <-over.C:
			return
		case <-a.stopping:
			a.sendAway()
			return
		case <-a.hub.closing:
			a.sendAway()
			return
		case <-ctx.Done():
			return
		}
		heartbeat.Reset(every)
	}
}

// mayGoOn tells whether the client is still one that may hear the events: its key may be disabled by now, or its token have expired. Where
// that cannot be told now, it is.
func (a *eventAnswer) mayGoOn(ctx context.Context) bool {
	if a.allowed == nil {
		return true
	}
	err := a.allowed()
	switch bus.CodeOf(err) {
	case bus.Unauthenticated, bus.PermissionDenied:
		a.hub.log.DebugContext(ctx, "a client of events may not hear them any more", "entry", a.entry, "error", err)
		return false
	default:
		return true
	}
}

// deliver sends what waits, in one flush, and tells whether more can come.
func (a *eventAnswer) deliver() bool {
	events, slow, over := a.sub.take()
	for _, e := range events {
		if a.write(e.frame) != nil {
			return false
		}
	}
	a.hub.stats.events.Add(uint64(len(events)))
	return !slow && (len(events) == 0 || a.flush() == nil) && !over
}

// sendAway tells the client when to connect again: not all at once, and not before this gateway has left its place to another.
func (a *eventAnswer) sendAway() {
	if a.write(retryFrame(stopRetryFirst+rand.N(stopRetrySpan))) == nil {
		_ = a.flush() // it was the last
	}
}

func (a *eventAnswer) write(frame []byte) error {
	_ = a.rc.SetWriteDeadline(time.Now().Add(eventWriteTimeout)) // what cannot be set is not there
	n, err := a.w.Write(frame)
	a.unsent += n
	return a.failed(err)
}

func (a *eventAnswer) flush() error {
	a.unsent = 0
	return a.failed(a.rc.Flush())
}

func (a *eventAnswer) failed(err error) error {
	a.late = a.late || errors.Is(err, os.ErrDeadlineExceeded)
	return err
}

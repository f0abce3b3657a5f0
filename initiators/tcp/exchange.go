package tcp

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/nats-io/nuid"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/initiators/http/limit"
	"github.com/skybus-io/skybus/internal/backoff"
)

// detailContentType is the detail of an error that says as what a request was read.
const detailContentType = "content_type"

// exchange is a frame and its answer.
type exchange struct {
	id   string        // of the request; empty for an error about the connection
	done chan struct{} // closed when there is an answer
	body []byte
	err  error
}

// done is the exchange that tells of an error about the connection.
func done(err error) *exchange {
	ex := &exchange{done: make(chan struct{}), err: err}
	close(ex.done)
	return ex
}

// dispatch sends a frame to the target, as soon as there is a place.
func (c *conn) dispatch(ctx context.Context, frame []byte, number uint64) {
	ex := &exchange{id: nuid.Next(), done: make(chan struct{})}
	if !c.v.cfg.OneWay {
		c.queue <- ex // there is room
	}
	ctx, cancel := context.WithTimeout(ctx, c.v.cfg.Timeout)
	err := c.pace(ctx)
	if err == nil {
		err = c.v.place(ctx)
	}
	if err != nil {
		cancel()
		c.finish(ex, initiators.Reply{}, err)
		return
	}
	began := time.Now()
	c.requests.Go(func() {
		defer cancel()
		reply, err := c.send(ctx, c.request(ex.id, frame, number))
		if errors.Is(context.Cause(ctx), errStopped) && err != nil {
			err = bus.Wrap(bus.Canceled, "the server stopped before the answer came", err)
		}
		c.v.counts.inFlight.Add(-1)
		<-c.v.places
		c.v.counts.took(time.Since(began), err)
		c.finish(ex, reply, err)
	})
}

// pace waits until the rates let the frame pass that was read.
func (c *conn) pace(ctx context.Context) error {
	if c.v.rates == nil {
		return nil
	}
	waits := false
	for stage := 0; stage < 3; {
		var d limit.Decision
		switch stage { // who waits for one has what it took before
		case 0:
			d = c.v.rates.IP(c.ip)
		case 1:
			key := ""
			if c.name != "" {
				key = "name:" + c.name
			}
			d = c.v.rates.Key(key)
		case 2:
			d = c.v.rates.All()
		}
		if d.OK {
			stage++
			continue
		}
		if !waits {
			waits = true
			c.v.counts.held.Add(1)
		}
		if !backoff.Sleep(ctx, max(d.Retry, time.Millisecond)) {
			return c.v.paced(ctx, d)
		}
	}
	return nil
}

// paced is the error of a frame that has waited for too long.
func (s *Server) paced(ctx context.Context, d limit.Decision) error {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errStopped):
		return bus.Errorf(bus.Unavailable, "the server stopped before the frame was sent on")
	case !errors.Is(cause, context.DeadlineExceeded):
		return bus.Wrap(bus.Canceled, "the connection has broken before the frame was sent on", cause)
	}
	s.counts.refuse(ReasonRate)
	e := bus.AsError(d.Err())
	return bus.Errorf(e.Code, "%s; the frame was not sent on", e.Message).With("limit", d.Kind.String())
}

// place takes one of the places of requests in flight.
func (s *Server) place(ctx context.Context) error {
	select {
	case s.places <- struct{}{}:
		s.counts.inFlight.Add(1)
		return nil
	default:
	}
	select {
	case s.places <- struct{}{}:
		if ctx.Err() == nil {
			s.counts.inFlight.Add(1)
			return nil
		}
		<-s.places
	case <-ctx.Done():
	}
	if errors.Is(context.Cause(ctx), errStopped) {
		return bus.Errorf(bus.Unavailable, "the server stopped before the frame was sent on")
	}
	s.counts.refuse(ReasonBusy)
	return bus.Errorf(bus.Unavailable, "%d requests are in flight already; the frame was not sent on", s.cfg.MaxInFlight)
}

// finish gives an exchange its answer.
func (c *conn) finish(ex *exchange, reply initiators.Reply, err error) {
	if err == nil {
		c.v.counts.succeeded.Add(1)
	} else {
		c.v.counts.failed.Add(1)
	}
	ex.body, ex.err = reply.Body, err
	close(ex.done)
	if c.v.cfg.OneWay {
		<-c.room
	}
}

// send asks the target.
func (c *conn) send(ctx context.Context, req initiators.Request) (reply initiators.Reply, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = c.panicked("target", r)
		}
	}()
	reply, err = c.v.target.Send(ctx, req)
	return reply, c.explain(req, err)
}

// explain makes of the error of who could not read the request one that says what the frame was expected to be, and which setting changes it: its sender knows neither codecs
// nor types.
func (c *conn) explain(req initiators.Request, err error) error {
	e, ok := errors.AsType[*bus.Error](err)
	if !ok || e.Code != bus.InvalidArgument || req.ContentType == "" {
		return err
	}
	what := "frame"
	if _, ok := c.v.cfg.Framing.(Line); ok {
		what = "line"
	}
	text := e.Message
	bytes := req.ContentType == bus.Raw{}.ContentType()
	switch {
	case bytes && e.Status != http.StatusUnsupportedMediaType, !bytes && e.Details[detailContentType] != req.ContentType:
		return err // it could be read, or it was made of the frame by a mapping
	case c.v.cfg.ContentType == "":
		text = "the " + what + " is not JSON, so it was sent on as bytes, which are not taken: want JSON on each " + what +
			", or request of the listener's target (skybus: --field) to make it of text, or content_type (skybus: --content-type) to say what else it is"
	default:
		text = "the " + what + " was sent on as what content_type of the listener (skybus: --content-type) says that it is: " + text
	}
	told := bus.Wrap(e.Code, text, err)
	told.Status, told.Details = e.Status, e.Details
	return told
}

// request makes a request of a frame.
func (c *conn) request(id string, frame []byte, number uint64) initiators.Request {
	return initiators.Request{ID: id, ContentType: c.contentType(frame), Body: frame, Values: func(name string) (string, bool) {
		switch name {
		case "line":
			return string(frame), true
		case "frame":
			return base64.StdEncoding.EncodeToString(frame), true
		case "remote":
			return c.remote, true
		case "connection":
			return c.id, true
		case "number":
			return strconv.FormatUint(number, 10), true
		case "tls.cn":
			return c.name, c.name != ""
		}
		return "", false
	}}
}

func (c *conn) contentType(frame []byte) string {
	switch {
	case c.v.cfg.ContentType != "":
		return c.v.cfg.ContentType
	case len(frame) == 0, json.Valid(frame):
		return ""
	}
	return bus.Raw{}.ContentType()
}

// write writes answers in the order of their frames until there will be no more. Whatever is ready goes out at once.
func (c *conn) write() {
	for ex := range c.queue {
		select {
		case <-ex.done:
		default:
			c.flush()
			<-ex.done
		}
		c.put(ex)
		if len(c.queue) == 0 {
			c.flush()
		}
		<-c.room
	}
	c.flush()
}

// put writes one answer.
func (c *conn) put(ex *exchange) {
	if c.silent || c.isBroken() {
		return
	}
	var err error
	if ex.err == nil {
		err = c.writeFrame(ex.body)
		if e, ok := errors.AsType[*bus.Error](err); ok {
			c.v.counts.refuse(ReasonAnswer)
			ex.err, err = e, nil
		}
	}
	if ex.err != nil {
		e := bus.AsError(ex.err)
		err = c.writeError(ex.id, e)
		if _, ok := errors.AsType[*bus.Error](err); ok {
			c.fallSilent(ex.id, e)
			return
		}
	}
	c.written(err)
}

// fallSilent ends a connection whose client cannot be told of an error in any words: the next answer would be taken for this one. What was answered before is sent.
func (c *conn) fallSilent(id string, e *bus.Error) {
	c.v.counts.refuse(ReasonError)
	log := c.v.log.Debug
	c.v.narrow.Do(func() { log = c.v.log.Warn })
	log("an error fits into no frame, so the connection is closed: errors of the listener wants a shorter form, or framing larger frames",
		"remote", c.remote, "request_id", id, "code", string(e.Code))
	c.flush()
	c.silent = true
	c.abandon(errBroken)
	c.nc.endReading(time.Now())
}

func (c *conn) flush() {
	if !c.isBroken() && c.bw.Buffered() > 0 {
		c.written(c.bw.Flush())
	}
}

// written notes that something was written, or could not be.
func (c *conn) written(err error) {
	if err == nil {
		c.wrote.Store(int64(time.Since(c.began)))
		return
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.v.counts.refuse(ReasonSlowReader)
	}
	c.breakOff()
}

func (c *conn) writeFrame(body []byte) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = c.panicked("framing", r)
		}
	}()
	return c.v.cfg.Framing.WriteFrame(c.bw, body)
}

// writeError tells as much of an error as fits into a frame.
func (c *conn) writeError(id string, e *bus.Error) error {
	var err error
	for _, e := range shorter(e) {
		err = c.writeFrame(c.v.cfg.Errors(id, e))
		if _, ok := errors.AsType[*bus.Error](err); !ok {
			return err
		}
	}
	return err
}

package http

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/initiators/http/auth"
	"github.com/skybus-io/skybus/initiators/http/cors"
	"github.com/skybus-io/skybus/initiators/http/limit"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/route"
)

// exchange is a request on its way through the gateway, and the writer of its answer.
type exchange struct {
	http.ResponseWriter // may be one that compresses

	server  http.ResponseWriter // the one below
	gateway *Gateway
	request *http.Request
	begin   time.Time
	entry   *served // nil until one has matched
	answer  Answer
	who     *auth.Principal // nil where nobody was asked
	query   url.Values
	form    url.Values
	trace   string // the traceparent of what follows, empty where the client sent none

	tightest limit.Decision // of the limits so far

	status  int // of the answer, 0 until it has one
	written int64
	values  [4]string // of the answer's header, so many
	fields  int
}

// set sets a field of the answer's header by its canonical name. Those that every answer has take no memory of their own.
func (x *exchange) set(name, value string) {
	if x.fields == len(x.values) {
		x.Header()[name] = []string{value}
		return
	}
	x.values[x.fields] = value
	x.fields++
	x.Header()[name] = x.values[x.fields-1 : x.fields : x.fields]
}

// WriteHeader notes the status.
func (x *exchange) WriteHeader(status int) {
	if x.status == 0 && status >= http.StatusOK {
		x.status = status
		if e := x.entry; e != nil {
			for _, f := range e.header {
				x.Header()[f[0]] = []string{f[1]}
			}
		}
	}
	x.ResponseWriter.WriteHeader(status)
}

// Write counts the bytes.
func (x *exchange) Write(p []byte) (int, error) {
	if x.status == 0 {
		x.WriteHeader(http.StatusOK)
	}
	n, err := x.ResponseWriter.Write(p)
	x.written += int64(n)
	return n, err
}

// Unwrap is for http.ResponseController.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// ServeHTTP does what the entry says with a request that matched it.
func (e *served) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x, ok := w.(*exchange)
	if !ok { // somebody else's mux
		http.Error(w, "not by way of the gateway", http.StatusInternalServerError)
		return
	}
	switch {
	case e.cors != nil && cors.IsPreflight(r):
		e.cors.Preflight(x, r)
	case e.compress != nil:
		e.compress(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			x.ResponseWriter = w
			x.serve(e, r)
		})).ServeHTTP(x.server, r)
	default:
		x.serve(e, r)
	}
}

// serve takes a request through all that happens to it.
func (x *exchange) serve(e *served, r *http.Request) {
	x.meet(e, r)
	if err := x.run(); err != nil {
		x.gateway.fail(x, r, x.answer, err)
	}
}

// meet makes it a request for an entry.
func (x *exchange) meet(e *served, r *http.Request) {
	x.entry, x.request = e, r
	x.answer = Answer{Route: e.name, RequestID: requestID(r), entry: e}
	x.set(requestIDHeader, x.answer.RequestID)
	x.trace = childTrace(r.Header)
	e.metrics.begin()
}

// run is the way of a request from the door to its answer. An error is the answer then.
func (x *exchange) run() error {
	if err := x.crossOrigin(); err != nil {
		return err
	}
	leave, err := x.admit()
	if err != nil {
		return err
	}
	defer func() { leave() }()
	if x.entry.events != nil {
		req, err := x.read()
		if err != nil {
			return err
		}
		leave() // events have limits of their own
		leave = func() {}
		return x.stream(req)
	}
	keeps := (x.entry.async != nil || x.entry.once != nil) && !x.gateway.blind
	var body []byte
	if keeps {
		if body, err = x.hold(); err != nil {
			return err
		}
	}
	target, as, req, err := x.prepare()
	if err != nil {
		return err
	}
	if keeps {
		return x.keep(as, target, req, body)
	}
	return x.call(as, target, req)
}

// prepare is what the request is sent to, how it is answered, and what is sent.
func (x *exchange) prepare() (target initiators.Target, as offer, req initiators.Request, err error) {
	if target, err = x.target(); err != nil {
		return target, as, req, err
	}
	if as, err = x.entry.negotiate(x.request); err != nil {
		return target, as, req, err
	}
	req, err = x.read()
	return target, as, req, err
}

// call sends the request to its target, and answers with the reply.
func (x *exchange) call(as offer, target initiators.Target, req initiators.Request) error {
	ctx, cancel, err := x.deadline()
	if err != nil {
		return err
	}
	defer cancel()
	if target == nil {
		target = x.choose(&req)
	}
	reply, err := target.Send(ctx, req)
	x.done(reply)
	if err != nil {
		return err
	}
	return x.reply(as, reply)
}

// target is that of a request which names it; nil where the entry has one.
func (x *exchange) target() (initiators.Target, error) {
	if x.entry.find == nil {
		return nil, nil
	}
	return x.entry.find(x)
}

// routeTarget is the route that the path names.
func (x *exchange) routeTarget() (initiators.Target, error) {
	name, err := routeName(x.request)
	if err != nil {
		return nil, err
	}
	x.answer.Route = name
	return initiators.Route(x.gateway.runner, name), nil
}

// read makes the request of the body, and of what else the target may ask for.
func (x *exchange) read() (initiators.Request, error) {
	e, r := x.entry, x.request
	var err error
	if r.URL.RawQuery != "" && e.target != nil {
		if x.query, err = url.ParseQuery(r.URL.RawQuery); err != nil {
			return initiators.Request{}, bus.Errorf(bus.InvalidArgument, "the query is malformed: %w", err)
		}
		if len(x.query) > maxFormFields {
			return initiators.Request{}, bus.Errorf(bus.InvalidArgument, "the query has %d fields: want at most %d", len(x.query), maxFormFields)
		}
	}
	req, form, err := e.read(x.server, r) // which closes connections whose bodies are too large
	if err != nil {
		return req, err
	}
	x.form = form
	req.ID = x.answer.RequestID
	x.answer.body = req.Body
	req.Trace = len(r.Header[headerTrace]) > 0
	req.Header, err = x.forwarded()
	return req, err
}

// choose is the target, given what it needs beside the body.
func (x *exchange) choose(req *initiators.Request) initiators.Target {
	e := x.entry
	if e.merging != nil && x.merges(req) {
		req.Values, req.Members = x.value, x.members
		return e.merging
	}
	if e.needs {
		req.Values, req.Members = x.value, x.members
	}
	return e.target
}

// merges tells whether path and query go into the body of an entry that does not say what is to become of them.
func (x *exchange) merges(req *initiators.Request) bool {
	e := x.entry
	switch {
	case e.raw:
		return len(req.Body) == 0
	case len(e.params) > 0 || bodiless(x.request.Method):
		return true
	}
	return len(x.query) > 0 && isObject(req)
}

// isObject tells whether a body can be merged with something: a JSON object, a MessagePack map or nothing.
func isObject(req *initiators.Request) bool {
	if len(req.Body) == 0 {
		return true
	}
	if req.ContentType == typeMessagePack {
		c := req.Body[0]
		return c&0xf0 == 0x80 || c == 0xde || c == 0xdf
	}
	return strings.HasPrefix(strings.TrimLeft(string(req.Body[:min(len(req.Body), 64)]), " \t\r\n"), "{")
}

// deadline is the ctx of what is done for the request: it ends with the entry's time-out, or the client's, or when the client goes.
func (x *exchange) deadline() (context.Context, context.CancelFunc, error) {
	e, r := x.entry, x.request
	ctx := r.Context()
	if x.trace != "" {
		ctx = micro.Continue(ctx, micro.RequestInfo{RequestID: x.answer.RequestID, Traceparent: x.trace})
	}
	if laterOf(ctx) != nil { // it has a deadline
		return ctx, func() {}, nil
	}
	timeout := e.timeout
	if v := r.Header["Skybus-Timeout"]; len(v) > 0 {
		asked, err := parseTimeout(v[0])
		if err != nil {
			return nil, nil, err
		}
		timeout = min(asked, e.longest)
	}
	if timeout > x.gateway.cfg.Timeout { // the server's own limits are for that
		rc := http.NewResponseController(x.server)
		_ = rc.SetWriteDeadline(time.Now().Add(timeout + slack)) // a writer without deadlines needs none
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	return ctx, cancel, nil
}

// done notes what was done for the request.
func (x *exchange) done(reply initiators.Reply) {
	x.answer.Hops = reply.Hops
	if len(x.request.Header[headerTrace]) > 0 {
		x.Header()[headerServerTiming] = []string{x.serverTiming(reply)}
	}
	if len(reply.Hops) == 0 {
		return
	}
	if failed := route.FormatStepErrors(route.StepErrors(reply.Hops)); failed != "" {
		x.Header().Set(route.HeaderStepErrors, failed)
	}
}

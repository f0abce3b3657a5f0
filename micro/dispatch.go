package micro

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
)

// takes is what a subscription is for.
type takes int

const (
	takesRequests takes = 1 << iota
	takesOneWay
	takesBoth = takesRequests | takesOneWay
)

// dispatch decides in the subscription's own goroutine whether a message is handled at all, and starts its handler.
func (s *Service) dispatch(ep *endpoint, msg *nats.Msg, t takes) {
	if drop := s.check(ep, msg, t); drop != "" {
		s.drops.add(drop)
		s.log.Debug("message dropped", "subject", msg.Subject, "reason", string(drop))
		return
	}
	if oneWay(msg, t) {
		msg.Reply = "" // its sender waits for nothing
	}
	if err := s.wrongKind(ep, msg); err != nil {
		_ = s.respond(msg, bus.NewErrorReply(bus.JSON{}, err)) // counts for no endpoint: no request of its kind
		return
	}
	if !ep.acquire() {
		ep.stats.shed.Add(1)
		s.refuse(ep, msg)
		return
	}
	var queued *inbound
	if ep.serial != nil && !bodiless(msg) {
		queued = s.queue(ep, msg) // here, where arrival has an order
	}
	ep.handlers.start(func() { s.serve(ep, msg, queued) })
}

// serve handles a message that has one of the endpoint's places.
func (s *Service) serve(ep *endpoint, msg *nats.Msg, in *inbound) {
	base := ep.handlers.base()
	if bodiless(msg) {
		release, err := s.fetchBody(base, msg)
		if err != nil {
			ep.release()
			ep.stats.done(0, err)
			_ = s.respond(msg, bus.NewErrorReply(bus.JSON{}, err)) // counted above
			return
		}
		defer release()
		if ep.serial != nil {
			in = s.queue(ep, msg)
		}
	}
	if in == nil {
		in = s.read(ep, msg)
	}
	if ep.stream != nil {
		s.serveStream(base, in)
		return
	}
	reply := s.handle(base, in)
	if reply == nil {
		return
	}
	if err := s.respond(msg, reply); err != nil {
		ep.stats.failed(err)
	}
}

func oneWay(msg *nats.Msg, t takes) bool {
	return t == takesOneWay || t == takesBoth && len(msg.Header[bus.HeaderOneWay]) > 0
}

func (s *Service) check(ep *endpoint, msg *nats.Msg, t takes) bus.Drop {
	if !oneWay(msg, t) {
		return s.conn.CheckRequest(msg)
	}
	if drop := s.conn.CheckOneWay(msg); drop != "" || ep.oneWay {
		return drop
	}
	return bus.DropNotOneWay
}

func (s *Service) refuse(ep *endpoint, msg *nats.Msg) {
	if msg.Reply == "" {
		return
	}
	err := bus.Errorf(bus.Unavailable, "%s.%s on %s handles %d requests already", s.cfg.Name, ep.name, s.cfg.Instance, ep.limit)
	in := s.read(ep, msg) // for its codec: JSON where even that is unreadable
	_ = s.respond(msg, s.errorReply(in, err.With("reason", ReasonOverloaded)))
}

// handle runs the handler within its deadline and returns the reply, nil when there was one already: the caller is answered
// at the deadline even when the handler is not done. The handler's place stays taken until it is, and is free when handle
// returns, so that who hears the answer can ask again at once.
func (s *Service) handle(base context.Context, in *inbound) *nats.Msg {
	ep := in.ep
	defer ep.release()
	in.start = time.Now()
	if in.err != nil {
		ep.stats.done(time.Since(in.start), in.err)
		return s.errorReply(in, in.err)
	}
	timeout := s.cfg.Timeout
	if in.env.Timeout > 0 {
		timeout = in.env.Timeout
	}
	ctx, cancel := context.WithTimeout(base, timeout)
	defer cancel()
	in.cancel = cancel
	handling := in.attach(ctx)
	if in.cancellable() {
		s.requests.add(in)
		defer s.requests.remove(in)
	}
	stop := context.AfterFunc(ctx, func() { s.answerEnded(ctx, in) })
	defer stop()
	out, err := s.invoke(handling, in)
	var reply *nats.Msg
	if err == nil {
		reply, err = s.encodeAnswer(handling, in, out)
	}
	late := in.answer(nil)
	if err == nil && late || err != nil && errors.Is(err, ctx.Err()) {
		err = s.ended(ctx, in)
	}
	ep.stats.done(time.Since(in.start), err)
	switch {
	case late:
		return nil
	case err != nil:
		return s.errorReply(in, err)
	}
	s.complete(in, reply, nil)
	return reply
}

// answerEnded answers the caller of a handler that is not done when its ctx ends.
func (s *Service) answerEnded(ctx context.Context, in *inbound) {
	in.answer(func() { _ = s.respond(in.msg, s.errorReply(in, s.ended(ctx, in))) }) // counted when the handler is done
}

// ended is the error of a request whose ctx ended before its handler: at its deadline, because the caller gave up, or
// because the service was stopped and waits no longer.
func (s *Service) ended(ctx context.Context, in *inbound) error {
	err, code, what := context.Cause(ctx), bus.DeadlineExceeded, "did not finish in time"
	switch {
	case in.canceled.Load():
		code, what = bus.Canceled, "was canceled by its caller"
	case errors.Is(err, context.Canceled):
		code, what = bus.Unavailable, "was stopped before it had finished"
	}
	return bus.Wrap(code, fmt.Sprintf("%s.%s on %s %s", s.cfg.Name, in.ep.name, s.cfg.Instance, what), err)
}

// invoke calls the handler and turns a panic into an error that tells the caller nothing but that.
func (s *Service) invoke(ctx context.Context, in *inbound) (out any, err error) {
	defer func() {
		if p := recover(); p != nil {
			out, err = nil, s.panicked(ctx, in, p)
		}
	}()
	if in.turn != nil {
		defer in.turn.leave()
	}
	if in.ep.callers != nil {
		in.ep.callers.wait(ctx, s.conn.Namespace(), in.env.From)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	if in.turn != nil {
		if err := in.turn.wait(ctx); err != nil {
			return nil, err
		}
	}
	req := in.request
	if req == nil {
		if req, err = in.ep.request.decode(in); err != nil {
			return nil, err
		}
	}
	if s.intercept == nil && len(in.ep.interceptors) == 0 {
		return in.run(ctx, req)
	}
	call := &Unary{Service: s.cfg.Name, Endpoint: in.ep.name, Request: in.ep.request.show(req), Header: bus.UserHeader(in.msg.Header)}
	if s.intercept == nil {
		return in.ep.intercepted(ctx, call)
	}
	return s.intercept(ctx, call)
}

// run calls the handler. What refused the handler did not refuse this request, which must not be sent to another instance as
// if nothing had been done: such an error goes on without its reason.
func (in *inbound) run(ctx context.Context, req any) (any, error) {
	out, err := in.ep.handle(ctx, in, req)
	if err == nil || !refused(err) {
		return out, err
	}
	refusal := bus.AsError(err)
	passed := bus.Wrap(refusal.Code, refusal.Message, err)
	passed.Status, passed.Details = refusal.Status, maps.Clone(refusal.Details)
	delete(passed.Details, "reason")
	return out, passed
}

func (s *Service) panicked(ctx context.Context, in *inbound, p any) error {
	in.ep.stats.panics.Add(1)
	s.log.ErrorContext(ctx, "handler panicked", "endpoint", in.ep.name, "request_id", in.scope.info.RequestID,
		"panic", p, "stack", string(debug.Stack()))
	return bus.Errorf(bus.Internal, "%s.%s panicked; the stack is in the log of %s", s.cfg.Name, in.ep.name, s.cfg.Instance)
}

// ownInterceptors is what the service's interceptors wrap: the endpoint with its own.
func ownInterceptors(ctx context.Context, call *Unary) (any, error) {
	in := scopeOf(ctx).in
	if in == nil {
		return nil, bus.Errorf(bus.Internal, "%s.%s: an interceptor passed on a ctx that is not the request's", call.Service, call.Endpoint)
	}
	return in.ep.intercepted(ctx, call)
}

// innermost is what an endpoint's interceptors wrap: its handler.
func innermost(ctx context.Context, call *Unary) (any, error) {
	in := scopeOf(ctx).in
	if in == nil {
		return ownInterceptors(ctx, call) // which says so
	}
	req, ok := in.ep.request.take(call.Request)
	if !ok {
		return nil, bus.Errorf(bus.Internal, "%s.%s: an interceptor made the request a %T, the handler takes a %s",
			call.Service, call.Endpoint, call.Request, in.ep.request.Type)
	}
	return in.run(ctx, req)
}

// encodeAnswer is encode, with panics of a type's own methods as in [Service.invoke].
func (s *Service) encodeAnswer(ctx context.Context, in *inbound, out any) (reply *nats.Msg, err error) {
	defer func() {
		if p := recover(); p != nil {
			reply, err = nil, s.panicked(ctx, in, p)
		}
	}()
	return s.encode(in.codec, out)
}

func (s *Service) encode(codec bus.Codec, out any) (*nats.Msg, error) {
	body, raw := rawBytes(out)
	if !raw {
		var err error
		if body, err = codec.Marshal(out); err != nil {
			return nil, bus.Errorf(bus.Internal, "response of type %T does not encode as %s: %w", out, codec.ContentType(), err)
		}
	}
	return &nats.Msg{Data: body, Header: nats.Header{bus.HeaderContentType: {codec.ContentType()}}}, nil
}

// rawBytes is v if it is bytes, which travel as they are.
func rawBytes(v any) (b []byte, ok bool) {
	switch v := v.(type) {
	case []byte:
		return v, true
	case *[]byte:
		if v == nil {
			return nil, true
		}
		return *v, true
	}
	return nil, false
}

// errorReply is the reply that tells of err.
func (s *Service) errorReply(in *inbound, err error) *nats.Msg {
	reply := bus.NewErrorReply(in.codec, err)
	s.complete(in, reply, err)
	return reply
}

// complete adds to a reply what the handler gave it beside the response, which ended when it was marked as answered, and what
// was asked for about the hop.
func (s *Service) complete(in *inbound, reply *nats.Msg, err error) {
	maps.Copy(reply.Header, in.header)
	if in.env.Trace {
		s.addHops(in, reply, err)
	}
}

// respond sends the reply. When it is too large the caller is told that, or is told an error without its details, and
// respond returns what it was told. What cannot be sent at all is the caller's time-out.
func (s *Service) respond(msg, reply *nats.Msg) error {
	err := s.send(msg, reply)
	if err == nil {
		return nil
	}
	if e := bus.AsError(err); e.Code == bus.ResourceExhausted {
		if len(reply.Header[bus.HeaderServiceError]) > 0 {
			delete(reply.Header, bus.HeaderContentType)
			reply.Data = nil
		} else {
			sent, ferr := s.offerReply(msg, reply, err)
			if sent {
				return ferr
			}
			err = ferr
			if err == nil {
				err = &bus.Error{Code: e.Code, Status: e.Status, Message: "the response is larger than the server takes (max_payload)"}
			}
			reply = bus.NewErrorReply(bus.JSON{}, err)
		}
		if s.send(msg, reply) == nil {
			return err
		}
	}
	s.log.Warn("reply not sent", "subject", msg.Subject, "error", err)
	return err
}

// send sends reply to the sender of msg, if that waits for one.
func (s *Service) send(msg, reply *nats.Msg) error {
	if msg.Reply == "" {
		return nil
	}
	reply.Subject = msg.Reply
	reply.Header[bus.HeaderFrom] = s.from
	return s.conn.Publish(reply)
}

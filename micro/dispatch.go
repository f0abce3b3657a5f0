package micro

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

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
func (s *Service) dispatch(h *handlers, ep *endpoint, msg *nats.Msg, t takes) {
	if drop := s.check(ep, msg, t); drop != "" {
		s.drops.add(drop)
		s.log.Debug("message dropped", "subject", msg.Subject, "reason", string(drop))
		return
	}
	if !ep.acquire() {
		ep.stats.shed.Add(1)
		s.refuse(ep, msg)
		return
	}
	h.start(func() {
		reply := s.handle(h.base(), ep, msg)
		if reply == nil {
			return
		}
		if err := s.respond(msg, reply); err != nil {
			ep.stats.failed(err)
		}
	})
}

func (s *Service) check(ep *endpoint, msg *nats.Msg, t takes) bus.Drop {
	oneWay := t == takesOneWay || t == takesBoth && len(msg.Header[bus.HeaderOneWay]) > 0
	if !oneWay {
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
	in, _ := s.read(msg) // for its codec: JSON where even that is unreadable
	s.respondError(msg, in.codec, err.With("reason", ReasonOverloaded))
}

// inbound is a request on its way to a handler.
type inbound struct {
	env   bus.Envelope
	codec bus.Codec
	body  []byte
	prior []byte
}

func (s *Service) read(msg *nats.Msg) (*inbound, error) {
	env, err := bus.ReadEnvelope(msg.Header)
	if err != nil {
		return &inbound{codec: bus.JSON{}}, err
	}
	codec, err := s.conn.CodecFor(env.ContentType)
	if err != nil {
		return &inbound{codec: bus.JSON{}}, err
	}
	in := &inbound{env: env, codec: codec, body: msg.Data}
	if env.Prior > len(msg.Data) {
		return in, bus.Errorf(bus.InvalidArgument, "header %s is %d, the body has %d bytes", bus.HeaderPrior, env.Prior, len(msg.Data))
	}
	in.body, in.prior = msg.Data[:len(msg.Data)-env.Prior], msg.Data[len(msg.Data)-env.Prior:]
	return in, nil
}

func (in *inbound) decode(v any) error {
	if err := in.unmarshal(in.body, v); err != nil {
		return bus.Errorf(bus.InvalidArgument, "request is not %s of the right shape: %w", in.codec.ContentType(), err)
	}
	return nil
}

func (in *inbound) decodePrior(v any) error {
	if err := in.unmarshal(in.prior, v); err != nil {
		return bus.Errorf(bus.InvalidArgument, "response so far is not %s of the right shape: %w", in.codec.ContentType(), err)
	}
	return nil
}

// unmarshal reads data into v: a *[]byte gets it as it is, and no data is the zero value.
func (in *inbound) unmarshal(data []byte, v any) error {
	if b, ok := v.(*[]byte); ok {
		*b = bytes.Clone(data)
		return nil
	}
	if len(data) == 0 {
		return nil
	}
	return in.codec.Unmarshal(data, v)
}

// handle runs the handler within its deadline and returns the reply, nil when there was one already: the caller is answered
// at the deadline even when the handler is not done. The handler's place stays taken until it is, and is free when handle
// returns, so that who hears the answer can ask again at once.
func (s *Service) handle(base context.Context, ep *endpoint, msg *nats.Msg) *nats.Msg {
	defer ep.release()
	start := time.Now()
	in, err := s.read(msg)
	if err != nil {
		ep.stats.done(time.Since(start), err)
		return bus.NewErrorReply(in.codec, err)
	}
	timeout := s.cfg.Timeout
	if in.env.Timeout > 0 {
		timeout = in.env.Timeout
	}
	ctx, cancel := context.WithTimeout(base, timeout)
	defer cancel()
	var answering sync.Mutex // held while the caller is answered at the deadline, so that a stop waits for that too
	answered := false
	stop := context.AfterFunc(ctx, func() {
		answering.Lock()
		defer answering.Unlock()
		if !answered {
			answered = true
			s.respondError(msg, in.codec, s.ended(ctx, ep))
		}
	})
	defer stop()
	out, err := s.invoke(s.withRequest(ctx, ep, in), ep, in)
	var reply *nats.Msg
	if err == nil {
		reply, err = s.encode(in.codec, out)
	}
	answering.Lock()
	late := answered
	answered = true
	answering.Unlock()
	if err == nil && late || err != nil && errors.Is(err, ctx.Err()) {
		err = s.ended(ctx, ep)
	}
	ep.stats.done(time.Since(start), err)
	switch {
	case late:
		return nil
	case err != nil:
		return bus.NewErrorReply(in.codec, err)
	}
	return reply
}

// ended is the error of a request whose ctx ended before its handler: at its deadline, or because the service was stopped
// and waits no longer.
func (s *Service) ended(ctx context.Context, ep *endpoint) error {
	err, code, what := context.Cause(ctx), bus.DeadlineExceeded, "did not finish in time"
	if errors.Is(err, context.Canceled) {
		code, what = bus.Unavailable, "was stopped before it had finished"
	}
	return bus.Wrap(code, fmt.Sprintf("%s.%s on %s %s", s.cfg.Name, ep.name, s.cfg.Instance, what), err)
}

func (s *Service) withRequest(ctx context.Context, ep *endpoint, in *inbound) context.Context {
	id := in.env.RequestID
	if !validRequestID(id) {
		id = nuid.Next()
	}
	return withInfo(ctx, RequestInfo{
		RequestID:   id,
		Attempt:     in.env.Attempt,
		Origin:      in.env.Origin,
		Caller:      in.env.From,
		Service:     s.cfg.Name,
		Endpoint:    ep.name,
		Instance:    s.cfg.Instance,
		Traceparent: in.env.Traceparent,
	})
}

// invoke calls the handler and turns a panic into an error that tells the caller nothing but that.
func (s *Service) invoke(ctx context.Context, ep *endpoint, in *inbound) (out any, err error) {
	defer func() {
		if p := recover(); p != nil {
			ep.stats.panics.Add(1)
			s.log.ErrorContext(ctx, "handler panicked", "endpoint", ep.name, "request_id", Info(ctx).RequestID,
				"panic", p, "stack", string(debug.Stack()))
			out, err = nil, bus.Errorf(bus.Internal, "%s.%s panicked; the stack is in the log of %s", s.cfg.Name, ep.name, s.cfg.Instance)
		}
	}()
	return ep.handle(ctx, in)
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

func (s *Service) respondError(msg *nats.Msg, codec bus.Codec, err error) {
	_ = s.respond(msg, bus.NewErrorReply(codec, err)) // the error is counted where it comes from
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
			err = &bus.Error{Code: e.Code, Status: e.Status, Message: "the response is larger than the server takes (max_payload)"}
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

package micro

import (
	"bytes"
	"context"
	"fmt"
	"runtime/debug"
	"sync/atomic"
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
	h.running.Go(func() {
		defer ep.release()
		s.handle(h.base(), ep, msg)
	})
}

func (s *Service) check(ep *endpoint, msg *nats.Msg, t takes) bus.Drop {
	oneWay := t == takesOneWay || t == takesBoth && len(msg.Header[bus.HeaderOneWay]) > 0
	if !oneWay {
		return s.conn.CheckRequest(msg)
	}
	if !ep.oneWay {
		return bus.DropNotOneWay
	}
	return s.conn.CheckOneWay(msg)
}

func (s *Service) refuse(ep *endpoint, msg *nats.Msg) {
	if msg.Reply == "" {
		return
	}
	err := bus.Errorf(bus.Unavailable, "%s.%s on %s handles %d requests already", s.cfg.Name, ep.name, s.cfg.Instance, ep.limit)
	in, _ := s.read(msg) // for its codec: JSON where even that is unreadable
	s.respondError(msg, in.codec, err.With("reason", "overloaded"))
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

// decode reads the request. An empty body is the zero value.
func (in *inbound) decode(v any) error {
	if b, ok := v.(*[]byte); ok {
		*b = bytes.Clone(in.body)
		return nil
	}
	if len(in.body) == 0 {
		return nil
	}
	if err := in.codec.Unmarshal(in.body, v); err != nil {
		return bus.Errorf(bus.InvalidArgument, "request is not %s of the right shape: %w", in.codec.ContentType(), err)
	}
	return nil
}

func (in *inbound) decodePrior(v any) error {
	if len(in.prior) == 0 {
		return nil
	}
	if err := in.codec.Unmarshal(in.prior, v); err != nil {
		return bus.Errorf(bus.InvalidArgument, "response so far is not %s of the right shape: %w", in.codec.ContentType(), err)
	}
	return nil
}

// handle runs the handler within its deadline. The caller is answered at the deadline even when the handler is not done;
// its place stays taken until it is.
func (s *Service) handle(base context.Context, ep *endpoint, msg *nats.Msg) {
	start := time.Now()
	in, err := s.read(msg)
	if err != nil {
		s.respondError(msg, in.codec, err)
		ep.stats.done(time.Since(start), err)
		return
	}
	timeout := s.cfg.Timeout
	if in.env.Timeout > 0 {
		timeout = in.env.Timeout
	}
	ctx, cancel := context.WithTimeout(base, timeout)
	defer cancel()
	var answered atomic.Bool
	stop := context.AfterFunc(ctx, func() {
		if answered.CompareAndSwap(false, true) {
			s.respondError(msg, in.codec, s.ended(ctx, ep))
		}
	})
	defer stop()
	out, err := s.invoke(s.withRequest(ctx, ep, in), ep, in)
	var reply *nats.Msg
	if err == nil {
		reply, err = s.encode(in.codec, out)
	}
	if answered.CompareAndSwap(false, true) {
		if err != nil {
			s.respondError(msg, in.codec, err)
		} else {
			s.respond(msg, reply)
		}
	} else if err == nil {
		err = s.ended(ctx, ep)
	}
	ep.stats.done(time.Since(start), err)
}

func (s *Service) ended(ctx context.Context, ep *endpoint) error {
	err := context.Cause(ctx)
	return bus.Wrap(bus.CodeOf(err), fmt.Sprintf("%s.%s on %s did not finish in time", s.cfg.Name, ep.name, s.cfg.Instance), err)
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
	body, ok := out.([]byte)
	if !ok {
		var err error
		if body, err = codec.Marshal(out); err != nil {
			return nil, bus.Errorf(bus.Internal, "response of type %T does not encode as %s: %w", out, codec.ContentType(), err)
		}
	}
	return &nats.Msg{Data: body, Header: nats.Header{
		bus.HeaderContentType: {codec.ContentType()},
		bus.HeaderFrom:        s.from,
	}}, nil
}

func (s *Service) respondError(msg *nats.Msg, codec bus.Codec, err error) {
	reply := bus.NewErrorReply(codec, err)
	reply.Header[bus.HeaderFrom] = s.from
	s.respond(msg, reply)
}

// respond sends the reply. A reply that is too large becomes an error for the caller; one that cannot be sent at all is
// the caller's time-out.
func (s *Service) respond(msg, reply *nats.Msg) {
	if msg.Reply == "" {
		return
	}
	reply.Subject = msg.Reply
	err := s.conn.Publish(reply)
	if err == nil {
		return
	}
	if bus.CodeOf(err) == bus.ResourceExhausted {
		e := bus.AsError(err)
		tooLarge := bus.NewErrorReply(bus.JSON{}, &bus.Error{Code: e.Code, Status: e.Status, Message: "the response is larger than the server takes (max_payload)"})
		tooLarge.Subject = msg.Reply
		tooLarge.Header[bus.HeaderFrom] = s.from
		err = s.conn.Publish(tooLarge)
	}
	if err != nil {
		s.log.Warn("reply not sent", "subject", msg.Subject, "error", err)
	}
}

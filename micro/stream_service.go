package micro

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro/stream"
)

// ServerStream is the service's end of a stream, with messages as they are. [HandleServerStream], [HandleClientStream] and
// [HandleBidi] are the typed ways to have one.
type ServerStream struct {
	stream  *stream.Stream
	msg     *nats.Msg
	codec   bus.Codec
	trailer nats.Header
}

// Request is what the caller sent to open the stream; empty where it sent nothing.
func (s *ServerStream) Request() []byte { return s.msg.Data }

// ContentType says how the caller encodes its messages, and takes the answers.
func (s *ServerStream) ContentType() string { return s.codec.ContentType() }

// Header are the headers that the caller added.
func (s *ServerStream) Header() nats.Header { return bus.UserHeader(s.msg.Header) }

// Recv returns the caller's next message, and io.EOF after its last.
func (s *ServerStream) Recv(ctx context.Context) ([]byte, error) { return s.stream.Recv(ctx) }

// Send sends a message to the caller. It waits while the caller has not read what was sent before.
func (s *ServerStream) Send(ctx context.Context, data []byte) error { return s.stream.Send(ctx, data) }

// SetHeader sets what the caller is told before the first message, as [stream.Stream.SetHeader].
func (s *ServerStream) SetHeader(h nats.Header) error { return s.stream.SetHeader(h) }

// SendHeader sends the headers without waiting for the first message.
func (s *ServerStream) SendHeader() error { return s.stream.SendHeader() }

// SetTrailer sets what the caller is told at the end, as [bus.CheckHeader] takes it. It is not for concurrent use, and does
// nothing after the handler has returned.
func (s *ServerStream) SetTrailer(h nats.Header) error {
	if err := bus.CheckHeader(h); err != nil {
		return err
	}
	s.trailer = h
	return nil
}

// HandleStream adds an endpoint whose handler sends and receives messages as they are. The stream ends when h returns, with
// its error. ctx ends when the caller is gone or gives up, at the deadline of the caller if it has one, and when the service
// stops and has waited for [Config.Drain]: the caller then sees unavailable. Streams count for the endpoint's [Concurrency].
func HandleStream(s *Service, name string, h func(ctx context.Context, st *ServerStream) error, opts ...EndpointOption) error {
	return s.add(opts, &endpoint{name: name, stream: h})
}

// handleMessages adds a stream whose messages have types.
func handleMessages[Req, Resp any](s *Service, name string, opts []EndpointOption, h func(ctx context.Context, st *ServerStream) error) error {
	return s.add(opts, &endpoint{name: name, takes: reflect.TypeFor[Req](), gives: reflect.TypeFor[Resp](), stream: h})
}

// HandleServerStream adds an endpoint that answers one request with many messages.
func HandleServerStream[Req, Resp any](s *Service, name string, h func(ctx context.Context, req Req, out *Sender[Resp]) error, opts ...EndpointOption) error {
	return handleMessages[Req, Resp](s, name, opts, func(ctx context.Context, st *ServerStream) error {
		req, err := decodeMessage[Req](st.codec, st.Request())
		if err != nil {
			return misshapen(st.ContentType(), err)
		}
		return h(ctx, req, &Sender[Resp]{end: st, codec: st.codec})
	})
}

// HandleClientStream adds an endpoint that answers many messages with one response. in ends with the caller's last message; an
// error in it is the last value.
func HandleClientStream[Req, Resp any](s *Service, name string, h func(ctx context.Context, in iter.Seq2[Req, error]) (Resp, error), opts ...EndpointOption) error {
	return handleMessages[Req, Resp](s, name, opts, func(ctx context.Context, st *ServerStream) error {
		in := &Receiver[Req]{end: st, codec: st.codec}
		resp, err := h(ctx, in.All(ctx))
		if err != nil {
			return err
		}
		out := &Sender[Resp]{end: st, codec: st.codec}
		return out.Send(ctx, resp)
	})
}

// HandleBidi adds an endpoint that takes and gives many messages. One goroutine may use in while another uses out.
func HandleBidi[Req, Resp any](s *Service, name string, h func(ctx context.Context, in *Receiver[Req], out *Sender[Resp]) error, opts ...EndpointOption) error {
	return handleMessages[Req, Resp](s, name, opts, func(ctx context.Context, st *ServerStream) error {
		return h(ctx, &Receiver[Req]{end: st, codec: st.codec}, &Sender[Resp]{end: st, codec: st.codec})
	})
}

func (s *Service) openMux() (err error) {
	if s.cfg.Streams.Logger == nil {
		s.cfg.Streams.Logger = s.cfg.Logger
	}
	if s.mux, err = stream.New(s.conn, s.cfg.Streams); err == nil {
		s.bodies, err = newBodies(s.conn, s.mux, s.cfg.MaxBody)
	}
	return err
}

// wrongKind refuses a call that is a stream where the endpoint is none, or the other way round.
func (s *Service) wrongKind(ep *endpoint, msg *nats.Msg) error {
	asked := len(msg.Header[bus.HeaderStream]) > 0
	switch {
	case asked && ep.stream == nil:
		return bus.Errorf(bus.FailedPrecondition, "%s.%s takes one request and gives one response: it is called as a stream", s.cfg.Name, ep.name)
	case !asked && ep.stream != nil:
		return bus.Errorf(bus.FailedPrecondition, "%s.%s is a stream: it is called as if it gave one response", s.cfg.Name, ep.name)
	}
	return nil
}

// accept accepts a stream for a handler. The ctx ends with base, which tells the caller that the service stopped.
func (s *Service) accept(base context.Context, in *inbound) (context.Context, *stream.Stream, context.CancelFunc, error) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(base))
	stop := context.AfterFunc(base, func() {
		cancel(bus.Errorf(bus.Unavailable, "service %q: %s was stopped before the stream had ended", s.cfg.Name, s.cfg.Instance))
	})
	release := func() {
		stop()
		cancel(nil)
	}
	ctx, st, err := s.mux.Accept(ctx, in.msg, nats.Header{bus.HeaderFrom: s.from, bus.HeaderContentType: {in.codec.ContentType()}})
	if err != nil {
		release()
		if e := bus.AsError(err); e.Code == bus.ResourceExhausted { // another instance may have room
			err = bus.Wrap(bus.Unavailable, e.Message, err).With("reason", ReasonOverloaded)
		}
		return nil, nil, nil, err
	}
	return ctx, st, release, nil
}

// serveStream runs the handler of a stream.
func (s *Service) serveStream(base context.Context, in *inbound) {
	defer in.ep.release()
	in.start = time.Now()
	err := in.err
	var ctx context.Context
	var st *stream.Stream
	release := func() {}
	if err == nil {
		ctx, st, release, err = s.accept(base, in)
	}
	if err != nil {
		in.ep.stats.done(time.Since(in.start), err)
		_ = s.respond(in.msg, s.errorReply(in, err)) // counted above
		return
	}
	defer release()
	end := &ServerStream{stream: st, msg: in.msg, codec: in.codec}
	err = s.invokeStream(in.attach(ctx), in, end)
	s.finishStream(ctx, in, end, err)
}

// invokeStream calls the handler, with panics as in [Service.invoke].
func (s *Service) invokeStream(ctx context.Context, in *inbound, st *ServerStream) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = s.panicked(ctx, in, p)
		}
	}()
	return in.ep.stream(ctx, st)
}

// finishStream ends a stream as its handler did.
func (s *Service) finishStream(ctx context.Context, in *inbound, st *ServerStream, err error) {
	if err != nil && errors.Is(err, ctx.Err()) {
		cause := context.Cause(ctx) // which says more
		err = bus.Wrap(bus.CodeOf(cause), fmt.Sprintf("%s.%s on %s: %v", s.cfg.Name, in.ep.name, s.cfg.Instance, cause), err)
	}
	if ferr := st.stream.Finish(err, st.trailer); err == nil {
		err = ferr
	}
	in.ep.stats.done(time.Since(in.start), err)
}

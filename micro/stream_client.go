package micro

import (
	"context"
	"errors"
	"io"
	"iter"
	"maps"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/backoff"
	"github.com/skybus-io/skybus/micro/stream"
)

// ClientStream is the caller's end of a stream, with messages as they are. One goroutine may send while another receives.
type ClientStream struct {
	stream *stream.Stream
	cancel context.CancelFunc
}

// From is the address of the instance at the other end; empty when it did not tell.
func (s *ClientStream) From() string { return first(s.stream.Accepted(), bus.HeaderFrom) }

// Send sends a message. It waits while the service has not read what was sent before. io.EOF means that the service has
// finished without an error.
func (s *ClientStream) Send(ctx context.Context, data []byte) error { return s.stream.Send(ctx, data) }

// CloseSend tells the service that this was all.
func (s *ClientStream) CloseSend() error { return s.stream.CloseSend(nil) }

// Recv returns the next message, and io.EOF when the service has finished without an error. After it no [ClientStream.Close]
// is needed.
func (s *ClientStream) Recv(ctx context.Context) ([]byte, error) {
	data, err := s.stream.Recv(ctx)
	if err != nil && ctx.Err() == nil {
		s.cancel()
	}
	return data, err
}

// Header waits for the headers that the service sends before its first message; nil when it sends none.
func (s *ClientStream) Header(ctx context.Context) (nats.Header, error) { return s.stream.Header(ctx) }

// Trailer are the headers that came with the end.
func (s *ClientStream) Trailer() nats.Header { return s.stream.Trailer() }

// Close ends the stream, and the handler's ctx, if it is not over.
func (s *ClientStream) Close() error {
	s.stream.Cancel(nil)
	s.cancel()
	return nil
}

func (c *Client) openMux() (err error) {
	if c.cfg.Streams.Logger == nil {
		c.cfg.Streams.Logger = c.cfg.Logger
	}
	if c.mux, err = stream.New(c.conn, c.cfg.Streams); err == nil {
		c.bodies, err = newBodies(c.conn, c.mux, c.cfg.MaxBody)
	}
	return err
}

// OpenStream opens a stream to an endpoint that is one, with r.Body as the first thing it is told ([ServerStream.Request]).
// The instance is chosen as for a call, by [ToRegion], [ToVersion], [ToInstance] and policies too, and where nobody listens or
// all refuse it is tried again for as long; once an instance has accepted, the stream stays with it. Policies that observe and
// [OutlierConfig] learn from how the opening went, not from how long the stream lasts. ctx is the stream's: when it ends the stream does. It has no deadline
// unless ctx has one. Close the stream, read it to its end or end ctx, or it stays open.
//
// The error is as that of [Call]; failed_precondition when the endpoint is no stream. Interceptors see no streams.
func (c *Client) OpenStream(ctx context.Context, r Request) (*ClientStream, error) {
	if err := checkRequest(&r); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	a := &attempts{client: c, req: &r, env: c.envelope(ctx, &r), peer: c.peer(r.Service), n: max(0, r.Attempt-1)}
	a.patience = time.Now().Add(orDefault(r.Patience, c.cfg.Patience))
	a.peer.budget.Request()
	retry := firstRetry
	for {
		t := a.plan()
		st := a.open(ctx, t)
		if t.err == nil {
			return &ClientStream{stream: st, cancel: cancel}, nil
		}
		a.learn(t)
		again := a.again(ctx, t)
		known := again && errors.Is(t.err, bus.ErrNoResponders) && (a.found || t.instance != "" && a.others())
		a.found = false
		if !again || !known && !backoff.Sleep(ctx, rand.N(retry)+retry/2) {
			cancel()
			return nil, a.explain(t.err)
		}
		retry = min(2*retry, lastRetry)
	}
}

// open opens the stream of a planned attempt.
func (a *attempts) open(ctx context.Context, t *attempt) *stream.Stream {
	if t.err == nil && t.foreign != nil {
		t.err = bus.Errorf(bus.FailedPrecondition, "service %q is none of skybus: it has no streams", a.req.Service)
	}
	if t.err != nil {
		return nil
	}
	env := a.env
	env.Attempt = t.n
	t.msg.Header = env.Header()
	maps.Copy(t.msg.Header, a.req.Header)
	var st *stream.Stream
	start := time.Now()
	st, t.err = a.client.mux.Open(ctx, t.msg)
	if errors.Is(t.err, nats.ErrMaxPayload) {
		st, t.err = a.client.openLarge(ctx, t.msg)
	}
	if st != nil {
		t.reply.From = first(st.Accepted(), bus.HeaderFrom)
	}
	a.opened(t, time.Since(start))
	return st
}

// opened tells who observes, and who watches for instances that fail, how the opening of a stream went. How long the stream
// lasts says nothing about the instance.
func (a *attempts) opened(t *attempt, took time.Duration) {
	nobody := errors.Is(t.err, bus.ErrNoResponders)
	fault := a.fault(t.err, !nobody && a.client.conn.NATS().IsConnected())
	if t.observe != nil {
		t.observe(took, orFault(fault, t.err))
	}
	if fault != nil || t.err == nil && a.peer.suspects() {
		a.client.report(a.peer, a.req.Service, a.instance(t), fault)
	}
}

func (c *Client) openLarge(ctx context.Context, msg *nats.Msg) (*stream.Stream, error) {
	msg, withdraw, err := c.offered(ctx, msg)
	if err != nil {
		return nil, err
	}
	defer withdraw() // who has accepted has it
	return c.mux.Open(ctx, msg)
}

func (c *Client) openTyped(ctx context.Context, target string, req any, opts []CallOption) (*ClientStream, error) {
	service, endpoint, err := ParseTarget(target)
	if err != nil {
		return nil, err
	}
	r := &Request{Service: service, Endpoint: endpoint, ContentType: c.conn.Codec().ContentType()}
	for _, o := range opts {
		o.applyCall(r)
	}
	if req != nil {
		if r.Body, err = encodeMessage(c.conn.Codec(), req); err != nil {
			return nil, err
		}
	}
	return c.OpenStream(ctx, *r)
}

func (c *Client) answerCodec(st *ClientStream) (bus.Codec, error) {
	contentType := first(st.stream.Accepted(), bus.HeaderContentType)
	codec, err := c.conn.CodecFor(contentType)
	if err != nil {
		_ = st.Close() // has no error
		return nil, bus.Errorf(bus.Internal, "answer of %s: %w", st.From(), err)
	}
	return codec, nil
}

// CallServerStream calls an endpoint that answers req with many messages, and yields them; an error is the last value. The
// stream is opened when the range begins and closed when it ends.
func CallServerStream[Resp any](ctx context.Context, c *Client, target string, req any, opts ...CallOption) iter.Seq2[Resp, error] {
	return func(yield func(Resp, error) bool) {
		var zero Resp
		st, err := c.openTyped(ctx, target, req, opts)
		if err != nil {
			yield(zero, err)
			return
		}
		defer func() { _ = st.Close() }() // has no error
		codec, err := c.answerCodec(st)
		if err != nil {
			yield(zero, err)
			return
		}
		in := Receiver[Resp]{end: st, codec: codec}
		in.All(ctx)(yield)
	}
}

// Duplex is a typed stream that the caller opened: [CallBidi]. One goroutine may send while another receives.
type Duplex[Req, Resp any] struct {
	Sender[Req]
	Receiver[Resp]

	// Stream is the stream beneath, for its headers.
	Stream *ClientStream
}

// CloseSend tells the service that this was all. The answers go on.
func (d *Duplex[Req, Resp]) CloseSend() error { return d.Stream.CloseSend() }

// Close ends the stream if it is not over.
func (d *Duplex[Req, Resp]) Close() error { return d.Stream.Close() }

// CallBidi opens a stream to an endpoint that takes and gives many messages. What holds for [Client.OpenStream] holds here.
func CallBidi[Req, Resp any](ctx context.Context, c *Client, target string, opts ...CallOption) (*Duplex[Req, Resp], error) {
	st, err := c.openTyped(ctx, target, nil, opts)
	if err != nil {
		return nil, err
	}
	codec, err := c.answerCodec(st)
	if err != nil {
		return nil, err
	}
	return &Duplex[Req, Resp]{Sender[Req]{st, c.conn.Codec()}, Receiver[Resp]{st, codec}, st}, nil
}

// ClientSender is a stream of messages to an endpoint that answers all of them with one response: [CallClientStream].
type ClientSender[Req, Resp any] struct {
	Sender[Req]

	in Receiver[Resp]
	st *ClientStream
}

// CallClientStream opens a stream to an endpoint that takes many messages and gives one response. What holds for
// [Client.OpenStream] holds here.
func CallClientStream[Req, Resp any](ctx context.Context, c *Client, target string, opts ...CallOption) (*ClientSender[Req, Resp], error) {
	d, err := CallBidi[Req, Resp](ctx, c, target, opts...)
	if err != nil {
		return nil, err
	}
	return &ClientSender[Req, Resp]{Sender: d.Sender, in: d.Receiver, st: d.Stream}, nil
}

// Finish tells the service that this was all, and returns its response. It may be called before all is sent when Send
// returned an error, and then says why.
func (s *ClientSender[Req, Resp]) Finish(ctx context.Context) (Resp, error) {
	defer func() { _ = s.st.Close() }() // has no error
	_ = s.st.CloseSend()                // what failed is told by Recv, with its cause
	resp, err := s.in.Recv(ctx)
	if errors.Is(err, io.EOF) {
		return resp, bus.Errorf(bus.Internal, "%s ended the stream without a response", s.st.From())
	}
	return resp, err
}

// Close ends the stream if it is not over: the handler sees that it was canceled.
func (s *ClientSender[Req, Resp]) Close() error { return s.st.Close() }

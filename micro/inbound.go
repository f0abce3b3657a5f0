package micro

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/skybus-io/skybus/bus"
)

// inbound is a request on its way to a handler and back.
type inbound struct {
	scope scope // what the handler's ctx knows
	ep    *endpoint
	msg   *nats.Msg
	env   bus.Envelope
	codec bus.Codec
	body  []byte
	prior []byte
	err   error // why it cannot be handled

	request any   // decoded, where that had to be before its turn
	turn    *turn // in the queue of a serial endpoint
	start   time.Time
	hops    *hopCollector // nil unless the caller asked

	cancel   context.CancelFunc
	canceled atomic.Bool // by the caller
	next     *inbound    // with the same request id; see requests

	answering sync.Mutex // held while the caller is answered at the deadline, so that a stop waits for that too

	answered bool
	header   nats.Header // of the reply, what the handler added
}

// read makes an inbound of a message. With an err it still has a codec, for the answer.
func (s *Service) read(ep *endpoint, msg *nats.Msg) *inbound {
	in := &inbound{ep: ep, msg: msg, codec: bus.JSON{}}
	if in.env, in.err = bus.ReadEnvelope(msg.Header); in.err != nil {
		return in
	}
	codec, err := s.conn.CodecFor(in.env.ContentType)
	if err != nil {
		in.err = err
		return in
	}
	in.codec = codec
	if in.env.Prior > len(msg.Data) {
		in.err = bus.Errorf(bus.InvalidArgument, "header %s is %d, the body has %d bytes", bus.HeaderPrior, in.env.Prior, len(msg.Data))
		return in
	}
	in.body, in.prior = msg.Data[:len(msg.Data)-in.env.Prior], msg.Data[len(msg.Data)-in.env.Prior:]
	in.scope = scope{in: in, info: RequestInfo{
		RequestID:   in.env.RequestID,
		Attempt:     in.env.Attempt,
		Origin:      in.env.Origin,
		Caller:      in.env.From,
		Service:     s.cfg.Name,
		Endpoint:    ep.name,
		Instance:    s.cfg.Instance,
		Traceparent: in.env.Traceparent,
		ContentType: in.env.ContentType,
	}}
	if !validRequestID(in.env.RequestID) {
		in.scope.info.RequestID = nuid.Next()
	}
	return in
}

// attach makes ctx the handler's.
func (in *inbound) attach(ctx context.Context) context.Context {
	ctx = context.WithValue(ctx, scopeKey{}, &in.scope)
	if in.env.Trace {
		in.hops = &hopCollector{}
		ctx = context.WithValue(ctx, hopsKey{}, in.hops)
	}
	return ctx
}

// answer notes that the caller is answered, by f where it is not nil, and tells whether it was before. Then f is not called.
func (in *inbound) answer(f func()) (before bool) {
	in.answering.Lock()
	defer in.answering.Unlock()
	before, in.answered = in.answered, true
	if !before && f != nil {
		f()
	}
	return before
}

func (in *inbound) decode(v any) error {
	if err := in.unmarshal(in.body, v); err != nil {
		return misshapen(in.codec.ContentType(), err)
	}
	return nil
}

func (in *inbound) decodePrior(v any) error {
	if err := in.unmarshal(in.prior, v); err != nil {
		return misfit("response so far", in.codec.ContentType(), err)
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

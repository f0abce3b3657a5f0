package grpcbus

import (
	"context"
	"errors"
	"io"
	"maps"

	"github.com/nats-io/nats.go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro"
)

// ClientConn calls the gRPC services of one skybus service, for generated stubs. It is safe for concurrent use and holds
// nothing: closing the client is enough.
type ClientConn struct {
	client *micro.Client
	base   micro.Request
}

var _ grpc.ClientConnInterface = (*ClientConn)(nil)

// NewClientConn makes calls to service by c. opts hold for all of them: a version, a region, a policy.
//
// A unary call without a deadline has that of c; a stream has none. gRPC's call options for headers, trailers and the end of a
// call are obeyed, those of gRPC's transport mean nothing here, and per-call credentials and codecs are refused
// with Unimplemented, since to leave them out could be harmful.
func NewClientConn(c *micro.Client, service string, opts ...micro.CallOption) (*ClientConn, error) {
	if err := bus.CheckToken("service", service); err != nil {
		return nil, err
	}
	return &ClientConn{client: c, base: micro.Request{Service: service}.With(opts...)}, nil
}

// callOptions are what matters of a call's options.
type callOptions struct {
	headers, trailers []*metadata.MD
	finish            []func(error)
}

func readOptions(opts []grpc.CallOption) (callOptions, error) {
	var o callOptions
	for _, opt := range opts {
		switch opt := opt.(type) {
		case grpc.HeaderCallOption:
			o.headers = append(o.headers, opt.HeaderAddr)
		case grpc.TrailerCallOption:
			o.trailers = append(o.trailers, opt.TrailerAddr)
		case grpc.OnFinishCallOption:
			o.finish = append(o.finish, opt.OnFinish)
		case grpc.PerRPCCredsCallOption, grpc.ContentSubtypeCallOption, grpc.ForceCodecCallOption, grpc.ForceCodecV2CallOption, grpc.CustomCodecCallOption:
			return o, status.Errorf(codes.Unimplemented, "grpcbus: the call option %T does not work over the bus", opt)
		}
	}
	return o, nil
}

func (o callOptions) done(header, trailer metadata.MD, err error) {
	for _, md := range o.headers {
		*md = header
	}
	for _, md := range o.trailers {
		*md = trailer
	}
	for _, f := range o.finish {
		f(err)
	}
}

func (c *ClientConn) request(ctx context.Context, method string) (micro.Request, error) {
	r := c.base
	endpoint, err := Endpoint(method)
	if err != nil {
		return r, fromBus(err, nil)
	}
	r.Endpoint, r.ContentType = endpoint, bus.Raw{}.ContentType()
	md, _ := metadata.FromOutgoingContext(ctx)
	header := nats.Header{}
	maps.Copy(header, r.Header)
	if err := addMetadata(header, headerPrefix, md); err != nil {
		return r, err
	}
	r.Header = header
	return r, nil
}

// Invoke makes a unary call.
func (c *ClientConn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	o, err := readOptions(opts)
	if err != nil {
		return err
	}
	r, err := c.request(ctx, method)
	if err == nil {
		r.Body, err = marshal(args)
	}
	if err != nil {
		o.done(nil, nil, err)
		return err
	}
	answer, err := c.client.Do(ctx, r)
	if err = fromBus(err, answer.Header); err == nil {
		err = unmarshal(answer.Body, reply)
	}
	o.done(readMetadata(answer.Header, headerPrefix), readMetadata(answer.Header, trailerPrefix), err)
	return err
}

// NewStream opens a stream and waits until a server has accepted it. It stays open until it is read to its end or ctx ends.
func (c *ClientConn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	o, err := readOptions(opts)
	if err != nil {
		return nil, err
	}
	r, err := c.request(ctx, method)
	if err != nil {
		return nil, err
	}
	st, err := c.client.OpenStream(ctx, r)
	if err != nil {
		return nil, fromBus(err, nil)
	}
	return &clientStream{stream: st, ctx: func() context.Context { return ctx }, single: !desc.ServerStreams, options: o}, nil
}

// clientStream is a stream as stubs use it: one goroutine sends while another receives.
type clientStream struct {
	stream  *micro.ClientStream
	ctx     func() context.Context
	single  bool // one message comes, and then the end
	options callOptions
	ended   bool
}

var _ grpc.ClientStream = (*clientStream)(nil)

func (s *clientStream) Context() context.Context { return s.ctx() }

func (s *clientStream) Header() (metadata.MD, error) {
	h, err := s.stream.Header(s.ctx())
	if err != nil {
		return nil, fromBus(err, nil)
	}
	return readMetadata(h, headerPrefix), nil
}

func (s *clientStream) Trailer() metadata.MD {
	return readMetadata(s.stream.Trailer(), trailerPrefix)
}

func (s *clientStream) CloseSend() error {
	_ = s.stream.CloseSend() // as gRPC has it: RecvMsg tells why
	return nil
}

// SendMsg sends m. io.EOF means that the stream is over, and RecvMsg tells why.
func (s *clientStream) SendMsg(m any) error {
	data, err := marshal(m)
	if err != nil {
		return err
	}
	if err := s.stream.Send(s.ctx(), data); err != nil {
		return io.EOF
	}
	return nil
}

func (s *clientStream) RecvMsg(m any) error {
	data, err := s.stream.Recv(s.ctx())
	if err != nil {
		return s.end(err)
	}
	if err := unmarshal(data, m); err != nil {
		_ = s.stream.Close() // has no error
		return err
	}
	if !s.single {
		return nil
	}
	if _, err = s.stream.Recv(s.ctx()); err == nil {
		_ = s.stream.Close() // has no error
		return status.Error(codes.Internal, "grpcbus: more than one response came where one is due")
	}
	if err = s.end(err); errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// end is the error of RecvMsg at the end of the stream.
func (s *clientStream) end(err error) error {
	if !errors.Is(err, io.EOF) {
		err = fromBus(err, s.stream.Trailer())
	}
	if !s.ended {
		s.ended = true
		header, herr := s.Header()
		if herr != nil {
			header = nil
		}
		told := err
		if errors.Is(err, io.EOF) {
			told = nil
		}
		s.options.done(header, s.Trailer(), told)
	}
	return err
}

func marshal(v any) ([]byte, error) {
	m, ok := v.(proto.Message)
	if !ok {
		old, isOld := v.(protoadapt.MessageV1)
		if !isOld {
			return nil, status.Errorf(codes.Internal, "grpcbus: a %T is no message of Protocol Buffers", v)
		}
		m = protoadapt.MessageV2Of(old)
	}
	data, err := proto.Marshal(m)
	if err != nil {
		return nil, status.Errorf(codes.Internal, "grpcbus: encode %T: %v", v, err)
	}
	return data, nil
}

func unmarshal(data []byte, v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		old, isOld := v.(protoadapt.MessageV1)
		if !isOld {
			return status.Errorf(codes.Internal, "grpcbus: a %T is no message of Protocol Buffers", v)
		}
		m = protoadapt.MessageV2Of(old)
	}
	if err := proto.Unmarshal(data, m); err != nil {
		return status.Errorf(codes.Internal, "grpcbus: decode %T: %v", v, err)
	}
	return nil
}

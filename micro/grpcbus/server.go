package grpcbus

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"reflect"
	"sync"

	"github.com/nats-io/nats.go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro"
)

// ServerConfig adjusts a [Server]. The zero value works.
type ServerConfig struct {
	// UnaryInterceptor and StreamInterceptor are around every handler, as in gRPC. Nil means none. Interceptors of the
	// micro.Service see the bytes of unary calls.
	UnaryInterceptor  grpc.UnaryServerInterceptor
	StreamInterceptor grpc.StreamServerInterceptor
	// Endpoint are options for all endpoints.
	Endpoint []micro.EndpointOption
}

// Server has gRPC services as endpoints of a skybus service. The micro.Service is what runs.
type Server struct {
	service *micro.Service
	cfg     ServerConfig

	mu    sync.Mutex
	infos map[string]grpc.ServiceInfo
}

var _ grpc.ServiceRegistrar = (*Server)(nil)

// NewServer makes a server that adds its endpoints to s.
func NewServer(s *micro.Service, cfg ServerConfig) *Server {
	return &Server{service: s, cfg: cfg, infos: map[string]grpc.ServiceInfo{}}
}

// RegisterService adds the methods of a gRPC service; generated code calls it. It panics when impl does not implement the
// service and when an endpoint cannot be added: there is no error to return, and the program is wrong. [Server.Register] returns it.
func (s *Server) RegisterService(desc *grpc.ServiceDesc, impl any) {
	if err := s.Register(desc, impl); err != nil {
		panic(err)
	}
}

// Register is RegisterService with an error. After one, some of the methods may be there.
func (s *Server) Register(desc *grpc.ServiceDesc, impl any) error {
	if want := reflect.TypeOf(desc.HandlerType).Elem(); impl != nil && !reflect.TypeOf(impl).Implements(want) {
		return bus.Errorf(bus.InvalidArgument, "grpcbus: register %s: %T is no %v", desc.ServiceName, impl, want)
	}
	info := grpc.ServiceInfo{Metadata: desc.Metadata}
	for _, m := range desc.Methods {
		info.Methods = append(info.Methods, grpc.MethodInfo{Name: m.MethodName})
		if err := s.addUnary("/"+desc.ServiceName+"/"+m.MethodName, m, impl); err != nil {
			return err
		}
	}
	for _, st := range desc.Streams {
		info.Methods = append(info.Methods, grpc.MethodInfo{Name: st.StreamName, IsClientStream: st.ClientStreams, IsServerStream: st.ServerStreams})
		if err := s.addStream("/"+desc.ServiceName+"/"+st.StreamName, st, impl); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.infos[desc.ServiceName] = info
	return nil
}

// GetServiceInfo tells what is registered, for gRPC's reflection service.
func (s *Server) GetServiceInfo() map[string]grpc.ServiceInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.infos)
}

func (s *Server) addUnary(method string, desc grpc.MethodDesc, impl any) error {
	endpoint, err := Endpoint(method)
	if err != nil {
		return err
	}
	return micro.Handle(s.service, endpoint, func(ctx context.Context, body []byte) ([]byte, error) {
		call := &unaryCall{method: method}
		ctx = grpc.NewContextWithServerTransportStream(incoming(ctx, micro.RequestHeader(ctx)), call)
		decode := func(v any) error {
			if err := unmarshal(body, v); err != nil {
				return status.Error(codes.InvalidArgument, status.Convert(err).Message())
			}
			return nil
		}
		out, err := desc.Handler(impl, ctx, decode, s.cfg.UnaryInterceptor)
		var data []byte
		if err == nil {
			data, err = marshal(out)
		}
		header, err := call.end(err)
		for name, values := range header {
			if herr := micro.SetReplyHeader(ctx, name, values...); herr != nil && err == nil {
				err = herr
			}
		}
		return data, err
	}, s.cfg.Endpoint...)
}

func (s *Server) addStream(method string, desc grpc.StreamDesc, impl any) error {
	endpoint, err := Endpoint(method)
	if err != nil {
		return err
	}
	info := &grpc.StreamServerInfo{FullMethod: method, IsClientStream: desc.ClientStreams, IsServerStream: desc.ServerStreams}
	return micro.HandleStream(s.service, endpoint, func(ctx context.Context, st *micro.ServerStream) error {
		ss := &serverStream{stream: st}
		ss.method = method
		ss.send = func(h nats.Header) error { return errors.Join(st.SetHeader(h), st.SendHeader()) }
		ctx = grpc.NewContextWithServerTransportStream(incoming(ctx, st.Header()), &ss.unaryCall)
		ss.ctx = func() context.Context { return ctx }
		var err error
		if s.cfg.StreamInterceptor != nil {
			err = s.cfg.StreamInterceptor(impl, ss, info, desc.Handler)
		} else {
			err = desc.Handler(impl, ss)
		}
		header, err := ss.end(err)
		if terr := st.SetTrailer(header); terr != nil && err == nil {
			err = terr
		}
		return err
	}, s.cfg.Endpoint...)
}

// incoming is the ctx of a handler with the caller's metadata and name.
func incoming(ctx context.Context, h nats.Header) context.Context {
	ctx = metadata.NewIncomingContext(ctx, readMetadata(h, headerPrefix))
	return peer.NewContext(ctx, &peer.Peer{Addr: callerAddr(micro.Info(ctx).Caller)})
}

// callerAddr is the skybus address of a caller, as it calls itself.
type callerAddr string

var _ net.Addr = callerAddr("")

func (callerAddr) Network() string  { return "skybus" }
func (a callerAddr) String() string { return string(a) }

// unaryCall keeps what a handler says beside its answer.
type unaryCall struct {
	method string
	send   func(nats.Header) error // sends headers now; nil where they go with the answer

	mu      sync.Mutex
	header  metadata.MD
	trailer metadata.MD
	sent    bool
}

var _ grpc.ServerTransportStream = (*unaryCall)(nil)

func (c *unaryCall) Method() string { return c.method }

func (c *unaryCall) SetHeader(md metadata.MD) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sent {
		return status.Error(codes.Internal, "grpcbus: the headers are sent already")
	}
	c.header = metadata.Join(c.header, md)
	return nil
}

// SendHeader of a unary call makes the headers final; they go with the answer.
func (c *unaryCall) SendHeader(md metadata.MD) error {
	if err := c.SetHeader(md); err != nil {
		return err
	}
	return c.flush(true)
}

// flush sends the headers unless they are, where there are none only if asked.
func (c *unaryCall) flush(empty bool) error {
	c.mu.Lock()
	sent, header := c.sent, c.header
	c.sent = true
	c.mu.Unlock()
	if sent || c.send == nil || len(header) == 0 && !empty {
		return nil
	}
	h := nats.Header{}
	if err := addMetadata(h, headerPrefix, header); err != nil {
		return err
	}
	return asStatus(c.send(h))
}

func (c *unaryCall) SetTrailer(md metadata.MD) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trailer = metadata.Join(c.trailer, md)
	return nil
}

// end is what goes with the answer of a handler, and its error as the bus has it.
func (c *unaryCall) end(err error) (nats.Header, error) {
	if c.send != nil {
		if ferr := c.flush(false); err == nil {
			err = ferr
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	h := nats.Header{}
	if c.send == nil {
		if herr := addMetadata(h, headerPrefix, c.header); err == nil {
			err = herr
		}
	}
	if terr := addMetadata(h, trailerPrefix, c.trailer); err == nil {
		err = terr
	}
	if herr := bus.CheckHeader(h); herr != nil {
		h = nats.Header{}
		if err == nil {
			err = status.Errorf(codes.ResourceExhausted, "grpcbus: headers and trailers: %v", herr)
		}
	}
	if err == nil {
		return h, nil
	}
	err = toBus(statusOf(err), h)
	if bus.CheckHeader(h) != nil {
		delete(h, trailerPrefix+statusKey)
	}
	return h, err
}

// serverStream is a stream as handlers use it.
type serverStream struct {
	unaryCall

	stream *micro.ServerStream
	ctx    func() context.Context
}

var _ grpc.ServerStream = (*serverStream)(nil)

func (s *serverStream) Context() context.Context { return s.ctx() }

func (s *serverStream) SetTrailer(md metadata.MD) { _ = s.unaryCall.SetTrailer(md) } // has no error

func (s *serverStream) SendMsg(m any) error {
	data, err := marshal(m)
	if err != nil {
		return err
	}
	if err := s.flush(false); err != nil {
		return err
	}
	return asStatus(s.stream.Send(s.ctx(), data))
}

func (s *serverStream) RecvMsg(m any) error {
	data, err := s.stream.Recv(s.ctx())
	if err != nil {
		return asStatus(err)
	}
	return unmarshal(data, m)
}

// asStatus is an error of a stream as handlers expect it: io.EOF is the end.
func asStatus(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return fromBus(err, nil)
}

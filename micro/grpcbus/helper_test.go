package grpcbus_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/grpcbus"
)

const patience = 20 * time.Second

// testServer is an implementation of gRPC's own test service.
type testServer struct {
	testpb.UnimplementedTestServiceServer

	name     string
	canceled chan error // the ctx errors of handlers that waited for their end
}

// echo sends back the metadata that begins with "echo-" as headers, and that with "trail-" as trailers.
func echo(ctx context.Context) (header, trailer metadata.MD) {
	md, _ := metadata.FromIncomingContext(ctx)
	header, trailer = metadata.MD{}, metadata.MD{}
	for key, values := range md {
		switch {
		case strings.HasPrefix(key, "echo-"):
			header[key] = values
		case strings.HasPrefix(key, "trail-"):
			trailer[key] = values
		}
	}
	return header, trailer
}

func wanted(st *testpb.EchoStatus) error {
	if st.GetCode() == 0 {
		return nil
	}
	s, err := status.New(codes.Code(st.GetCode()), st.GetMessage()).WithDetails(&testpb.Payload{Body: []byte("detail")})
	if err != nil {
		return err
	}
	return s.Err()
}

func (s *testServer) EmptyCall(ctx context.Context, _ *testpb.Empty) (*testpb.Empty, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	if len(md["wait"]) > 0 {
		<-ctx.Done()
		s.canceled <- ctx.Err()
		return nil, ctx.Err()
	}
	return &testpb.Empty{}, nil
}

func (s *testServer) UnaryCall(ctx context.Context, in *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	header, trailer := echo(ctx)
	if err := errors.Join(grpc.SetHeader(ctx, header), grpc.SetTrailer(ctx, trailer)); err != nil {
		return nil, err
	}
	if err := wanted(in.GetResponseStatus()); err != nil {
		return nil, err
	}
	p, _ := peer.FromContext(ctx)
	if method, _ := grpc.Method(ctx); method != testpb.TestService_UnaryCall_FullMethodName || p == nil {
		return nil, status.Errorf(codes.Internal, "method %q, peer %v", method, p)
	}
	return &testpb.SimpleResponse{Payload: &testpb.Payload{Body: make([]byte, in.GetResponseSize())}, Username: s.name}, nil
}

func (s *testServer) StreamingOutputCall(in *testpb.StreamingOutputCallRequest, st grpc.ServerStreamingServer[testpb.StreamingOutputCallResponse]) error {
	for _, p := range in.GetResponseParameters() {
		if err := st.Send(&testpb.StreamingOutputCallResponse{Payload: &testpb.Payload{Body: make([]byte, p.GetSize())}}); err != nil {
			return err
		}
	}
	return wanted(in.GetResponseStatus())
}

func (s *testServer) StreamingInputCall(st grpc.ClientStreamingServer[testpb.StreamingInputCallRequest, testpb.StreamingInputCallResponse]) error {
	sum := 0
	for {
		in, err := st.Recv()
		if errors.Is(err, io.EOF) {
			return st.SendAndClose(&testpb.StreamingInputCallResponse{AggregatedPayloadSize: int32(sum)})
		}
		if err != nil {
			return err
		}
		if sum += len(in.GetPayload().GetBody()); sum > 1<<20 {
			return status.Error(codes.ResourceExhausted, "enough")
		}
	}
}

func (s *testServer) FullDuplexCall(st grpc.BidiStreamingServer[testpb.StreamingOutputCallRequest, testpb.StreamingOutputCallResponse]) error {
	header, trailer := echo(st.Context())
	st.SetTrailer(trailer)
	if err := st.SendHeader(header); err != nil {
		return err
	}
	for {
		in, err := st.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			s.canceled <- err
			return err
		}
		if err := wanted(in.GetResponseStatus()); err != nil {
			return err
		}
		for _, p := range in.GetResponseParameters() {
			if err := st.Send(&testpb.StreamingOutputCallResponse{Payload: &testpb.Payload{Body: make([]byte, p.GetSize())}}); err != nil {
				return err
			}
		}
	}
}

func connect(t testing.TB, s *bustest.Node) *bus.Conn {
	t.Helper()
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: s})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // some tests close it themselves
	return conn
}

func newClient(t testing.TB, conn *bus.Conn) *micro.Client {
	t.Helper()
	c, err := micro.NewClient(t.Context(), conn, micro.ClientConfig{Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // has no error to tell
	return c
}

// run runs a service until stop is called or the test ends.
func run(t testing.TB, conn *bus.Conn, cfg micro.Config, add func(*micro.Service)) (stop func()) {
	t.Helper()
	registered := make(chan struct{})
	cfg.Hooks.Registered = sync.OnceFunc(func() { close(registered) })
	s, err := micro.NewService(conn, cfg)
	if err != nil {
		t.Fatal(err)
	}
	add(s)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() { _ = s.Run(ctx) }) // tests look at what others see of it
	stop = func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(stop)
	receive(t, registered, "the service to be registered")
	return stop
}

func receive[T any](t testing.TB, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatalf("waited %v for %s", patience, what)
		panic("unreachable")
	}
}

// overBus is a connection to srv by the bus.
func overBus(t *testing.T, srv *testServer, cfg grpcbus.ServerConfig) grpc.ClientConnInterface {
	t.Helper()
	s := bustest.Server(t)
	run(t, connect(t, s), micro.Config{Name: "grpc"}, func(svc *micro.Service) {
		testpb.RegisterTestServiceServer(grpcbus.NewServer(svc, cfg), srv)
	})
	cc, err := grpcbus.NewClientConn(newClient(t, connect(t, s)), "grpc")
	if err != nil {
		t.Fatal(err)
	}
	return cc
}

// native is a connection to srv by gRPC itself.
func native(t *testing.T, srv *testServer, cfg grpcbus.ServerConfig) grpc.ClientConnInterface {
	t.Helper()
	s := grpc.NewServer(grpc.UnaryInterceptor(cfg.UnaryInterceptor), grpc.StreamInterceptor(cfg.StreamInterceptor))
	testpb.RegisterTestServiceServer(s, srv)
	addr := listen(t, s)
	cc, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() }) // fails when closed
	return cc
}

// listen serves s on a port of this machine until the test ends.
func listen(t *testing.T, s *grpc.Server) (addr string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(l) }) // ends when stopped
	t.Cleanup(func() {
		s.Stop()
		serving.Wait()
	})
	return l.Addr().String()
}

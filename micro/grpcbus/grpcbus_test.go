package grpcbus_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/grpcbus"
)

// each runs a test over the bus and over gRPC itself: what holds for one holds for the other.
func each(t *testing.T, f func(t *testing.T, c testpb.TestServiceClient, srv *testServer)) {
	t.Helper()
	t.Parallel()
	for name, dial := range map[string]func(*testing.T, *testServer, grpcbus.ServerConfig) grpc.ClientConnInterface{"bus": overBus, "native": native} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := &testServer{name: "one", canceled: make(chan error, 1)}
			f(t, testpb.NewTestServiceClient(dial(t, srv, grpcbus.ServerConfig{})), srv)
		})
	}
}

func TestUnary(t *testing.T) {
	each(t, func(t *testing.T, c testpb.TestServiceClient, _ *testServer) {
		if _, err := c.EmptyCall(t.Context(), &testpb.Empty{}); err != nil {
			t.Error(err)
		}
		for _, size := range []int32{0, 1000, 3 << 20} {
			resp, err := c.UnaryCall(t.Context(), &testpb.SimpleRequest{ResponseSize: size, Payload: &testpb.Payload{Body: make([]byte, size)}})
			if err != nil || len(resp.GetPayload().GetBody()) != int(size) || resp.GetUsername() != "one" {
				t.Errorf("%d bytes: %d came, %v", size, len(resp.GetPayload().GetBody()), err)
			}
		}
	})
}

func TestMetadata(t *testing.T) {
	each(t, func(t *testing.T, c testpb.TestServiceClient, _ *testServer) {
		ctx := metadata.AppendToOutgoingContext(t.Context(),
			"echo-a", "one", "echo-a", "two", "ECHO-B", "x: y", "echo-c-bin", "\x00\xff\r\n", "trail-d", "three", "trail-e-bin", "\x01", "other", "z")
		wantHeader := metadata.MD{"echo-a": {"one", "two"}, "echo-b": {"x: y"}, "echo-c-bin": {"\x00\xff\r\n"}}
		wantTrailer := metadata.MD{"trail-d": {"three"}, "trail-e-bin": {"\x01"}}
		check := func(what string, header, trailer metadata.MD) {
			t.Helper()
			delete(header, "content-type") // HTTP's
			delete(trailer, "grpc-status-details-bin")
			if diff := cmp.Diff(wantHeader, header) + cmp.Diff(wantTrailer, trailer); diff != "" {
				t.Errorf("%s: (-want +got):\n%s", what, diff)
			}
		}
		var header, trailer metadata.MD
		if _, err := c.UnaryCall(ctx, &testpb.SimpleRequest{}, grpc.Header(&header), grpc.Trailer(&trailer)); err != nil {
			t.Fatal(err)
		}
		check("unary", header, trailer)
		failing := &testpb.SimpleRequest{ResponseStatus: &testpb.EchoStatus{Code: int32(codes.NotFound), Message: "none"}}
		_, err := c.UnaryCall(ctx, failing, grpc.Header(&header), grpc.Trailer(&trailer))
		wantStatus(t, err, codes.NotFound, "none")
		check("unary with an error", header, trailer)
		st, err := c.FullDuplexCall(ctx)
		if err != nil {
			t.Fatal(err)
		}
		header, err = st.Header()
		if err != nil {
			t.Fatal(err)
		}
		if err := st.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if _, err := st.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("end: %v", err)
		}
		check("stream", header, st.Trailer())
	})
}

// wantStatus checks a status with the detail that the server adds.
func wantStatus(t *testing.T, err error, code codes.Code, message string) {
	t.Helper()
	st, ok := status.FromError(err)
	if !ok || st.Code() != code || st.Message() != message {
		t.Fatalf("error %v, want %v %q", err, code, message)
	}
	if d := st.Details(); len(d) != 1 || !proto.Equal(d[0].(proto.Message), &testpb.Payload{Body: []byte("detail")}) {
		t.Errorf("details %v", d)
	}
}

func TestStatus(t *testing.T) {
	each(t, func(t *testing.T, c testpb.TestServiceClient, _ *testServer) {
		for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
			message := "what\nhappened: " + code.String() + " \u2713"
			echo := &testpb.EchoStatus{Code: int32(code), Message: message}
			_, err := c.UnaryCall(t.Context(), &testpb.SimpleRequest{ResponseStatus: echo})
			wantStatus(t, err, code, message)
			st, err := c.StreamingOutputCall(t.Context(), &testpb.StreamingOutputCallRequest{
				ResponseParameters: []*testpb.ResponseParameters{{Size: 1}}, ResponseStatus: echo,
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := st.Recv(); err != nil {
				t.Fatalf("the message before the error: %v", err)
			}
			_, err = st.Recv()
			wantStatus(t, err, code, message)
		}
		_, err := c.UnimplementedCall(t.Context(), &testpb.Empty{})
		if status.Code(err) != codes.Unimplemented {
			t.Errorf("error %v, want Unimplemented", err)
		}
	})
}

func TestServerStreaming(t *testing.T) {
	each(t, func(t *testing.T, c testpb.TestServiceClient, _ *testServer) {
		req := &testpb.StreamingOutputCallRequest{}
		for i := range 500 {
			req.ResponseParameters = append(req.ResponseParameters, &testpb.ResponseParameters{Size: int32(i)})
		}
		req.ResponseParameters = append(req.ResponseParameters, &testpb.ResponseParameters{Size: 2 << 20})
		st, err := c.StreamingOutputCall(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range req.GetResponseParameters() {
			resp, err := st.Recv()
			if err != nil || len(resp.GetPayload().GetBody()) != int(p.GetSize()) {
				t.Fatalf("message %d: %d bytes, %v", i, len(resp.GetPayload().GetBody()), err)
			}
		}
		if _, err := st.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("end: %v", err)
		}
	})
}

func TestClientStreaming(t *testing.T) {
	each(t, func(t *testing.T, c testpb.TestServiceClient, _ *testServer) {
		st, err := c.StreamingInputCall(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i := range 1000 {
			if err := st.Send(&testpb.StreamingInputCallRequest{Payload: &testpb.Payload{Body: make([]byte, i)}}); err != nil {
				t.Fatal(err)
			}
		}
		if resp, err := st.CloseAndRecv(); err != nil || resp.GetAggregatedPayloadSize() != 499500 {
			t.Errorf("sum %d, %v", resp.GetAggregatedPayloadSize(), err)
		}
		// A server that ends early stops who sends.
		if st, err = c.StreamingInputCall(t.Context()); err != nil {
			t.Fatal(err)
		}
		for err == nil {
			err = st.Send(&testpb.StreamingInputCallRequest{Payload: &testpb.Payload{Body: make([]byte, 100<<10)}})
		}
		if !errors.Is(err, io.EOF) {
			t.Errorf("send: %v, want io.EOF", err)
		}
		if _, err = st.CloseAndRecv(); status.Code(err) != codes.ResourceExhausted || status.Convert(err).Message() != "enough" {
			t.Errorf("error %v, want ResourceExhausted: enough", err)
		}
	})
}

func TestPingPong(t *testing.T) {
	each(t, func(t *testing.T, c testpb.TestServiceClient, _ *testServer) {
		st, err := c.FullDuplexCall(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i := range 100 {
			if err := st.Send(&testpb.StreamingOutputCallRequest{ResponseParameters: []*testpb.ResponseParameters{{Size: int32(i)}}}); err != nil {
				t.Fatal(err)
			}
			if resp, err := st.Recv(); err != nil || len(resp.GetPayload().GetBody()) != i {
				t.Fatalf("message %d: %v, %v", i, resp, err)
			}
		}
		echo := &testpb.EchoStatus{Code: int32(codes.Aborted), Message: "end"}
		if err := st.Send(&testpb.StreamingOutputCallRequest{ResponseStatus: echo}); err != nil {
			t.Fatal(err)
		}
		_, err = st.Recv()
		wantStatus(t, err, codes.Aborted, "end")
	})
}

func TestCancelAndDeadline(t *testing.T) {
	each(t, func(t *testing.T, c testpb.TestServiceClient, srv *testServer) {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		_, err := c.EmptyCall(metadata.AppendToOutgoingContext(ctx, "wait", "1"), &testpb.Empty{})
		if status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("error %v, want DeadlineExceeded", err)
		}
		if err := receive(t, srv.canceled, "the handler to end"); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
			t.Errorf("the handler ended with %v", err)
		}
		ctx, cancel = context.WithCancel(t.Context())
		st, err := c.FullDuplexCall(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := st.Header(); err != nil { // the handler runs
			t.Fatal(err)
		}
		cancel()
		if _, err := st.Recv(); status.Code(err) != codes.Canceled {
			t.Errorf("error %v, want Canceled", err)
		}
		if err := receive(t, srv.canceled, "the handler to end"); status.Code(err) != codes.Canceled {
			t.Errorf("the handler ended with %v", err)
		}
	})
}

func TestServerInterceptors(t *testing.T) {
	t.Parallel()
	var unary, streams atomic.Int64
	cfg := grpcbus.ServerConfig{
		UnaryInterceptor: func(ctx context.Context, req any, info *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
			if _, ok := req.(*testpb.SimpleRequest); !ok || info.FullMethod != testpb.TestService_UnaryCall_FullMethodName {
				t.Errorf("%T of %s", req, info.FullMethod)
			}
			unary.Add(1)
			return h(ctx, req)
		},
		StreamInterceptor: func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, h grpc.StreamHandler) error {
			if !info.IsClientStream || info.FullMethod != testpb.TestService_FullDuplexCall_FullMethodName {
				t.Errorf("%+v", info)
			}
			streams.Add(1)
			return h(srv, ss)
		},
	}
	c := testpb.NewTestServiceClient(overBus(t, &testServer{}, cfg))
	if _, err := c.UnaryCall(t.Context(), &testpb.SimpleRequest{}); err != nil {
		t.Error(err)
	}
	st, err := c.FullDuplexCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = st.CloseSend() // has no error
	if _, err := st.Recv(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	if unary.Load() != 1 || streams.Load() != 1 {
		t.Errorf("%d unary calls and %d streams passed, want one each", unary.Load(), streams.Load())
	}
}

func TestNobody(t *testing.T) {
	t.Parallel()
	client, err := micro.NewClient(t.Context(), connect(t, bustest.Server(t)), micro.ClientConfig{Patience: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }() // has no error to tell
	cc, err := grpcbus.NewClientConn(client, "nobody")
	if err != nil {
		t.Fatal(err)
	}
	c := testpb.NewTestServiceClient(cc)
	if _, err := c.EmptyCall(t.Context(), &testpb.Empty{}); status.Code(err) != codes.Unavailable {
		t.Errorf("error %v, want Unavailable", err)
	}
	if _, err := c.FullDuplexCall(t.Context()); status.Code(err) != codes.Unavailable {
		t.Errorf("error %v, want Unavailable", err)
	}
	if _, err := c.EmptyCall(t.Context(), &testpb.Empty{}, grpc.CallContentSubtype("json")); status.Code(err) != codes.Unimplemented {
		t.Errorf("error %v, want Unimplemented", err)
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "a", "\x01")
	if _, err := c.EmptyCall(ctx, &testpb.Empty{}); status.Code(err) != codes.Internal {
		t.Errorf("error %v, want Internal", err)
	}
}

func TestEndpoint(t *testing.T) {
	t.Parallel()
	long := "/a.very.long_package.name.of.a.big.company.ServiceWithAName"
	for method, want := range map[string]string{
		"/helloworld.Greeter/SayHello": "helloworld-Greeter--SayHello",
		"Greeter/SayHello":             "Greeter--SayHello",
		long + "/Method":               "",
		"/" + strings.Repeat("a", 600): "!",
		"/Greeter":                     "!",
		"/a..b/M":                      "!",
		"/a.b/M/N":                     "!",
		"/a-b/M":                       "!",
		"":                             "!",
	} {
		got, err := grpcbus.Endpoint(method)
		switch {
		case want == "!":
			if bus.CodeOf(err) != bus.InvalidArgument {
				t.Errorf("%q: %q, %v; want invalid_argument", method, got, err)
			}
		case err != nil || want != "" && got != want || bus.CheckToken("endpoint", got) != nil:
			t.Errorf("%q: %q, %v; want %q", method, got, err, want)
		}
	}
	one, _ := grpcbus.Endpoint(long + "/Method1")
	two, _ := grpcbus.Endpoint(long + "/Method2")
	if one == two {
		t.Errorf("two methods have the endpoint %q", one)
	}
}

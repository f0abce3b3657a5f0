package grpcbus_test

import (
	"errors"
	"io"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/balance"
	"github.com/skybus-io/skybus/micro/grpcbus"
)

// countingServer counts the streams that were opened to it.
type countingServer struct {
	*testServer

	streams atomic.Int64
}

func (s *countingServer) FullDuplexCall(st grpc.BidiStreamingServer[testpb.StreamingOutputCallRequest, testpb.StreamingOutputCallResponse]) error {
	s.streams.Add(1)
	return s.testServer.FullDuplexCall(st)
}

// openStreams opens n streams and reads them to their end.
func openStreams(t *testing.T, c testpb.TestServiceClient, n int) {
	t.Helper()
	for range n {
		st, err := c.FullDuplexCall(t.Context())
		if err == nil {
			err = st.CloseSend()
		}
		if err == nil {
			_, err = st.Recv()
		}
		if !errors.Is(err, io.EOF) {
			t.Fatalf("stream: %v", err)
		}
	}
}

// What a connection is told of instances holds for its unary calls and its streams.
func TestClientConnOptions(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	servers := map[string]*countingServer{}
	for id, where := range map[string][2]string{"a": {"eu", "1.0.0"}, "b": {"us", "2.0.0"}} {
		server := &countingServer{testServer: &testServer{name: id}}
		servers[id] = server
		run(t, connect(t, s), micro.Config{Name: "grpc", Instance: id, Region: where[0], Version: where[1]}, func(svc *micro.Service) {
			testpb.RegisterTestServiceServer(grpcbus.NewServer(svc, grpcbus.ServerConfig{}), server)
		})
	}
	client, err := micro.NewClient(t.Context(), connect(t, s), micro.ClientConfig{Patience: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() }) // has no error to tell
	bustest.Eventually(t, "both instances", func() bool { sv := client.Registry().Service("grpc"); return sv != nil && len(sv.Online) == 2 })
	stub := func(opts ...micro.CallOption) testpb.TestServiceClient {
		cc, err := grpcbus.NewClientConn(client, "grpc", opts...)
		if err != nil {
			t.Fatal(err)
		}
		return testpb.NewTestServiceClient(cc)
	}
	for want, opts := range map[string]map[string]micro.CallOption{
		"a": {"region": micro.ToRegion("eu"), "version": micro.ToVersion("1.0.0"), "instance": micro.ToInstance("a")},
		"b": {"region": micro.ToRegion("us"), "version": micro.ToVersion("2.0.0"), "instance": micro.ToInstance("b")},
	} {
		for what, opt := range opts {
			c := stub(opt)
			if got := answers(t, c, 6); got[want] != 6 {
				t.Errorf("%s of %s: answers of %v", what, want, got)
			}
			before := servers[want].streams.Load()
			if openStreams(t, c, 6); servers[want].streams.Load() != before+6 {
				t.Errorf("%s of %s: %d of 6 streams", what, want, servers[want].streams.Load()-before)
			}
		}
	}
	if got := answers(t, stub(micro.WithPolicy(balance.RoundRobin())), 6); got["a"] != 3 || got["b"] != 3 {
		t.Errorf("by turns: answers of %v", got)
	}
	nowhere := stub(micro.ToRegion("ap"))
	if _, err := nowhere.UnaryCall(t.Context(), &testpb.SimpleRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("error %v, want Unavailable", err)
	}
	if _, err := nowhere.FullDuplexCall(t.Context()); status.Code(err) != codes.Unavailable {
		t.Errorf("error %v, want Unavailable", err)
	}
}

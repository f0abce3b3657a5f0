package grpcbus_test

import (
	"context"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/grpcbus"
)

// nativeInstance is a gRPC server that is found by the registry.
func nativeInstance(t *testing.T, s *bustest.Node, name string) (stop func()) {
	t.Helper()
	server := grpc.NewServer()
	testpb.RegisterTestServiceServer(server, &testServer{name: name})
	addr := listen(t, server)
	return run(t, connect(t, s), micro.Config{Name: "native", Instance: name}, func(svc *micro.Service) {
		if err := grpcbus.Advertise(t.Context(), svc, addr, ""); err != nil {
			t.Fatal(err)
		}
	})
}

func dial(t *testing.T, client *micro.Client, target, policy string) testpb.TestServiceClient {
	t.Helper()
	cc, err := grpc.NewClient(target, grpc.WithResolvers(grpcbus.NewResolver(client)),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"`+policy+`":{}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cc.Close(); err != nil {
			t.Error(err)
		}
	})
	return testpb.NewTestServiceClient(cc)
}

// answers is how many of n calls each instance answers.
func answers(t *testing.T, c testpb.TestServiceClient, n int) map[string]int {
	t.Helper()
	count := map[string]int{}
	for range n {
		resp, err := c.UnaryCall(t.Context(), &testpb.SimpleRequest{}, grpc.WaitForReady(true))
		if err != nil {
			t.Fatal(err)
		}
		count[resp.GetUsername()]++
	}
	return count
}

func TestResolver(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	client := newClient(t, connect(t, s))
	nativeInstance(t, s, "a")
	all := dial(t, client, "skybus:///default.dev.native", "round_robin")
	one := dial(t, client, "skybus:///default.dev.native", "pick_first")
	pinned := dial(t, client, "skybus:///default.dev.native/b", "pick_first")
	if got := answers(t, all, 10); got["a"] != 10 {
		t.Errorf("answers of %v, want 10 of a", got)
	}
	if got := answers(t, one, 10); got["a"] != 10 {
		t.Errorf("answers of %v, want 10 of a", got)
	}
	stopB := nativeInstance(t, s, "b")
	bustest.Eventually(t, "round robin to reach both", func() bool { got := answers(t, all, 10); return got["a"] == 5 && got["b"] == 5 })
	if got := answers(t, pinned, 4); got["b"] != 4 {
		t.Errorf("answers of %v, want 4 of b", got)
	}
	stopB() // its gRPC server still listens
	bustest.Eventually(t, "b to be left out", func() bool { return answers(t, all, 10)["a"] == 10 })
}

func TestResolverWithoutInstances(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	client := newClient(t, connect(t, s))
	c := dial(t, client, "skybus:///default.dev.native", "round_robin")
	_, err := c.EmptyCall(t.Context(), &testpb.Empty{})
	if status.Code(err) != codes.Unavailable {
		t.Errorf("error %v, want Unavailable", err)
	}
	nativeInstance(t, s, "a")
	if got := answers(t, c, 2); got["a"] != 2 {
		t.Errorf("answers of %v, want 2 of a", got)
	}
	for _, target := range []string{"skybus:///other.dev.native", "skybus:///native", "skybus:///"} {
		if _, err := dialErr(t.Context(), client, target); err == nil {
			t.Errorf("target %q was taken", target)
		}
	}
}

func dialErr(ctx context.Context, client *micro.Client, target string) (*testpb.Empty, error) {
	cc, err := grpc.NewClient(target, grpc.WithResolvers(grpcbus.NewResolver(client)), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	defer func() { _ = cc.Close() }() // nothing of it is needed any more
	return testpb.NewTestServiceClient(cc).EmptyCall(ctx, &testpb.Empty{})
}

func TestAdvertiseChecks(t *testing.T) {
	t.Parallel()
	svc, err := micro.NewService(connect(t, bustest.Server(t)), micro.Config{Name: "x"})
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{"", "host", "host:", "host:0", ":50051", "[::]:50051"} {
		if err := grpcbus.Advertise(t.Context(), svc, addr, ""); bus.CodeOf(err) != bus.InvalidArgument {
			t.Errorf("%q: %v, want invalid_argument", addr, err)
		}
	}
	for addr, want := range map[string]string{":50051": `"me:50051"`, "[::]:1": `"me:1"`, "10.0.0.1:2": `"10.0.0.1:2"`, "[::1]:3": `"[::1]:3"`} {
		if err := grpcbus.Advertise(t.Context(), svc, addr, "me"); err != nil {
			t.Errorf("%q: %v", addr, err)
		}
		if got, _ := svc.Attribute(grpcbus.AddressAttribute); string(got) != want {
			t.Errorf("%q: %s, want %s", addr, got, want)
		}
	}
}

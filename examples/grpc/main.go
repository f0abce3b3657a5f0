// Command grpc shows generated gRPC code on skybus: over the bus, and as native gRPC that is found by the registry. The server
// does both; the client calls it by one or the other:
//
//	go run ./examples/grpc serve
//	go run ./examples/grpc call bus
//	go run ./examples/grpc call native
//
// The stubs and the implementation are the same for both.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/examples/grpc/greetpb"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/grpcbus"
)

const service = "greeter"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	conn, err := bus.Connect(ctx, bus.Config{Server: os.Getenv("SKYBUS_SERVER"), Name: "grpc"})
	if err == nil {
		err = errors.Join(run(ctx, conn, os.Args[1:], os.Stdout), conn.Close())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "grpc:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, conn *bus.Conn, args []string, stdout io.Writer) error {
	switch strings.Join(args, " ") {
	case "serve":
		return serve(ctx, conn)
	case "call bus":
		return call(ctx, conn, overBus, stdout)
	case "call native":
		return call(ctx, conn, native, stdout)
	}
	return errors.New("want: serve, call bus, or call native")
}

// serve is one instance that takes calls both ways.
func serve(ctx context.Context, conn *bus.Conn) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	greetpb.RegisterGreeterServer(server, &greeter{})

	svc, err := micro.NewService(conn, micro.Config{Name: service})
	if err != nil {
		return err
	}
	greetpb.RegisterGreeterServer(grpcbus.NewServer(svc, grpcbus.ServerConfig{}), &greeter{})
	if err := grpcbus.Advertise(ctx, svc, listener.Addr().String(), ""); err != nil {
		return err
	}

	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	err = svc.Run(ctx) // first it is known no more, then the server ends
	server.GracefulStop()
	return errors.Join(err, <-served)
}

// dial makes what stubs call by.
type dial func(c *micro.Client) (conn grpc.ClientConnInterface, closeConn func() error, err error)

func overBus(c *micro.Client) (grpc.ClientConnInterface, func() error, error) {
	conn, err := grpcbus.NewClientConn(c, service)
	return conn, func() error { return nil }, err
}

func native(c *micro.Client) (grpc.ClientConnInterface, func() error, error) {
	target := "skybus:///" + c.Conn().Namespace().String() + "." + service
	conn, err := grpc.NewClient(target,
		grpc.WithResolvers(grpcbus.NewResolver(c)),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, nil, err
	}
	return conn, conn.Close, nil
}

// call calls every method once.
func call(ctx context.Context, conn *bus.Conn, by dial, stdout io.Writer) (err error) {
	client, err := micro.NewClient(ctx, conn, micro.ClientConfig{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	cc, closeConn, err := by(client)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeConn()) }()
	stub := greetpb.NewGreeterClient(cc)

	reply, err := stub.Greet(ctx, &greetpb.GreetRequest{Name: "Ann"})
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, reply.GetText())
	_, err = stub.Greet(ctx, &greetpb.GreetRequest{})
	fmt.Fprintln(stdout, status.Code(err), "-", status.Convert(err).Message())

	repeated, err := stub.Repeat(ctx, &greetpb.RepeatRequest{Name: "Bob", Times: 2})
	if err != nil {
		return err
	}
	if err := show(stdout, repeated); err != nil {
		return err
	}
	all, err := stub.GreetAll(ctx)
	if err != nil {
		return err
	}
	for _, name := range []string{"Cid", "Dee"} {
		if err := all.Send(&greetpb.GreetRequest{Name: name}); err != nil {
			break // CloseAndRecv says why
		}
	}
	if reply, err = all.CloseAndRecv(); err != nil {
		return err
	}
	fmt.Fprintln(stdout, reply.GetText())
	chat, err := stub.Chat(ctx)
	if err != nil {
		return err
	}
	if err := errors.Join(chat.Send(&greetpb.GreetRequest{Name: "Eve"}), chat.CloseSend()); err != nil {
		return err
	}
	return show(stdout, chat)
}

// replies are what a stub receives from.
type replies interface {
	Recv() (*greetpb.GreetReply, error)
}

func show(w io.Writer, replies replies) error {
	for {
		reply, err := replies.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		fmt.Fprintln(w, reply.GetText())
	}
}

// greeter knows nothing of skybus.
type greeter struct {
	greetpb.UnimplementedGreeterServer
}

func greet(name string) (*greetpb.GreetReply, error) {
	if name == "" {
		return nil, status.Error(codes.InvalidArgument, "who?")
	}
	return &greetpb.GreetReply{Text: "Hello " + name}, nil
}

func (*greeter) Greet(_ context.Context, req *greetpb.GreetRequest) (*greetpb.GreetReply, error) {
	return greet(req.GetName())
}

func (*greeter) Repeat(req *greetpb.RepeatRequest, out grpc.ServerStreamingServer[greetpb.GreetReply]) error {
	for range req.GetTimes() {
		reply, err := greet(req.GetName())
		if err == nil {
			err = out.Send(reply)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (*greeter) GreetAll(in grpc.ClientStreamingServer[greetpb.GreetRequest, greetpb.GreetReply]) error {
	var names []string
	for {
		req, err := in.Recv()
		if errors.Is(err, io.EOF) {
			return in.SendAndClose(&greetpb.GreetReply{Text: "Hello " + strings.Join(names, " and ")})
		}
		if err != nil {
			return err
		}
		names = append(names, req.GetName())
	}
}

func (*greeter) Chat(st grpc.BidiStreamingServer[greetpb.GreetRequest, greetpb.GreetReply]) error {
	for {
		req, err := st.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		var reply *greetpb.GreetReply
		if err == nil {
			reply, err = greet(req.GetName())
		}
		if err == nil {
			err = st.Send(reply)
		}
		if err != nil {
			return err
		}
	}
}

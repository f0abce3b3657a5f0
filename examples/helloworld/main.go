// Command helloworld is the smallest service and the smallest call. Start a server with `skybus up`, then:
//
//	go run ./examples/helloworld serve
//	go run ./examples/helloworld hello Ada
//
// The first may run as often as you like.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro"
)

// Hello is the request, Greeting the response.
type Hello struct {
	Name string `json:"name"`
}

type Greeting struct {
	Text string `json:"text"`
}

func hello(_ context.Context, req Hello) (Greeting, error) {
	if req.Name == "" {
		return Greeting{}, bus.Errorf(bus.InvalidArgument, "name is empty").With("field", "name")
	}
	return Greeting{Text: "Hello " + req.Name}, nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	conn, err := bus.Connect(ctx, bus.Config{Server: os.Getenv("SKYBUS_SERVER"), Name: "helloworld"})
	if err == nil {
		err = errors.Join(run(ctx, conn, os.Args[1:], os.Stdout), conn.Close())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "helloworld:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, conn *bus.Conn, args []string, stdout io.Writer) error {
	switch {
	case len(args) == 1 && args[0] == "serve":
		return serve(ctx, conn, stdout)
	case len(args) == 2 && args[0] == "hello":
		return call(ctx, conn, args[1], stdout)
	}
	return errors.New("want: serve, or: hello NAME")
}

func serve(ctx context.Context, conn *bus.Conn, stdout io.Writer) error {
	svc, err := micro.NewService(conn, micro.Config{Name: "helloworld", Version: "1.0.0", Hooks: micro.Hooks{
		Registered: func() { _, _ = fmt.Fprintln(stdout, "serving") },
	}})
	if err != nil {
		return err
	}
	if err := micro.Handle(svc, "hello", hello, micro.Idempotent()); err != nil {
		return err
	}
	return svc.Run(ctx)
}

func call(ctx context.Context, conn *bus.Conn, name string, stdout io.Writer) error {
	client, err := micro.NewClient(ctx, conn, micro.ClientConfig{Name: "helloworld-client"})
	if err != nil {
		return err
	}
	answer, err := micro.Call[Greeting](ctx, client, "helloworld.hello", Hello{Name: name})
	if err == nil {
		_, err = fmt.Fprintln(stdout, answer.Text)
	}
	return errors.Join(err, client.Close())
}

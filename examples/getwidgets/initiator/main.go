// Command initiator is the demo's way in: a gateway that runs the route getwidgets, its form page, and a worker for
// asynchronous steps.
//
//	go run ./examples/getwidgets/initiator --listen 127.0.0.1:8080 --server nats://127.0.0.1:4222
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/examples/getwidgets"
	gateway "github.com/skybus-io/skybus/initiators/http"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/route"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "initiator:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stderr io.Writer) (err error) {
	flags := flag.NewFlagSet("initiator", flag.ContinueOnError)
	flags.SetOutput(stderr)
	listen := flags.String("listen", "127.0.0.1:8080", "address to listen on; port 0 picks a free one")
	server := flags.String("server", "", "NATS server (default nats://127.0.0.1:4222)")
	namespace := flags.String("namespace", "", "namespace (default "+bus.DefaultNamespace+")")
	err = flags.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil // it was shown
	}
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	conn, err := bus.Connect(ctx, bus.Config{Server: *server, Namespace: *namespace, Name: "getwidgets initiator", Logger: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := getwidgets.Install(ctx, conn); err != nil {
		return err
	}
	client, err := micro.NewClient(ctx, conn, micro.ClientConfig{Name: "initiator"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	runner, err := route.NewRunner(ctx, client, route.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, runner.Close()) }()
	g, err := gateway.New(runner, gateway.Config{Pages: getwidgets.Page(), Answer: getwidgets.AnswerPage(), Logger: log})
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", *listen)
	if err != nil {
		return err
	}
	log.InfoContext(ctx, "serving", "http", "http://"+l.Addr().String())
	return serve(ctx, route.NewWorker(client, route.WorkerConfig{Runner: runner}), g, l)
}

// serve runs both until ctx ends or one of them fails, which stops the other.
func serve(ctx context.Context, worker *route.Worker, g *gateway.Gateway, l net.Listener) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var running sync.WaitGroup
	var werr error
	running.Go(func() {
		werr = worker.Run(ctx)
		stop()
	})
	err := g.Serve(ctx, l)
	stop()
	running.Wait()
	return errors.Join(err, werr)
}

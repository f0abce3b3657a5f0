// Command ftp is an initiator of its own making: what is uploaded to it by FTP becomes requests to a service, a route, a stream or a timer. ftp.go is
// all of it; server.go is what the FTP library wants, and this file reads flags. It has one user, whose name and password are in FTP_USER and FTP_PASSWORD.
//
//	skybus up --demo
//	FTP_USER=me FTP_PASSWORD=secret go run ./examples/ftp --listen 127.0.0.1:2121 --call getwidgets.get
//	curl -T order.json ftp://me:secret@127.0.0.1:2121/
//
// By default the file's name, and its content in base64, are the members name and content of the request; --raw passes the content as it is.
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
	"syscall"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/route"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Getenv, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "ftp:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, getenv func(string) string, stderr io.Writer) (err error) {
	flags := flag.NewFlagSet("ftp", flag.ContinueOnError)
	flags.SetOutput(stderr)
	listen := flags.String("listen", "127.0.0.1:2121", "address to listen on; port 0 picks a free one")
	server := flags.String("server", "", "NATS server (default nats://127.0.0.1:4222)")
	raw := flags.Bool("raw", false, "the content of a file is the request, as it is")
	var spec initiators.Spec
	flags.StringVar(&spec.Call, "call", "", "endpoint to call, as service.endpoint")
	flags.StringVar(&spec.Route, "route", "", "route to run")
	flags.StringVar(&spec.Stream, "stream", "", "subject to publish to, below default.dev.pub.; a stream has to take it")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if getenv("FTP_USER") == "" || getenv("FTP_PASSWORD") == "" {
		return errors.New("FTP_USER and FTP_PASSWORD say who may upload: set both")
	}
	if !*raw {
		spec.Request = &initiators.Mapping{Body: initiators.BodyNone, Fields: map[string]string{"name": "{file}", "content": "{body|base64}"}}
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	conn, err := bus.Connect(ctx, bus.Config{Server: *server, Name: "ftp", Logger: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	client, err := micro.NewClient(ctx, conn, micro.ClientConfig{Name: "ftp"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	runner, err := route.NewRunner(ctx, client, route.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, runner.Close()) }()
	target, err := initiators.Sources{Client: client, Runner: runner}.Target(spec)
	if err != nil {
		return err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", *listen)
	if err != nil {
		return err
	}
	log.InfoContext(ctx, "serving", "ftp", "ftp://"+l.Addr().String(), "target", spec.String())
	return (&users{target: target, user: getenv("FTP_USER"), password: getenv("FTP_PASSWORD")}).serve(ctx, l)
}

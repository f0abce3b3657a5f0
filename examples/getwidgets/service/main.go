// Command service runs one instance of one of the demo's services, or with --name all one of each, against a NATS server:
//
//	go run ./examples/getwidgets/service --name getwidgets --server nats://127.0.0.1:4222
//
// Start several, kill any, and go on. It obeys the live configuration: log.level and service.register as they change, region and
// host (or SKYBUS_REGION and SKYBUS_HOST) when it starts.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/examples/getwidgets"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/config"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "service:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stderr io.Writer) (err error) {
	flags := flag.NewFlagSet("service", flag.ContinueOnError)
	flags.SetOutput(stderr)
	name := flags.String("name", "all", "service to run: "+strings.Join(getwidgets.Names(), ", ")+" or all")
	server := flags.String("server", os.Getenv("SKYBUS_SERVER"), "NATS server (else SKYBUS_SERVER, else nats://127.0.0.1:4222)")
	namespace := flags.String("namespace", os.Getenv("SKYBUS_NAMESPACE"), "namespace (else SKYBUS_NAMESPACE, else "+bus.DefaultNamespace+")")
	instance := flags.String("instance", "", "id of the instance (default a random one)")
	record := flags.String("record", "", "file the log service appends a line to for each request")
	err = flags.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil // it was shown
	}
	if err != nil {
		return err
	}
	level := &slog.LevelVar{}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
	conn, err := bus.Connect(ctx, bus.Config{Server: *server, Namespace: *namespace, Name: "getwidgets " + *name, Logger: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	cfg := getwidgets.Config{Instance: *instance, Logger: log, LogLevel: level}
	if *record != "" {
		f, err := os.OpenFile(*record, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		cfg.Record = f
	}
	names := []string{*name}
	if *name == "all" {
		names = getwidgets.Names()
	} else if !slices.Contains(getwidgets.Names(), *name) {
		return fmt.Errorf("--name %q: want one of %s, all", *name, strings.Join(getwidgets.Names(), ", "))
	}
	if err := getwidgets.Install(ctx, conn); err != nil {
		return err
	}
	var following sync.WaitGroup
	defer following.Wait()
	values, err := config.Open(ctx, conn, config.Config{Logger: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, values.Close()) }() // which ends the following, too
	scope := config.Scope{}
	if len(names) == 1 {
		scope = config.Scope{Service: names[0], Version: getwidgets.Version}
	}
	following.Go(func() { config.FollowLogLevel(ctx, values, scope, level) })
	cfg.Values = values
	return serve(ctx, conn, names, cfg, log)
}

func serve(ctx context.Context, conn *bus.Conn, names []string, cfg getwidgets.Config, log *slog.Logger) error {
	var services []*micro.Service
	for _, name := range names {
		each := cfg
		each.Hooks.Registered = func() { log.InfoContext(ctx, "serving", "service", name, "namespace", conn.Namespace().String()) }
		svc, err := getwidgets.NewService(conn, name, each)
		if err != nil {
			return err
		}
		services = append(services, svc)
	}
	return getwidgets.RunAll(ctx, cfg, services)
}

// Command election shows one leader among the instances of a service. Start two candidates and a watcher, which asks each
// new leader to resign, so that they take turns:
//
//	go run ./examples/election candidate ping
//	go run ./examples/election candidate pong
//	go run ./examples/election watch
//
// Kill a candidate while it leads: the other takes over when the lease has run out, five seconds at most.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/election"
)

const service = "pingpong"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	conn, err := bus.Connect(ctx, bus.Config{Server: os.Getenv("SKYBUS_SERVER"), Name: "election"})
	if err == nil {
		err = errors.Join(run(ctx, conn, os.Args[1:], os.Stdout), conn.Close())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "election:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, conn *bus.Conn, args []string, stdout io.Writer) error {
	switch {
	case len(args) == 2 && args[0] == "candidate":
		return candidate(ctx, conn, args[1], stdout)
	case len(args) == 1 && args[0] == "watch":
		return watch(ctx, conn, 0, time.Second, stdout)
	case len(args) == 2 && args[0] == "watch":
		turns, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		return watch(ctx, conn, turns, 0, stdout)
	}
	return errors.New("want: candidate NAME, or: watch [TURNS]")
}

// candidate is an instance that wants to lead. What it does as the leader it does under a ctx that ends with the
// leadership, and with a term that whoever hears of it can compare.
func candidate(ctx context.Context, conn *bus.Conn, name string, stdout io.Writer) error {
	resign := make(chan string)
	svc, err := micro.NewService(conn, micro.Config{Name: service, Instance: name})
	if err != nil {
		return err
	}
	err = micro.Handle(svc, "resign", func(ctx context.Context, term []byte) ([]byte, error) {
		select {
		case resign <- string(term):
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	if err != nil {
		return err
	}
	e, err := election.Open(ctx, conn, election.Config{})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	served := make(chan error, 1)
	go func() {
		defer stop()
		served <- svc.Run(ctx)
	}()
	err = e.Run(ctx, service, name, func(ctx context.Context, term kv.Term) error {
		_, _ = fmt.Fprintf(stdout, "%s leads, term %s\n", name, term)
		for {
			select {
			case <-ctx.Done():
				return nil
			case t := <-resign:
				if t == term.String() { // else somebody asks for a leadership that is over
					return nil
				}
			}
		}
	})
	stop()
	return errors.Join(err, <-served, e.Close())
}

// watch prints who leads, and after a pause asks it to resign, for so many turns; 0 means for ever.
func watch(ctx context.Context, conn *bus.Conn, turns int, pause time.Duration, stdout io.Writer) error {
	client, err := micro.NewClient(ctx, conn, micro.ClientConfig{Name: "watcher"})
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	e, err := election.Open(ctx, conn, election.Config{})
	if err != nil {
		return err
	}
	defer func() { _ = e.Close() }()
	for change, err := range e.Watch(ctx, service) {
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintf(stdout, "%s %s\n", change.Kind, change.Candidate)
		if change.Kind == election.Lost {
			continue
		}
		if turns--; turns == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		_, err := micro.Call[[]byte](ctx, client, service+".resign", []byte(change.Term.String()), micro.ToInstance(change.Candidate))
		if err != nil && ctx.Err() == nil {
			_, _ = fmt.Fprintf(stdout, "%s does not resign: %v\n", change.Candidate, err)
		}
	}
	return nil
}

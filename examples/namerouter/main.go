// Command namerouter shows how callers choose an instance, and what instances tell of themselves. Start two servers and a
// client:
//
//	go run ./examples/namerouter serve one
//	go run ./examples/namerouter serve two
//	go run ./examples/namerouter call
//
// The client watches the servers come, go and change their attribute "price", and calls by one policy after the other.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/balance"
	"github.com/skybus-io/skybus/micro/registry"
)

const service = "shop"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	conn, err := bus.Connect(ctx, bus.Config{Server: os.Getenv("SKYBUS_SERVER"), Name: "namerouter"})
	if err == nil {
		err = errors.Join(run(ctx, conn, os.Args[1:], os.Stdout), conn.Close())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "namerouter:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, conn *bus.Conn, args []string, stdout io.Writer) error {
	switch {
	case len(args) == 2 && args[0] == "serve":
		return serve(ctx, conn, args[1], time.Second)
	case len(args) == 1 && args[0] == "call":
		return callForEver(ctx, conn, stdout)
	}
	return errors.New("want: serve NAME, or: call")
}

// serve is an instance whose price rises.
func serve(ctx context.Context, conn *bus.Conn, name string, every time.Duration) error {
	svc, err := micro.NewService(conn, micro.Config{Name: service, Instance: name})
	if err != nil {
		return err
	}
	if err := micro.Handle(svc, "buy", func(context.Context, []byte) ([]byte, error) { return []byte(name), nil }); err != nil {
		return err
	}
	if err := svc.SetAttribute(ctx, "price", 1); err != nil { // it is there when others first see the instance
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- svc.Run(ctx) }()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for price := 2; ; price++ {
		select {
		case err := <-ended:
			return err
		case <-tick.C:
			if err := svc.SetAttribute(ctx, "price", price); err != nil && ctx.Err() == nil {
				return errors.Join(err, <-ended)
			}
		}
	}
}

// cheapest is a policy of one's own: it picks the instance with the lowest price.
func cheapest(instances []*registry.Instance, _ balance.Call) *registry.Instance {
	best, lowest := instances[0], -1
	for _, i := range instances {
		price, ok, err := registry.Attribute[int](i, "price")
		if err == nil && ok && (lowest < 0 || price < lowest) {
			best, lowest = i, price
		}
	}
	return best
}

// policies are the ways to choose, by the name they are shown by.
func policies() []named {
	return []named{
		{"loop", balance.RoundRobin(), ""},
		{"mod hash of ada", balance.ModHash(), "ada"},
		{"consistent hash of ada", balance.ConsistentHash(), "ada"},
		{"quality", balance.BestQuality(), ""},
		{"cheapest", balance.Func(cheapest), ""},
	}
}

type named struct {
	name   string
	policy balance.Policy
	key    string
}

func callForEver(ctx context.Context, conn *bus.Conn, stdout io.Writer) error {
	client, err := micro.NewClient(ctx, conn, micro.ClientConfig{Name: "namerouter"})
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	only := registry.Criteria{Services: []registry.ServiceCriterion{{Name: service}}}
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for c := range client.Registry().WatchAttributes(ctx, only) {
			_, _ = fmt.Fprintf(stdout, "%s: %s is %s\n", c.Instance.Instance, c.Key, c.Value)
		}
	}()
	for ctx.Err() == nil {
		for _, p := range policies() {
			if err := callFour(ctx, client, p, stdout); err != nil && ctx.Err() == nil {
				_, _ = fmt.Fprintln(stdout, err)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(3 * time.Second):
		}
	}
	<-watched
	return nil
}

// callFour calls four times by one policy and prints who answered.
func callFour(ctx context.Context, client *micro.Client, p named, stdout io.Writer) error {
	var line strings.Builder
	line.WriteString(p.name + ":")
	for range 4 {
		who, err := micro.Call[[]byte](ctx, client, service+".buy", []byte{}, micro.WithPolicy(p.policy), micro.WithKey(p.key))
		if err != nil {
			return err
		}
		line.WriteString(" " + string(who))
	}
	_, err := fmt.Fprintln(stdout, line.String())
	return err
}

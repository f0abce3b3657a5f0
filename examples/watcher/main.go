// Command watcher reports the availability of services: a line for each instance that comes, goes, falls silent or returns,
// and one whenever a service is left without any.
//
//	go run ./examples/watcher [service[:version]]...
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
	"github.com/skybus-io/skybus/micro/registry"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	conn, err := bus.Connect(ctx, bus.Config{Server: os.Getenv("SKYBUS_SERVER"), Name: "watcher"})
	if err == nil {
		err = errors.Join(run(ctx, conn, os.Args[1:], os.Stdout), conn.Close())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "watcher:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, conn *bus.Conn, args []string, stdout io.Writer) error {
	var criteria registry.Criteria
	for _, arg := range args {
		c, err := registry.ParseServiceCriterion(arg)
		if err != nil {
			return err
		}
		criteria.Services = append(criteria.Services, c)
	}
	reg, err := registry.Open(ctx, conn, registry.Config{})
	if err != nil {
		return err
	}
	w := watcher{online: map[string]map[string]bool{}, out: stdout}
	for change := range reg.Watch(ctx, criteria) {
		w.report(change)
	}
	return reg.Close()
}

// watcher knows which instances of each service are online.
type watcher struct {
	online map[string]map[string]bool
	out    io.Writer
}

func (w *watcher) report(c registry.Change) {
	i := c.Instance
	online := w.online[i.Service]
	if online == nil {
		online = map[string]bool{}
		w.online[i.Service] = online
	}
	before, had := online[i.Instance], len(online) > 0
	now := c.Kind != registry.Removed && i.State == registry.Online
	state := string(i.State)
	if c.Kind == registry.Removed {
		state = "gone"
	}
	if now {
		online[i.Instance] = true
	} else {
		delete(online, i.Instance)
	}
	if before == now && c.Kind != registry.Removed && i.State != registry.Offline {
		return // another attribute, say, or one that is about to register
	}
	_, _ = fmt.Fprintf(w.out, "%s %s %s is %s, %d online\n", i.Service, i.Version, i.Instance, state, len(online))
	if had && len(online) == 0 {
		_, _ = fmt.Fprintf(w.out, "%s is UNAVAILABLE\n", i.Service)
	}
}

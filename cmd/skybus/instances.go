package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/backoff"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/micro/registry"
)

type instancesCmd struct {
	List       instancesListCmd       `cmd:"" default:"withargs" help:"List the instances of services (the default)."`
	Register   instancesRegisterCmd   `cmd:"" help:"Have instances take requests again."`
	Unregister instancesUnregisterCmd `cmd:"" help:"Have instances take no more requests, but for those to themselves."`
	Stop       instancesStopCmd       `cmd:"" help:"Have instances finish what they were given, and end."`
	Log        instancesLogCmd        `cmd:"" help:"Change what instances log."`
}

type instancesListCmd struct {
	criteria

	Wide  bool `short:"w" help:"More columns."`
	Watch bool `help:"Print what there is, and then every change, until interrupted."`
}

// Help is shown below the usage.
func (*instancesListCmd) Help() string {
	return `An instance is online while it says every few seconds that it is alive, offline when it stopped doing so without
taking its leave.

Examples:

    skybus instances
    skybus instances --service getwidgets --wide
    skybus instances --service getwidgets:1.0.0,log --region north --registered=false
    skybus instances --watch -o json`
}

// instanceRow is an instance as it is listed.
type instanceRow struct {
	Address string `json:"address"`
	registry.Record
	State registry.State `json:"state"`
	Load  registry.Load  `json:"load"`
}

// newInstanceRow leaves out the schemas, which `skybus services show` has.
func newInstanceRow(ns bus.Namespace, i *registry.Instance) instanceRow {
	address := bus.Address{Namespace: ns, Service: i.Service, Instance: i.Instance}
	row := instanceRow{address.String(), i.Record, i.State, i.Load()}
	row.Endpoints = slices.Clone(row.Endpoints)
	for n := range row.Endpoints {
		row.Endpoints[n].Request, row.Endpoints[n].Response = nil, nil
	}
	return row
}

// Run lists the instances.
func (c *instancesListCmd) Run(ctx context.Context, app *App) error {
	if c.Watch {
		return c.watch(ctx, app)
	}
	instances, err := c.instances(ctx, app)
	if err != nil {
		return err
	}
	ns, err := app.namespace()
	if err != nil {
		return err
	}
	rows := []instanceRow{}
	for _, i := range instances {
		rows = append(rows, newInstanceRow(ns, i))
	}
	if len(rows) == 0 {
		c.noteNone(app, "instances")
	}
	header := []string{"service", "instance", "version", "state", "in flight", "up"}
	if c.Wide {
		header = append(header, "region", "host", "pid", "latency", "shed", "attributes", "endpoints")
	}
	return printList(app, rows, header, func(r instanceRow) []any {
		row := []any{r.Service, r.Instance, r.Version, r.State, r.Load.InFlight, r.up()}
		if !c.Wide {
			return row
		}
		var endpoints []string
		for _, ep := range r.Endpoints {
			endpoints = append(endpoints, ep.Name)
		}
		latency := time.Duration(r.Load.Latency) * time.Microsecond
		return append(row, r.Region, r.Host, r.PID, latency, r.Load.Shed, r.attributes(), strings.Join(endpoints, " "))
	})
}

// up is how long the instance has run. Of one that is offline nobody knows whether it still does.
func (r instanceRow) up() string {
	if r.State == registry.Offline {
		return ""
	}
	return age(r.Started)
}

// attributes are the instance's own, by name.
func (r instanceRow) attributes() string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(r.Attributes)) {
		all = append(all, name+"="+compact(r.Attributes[name]))
	}
	return strings.Join(all, " ")
}

// age is how long ago t was, in two units at most.
func age(t time.Time) string {
	d := max(0, time.Since(t))
	switch {
	case d < time.Minute:
		return d.Truncate(time.Second).String()
	case d < 24*time.Hour:
		return strings.TrimSuffix(d.Truncate(time.Minute).String(), "0s")
	}
	return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}

// instanceEvent is a change of an instance as it is printed.
type instanceEvent struct {
	Change registry.ChangeKind `json:"change"`
	instanceRow
}

func (e instanceEvent) line(wide bool) string {
	line := fmt.Sprintf("%-8s %s %s %s %s", e.Change, e.Service, e.Instance, e.Version, e.State)
	if wide {
		line += fmt.Sprintf(" region %q host %q pid %d %s", e.Region, e.Host, e.PID, e.attributes())
		line = strings.TrimSuffix(line, " ")
	}
	return line
}

// watch prints the instances and then every change. Where there is no registry yet, it waits for one.
func (c *instancesListCmd) watch(ctx context.Context, app *App) error {
	for {
		err := c.with(ctx, app, func(ctx context.Context, conn *bus.Conn, reg *registry.Registry, chosen registry.Criteria) error {
			return c.follow(ctx, app, conn, reg, chosen)
		})
		if !errors.Is(err, kv.ErrNoBucket) {
			return unlessStopped(ctx, err)
		}
		if !backoff.Sleep(ctx, watchRetry) {
			return nil
		}
	}
}

func (c *instancesListCmd) follow(ctx context.Context, app *App, conn *bus.Conn, reg *registry.Registry, chosen registry.Criteria) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var closing sync.WaitGroup
	defer closing.Wait()
	defer cancel(nil)
	closing.Go(func() {
		select {
		case <-conn.Closed():
			cancel(errors.New("the connection to NATS was closed for good"))
		case <-ctx.Done():
		}
	})
	for change := range reg.Watch(ctx, chosen) {
		i := change.Instance
		e := instanceEvent{change.Kind, newInstanceRow(conn.Namespace(), i)}
		if err := printEvent(app, e, e.line(c.Wide)); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

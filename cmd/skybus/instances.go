package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/micro/registry"
)

type servicesCmd struct {
	Service []string `help:"Only services of these names." placeholder:"NAME,..."`
}

// Help is shown below the usage.
func (*servicesCmd) Help() string {
	return `Examples:

    skybus services
    skybus services --service getwidgets -o json`
}

// serviceRow is a service as it is listed.
type serviceRow struct {
	Service      string   `json:"service"`
	Versions     []string `json:"versions"`
	Online       int      `json:"online"`
	Unregistered int      `json:"unregistered"`
	Offline      int      `json:"offline"`
	Endpoints    []string `json:"endpoints"`
}

// Run lists the services.
func (c *servicesCmd) Run(ctx context.Context, app *App) error {
	services, err := app.services(ctx, c.Service)
	if err != nil {
		return err
	}
	rows := make([]serviceRow, 0, len(services))
	for _, s := range services {
		rows = append(rows, newServiceRow(s))
	}
	if len(rows) == 0 {
		app.noteNone("services", c.Service)
	}
	header := []string{"service", "versions", "online", "unregistered", "offline", "endpoints"}
	return printList(app, rows, header, func(r serviceRow) []any {
		return []any{r.Service, strings.Join(r.Versions, " "), r.Online, r.Unregistered, r.Offline, strings.Join(r.Endpoints, " ")}
	})
}

func newServiceRow(s *registry.Service) serviceRow {
	versions, endpoints := map[string]bool{}, map[string]bool{}
	states := map[registry.State]int{}
	for _, i := range slices.Concat(s.Online, s.Rest) {
		states[i.State]++
		versions[i.Version] = true
		for _, ep := range i.Endpoints {
			endpoints[ep.Name] = true
		}
	}
	return serviceRow{
		Service:      s.Name,
		Versions:     slices.Sorted(maps.Keys(versions)),
		Online:       states[registry.Online],
		Unregistered: states[registry.Unregistered],
		Offline:      states[registry.Offline],
		Endpoints:    slices.Sorted(maps.Keys(endpoints)),
	}
}

type instancesCmd struct {
	Service []string `help:"Only instances of these services." placeholder:"NAME,..."`
	Wide    bool     `short:"w" help:"More columns."`
}

// Help is shown below the usage.
func (*instancesCmd) Help() string {
	return `An instance is online while it says every few seconds that it is alive, offline when it stopped doing so without
taking its leave.

Examples:

    skybus instances
    skybus instances --service getwidgets --wide
    skybus instances -o json`
}

// instanceRow is an instance as it is listed.
type instanceRow struct {
	registry.Record
	State registry.State `json:"state"`
	Load  registry.Load  `json:"load"`
}

// Run lists the instances.
func (c *instancesCmd) Run(ctx context.Context, app *App) error {
	services, err := app.services(ctx, c.Service)
	if err != nil {
		return err
	}
	rows := []instanceRow{}
	for _, s := range services {
		instances := slices.Concat(s.Online, s.Rest)
		slices.SortFunc(instances, func(a, b *registry.Instance) int { return cmp.Compare(a.Instance, b.Instance) })
		for _, i := range instances {
			rows = append(rows, instanceRow{i.Record, i.State, i.Load()})
		}
	}
	if len(rows) == 0 {
		app.noteNone("instances", c.Service)
	}
	header := []string{"service", "instance", "version", "state", "in flight", "up"}
	if c.Wide {
		header = append(header, "region", "host", "pid", "latency", "shed", "endpoints")
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
		return append(row, r.Region, r.Host, r.PID, latency, r.Load.Shed, strings.Join(endpoints, " "))
	})
}

// up is how long the instance has run. Of one that is offline nobody knows whether it still does.
func (r instanceRow) up() string {
	if r.State == registry.Offline {
		return ""
	}
	return age(r.Started)
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

// noteNone says that there are no such things, or nothing of those names.
func (a *App) noteNone(things string, names []string) {
	ns := cmp.Or(a.Namespace, bus.DefaultNamespace)
	if len(names) > 0 {
		a.note("nothing is known of %s in %s", strings.Join(names, ", "), ns)
		return
	}
	a.note("there are no %s in %s", things, ns)
}

// services are the services of the namespace by name, or those named.
func (a *App) services(ctx context.Context, names []string) ([]*registry.Service, error) {
	for _, name := range names {
		if err := bus.CheckToken("--service", name); err != nil {
			return nil, usagef("%s", message(err))
		}
	}
	conn, err := a.Connect(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }() // nothing was written
	ctx, cancel := a.withTimeout(ctx)
	defer cancel()
	reg, err := registry.Open(ctx, conn, registry.Config{Bind: true, Logger: a.log})
	if errors.Is(err, kv.ErrNoBucket) {
		return nil, nil // nothing was ever there
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = reg.Close() }()
	var services []*registry.Service
	all := reg.Services()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if len(names) == 0 || slices.Contains(names, name) {
			services = append(services, all[name])
		}
	}
	return services, nil
}

package main

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/skybus-io/skybus/micro/registry"
)

type servicesCmd struct {
	List servicesListCmd `cmd:"" default:"withargs" aliases:"ls" help:"List the services (the default)."`
	Show servicesShowCmd `cmd:"" help:"Show the endpoints of a service: their properties, and the schemas of requests and responses."`
}

type servicesListCmd struct{ criteria }

// Help is shown below the usage.
func (*servicesListCmd) Help() string {
	return `Examples:

    skybus services
    skybus services --service getwidgets -o json
    skybus services --region north --registered
    skybus services show getwidgets`
}

// serviceRow is a service as it is listed.
type serviceRow struct {
	Service  string   `json:"service"`
	Versions []string `json:"versions"`
	states
	Endpoints []string `json:"endpoints"`
}

// Run lists the services.
func (c *servicesListCmd) Run(ctx context.Context, app *App) error {
	instances, err := c.instances(ctx, app)
	if err != nil {
		return err
	}
	var rows []serviceRow
	for _, all := range grouped(instances, func(i *registry.Instance) string { return i.Service }) {
		rows = append(rows, newServiceRow(all))
	}
	if len(rows) == 0 {
		c.noteNone(app, "services")
	}
	header := []string{"service", "versions", "online", "unregistered", "offline", "endpoints"}
	return printList(app, rows, header, func(r serviceRow) []any {
		return []any{r.Service, strings.Join(r.Versions, " "), r.Online, r.Unregistered, r.Offline, strings.Join(r.Endpoints, " ")}
	})
}

func newServiceRow(all []*registry.Instance) serviceRow {
	versions, endpoints := map[string]bool{}, map[string]bool{}
	row := serviceRow{Service: all[0].Service}
	for _, i := range all {
		row.add(i)
		versions[i.Version] = true
		for _, ep := range i.Endpoints {
			endpoints[ep.Name] = true
		}
	}
	row.Versions, row.Endpoints = slices.Sorted(maps.Keys(versions)), slices.Sorted(maps.Keys(endpoints))
	return row
}

// grouped are instances by something they have, sorted by that.
func grouped(instances []*registry.Instance, by func(*registry.Instance) string) [][]*registry.Instance {
	groups := map[string][]*registry.Instance{}
	for _, i := range instances {
		groups[by(i)] = append(groups[by(i)], i)
	}
	var all [][]*registry.Instance
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		all = append(all, groups[name])
	}
	return all
}

type versionsCmd struct{ criteria }

// Help is shown below the usage.
func (*versionsCmd) Help() string {
	return `Examples:

    skybus versions
    skybus versions --service getwidgets`
}

// versionRow is a version of a service as it is listed.
type versionRow struct {
	Service string `json:"service"`
	Version string `json:"version"`
	states
}

// Run lists the versions of each service.
func (c *versionsCmd) Run(ctx context.Context, app *App) error {
	instances, err := c.instances(ctx, app)
	if err != nil {
		return err
	}
	var rows []versionRow
	for _, all := range grouped(instances, func(i *registry.Instance) string { return i.Service + ":" + i.Version }) {
		row := versionRow{Service: all[0].Service, Version: all[0].Version}
		for _, i := range all {
			row.add(i)
		}
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		c.noteNone(app, "versions")
	}
	return printList(app, rows, []string{"service", "version", "online", "unregistered", "offline"}, func(r versionRow) []any {
		return []any{r.Service, r.Version, r.Online, r.Unregistered, r.Offline}
	})
}

type regionsCmd struct{ criteria }

// Help is shown below the usage.
func (*regionsCmd) Help() string {
	return `Instances that tell no region are listed under the empty one.

Examples:

    skybus regions
    skybus regions --service getwidgets:1.0.0`
}

// Run lists the regions.
func (c *regionsCmd) Run(ctx context.Context, app *App) error {
	return c.listPlaces(ctx, app, "region", func(i *registry.Instance) string { return i.Region })
}

type hostsCmd struct{ criteria }

// Help is shown below the usage.
func (*hostsCmd) Help() string {
	return `Examples:

    skybus hosts
    skybus hosts --region north`
}

// Run lists the hosts.
func (c *hostsCmd) Run(ctx context.Context, app *App) error {
	return c.listPlaces(ctx, app, "host", func(i *registry.Instance) string { return i.Host })
}

// placeRow is a region or a host as it is listed.
type placeRow struct {
	Name     string   `json:"name"`
	Services []string `json:"services"`
	states
}

func (c *criteria) listPlaces(ctx context.Context, app *App, what string, of func(*registry.Instance) string) error {
	instances, err := c.instances(ctx, app)
	if err != nil {
		return err
	}
	var rows []placeRow
	for _, all := range grouped(instances, of) {
		row := placeRow{Name: of(all[0])}
		for _, i := range all {
			row.add(i)
			row.Services = append(row.Services, i.Service)
		}
		row.Services = slices.Compact(slices.SortedFunc(slices.Values(row.Services), cmp.Compare))
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		c.noteNone(app, what+"s")
	}
	return printList(app, rows, []string{what, "online", "unregistered", "offline", "services"}, func(r placeRow) []any {
		return []any{r.Name, r.Online, r.Unregistered, r.Offline, strings.Join(r.Services, " ")}
	})
}

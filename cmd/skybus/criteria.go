package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/micro/registry"
)

// criteria are the flags that choose instances, the same wherever instances matter. The values of one flag are
// alternatives, and all flags have to be met.
type criteria struct {
	Service    []string `help:"Only of these services, in any version or in one." placeholder:"NAME[:VERSION]" group:"criteria" env:"-"`
	Region     []string `help:"Only in these regions." placeholder:"REGION" group:"criteria" env:"-"`
	Host       []string `help:"Only on these hosts." placeholder:"HOST" group:"criteria" env:"-"`
	Instance   []string `help:"Only these instances." placeholder:"ID" group:"criteria" env:"-"`
	Registered *bool    `help:"Only registered ones, or with =false only others." group:"criteria" env:"-"`
}

// parse checks the flags.
func (c *criteria) parse() (registry.Criteria, error) {
	chosen := registry.Criteria{Regions: c.Region, Hosts: c.Host, Instances: c.Instance, Registered: c.Registered}
	for _, s := range c.Service {
		service, err := registry.ParseServiceCriterion(s)
		if err != nil {
			return chosen, usagef("--service %.80q: %s", s, bus.AsError(err).Message)
		}
		chosen.Services = append(chosen.Services, service)
	}
	for _, id := range c.Instance {
		if err := bus.CheckToken("--instance", id); err != nil {
			return chosen, usagef("%s", bus.AsError(err).Message)
		}
	}
	return chosen, nil
}

// String is the criteria as they can be given.
func (c *criteria) String() string {
	var flags []string
	for _, f := range []struct {
		name   string
		values []string
	}{{"--service", c.Service}, {"--region", c.Region}, {"--host", c.Host}, {"--instance", c.Instance}} {
		if len(f.values) > 0 {
			flags = append(flags, f.name+" "+strings.Join(f.values, ","))
		}
	}
	if c.Registered != nil {
		flags = append(flags, "--registered="+strconv.FormatBool(*c.Registered))
	}
	return strings.Join(flags, " ")
}

// noteNone says that there are no such things, or none that the criteria choose.
func (c *criteria) noteNone(a *App, things string) {
	if chosen := c.String(); chosen != "" {
		a.note("there are no %s in %s with %s", things, cmp.Or(a.Namespace, bus.DefaultNamespace), chosen)
		return
	}
	a.noteNone(things)
}

// noteNone says that there are no such things.
func (a *App) noteNone(things string) {
	a.note("there are no %s in %s", things, cmp.Or(a.Namespace, bus.DefaultNamespace))
}

// instances are those that the criteria choose, by service and id.
func (c *criteria) instances(ctx context.Context, app *App) ([]*registry.Instance, error) {
	var chosen []*registry.Instance
	err := c.with(ctx, app, func(_ context.Context, _ *bus.Conn, reg *registry.Registry, criteria registry.Criteria) error {
		chosen = reg.Instances(criteria)
		return nil
	})
	if errors.Is(err, kv.ErrNoBucket) {
		err = nil // nothing was ever there
	}
	return chosen, err
}

// with opens the registry and calls f with it. The buckets are not created: [kv.ErrNoBucket].
func (c *criteria) with(ctx context.Context, app *App,
	f func(context.Context, *bus.Conn, *registry.Registry, registry.Criteria) error,
) error {
	chosen, err := c.parse()
	if err != nil {
		return err
	}
	return app.withConn(ctx, func(load context.Context, conn *bus.Conn) error {
		reg, err := registry.Open(load, conn, registry.Config{Bind: true, Logger: app.log})
		if err != nil {
			return err
		}
		defer func() { _ = reg.Close() }()
		return f(ctx, conn, reg, chosen)
	})
}

// states counts instances by state.
type states struct {
	Online       int `json:"online"`
	Unregistered int `json:"unregistered"`
	Offline      int `json:"offline"`
}

func (s *states) add(i *registry.Instance) {
	switch i.State {
	case registry.Online:
		s.Online++
	case registry.Unregistered:
		s.Unregistered++
	case registry.Offline:
		s.Offline++
	}
}

// plural is "1 instance" or "3 instances".
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

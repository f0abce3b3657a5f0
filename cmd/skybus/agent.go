package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/skybus-io/skybus/micro/registry"
)

// leastAfter is the least --after: whoever is a moment late shall not be asked for.
const leastAfter = time.Second

type agentCmd struct {
	partFlags

	After time.Duration `help:"How long an instance must have given no sign of life." default:"1m"`
}

// Help is shown below the usage.
func (*agentCmd) Help() string {
	return `A watcher that removes the records of dead instances and reports: of those that give no sign of life and answer no
ping. It prints a line for each, with -o json a line of JSON. Any number of agents may run, and each record is removed once;
` + "`skybus up`" + ` has one of its own.

Examples:

    skybus agent --server nats://nats.example.org:4222
    skybus agent --after 5m -o json`
}

// Validate finds the mistakes that need no look at the machine.
func (c *agentCmd) Validate() error {
	if c.After < leastAfter {
		return usagef("--after %v: want at least %v", c.After, leastAfter)
	}
	return c.check()
}

func (*agentCmd) daemon() {}

// removal is a record that was removed, as it is printed.
type removal struct {
	Change string    `json:"change"`
	At     time.Time `json:"at"`
	registry.Record
}

func (r removal) line() string {
	return fmt.Sprintf("removed  %s %s %s host %q pid %d", r.Service, r.Instance, r.Version, r.Host, r.PID)
}

// Run watches until ctx ends.
func (c *agentCmd) Run(ctx context.Context, app *App) error {
	return c.run(ctx, app, part{name: "agent", quiet: true, serve: func(ctx context.Context, p *platform) error {
		open, cancel := app.toStart(ctx)
		defer cancel()
		reg, err := registry.Open(open, p.conn, registry.Config{Logger: app.log})
		if err != nil {
			return err
		}
		p.onClose(reg.Close)
		reaped := make(chan registry.Record)
		reaper, err := registry.NewReaper(p.conn, reg, registry.ReaperConfig{
			After: c.After, Logger: app.log, Reaped: func(r registry.Record) { reaped <- r },
		})
		if err != nil {
			return err
		}
		p.run(ctx, func(ctx context.Context) error {
			return app.printRemovals(reaped, func() error { return reaper.Run(ctx) })
		})
		return nil
	}})
}

// printRemovals prints what comes while run runs.
func (a *App) printRemovals(reaped chan registry.Record, run func() error) error {
	var printing sync.WaitGroup
	var failed error
	printing.Go(func() {
		for r := range reaped {
			e := removal{Change: "removed", At: time.Now().UTC(), Record: r}
			failed = errors.Join(failed, printEvent(a, e, e.line()))
		}
	})
	err := run()
	close(reaped)
	printing.Wait()
	return errors.Join(err, failed)
}

// startReaper runs a reaper within the platform, which has only the log to tell.
func (p *platform) startReaper(ctx context.Context, reg *registry.Registry) error {
	reaper, err := registry.NewReaper(p.conn, reg, registry.ReaperConfig{Logger: p.conn.Logger()})
	if err != nil {
		return err
	}
	p.run(ctx, reaper.Run)
	return nil
}

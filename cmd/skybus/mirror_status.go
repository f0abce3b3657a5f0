package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/skybus-io/skybus/mirror"
)

type mirrorStatusCmd struct {
	mirrorName

	Watch bool `short:"w" help:"Show what changes, as it changes, until Ctrl-C." env:"-"`
}

// Help is shown below the usage.
func (*mirrorStatusCmd) Help() string {
	return `A backend is live when writes reach it as they come, behind while it is being brought level, down when it does not answer; in maintenance
nothing is sent to it and everything is kept; gap means that it lacks writes which are no longer kept, and needs a copy of another's data.
With --watch it prints a line when something changes, and with -o json a line of JSON.

Examples:

    skybus mirror status
    skybus mirror status -m shop -o json
    skybus mirror status --watch`
}

// Run shows the mirror.
func (c *mirrorStatusCmd) Run(ctx context.Context, app *App) error {
	return c.with(ctx, app, func(ctx context.Context, m *mirror.Mirror) error {
		one, cancel := app.withTimeout(ctx)
		defer cancel()
		s, err := m.Status(one)
		if err != nil {
			return err
		}
		if c.Watch {
			return unlessStopped(ctx, c.watch(ctx, app, m))
		}
		rows := [][]any{{"mirror", s.Name}, {"sender", cmp.Or(s.Sender, "nobody: `skybus mirror run` sends")}, {"last write", s.Last}, {"lanes", fmt.Sprintf("%d by %s", s.Lanes, s.Key)}}
		if err := printOne(app, s, rows); err != nil || app.Output != formatTable {
			return err
		}
		if len(s.Backends) == 0 {
			app.note("it has no backends; `skybus mirror nodes add NAME URL` adds one")
			return nil
		}
		if _, err := fmt.Fprintln(app.stdout); err != nil {
			return err
		}
		return printBackends(app, s.Backends)
	})
}

const watchEvery = 250 * time.Millisecond

// watch prints the backends that have changed, a few times a second at most.
func (c *mirrorStatusCmd) watch(ctx context.Context, app *App, m *mirror.Mirror) error {
	shown := map[string]mirror.Condition{}
	for {
		changed := m.Changed()
		now := map[string]mirror.Condition{}
		for _, b := range m.Conditions() {
			now[b.Name] = b
			if last, ok := shown[b.Name]; ok && last == b {
				continue
			}
			if err := printEvent(app, b, backendLine(&b)); err != nil {
				return err
			}
		}
		for name := range shown {
			if _, ok := now[name]; !ok {
				app.note("backend %s was deleted", name)
			}
		}
		shown = now
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		select {
		case <-time.After(watchEvery):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// backendLine is a backend for people, in a line.
func backendLine(b *mirror.Condition) string {
	line := fmt.Sprintf("%s  %-11s  %s  applied %d", time.Now().Format("15:04:05.000"), backendState(b), b.Name, b.Applied)
	if b.Waiting > 0 {
		line += fmt.Sprintf("  waiting %d", b.Waiting)
	}
	if b.Lag > 0 {
		line += "  lag " + span(b.Lag)
	}
	return line
}

// backendState is what a backend is, for people.
func backendState(b *mirror.Condition) string {
	switch {
	case !b.Active:
		return "inactive"
	case b.Maintenance:
		return string(mirror.StateMaintenance)
	case b.State == "":
		return "unknown"
	}
	return string(b.State)
}

func printBackends(app *App, all []mirror.Condition) error {
	return printList(app, all, []string{"name", "url", "priority", "state", "applied", "waiting", "lag"}, func(b mirror.Condition) []any {
		lag := any(nil)
		if b.Lag > 0 {
			lag = span(b.Lag)
		}
		return []any{b.Name, b.URL, b.Priority, backendState(&b), b.Applied, b.Waiting, lag}
	})
}

type mirrorDrainCmd struct {
	mirrorName

	Names []string      `arg:"" optional:"" name:"name" help:"Which backends. Default: all that are sent to."`
	Wait  time.Duration `help:"How long to wait. Default: until Ctrl-C." placeholder:"DURATION" env:"-"`
}

// Help is shown below the usage.
func (*mirrorDrainCmd) Help() string {
	return `It waits for the writes that are stored when it begins, and changes nothing: others may come meanwhile. Use it before a backend is taken
away or copied. To hand the sending to another process, stop the one that sends: it finishes its requests and gives way at once.

The exit code is 1 when the time is over before.

Examples:

    skybus mirror drain
    skybus mirror drain b --wait 5m && skybus mirror nodes set b --maintenance`
}

// Run waits.
func (c *mirrorDrainCmd) Run(ctx context.Context, app *App) error {
	if c.Wait < 0 {
		return usagef("--wait %v: want more than 0", c.Wait)
	}
	return c.with(ctx, app, func(ctx context.Context, m *mirror.Mirror) error {
		wait := ctx
		if c.Wait > 0 {
			var cancel context.CancelFunc
			wait, cancel = context.WithTimeout(ctx, c.Wait)
			defer cancel()
		}
		bar := newProgress(app, "writes applied", 0)
		defer bar.end()
		var last mirror.Drained
		before := map[string]uint64{}
		for d, err := range m.Drain(wait, c.Names...) {
			if err != nil {
				return mirrorHint(err)
			}
			for _, b := range d.Backends {
				if old, ok := before[b.Name]; ok {
					bar.add(int64(min(b.Applied, d.Last) - min(old, d.Last))) //nolint:gosec // sequences
				}
				before[b.Name] = b.Applied
			}
			last = d
		}
		bar.end()
		if len(last.Backends) == 0 {
			app.note("nothing was waited for: no backend of mirror %s is active, out of maintenance and without a gap", m.Info().Name)
		}
		if !last.Done && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err := printOne(app, last, [][]any{{"last write", last.Last}, {"backends", len(last.Backends)}, {"done", last.Done}})
		if err != nil || last.Done {
			return err
		}
		return c.notDone(ctx, m, &last)
	})
}

// notDone tells which backends are not level.
func (c *mirrorDrainCmd) notDone(ctx context.Context, m *mirror.Mirror, d *mirror.Drained) error {
	var late []string
	for _, b := range d.Backends {
		if b.Applied < d.Last {
			late = append(late, fmt.Sprintf("%s (%s, has applied all up to %d)", b.Name, backendState(&b), b.Applied))
		}
	}
	err := fmt.Errorf("after %v not level: %s", c.Wait, strings.Join(late, ", "))
	if owner, serr := m.Sender(ctx); serr == nil && owner == "" {
		return withHint(err, "nobody sends: `skybus mirror run` does")
	}
	return withHint(err, "`skybus mirror status --watch` shows how they get on")
}

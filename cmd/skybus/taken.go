package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/embed"
)

// explainTaken makes of an error about something in use one that tells of all that is. Who starts a second platform
// would learn of it one flag at a time otherwise.
func (c *upCmd) explainTaken(ctx context.Context, app *App, err error) error {
	if !addrInUse(err) && !errors.Is(err, embed.ErrAddrInUse) && !errors.Is(err, embed.ErrDirInUse) {
		return err
	}
	var taken, flags []string
	instead := ""
	for _, l := range c.listeners(app) {
		probe, err := listenAt(ctx, l.addr)
		if err == nil {
			_ = probe.Close()
		}
		if !addrInUse(err) {
			continue
		}
		taken = append(taken, fmt.Sprintf("%s (%s)", withHost(l.addr), l.what))
		flags = append(flags, fmt.Sprintf("%s %s:0", l.flag, loopbackHost))
		if l.flag == "--nats" {
			instead = "; --server nats://" + withHost(l.addr) + " uses the NATS server that runs there"
		}
	}
	if !c.external(app) && !c.Memory {
		if dir, err := c.dataDir(); err == nil && dirInUse(dir) {
			taken = append(taken, fmt.Sprintf("data directory %q", dir))
			flags = append(flags, "--data DIR")
		}
	}
	if len(taken) == 0 {
		return err // it is free by now
	}
	return withHint(bus.Wrap(bus.FailedPrecondition, "in use by another program: "+strings.Join(taken, ", "), err),
		"%s gives this one its own%s", strings.Join(flags, " "), instead)
}

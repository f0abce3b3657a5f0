package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/registry"
)

// controlLimit is how many instances are told something at a time.
const controlLimit = 16

// control tells the instances that the criteria choose to do something.
type control struct {
	criteria

	Yes bool `short:"y" help:"Do not ask." env:"-"`
}

type instancesRegisterCmd struct{ control }

// Help is shown below the usage.
func (*instancesRegisterCmd) Help() string {
	return `Examples:

    skybus instances register --service getwidgets --registered=false
    skybus instances register --instance 7qkm3x2a --yes`
}

// Run registers them.
func (c *instancesRegisterCmd) Run(ctx context.Context, app *App) error {
	return c.run(ctx, app, micro.VerbRegister, "registered", nil)
}

type instancesUnregisterCmd struct{ control }

// Help is shown below the usage.
func (*instancesUnregisterCmd) Help() string {
	return `An unregistered instance goes on running and can be called by its own name, as by ` + "`skybus call --to-instance`" + `.

Examples:

    skybus instances unregister --service getwidgets --host web3
    skybus instances unregister --instance 7qkm3x2a --yes`
}

// Run unregisters them.
func (c *instancesUnregisterCmd) Run(ctx context.Context, app *App) error {
	return c.run(ctx, app, micro.VerbUnregister, "unregistered", nil)
}

type instancesStopCmd struct{ control }

// Help is shown below the usage.
func (*instancesStopCmd) Help() string {
	return `What restarts programs, as ` + "`skybus run`" + ` does, starts them again.

Examples:

    skybus instances stop --service getwidgets:1.0.0
    skybus instances stop --host web3 --yes`
}

// Run stops them.
func (c *instancesStopCmd) Run(ctx context.Context, app *App) error {
	return c.run(ctx, app, micro.VerbStop, "stopped", nil)
}

type instancesLogCmd struct {
	control

	Level string `arg:"" enum:"debug,info,warn,error" help:"Least level to log: debug, info, warn or error."`
}

// Help is shown below the usage.
func (*instancesLogCmd) Help() string {
	return `Examples:

    skybus instances log debug --service getwidgets
    skybus instances log info --instance 7qkm3x2a --yes`
}

// Run changes what they log.
func (c *instancesLogCmd) Run(ctx context.Context, app *App) error {
	return c.run(ctx, app, micro.VerbLog, "told to log from "+c.Level+" on", []byte(c.Level))
}

// controlRow is what came of telling one instance.
type controlRow struct {
	Service  string          `json:"service"`
	Instance string          `json:"instance"`
	Host     string          `json:"host,omitempty"`
	OK       bool            `json:"ok"`
	Code     bus.Code        `json:"code,omitempty"`
	Error    string          `json:"error,omitempty"`
	Answer   json.RawMessage `json:"answer,omitempty"`
}

// run chooses, asks, tells, and prints what came of it. done is what will have happened to them.
func (c *control) run(ctx context.Context, app *App, verb, done string, body []byte) error {
	err := c.with(ctx, app, func(ctx context.Context, conn *bus.Conn, reg *registry.Registry, chosen registry.Criteria) error {
		var alive []*registry.Instance
		all := reg.Instances(chosen)
		for _, i := range all {
			if i.State != registry.Offline {
				alive = append(alive, i)
			}
		}
		switch off := len(all) - len(alive); off {
		case 0:
		case 1:
			app.note("1 instance is offline and left out")
		default:
			app.note("%d instances are offline and left out", off)
		}
		if len(alive) == 0 {
			return c.nobody()
		}
		if err := app.confirm(ctx, c.Yes, plural(len(alive), "instance")+" will be "+done); err != nil {
			return err
		}
		return c.report(app, c.tell(ctx, app, alive, func(ctx context.Context, i *registry.Instance) (json.RawMessage, error) {
			return micro.Control(ctx, conn, i.Service, i.Instance, verb, body)
		}))
	})
	if errors.Is(err, kv.ErrNoBucket) {
		return c.nobody()
	}
	return err
}

func (c *control) nobody() error {
	text := "there is no instance alive"
	if chosen := c.String(); chosen != "" {
		text += " with " + chosen
	}
	return withHint(bus.Errorf(bus.NotFound, "%s", text), "`skybus instances` lists all of this namespace")
}

// confirm asks whoever sits at the terminal, unless they said yes already.
func (a *App) confirm(ctx context.Context, yes bool, what string) error {
	if yes {
		return nil
	}
	if !isTerminal(a.stdin) {
		return withHint(usagef("%s, and there is no terminal to ask at", what), "--yes does not ask")
	}
	return ask(ctx, a.stdin, a.stderr, what)
}

// errDeclined is how it ends when the answer was not yes.
var errDeclined = errors.New("nothing was done")

// ask puts a question that only y and yes agree to.
func ask(ctx context.Context, in io.Reader, out io.Writer, what string) error {
	fmt.Fprintf(out, "%s; continue? [y/N] ", what)
	line := make(chan string, 1)
	go func() { // nobody waits for it after an interrupt: a terminal may never answer
		text, _ := bufio.NewReader(in).ReadString('\n') // no answer is no
		line <- text
	}()
	select {
	case text := <-line:
		if answer := strings.ToLower(strings.TrimSpace(text)); answer == "y" || answer == "yes" {
			return nil
		}
		return errDeclined
	case <-ctx.Done():
		fmt.Fprintln(out)
		return context.Cause(ctx)
	}
}

// tell tells all of them, some at a time, each within --timeout.
func (c *control) tell(ctx context.Context, app *App, instances []*registry.Instance,
	send func(context.Context, *registry.Instance) (json.RawMessage, error),
) []controlRow {
	rows := make([]controlRow, len(instances))
	places := make(chan struct{}, controlLimit)
	var telling sync.WaitGroup
	for n, i := range instances {
		places <- struct{}{}
		telling.Go(func() {
			defer func() { <-places }()
			ctx, cancel := app.withTimeout(ctx)
			defer cancel()
			rows[n] = controlRow{Service: i.Service, Instance: i.Instance, Host: i.Host}
			answer, err := send(ctx, i)
			if err != nil {
				e := bus.AsError(err)
				rows[n].Code, rows[n].Error = e.Code, e.Message
				return
			}
			rows[n].OK = true
			if json.Valid(answer) {
				rows[n].Answer = answer
			}
		})
	}
	telling.Wait()
	return rows
}

func (*control) report(app *App, rows []controlRow) error {
	failed := 0
	for _, r := range rows {
		if !r.OK {
			failed++
		}
	}
	err := printList(app, rows, []string{"service", "instance", "host", "result"}, func(r controlRow) []any {
		result := "ok"
		if !r.OK {
			result = fmt.Sprintf("%s: %s", r.Code, r.Error)
		}
		return []any{r.Service, r.Instance, r.Host, result}
	})
	if err == nil && failed > 0 {
		err = fmt.Errorf("%d of %s failed", failed, plural(len(rows), "instance"))
	}
	return err
}

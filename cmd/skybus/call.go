package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro"
)

const maxInput = 64 << 20

type callCmd struct {
	Target string `arg:"" help:"What to call: service.endpoint."`
	Body   string `arg:"" optional:"" help:"Request as JSON, @FILE to read it from a file, or - from standard input. Default: none."`

	callTo

	Header []string      `help:"Header to send along; may be given several times." placeholder:"NAME:VALUE" sep:"none" env:"-"`
	Hedge  time.Duration `help:"Ask another instance too each time that so long passed without an answer." placeholder:"DURATION" env:"-"`

	Idempotent bool `help:"Call again when no answer comes in time: being called twice does no harm."`
	Once       bool `help:"Exactly one attempt, also where nobody was there to take it." env:"-"`
	Trace      bool `help:"Print what each instance that took part did, and how long it took, to stderr." env:"-"`

	All    bool          `help:"Call all instances, registered or not, and list what each answers." env:"-"`
	Quiet  time.Duration `help:"With --all: end when no answer came for so long. Default: when all have answered, or --timeout is over." placeholder:"DURATION" env:"-"`
	OneWay bool          `help:"Send a message that nobody answers." aliases:"notify" env:"-"`
	Stream bool          `help:"Print the messages that the endpoint streams, as they come, until the end." env:"-"`
}

// callTo are the flags that choose an instance.
type callTo struct {
	ToVersion  string `help:"Only an instance of this version." placeholder:"VERSION" xor:"to"`
	ToInstance string `help:"Only this instance, by its id or its address." placeholder:"ID" xor:"to"`
	ToRegion   string `help:"Only an instance that runs in this region." placeholder:"REGION" aliases:"region" env:"-"`
	Policy     string `help:"How to choose among the instances: random, nearest, best-quality, mod-hash or consistent-hash. Default: NATS does." enum:",random,nearest,best-quality,mod-hash,consistent-hash" default:"" placeholder:"POLICY" env:"-"`
	Key        string `help:"What the call is about: always to the same instance, by consistent hash unless --policy says otherwise." placeholder:"KEY" env:"-"`
}

// Help is shown below the usage.
func (*callCmd) Help() string {
	return `Examples:

    skybus call getwidgets.get '{"input":"x"}'
    skybus call getwidgets.get @request.json --timeout 30s
    skybus call shop.order @order.json --trace
    echo '{"input":"x"}' | skybus call getwidgets.get -
    skybus call getwidgets.get --to-region eu --hedge 20ms
    skybus call cart.show --key ada --header 'Accept-Language: de'
    skybus call cache.clear --all
    skybus call log.write '{"line":"x"}' --one-way
    skybus call prices.follow '{"symbol":"x"}' --stream -o json`
}

// Run calls the endpoint and prints its answer.
func (c *callCmd) Run(ctx context.Context, app *App) error {
	req, err := c.request(ctx, app)
	if err != nil {
		return err
	}
	conn, err := app.connectJSON(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // the answer is there
	load, cancel := app.withTimeout(ctx)
	defer cancel()
	client, err := micro.NewClient(load, conn, micro.ClientConfig{Name: "cli"})
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	switch {
	case c.OneWay:
		err = c.notify(load, client, req)
	case c.All:
		return c.callAll(load, app, client, req)
	case c.Stream:
		err = c.stream(ctx, app, client, req)
	default:
		return c.call(load, app, client, req)
	}
	if err != nil {
		return c.failure(ctx, err)
	}
	return nil
}

// call makes one call and prints its answer.
func (c *callCmd) call(ctx context.Context, app *App, client *micro.Client, req micro.Request) error {
	var hops []micro.Hop
	if c.Trace {
		req.Trace = &hops
	}
	begin := time.Now()
	reply, err := client.Do(ctx, req)
	if c.Trace {
		if err := app.printTrace(hops, time.Since(begin)); err != nil {
			return err
		}
	}
	if err != nil {
		return c.failure(ctx, err)
	}
	return app.printReply(reply)
}

// request is what to call and with what. What is wrong with it is wrong usage.
func (c *callCmd) request(ctx context.Context, app *App) (micro.Request, error) {
	if err := c.checkFlags(); err != nil {
		return micro.Request{}, err
	}
	if err := c.resolve(app); err != nil {
		return micro.Request{}, err
	}
	opts, err := c.options()
	if err != nil {
		return micro.Request{}, err
	}
	req := micro.Request{Idempotent: c.Idempotent, Once: c.Once}.With(opts...)
	if req.Service, req.Endpoint, err = micro.ParseTarget(c.Target); err != nil {
		return req, usagef("%s", message(err))
	}
	if req.Body, err = app.input(ctx, c.Body); err != nil {
		return req, err
	}
	var body json.RawMessage
	if err := json.Unmarshal(req.Body, &body); err != nil && len(req.Body) > 0 {
		return req, withHint(usagef("the request is not JSON: %v: %.60s", err, req.Body),
			`in most shells JSON needs single quotes around it: '{"input":"x"}'`)
	}
	return req, nil
}

// failure is why there is no good answer, and who knows more.
func (c *callCmd) failure(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return err // interrupted
	}
	answer := &answerError{bus.AsError(err)}
	service, _, _ := strings.Cut(c.Target, ".")
	switch answer.err.Code {
	case bus.Unavailable:
		return withHint(answer, "`skybus instances --service %s` lists who is known", service)
	case bus.Unimplemented:
		return withHint(answer, "`skybus services --service %s` lists its endpoints", service)
	default:
		return answer
	}
}

// printReply prints an answer: JSON as JSON also where tables are printed, as YAML if asked for, anything else as it is.
func (a *App) printReply(reply micro.Reply) error {
	var v json.RawMessage
	if len(reply.Body) == 0 && a.Output == formatTable {
		return nil
	}
	if err := json.Unmarshal(reply.Body, &v); err != nil && len(reply.Body) > 0 {
		return a.writeValue(reply.Body)
	}
	format := a.Output
	if format == formatTable {
		format = formatJSON
	}
	return encode(a.stdout, format, v)
}

// input is what an argument stands for: itself, a file (@FILE) or standard input (-).
func (a *App) input(ctx context.Context, arg string) ([]byte, error) {
	if path, ok := strings.CutPrefix(arg, "@"); ok {
		data, err := a.readFile(ctx, path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, withHint(err, "an argument that begins with @ names a file; - reads standard input")
		}
		return data, err
	}
	if arg == "-" {
		return a.readFile(ctx, arg)
	}
	return []byte(arg), nil
}

// readFile reads a file, or standard input when its name is -.
func (a *App) readFile(ctx context.Context, path string) ([]byte, error) {
	r := a.stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
		r = f
	}
	var data []byte
	var err error
	read := make(chan struct{})
	go func() { // nobody waits for it after an interrupt: a terminal may never end what is read
		defer close(read)
		data, err = io.ReadAll(io.LimitReader(r, maxInput+1))
	}()
	select {
	case <-read:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("input: %w", err)
	}
	if len(data) > maxInput {
		return nil, errors.New("input: more than 64 MiB")
	}
	return data, nil
}

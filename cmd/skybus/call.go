package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/skybus-io/skybus/micro"
)

const maxInput = 64 << 20

type callCmd struct {
	Target     string `arg:"" help:"What to call: service.endpoint."`
	Body       string `arg:"" optional:"" help:"Request as JSON, @FILE to read it from a file, or - from standard input. Default: none."`
	ToVersion  string `help:"Only an instance of this version." placeholder:"VERSION"`
	ToInstance string `help:"Only this instance." placeholder:"ID"`
	Idempotent bool   `help:"Call again when no answer comes in time: being called twice does no harm."`
}

// Help is shown below the usage.
func (callCmd) Help() string {
	return `Examples:

    skybus call getwidgets.get '{"input":"x"}'
    skybus call getwidgets.get @request.json --timeout 30s
    echo '{"input":"x"}' | skybus call getwidgets.get -`
}

// Run calls the endpoint and prints its answer.
func (c *callCmd) Run(ctx context.Context, app *App) error {
	service, endpoint, err := micro.ParseTarget(c.Target)
	if err != nil {
		return usagef("%s", message(err))
	}
	body, err := app.input(c.Body)
	if err != nil {
		return err
	}
	if len(body) > 0 && !json.Valid(body) {
		return usagef("the request is not JSON: %.60s", body)
	}
	conn, err := app.Connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // the answer is there
	ctx, cancel := app.withTimeout(ctx)
	defer cancel()
	client, err := micro.NewClient(ctx, conn, micro.ClientConfig{Name: "cli"})
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	reply, err := client.Do(ctx, micro.Request{
		Service: service, Endpoint: endpoint, Version: c.ToVersion, Instance: c.ToInstance,
		Body: body, Idempotent: c.Idempotent,
	})
	if err != nil {
		return err
	}
	return app.printReply(reply)
}

// printReply prints an answer: JSON as JSON also where tables are printed, as YAML if asked for, anything else as it is.
func (a *App) printReply(reply micro.Reply) error {
	var v json.RawMessage
	if err := json.Unmarshal(reply.Body, &v); err != nil {
		_, err := a.stdout.Write(append(reply.Body, '\n'))
		return err
	}
	format := a.Output
	if format == formatTable {
		format = formatJSON
	}
	return encode(a.stdout, format, v)
}

// input is what an argument stands for: itself, a file (@FILE) or standard input (-).
func (a *App) input(arg string) ([]byte, error) {
	var r io.Reader
	switch {
	case arg == "-":
		r = a.stdin
	case strings.HasPrefix(arg, "@"):
		f, err := os.Open(arg[1:])
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
		r = f
	default:
		return []byte(arg), nil
	}
	data, err := io.ReadAll(io.LimitReader(r, maxInput+1))
	if err != nil {
		return nil, fmt.Errorf("input: %w", err)
	}
	if len(data) > maxInput {
		return nil, errors.New("input: more than 64 MiB")
	}
	return data, nil
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro"
)

// stream prints what the endpoint sends. --timeout is for the opening: the stream may last.
func (c *callCmd) stream(ctx context.Context, app *App, client *micro.Client, req micro.Request) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	late := time.AfterFunc(app.Timeout, func() { cancel(context.DeadlineExceeded) })
	st, err := client.OpenStream(ctx, req)
	if err != nil {
		late.Stop()
		return err
	}
	defer func() { _ = st.Close() }() // has no error
	if !late.Stop() {
		return bus.Wrap(bus.DeadlineExceeded, "the stream was not opened in time", context.Cause(ctx))
	}
	for {
		data, err := st.Recv(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := app.printMessage(data); err != nil {
			return err
		}
	}
}

// printMessage prints one message of a stream: JSON on a line, as YAML if asked for, anything else as it is.
func (a *App) printMessage(data []byte) error {
	if !json.Valid(data) {
		return a.writeValue(data)
	}
	return printEvent(a, json.RawMessage(data), compact(data))
}

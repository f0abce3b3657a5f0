package route

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro"
)

// AsyncStream is the work queue of asynchronous steps, DeadLetterStream where those end that were given up.
const (
	AsyncStream      = "SKYBUS_ASYNC"
	DeadLetterStream = "SKYBUS_DLQ"
)

// headerVersion restricts a stored step to instances of one version.
const headerVersion = "Skybus-Version"

const codeStreamFull jetstream.ErrorCode = 10077

func openAsync(ctx context.Context, conn *bus.Conn) error {
	_, err := conn.OpenStream(ctx, jetstream.StreamConfig{
		Name:        AsyncStream,
		Description: "skybus: asynchronous steps of routes",
		Subjects:    []string{"skybus.async.>"},
		Retention:   jetstream.WorkQueuePolicy,
		Storage:     jetstream.FileStorage,
	})
	return err
}

// publisher stores asynchronous steps.
type publisher struct{ conn *bus.Conn }

// publish returns when the step is stored. After a time-out it may be, so a second attempt carries the same message id and
// is stored once.
func (p publisher) publish(ctx context.Context, step Step, req Request) error {
	info := micro.Info(ctx)
	env := bus.Envelope{ContentType: req.ContentType, RequestID: info.RequestID, Origin: info.Origin, Traceparent: info.Traceparent}
	if env.RequestID == "" {
		env.RequestID = nuid.Next()
	}
	msg := &nats.Msg{
		Subject: p.conn.Namespace().AsyncSubject(step.Service, step.Endpoint),
		Header:  env.Header(),
		Data:    req.Body,
	}
	if step.Version != "" {
		msg.Header.Set(headerVersion, step.Version)
	}
	err := p.store(ctx, msg)
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*jetstream.APIError](err); ok && e.ErrorCode == codeStreamFull {
		return bus.Wrap(bus.ResourceExhausted, fmt.Sprintf("the queue of asynchronous steps (%s) is full", AsyncStream), err)
	}
	return bus.Wrap(bus.Unavailable, "the asynchronous step could not be stored: "+err.Error(), err)
}

func (p publisher) store(ctx context.Context, msg *nats.Msg) error {
	if err := p.conn.WaitConnected(ctx); err != nil {
		return err
	}
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, micro.DefaultCallTimeout)
		defer cancel()
	}
	_, err := p.conn.JetStream().PublishMsg(ctx, msg, jetstream.WithMsgID(nuid.Next()), jetstream.WithRetryAttempts(20))
	return err
}

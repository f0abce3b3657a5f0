package route

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/jscode"
	"github.com/skybus-io/skybus/micro"
)

// AsyncStream is the work queue of asynchronous steps, DeadLetterStream where those end that were given up.
const (
	AsyncStream      = "SKYBUS_ASYNC"
	DeadLetterStream = "SKYBUS_DLQ"
)

// headerVersion restricts a stored step to instances of one version.
const headerVersion = "Skybus-Version"

const (
	storeTimeout = 2 * time.Second // for an acknowledgement: one under way when the server went never comes
	storeRetry   = 50 * time.Millisecond
	electionTime = 10 * time.Second // the longest a healthy cluster is without a leader
)

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
type publisher struct {
	conn *bus.Conn
	from string // the address of who runs the routes
	// outage is when the first failed that had nobody stored after it, in nanoseconds since 1970; 0 while all is well.
	outage *atomic.Int64
}

func newPublisher(conn *bus.Conn, from string) publisher {
	return publisher{conn, from, new(atomic.Int64)}
}

// publish returns when the step is stored.
func (p publisher) publish(ctx context.Context, step Step, req Request) error {
	info := micro.Info(ctx)
	env := bus.Envelope{
		ContentType: req.ContentType, RequestID: info.RequestID,
		Origin: cmp.Or(info.Origin, p.from), Traceparent: info.Traceparent,
	}
	service, endpoint := step.Service, step.Endpoint
	if step.Route != "" {
		service, endpoint = RouterService, step.Route
		if _, err := enter(ctx, step.Route); err != nil {
			return err // else the queue would go round for ever
		}
	}
	msg := &nats.Msg{
		Subject: p.conn.Namespace().AsyncSubject(service, endpoint),
		Header:  env.Header(),
		Data:    req.Body,
	}
	maps.Copy(msg.Header, req.Header)
	if step.Version != "" {
		msg.Header.Set(headerVersion, step.Version)
	}
	if path := nestingOf(ctx).path; step.Route != "" {
		msg.Header.Set(headerPath, strings.Join(path, ","))
	}
	return publishError(p.store(ctx, msg))
}

// store makes attempts until it knows that msg is stored, or ctx ends, or it is known that no attempt can succeed soon. All
// carry the same message id, so that it is stored once also when only the acknowledgement was lost.
func (p publisher) store(ctx context.Context, msg *nats.Msg) error {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, micro.DefaultCallTimeout)
		defer cancel()
	}
	id := jetstream.WithMsgID(nuid.Next())
	for {
		if err := p.conn.WaitConnected(ctx); err != nil {
			code := bus.Unavailable // and not deadline_exceeded: nothing was sent
			if errors.Is(err, context.Canceled) {
				code = bus.Canceled
			}
			return bus.Wrap(code, "not connected to NATS", err)
		}
		attempt, cancel := context.WithTimeout(ctx, storeTimeout)
		err := p.conn.Permitted(attempt, bus.Access{Publish: []string{msg.Subject}}, func(ctx context.Context) error {
			_, err := p.conn.JetStream().PublishMsg(ctx, msg, id)
			return err
		})
		cancel()
		switch {
		case err == nil:
			p.outage.Store(0)
			return nil
		case ctx.Err() != nil:
			p.outage.CompareAndSwap(0, time.Now().UnixNano())
			return err
		case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, context.DeadlineExceeded):
			if err := p.inVain(ctx); err != nil {
				return err
			}
		case jscode.Of(err) != jscode.InFlight: // else an earlier attempt is still being stored
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(storeRetry):
		}
	}
}

// inVain looks why an attempt got no answer, and returns an error where the next will get none either: most of the stream's
// servers are away, or it has had no leader for longer than electing one takes.
func (p publisher) inVain(ctx context.Context) error {
	first := time.Now().UnixNano()
	if !p.outage.CompareAndSwap(0, first) {
		first = p.outage.Load()
	}
	err := p.conn.CheckQuorum(ctx, AsyncStream)
	switch {
	case err == nil || ctx.Err() != nil:
		return nil //nolint:nilerr // the next attempt tells what its error is
	case bus.CodeOf(err) == bus.NotFound:
		// A memory store forgets the stream in a restart. If it cannot be made now, the next attempt fails too.
		if err := openAsync(ctx, p.conn); bus.CodeOf(err) == bus.PermissionDenied {
			return err
		}
		return nil
	case bus.CodeOf(err) != bus.Unavailable,
		bus.AsError(err).Details["reason"] == bus.ReasonNoQuorum,
		first > 0 && time.Since(time.Unix(0, first)) > electionTime:
		return err
	}
	return nil
}

func publishError(err error) error {
	if err == nil {
		return nil
	}
	text := "the asynchronous step could not be stored: " + bus.AsError(err).Message
	if errors.Is(err, nats.ErrMaxPayload) {
		e := bus.Wrap(bus.ResourceExhausted, text, err)
		e.Status = http.StatusRequestEntityTooLarge
		return e
	}
	if jscode.Full(err) {
		what := "the store"
		if jscode.Of(err) == jscode.StreamFull {
			what = fmt.Sprintf("the queue of asynchronous steps (%s)", AsyncStream)
		}
		e := bus.Wrap(bus.ResourceExhausted, what+" is full: the step could not be stored", err)
		e.Status = http.StatusInsufficientStorage
		return e
	}
	switch code := bus.CodeOf(err); code {
	case bus.Canceled, bus.DeadlineExceeded, bus.PermissionDenied: // after the first two it may be stored all the same
		return bus.Wrap(code, text, err)
	default:
		return bus.Wrap(bus.Unavailable, text, err)
	}
}

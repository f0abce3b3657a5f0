package scheduler

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/jscode"
)

const (
	streamFresh  = time.Minute
	streamsKnown = 4096

	fieldPublish = "Config.Publish"
)

// natsTransport publishes the payload. Where a stream takes the subject, success is that it has stored the message, under Delivery.ID as
// its Nats-Msg-Id: repeats within the stream's window are stored once. Where none does, success is that the server has the message:
// who listens at that moment gets it, at most once. Whether one does is remembered for a minute: a stream made meanwhile may still get a
// message that it does not confirm.
type natsTransport struct {
	conn     *bus.Conn
	prefixes []string
	streams  *memo[bool] // by subject: whether a stream takes it
}

var (
	_ Transport     = (*natsTransport)(nil)
	_ Destinationer = (*natsTransport)(nil)
)

func newNATSTransport(conn *bus.Conn, prefixes []string) (*natsTransport, error) {
	if len(prefixes) == 0 {
		prefixes = []string{conn.Namespace().String() + ".pub."}
	}
	for _, p := range prefixes {
		rest, dot := strings.CutSuffix(p, ".")
		if !dot || !bus.IsSubject(rest) || conn.CheckFree(p+"x") != nil {
			return nil, bus.Errorf(bus.InvalidArgument, "scheduler: Config.Publish: prefix %.80q: want one that ends in a dot and is not skybus's or NATS's own", p).With("field", fieldPublish)
		}
	}
	return &natsTransport{conn: conn, prefixes: slices.Clone(prefixes), streams: newMemo[bool](streamsKnown)}, nil
}

// Check tells whether the subject is one that timers may publish to.
func (x *natsTransport) Check(_ context.Context, t Target) error {
	if !bus.IsSubject(t.URI) {
		return invalid(fieldURI, "is no subject to publish to: want at most %d characters, in tokens of 1 to %d of A-Z a-z 0-9 _ - = with dots between",
			bus.MaxSubject, bus.MaxToken)
	}
	if err := x.conn.CheckFree(t.URI); err != nil {
		return refusedTarget("%s", bus.AsError(err).Message)
	}
	if !slices.ContainsFunc(x.prefixes, func(p string) bool { return strings.HasPrefix(t.URI, p) }) {
		return refusedTarget("timers publish under %s only: allow another prefix by Config.Publish (skybus: --publish-prefix PREFIX)", strings.Join(x.prefixes, " and "))
	}
	return nil
}

// Destination is the subject.
func (x *natsTransport) Destination(t Target) string { return t.URI }

// Deliver publishes once.
func (x *natsTransport) Deliver(ctx context.Context, d *Delivery) error {
	if err := x.Check(ctx, d.Target); err != nil {
		return hopelessTarget(err)
	}
	if err := checkHeader(d.Header); err != nil {
		return hopelessTarget(err)
	}
	subject := d.Target.URI
	msg := &nats.Msg{Subject: subject, Header: d.header(), Data: d.Payload} // no reply: nobody could be made to answer elsewhere
	msg.Header[nats.MsgIdHdr] = []string{d.ID}
	stored, err := x.storedBy(ctx, subject)
	if err != nil {
		return &DeliveryError{Unharmed: true, Err: busFailure(err)}
	}
	err = x.conn.Permitted(ctx, bus.Access{Publish: []string{subject}}, func(ctx context.Context) error {
		if stored {
			_, err := x.conn.JetStream().PublishMsg(ctx, msg)
			return err
		}
		if err := x.conn.Publish(msg); err != nil {
			return err
		}
		return x.conn.Flush(ctx)
	})
	if err == nil {
		return nil
	}
	if stored {
		x.streams.forget(subject) // it may be gone
	}
	return &DeliveryError{
		Permanent: errors.Is(err, nats.ErrMaxPayload),
		Unharmed:  bus.CodeOf(err) == bus.PermissionDenied,
		Err:       busFailure(err),
	}
}

// storedBy tells whether a stream takes the subject.
func (x *natsTransport) storedBy(ctx context.Context, subject string) (bool, error) {
	if known, ok := x.streams.get(subject); ok {
		return known, nil
	}
	err := x.conn.Permitted(ctx, bus.Access{Publish: []string{"$JS.API.STREAM.NAMES"}}, func(ctx context.Context) error {
		_, err := x.conn.JetStream().StreamNameBySubject(ctx, subject)
		return err
	})
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return false, err
	}
	x.streams.put(subject, err == nil, streamFresh)
	return err == nil, nil
}

// busFailure gives what NATS says a code.
func busFailure(err error) error {
	if _, ok := errors.AsType[*bus.Error](err); ok {
		return err
	}
	code := bus.CodeOf(err)
	if code == bus.Unknown {
		code = bus.Unavailable
	}
	if jscode.Full(err) || jscode.Of(err) == jscode.MessageTooLarge {
		code = bus.ResourceExhausted
	}
	return bus.Wrap(code, err.Error(), err)
}

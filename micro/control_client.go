package micro

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
)

// Control sends a control message to one instance of a service in conn's namespace and returns what the instance says is now
// so. verb is one of the Verb constants, or one that the instance may know; body is for verbs that take one. A ctx without
// deadline is given 10 s, and the deadline goes along.
//
// The error is a [bus.Error]: invalid_argument for what cannot be sent; unavailable, with [bus.ErrNoResponders] in its chain, when no
// such instance listens; deadline_exceeded for one that does not answer; else what the instance said, such as unimplemented
// for an unknown verb.
func Control(ctx context.Context, conn *bus.Conn, service, instance, verb string, body []byte) (json.RawMessage, error) {
	for field, token := range map[string]string{"service": service, "instance": instance, "control verb": verb} {
		if err := bus.CheckToken(field, token); err != nil {
			return nil, err
		}
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, DefaultCallTimeout)
		defer cancel()
	}
	deadline, _ := ctx.Deadline()
	reply, err := conn.Request(ctx, &nats.Msg{
		Subject: conn.Namespace().ControlSubject(service, instance, verb),
		Header:  bus.Envelope{Timeout: time.Until(deadline)}.Header(),
		Data:    body,
	})
	if errors.Is(err, bus.ErrNoResponders) {
		err = bus.Wrap(bus.Unavailable, "no instance "+instance+" of service "+service+" listens", err)
	}
	if err != nil {
		return nil, err
	}
	return reply.Data, nil
}

package main

import (
	"context"
	"encoding/json"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
)

// controlInstance sends a control message and returns the answer.
func controlInstance(ctx context.Context, conn *bus.Conn, service, instance, verb string, body []byte) (json.RawMessage, error) {
	reply, err := conn.Request(ctx, &nats.Msg{Subject: conn.Namespace().ControlSubject(service, instance, verb), Data: body})
	if err != nil {
		return nil, err
	}
	return reply.Data, nil
}

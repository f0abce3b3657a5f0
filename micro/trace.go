package micro

import (
	"context"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
)

// Trace asks what each instance did for the call, and for the calls that it made for it, and sets hops to that when the call
// returns, also with an error. Each attempt that was answered counts; one that was not left no trace. Who is called last is
// left out where there are more than [MaxHops]. Services of others tell nothing.
func Trace(hops *[]Hop) CallOption {
	return callOption(func(r *Request) { r.Trace = hops })
}

// trace tells the caller of the hops, and who asked in turn, where the call is made by a handler.
func (r Request) trace(ctx context.Context, hops []Hop) {
	*r.Trace = hops
	recordHops(ctx, hops)
}

// readHops records what a reply tells. One that does not read says nothing about the answer.
func readHops(ctx context.Context, reply *nats.Msg) {
	if hops, err := decodeHops(first(reply.Header, bus.HeaderHops)); err == nil {
		recordHops(ctx, hops)
	}
}

package micro

import (
	"context"
	"maps"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
)

// RequestHeader is what the caller added to the request that ctx belongs to; nil where it added nothing, and outside of a
// handler. Its values must not be changed.
func RequestHeader(ctx context.Context) nats.Header {
	if in := scopeOf(ctx).in; in != nil {
		return bus.UserHeader(in.msg.Header)
	}
	return nil
}

// SetReplyHeader sets a header of the reply to the request that ctx belongs to, be that an answer or an error; set twice, the
// last values count. To a one-way message there is no reply, and it does nothing. The error is invalid_argument for
// what [bus.CheckHeader] refuses, of this header or of all together, and failed_precondition outside of a handler and once
// the caller was answered, as it is at its deadline.
func SetReplyHeader(ctx context.Context, name string, values ...string) error {
	in := scopeOf(ctx).in
	if in == nil {
		return bus.Errorf(bus.FailedPrecondition, "reply header %.80q: the ctx is not that of a request", name)
	}
	in.answering.Lock()
	defer in.answering.Unlock()
	if in.answered {
		return bus.Errorf(bus.FailedPrecondition, "reply header %.80q: the caller was answered already", name)
	}
	header := nats.Header{}
	maps.Copy(header, in.header)
	header[name] = values
	if err := bus.CheckHeader(header); err != nil {
		return err
	}
	in.header = header
	return nil
}

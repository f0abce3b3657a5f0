// Package interceptors holds interceptors that many services and clients want: each is a [micro.Interceptor], for
// micro.Config.Interceptors or micro.ClientConfig.Interceptors, and works on both sides unless it says otherwise.
//
//	micro.Config{Interceptors: []micro.Interceptor{
//		interceptors.Logging(log),             // outermost: sees what the others answer
//		limiter.Intercept,                     // see NewLimiter
//		interceptors.Validation(),
//	}}
package interceptors

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"runtime/debug"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro"
)

// Logging writes a line for each call: at Debug when it went well or the caller is to blame, at Warn when the service is
// (unknown, internal, unavailable, deadline_exceeded, data_loss, unimplemented). It tells service, endpoint, instance,
// request id, attempt, caller, code and duration, and never the payload. A nil log discards.
func Logging(log *slog.Logger) micro.Interceptor {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return func(next micro.UnaryHandler) micro.UnaryHandler {
		return func(ctx context.Context, call *micro.Unary) (any, error) {
			start := time.Now()
			resp, err := next(ctx, call)
			level := slog.LevelDebug
			if serviceFailed(bus.CodeOf(err)) {
				level = slog.LevelWarn
			}
			if !log.Enabled(ctx, level) {
				return resp, err
			}
			info := micro.Info(ctx)
			attrs := []slog.Attr{
				slog.String("service", call.Service),
				slog.String("endpoint", call.Endpoint),
				slog.String("request_id", info.RequestID),
				slog.Duration("took", time.Since(start)),
			}
			if info.Instance != "" {
				attrs = append(attrs, slog.String("instance", info.Instance), slog.Int("attempt", info.Attempt), slog.String("caller", info.Caller))
			}
			if err != nil {
				attrs = append(attrs, slog.String("code", string(bus.CodeOf(err))), slog.Any("error", err))
			}
			log.LogAttrs(ctx, level, "call", attrs...)
			return resp, err
		}
	}
}

// serviceFailed tells whether an answer of that code is the service's failure and not the caller's.
func serviceFailed(code bus.Code) bool {
	switch code {
	case bus.Unknown, bus.Internal, bus.Unavailable, bus.DeadlineExceeded, bus.DataLoss, bus.Unimplemented:
		return true
	default:
		return false
	}
}

// Recovery turns a panic of what is inside it into an error with the code internal that tells the caller nothing but that.
// onPanic, unless nil, is told of it with the stack. A service recovers by itself, around all its interceptors: this one is
// for clients, and for interceptors that shall see the error.
func Recovery(onPanic func(ctx context.Context, call *micro.Unary, value any, stack []byte)) micro.Interceptor {
	return func(next micro.UnaryHandler) micro.UnaryHandler {
		return func(ctx context.Context, call *micro.Unary) (resp any, err error) {
			defer func() {
				if p := recover(); p != nil {
					if onPanic != nil {
						onPanic(ctx, call, p, debug.Stack())
					}
					resp, err = nil, bus.Errorf(bus.Internal, "%s.%s panicked", call.Service, call.Endpoint)
				}
			}()
			return next(ctx, call)
		}
	}
}

// Observation is what [Metrics] tells of a call that ended.
type Observation struct {
	Service, Endpoint string
	Code              bus.Code // empty means success
	Took              time.Duration
}

// Metrics tells observe of each call when it ended, in the caller's or handler's goroutine: it must return soon and be safe for
// concurrent use.
func Metrics(observe func(ctx context.Context, o Observation)) micro.Interceptor {
	return func(next micro.UnaryHandler) micro.UnaryHandler {
		return func(ctx context.Context, call *micro.Unary) (any, error) {
			start := time.Now()
			resp, err := next(ctx, call)
			observe(ctx, Observation{call.Service, call.Endpoint, bus.CodeOf(err), time.Since(start)})
			return resp, err
		}
	}
}

// Timeout gives what is inside it at most d, or what is left of the call's own deadline where that is less. A handler has to
// heed its ctx: it is not left behind. Where ctx ends by this, the error has the code deadline_exceeded. A d of 0 or less
// means no bound.
func Timeout(d time.Duration) micro.Interceptor {
	return func(next micro.UnaryHandler) micro.UnaryHandler {
		if d <= 0 {
			return next
		}
		return func(outer context.Context, call *micro.Unary) (any, error) {
			ctx, cancel := context.WithTimeout(outer, d)
			defer cancel()
			resp, err := next(ctx, call)
			if err != nil && outer.Err() == nil && errors.Is(ctx.Err(), context.DeadlineExceeded) && errors.Is(err, ctx.Err()) {
				err = bus.Wrap(bus.DeadlineExceeded, call.Service+"."+call.Endpoint+" took longer than "+d.String(), err)
			}
			return resp, err
		}
	}
}

// Validation refuses requests whose type has a method Validate() error that fails, with the code invalid_argument and the
// error's text, or with the error as it is when that is a [bus.Error]. The method may need a pointer. Requests without it, and
// bytes, pass.
func Validation() micro.Interceptor {
	return func(next micro.UnaryHandler) micro.UnaryHandler {
		return func(ctx context.Context, call *micro.Unary) (any, error) {
			if err := validate(call.Request); err != nil {
				if e, ok := errors.AsType[*bus.Error](err); ok {
					return nil, e
				}
				return nil, bus.Errorf(bus.InvalidArgument, "request of %s.%s: %w", call.Service, call.Endpoint, err)
			}
			return next(ctx, call)
		}
	}
}

type validator interface{ Validate() error }

func validate(request any) error {
	v := reflect.ValueOf(request)
	if !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		return nil
	}
	if r, ok := request.(validator); ok {
		return r.Validate()
	}
	if !reflect.PointerTo(v.Type()).Implements(reflect.TypeFor[validator]()) {
		return nil
	}
	p := reflect.New(v.Type())
	p.Elem().Set(v)
	return p.Interface().(validator).Validate()
}

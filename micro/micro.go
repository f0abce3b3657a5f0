// Package micro writes and calls services on NATS.
//
// A [Service] has endpoints: functions from a request to a response. Start it as often as you like, anywhere; a [Client]
// needs no address, only the name "service.endpoint".
//
// # Delivery
//
// A call is at most once per attempt. What provably reached nobody (no responders) is tried again, elsewhere, for a short
// while; what may have been handled (a time-out) is tried again only where the endpoint or the caller says [Idempotent].
// All attempts of a call have one request id, and each its number ([RequestInfo]).
//
// # Order
//
// Requests are handled concurrently, up to a bound per endpoint; above it they are refused at once. There is no order
// between requests, but at an endpoint that is [Serial] or [SerialBy]: there an instance handles them as they arrive.
//
// # Failure
//
// An instance that is killed is out at once: its connection is gone and NATS no longer chooses it. One that freezes keeps
// its share of the queue group until its liveness ends; from then on clients address the living ones by name. An
// instance that is stopped, by its ctx or by [Control], loses nothing: it leaves the queue groups first and finishes what it was
// given; so does one that is unregistered, and an endpoint that is removed. Who gives up a call tells, and the handler's ctx ends. The
// JetStream quorum is not needed for calls, only for coming and going: of services, and of clients, which load the registry.
//
// # Other languages
//
// Every service answers plain requests with a JSON body on <namespace>.svc.<service>.<endpoint> and the discovery of
// ADR-32 ($SRV.PING, INFO and STATS), so any NATS client can list and call it.
package micro

import (
	"context"
	"time"
)

// RequestInfo is what a handler may want to know beside the request.
type RequestInfo struct {
	// RequestID is the same for all attempts of a request and for the requests made while handling it.
	RequestID string
	// Attempt counts from 1.
	Attempt int
	// Origin is the address of who began the chain of calls, Caller of who made this one; empty where they did not tell.
	// They are the caller's word: do not decide by them what somebody may do.
	Origin string
	Caller string
	// Service, Endpoint and Instance are who handles it.
	Service  string
	Endpoint string
	Instance string
	// Traceparent is the W3C trace context, passed on with the calls made while handling the request.
	Traceparent string
	// ContentType says how the request came encoded; empty means JSON. It is not passed on.
	ContentType string
}

// scope is what a ctx knows of the request it belongs to.
type scope struct {
	info RequestInfo
	in   *inbound // nil outside of a handler
}

type scopeKey struct{}

func scopeOf(ctx context.Context) scope {
	if sc, ok := ctx.Value(scopeKey{}).(*scope); ok {
		return *sc
	}
	return scope{}
}

// Info is the RequestInfo of the request that ctx belongs to. Outside of a handler it is the zero value.
func Info(ctx context.Context) RequestInfo { return scopeOf(ctx).info }

func withInfo(ctx context.Context, info RequestInfo) context.Context {
	return context.WithValue(ctx, scopeKey{}, &scope{info: info, in: scopeOf(ctx).in})
}

// WithRequestID makes calls under ctx carry id instead of a new one, for requests that come in from outside with an id of
// their own. An id longer than 128 bytes or with other than printable ASCII is ignored.
func WithRequestID(ctx context.Context, id string) context.Context {
	if !validRequestID(id) {
		return ctx
	}
	info := Info(ctx)
	info.RequestID = id
	return withInfo(ctx, info)
}

// Continue makes calls under ctx carry on what info tells of: its RequestID, Origin and Traceparent. It is for work that
// was handed over by other means than a call, such as a queue. A RequestID that [WithRequestID] would ignore is left out.
func Continue(ctx context.Context, info RequestInfo) context.Context {
	next := Info(ctx)
	next.Origin, next.Traceparent = info.Origin, info.Traceparent
	return WithRequestID(withInfo(ctx, next), info.RequestID)
}

const maxRequestID = 128

func validRequestID(id string) bool {
	for i := range len(id) {
		if id[i] <= ' ' || id[i] > '~' {
			return false
		}
	}
	return id != "" && len(id) <= maxRequestID
}

// ReasonOverloaded is the detail "reason" of an error with the code unavailable that says: nothing was done, there is too much
// to do here. Clients then try another instance. Interceptors may say so before the handler is called; of an error that a handler
// passes on the reason is taken away.
const ReasonOverloaded = "overloaded"

// Defaults of a service and of a client.
const (
	DefaultConcurrency    = 256
	DefaultHandlerTimeout = 30 * time.Second
	DefaultDrain          = 10 * time.Second
	DefaultCallTimeout    = 10 * time.Second
	DefaultAttemptTimeout = 2 * time.Second
	DefaultPatience       = 2 * time.Second
)

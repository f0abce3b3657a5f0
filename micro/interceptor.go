package micro

import (
	"context"
	"slices"

	"github.com/nats-io/nats.go"
)

// Unary is a call of one request and one response, as interceptors see it. What ctx tells of it is [Info].
type Unary struct {
	Service  string
	Endpoint string
	// Request is the value: on the caller's side before it is encoded, on the service's after it was decoded, of the type
	// the handler takes. It is a []byte where the program works with bytes ([Client.Do], raw endpoints). An interceptor
	// may replace it by another value of that type.
	Request any
	// Header is what the caller added to the request. On the caller's side an interceptor may add to it.
	Header nats.Header
}

// UnaryHandler makes a call, or handles one, and returns the response: a value of the type that the caller asked for or that
// the handler returned; a []byte where bytes go as they are.
type UnaryHandler func(ctx context.Context, call *Unary) (response any, err error)

// Interceptor wraps a UnaryHandler, on either side: it may look at a call and its answer, change them, answer itself or
// refuse. It is called once for each service or client, the handler it returns for each call, concurrently. On the caller's side
// all attempts of a call are within one run of it.
type Interceptor func(next UnaryHandler) UnaryHandler

// Chain is one interceptor of several; the first is the outermost.
func Chain(interceptors ...Interceptor) Interceptor {
	return func(next UnaryHandler) UnaryHandler {
		for _, intercept := range slices.Backward(interceptors) {
			next = intercept(next)
		}
		return next
	}
}

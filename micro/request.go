package micro

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro/balance"
)

const maxRegion = 128

// Request is one call, encoded. [Call] is the typed way to make one.
type Request struct {
	Service  string
	Endpoint string
	// Version restricts the call to instances of that version, Instance to one instance, of whatever version.
	Version  string
	Instance string
	// Region restricts the call to instances that run there: it never leaves it.
	Region string
	// Policy chooses the instance. Nil means the client's policy for the service.
	Policy balance.Policy
	// Key is what the call is about, for policies that keep a key on its instance.
	Key string
	// Header is what the handler is given beside the request, within the limits of [bus.CheckHeader].
	Header nats.Header
	// ContentType says how Body is encoded. Empty means JSON.
	ContentType string
	Body        []byte
	// Prior is the response so far, for endpoints that amend one; others are not sent it.
	Prior []byte
	// Patience is how long to try again when nobody serves the call. 0 means the client's, negative not at all.
	Patience time.Duration
	// Attempt is the number of the first attempt, for work that was tried before. 0 means 1.
	Attempt int
	// Idempotent allows another attempt after a time-out, also where the endpoint does not say so.
	Idempotent bool
	// Hedge is as [Hedge] says. 0 means that there is one attempt at a time.
	Hedge time.Duration
	// Once is exactly one attempt, as [SendOnce] makes it.
	Once bool
	// Trace is as the option [Trace] says. Nil means that nobody asks.
	Trace *[]Hop

	send  bool // hedge after the time that is set for the service
	value any  // what Body was encoded from, where typed
	typed bool
	bytes bool // Body is the caller's own, of no known encoding

	quiet  time.Duration // of CallAll
	atMost int
}

// Reply is the answer to a Request.
type Reply struct {
	ContentType string
	Body        []byte
	// Header is what the handler added; nil when it added nothing. The values are shared with nobody.
	Header nats.Header
	// From is the address of the instance that answered; empty when it did not tell.
	From string
	// Attempts is the number of the last attempt, 1 for a request sent once. Where attempts are hedged it is the number of
	// the one that answered.
	Attempts int
}

type callOption func(*Request)

func (o callOption) applyCall(r *Request) { o(r) }

// ToVersion restricts a call to instances of one version.
func ToVersion(version string) CallOption {
	return callOption(func(r *Request) { r.Version = version })
}

// ToInstance restricts a call to one instance, registered or not.
func ToInstance(id string) CallOption {
	return callOption(func(r *Request) { r.Instance = id })
}

// ToRegion restricts a call to the registered instances that run in a region. The call never leaves it: where nobody
// is there, it is unavailable. The client goes by the registry and addresses an instance by its name.
func ToRegion(region string) CallOption {
	return callOption(func(r *Request) { r.Region = region })
}

// WithPolicy chooses the instance of one call.
func WithPolicy(p balance.Policy) CallOption {
	return callOption(func(r *Request) { r.Policy = p })
}

// WithKey says what a call is about, for policies that keep a key on its instance ([balance.ConsistentHash]) or version
// ([balance.Canary], and the weights of "client.canary").
func WithKey(key string) CallOption {
	return callOption(func(r *Request) { r.Key = key })
}

// WithHeader adds a header to the request. Names and values are checked when the call is made, as [bus.CheckHeader] says.
func WithHeader(name, value string) CallOption {
	return callOption(func(r *Request) {
		h := make(nats.Header, len(r.Header)+1)
		maps.Copy(h, r.Header)
		h[name] = append(slices.Clone(h[name]), value)
		r.Header = h
	})
}

// With is r with options, which come after what it says.
func (r Request) With(opts ...CallOption) Request {
	for _, o := range opts {
		o.applyCall(&r)
	}
	return r
}

// checkRequest refuses what cannot be sent.
func checkRequest(r *Request) error {
	if err := bus.CheckToken("service", r.Service); err != nil {
		return err
	}
	if err := bus.CheckToken("endpoint", r.Endpoint); err != nil {
		return err
	}
	if r.Version != "" {
		if err := bus.CheckVersion(r.Version); err != nil {
			return err
		}
	}
	if r.Instance != "" {
		if err := bus.CheckToken("instance", r.Instance); err != nil {
			return err
		}
	}
	switch {
	case len(r.Region) > maxRegion:
		return bus.Errorf(bus.InvalidArgument, "region %.16q... has %d bytes: want at most %d", r.Region, len(r.Region), maxRegion)
	case r.Hedge < 0:
		return bus.Errorf(bus.InvalidArgument, "hedge after %v: want more than 0", r.Hedge)
	case r.quiet < 0 || r.atMost < 0:
		return bus.Errorf(bus.InvalidArgument, "quiet %v, at most %d: must not be negative", r.quiet, r.atMost)
	case r.Header != nil:
		return bus.CheckHeader(r.Header)
	}
	return nil
}

// ParseTarget splits "service.endpoint" and checks both.
func ParseTarget(target string) (service, endpoint string, err error) {
	service, endpoint, ok := strings.Cut(target, ".")
	if !ok {
		return "", "", bus.Errorf(bus.InvalidArgument, "target %.80q: want service.endpoint", target)
	}
	if err := bus.CheckToken("service", service); err != nil {
		return "", "", err
	}
	if err := bus.CheckToken("endpoint", endpoint); err != nil {
		return "", "", err
	}
	return service, endpoint, nil
}

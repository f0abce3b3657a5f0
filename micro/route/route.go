// Package route runs routes: named, ordered lists of calls that are kept as data in the bucket skybus_routes.
//
// Whoever needs something done names a route. Which services do it, and in which order, can be changed while everything
// runs: an edit is live in every process within milliseconds, from the next request on. A running request finishes by the
// revision it began with.
//
// # Order
//
// Steps run one after another. All are given the same request; their responses are merged, field by field, in the order
// of the steps, and a step that amends ([micro.HandleAmend]) is given the response so far.
//
// # Delivery
//
// A step is a call of package micro: at most once per attempt. An asynchronous step is stored in the stream SKYBUS_ASYNC
// before the route goes on, and a [Worker] calls its endpoint until that succeeds, at least once: it survives the crash of
// every process. The receiver knows repeats by the request id.
//
// # Failure
//
// A step that fails ends the route with its error, unless it is not required: then the error is noted in the result.
//
// # Routes within routes
//
// A step may be another route. It is given the request and the response so far, and what it makes of the response is the
// response from there on; when it fails and is not required, the response is as it was before. A route must not lead back to
// itself, nor through more than 16 routes: that is refused when it is stored, and again when it is run, since other routes may
// have been edited meanwhile.
package route

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/skybus-io/skybus/bus"
)

// Limits of a route.
const (
	MaxSteps   = 64
	MaxTimeout = time.Hour
	MaxDepth   = 16 // routes within each other, the outermost included
	maxText    = 1024
)

// Route is a named list of steps; the name is its key.
type Route struct {
	Description string `json:"description,omitempty"`
	Steps       []Step `json:"steps"`
}

// RouterService is the service that serves routes, see [Router]. No step may name it: it names the route instead.
const RouterService = "route"

// Equal tells whether r and other say the same.
func (r Route) Equal(other Route) bool {
	return r.Description == other.Description && slices.EqualFunc(r.Steps, other.Steps, func(a, b Step) bool {
		same := a.IsRequired() == b.IsRequired()
		a.Required, b.Required = nil, nil
		return same && a == b
	})
}

// Step is one call of a route: of an endpoint, or of another route.
type Step struct {
	Service  string `json:"service,omitempty"`
	Endpoint string `json:"endpoint,omitempty"`
	// Route is the name of another route, in the place of Service and Endpoint.
	Route string `json:"route,omitempty"`
	// Version restricts the step to instances of that version. Empty means any.
	Version string `json:"version,omitempty"`
	// Async: the step is stored and done later, its response is not waited for.
	Async bool `json:"async,omitempty"`
	// Retry: the step may be done twice, so it is tried again when no answer came in time. Of a route this holds for all
	// its steps.
	Retry bool `json:"retry,omitempty"`
	// Required: an error of the step ends the route. Nil means true.
	Required *bool `json:"required,omitempty"`
	// Timeout bounds the step. 0 means what is left of the request's time.
	Timeout Duration `json:"timeout,omitzero"`
}

// IsRequired is Required with its default.
func (s Step) IsRequired() bool { return s.Required == nil || *s.Required }

// Target is "service.endpoint", or "route <name>".
func (s Step) Target() string { return target(s.Service, s.Endpoint, s.Route) }

func target(service, endpoint, route string) string {
	if route != "" {
		return "route " + route
	}
	return service + "." + endpoint
}

// Duration is a time.Duration that reads and writes as text: "1.5s".
type Duration time.Duration

// MarshalText writes the duration as time.Duration does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads what time.ParseDuration reads.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return durationError(text)
	}
	*d = Duration(v)
	return nil
}

// durationError is a text that is no duration.
type durationError string

// Error is the text and what is wanted.
func (e durationError) Error() string {
	return fmt.Sprintf("duration %.40q: want a number with a unit, as in 500ms or 2s", string(e))
}

// FieldError says which field of a route is wrong.
type FieldError struct {
	Field string // as a path: steps[1].service
	Err   error
}

// Error is the field and what is wrong with it.
func (e *FieldError) Error() string { return e.Field + ": " + e.Err.Error() }

// Unwrap is what is wrong.
func (e *FieldError) Unwrap() error { return e.Err }

// Validate tells whether r can be stored and run. The error is a [FieldError], or several joined.
func (r Route) Validate() error {
	var errs []error
	bad := func(field string, err error) {
		if err != nil {
			errs = append(errs, &FieldError{field, plain(err)})
		}
	}
	if len(r.Description) > maxText {
		bad("description", fmt.Errorf("has %d bytes: want at most %d", len(r.Description), maxText))
	}
	if len(r.Steps) == 0 || len(r.Steps) > MaxSteps {
		bad("steps", fmt.Errorf("there are %d: want 1 to %d", len(r.Steps), MaxSteps))
	}
	for i, s := range r.Steps {
		at := fmt.Sprintf("steps[%d].", i)
		s.checkTarget(func(field string, err error) { bad(at+field, err) })
		if s.Timeout < 0 || time.Duration(s.Timeout) > MaxTimeout {
			bad(at+"timeout", fmt.Errorf("%v: want 0s to %v", time.Duration(s.Timeout), MaxTimeout))
		}
	}
	return errors.Join(errs...)
}

// checkTarget tells bad of each field that names what is called and is wrong.
func (s Step) checkTarget(bad func(field string, err error)) {
	if s.Route != "" {
		bad("route", bus.CheckToken("route", s.Route))
		for _, f := range []struct{ name, value string }{{"service", s.Service}, {"endpoint", s.Endpoint}, {"version", s.Version}} {
			if f.value != "" {
				bad(f.name, errors.New("a step that is a route has none"))
			}
		}
		return
	}
	bad("service", bus.CheckToken("service", s.Service))
	if s.Service == RouterService {
		bad("service", fmt.Errorf("%q serves the routes: want the field route with the name of one", RouterService))
	}
	bad("endpoint", bus.CheckToken("endpoint", s.Endpoint))
	if s.Version != "" {
		bad("version", bus.CheckVersion(s.Version))
	}
}

// plain is err without its code, which says nothing new beside a field.
func plain(err error) error {
	if e, ok := errors.AsType[*bus.Error](err); ok {
		return errors.New(e.Message)
	}
	return err
}

// ParseJSON reads a route strictly: unknown fields and text after the route are errors. It is not validated. What is wrong
// in a step is a [FieldError].
func ParseJSON(data []byte) (Route, error) {
	var doc struct {
		Description string            `json:"description"`
		Steps       []json.RawMessage `json:"steps"`
	}
	if err := decodeStrictly(data, &doc); err != nil {
		return Route{}, fmt.Errorf("route: %w", err)
	}
	r := Route{Description: doc.Description}
	for i, raw := range doc.Steps {
		var s Step
		if err := decodeStrictly(raw, &s); err != nil {
			field := fmt.Sprintf("steps[%d]", i)
			if te, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && te.Field != "" {
				field += "." + te.Field
			} else if _, ok := errors.AsType[durationError](err); ok {
				field += ".timeout" // a step has no other
			}
			return Route{}, fmt.Errorf("route: %w", &FieldError{field, err})
		}
		r.Steps = append(r.Steps, s)
	}
	return r, nil
}

func decodeStrictly(data []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is text after the route")
	}
	return nil
}

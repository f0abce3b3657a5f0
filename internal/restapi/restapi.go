// Package restapi is what the HTTP APIs for timers and for mirrors have in common: who is let in, and errors as problem details (RFC 9457).
package restapi

import (
	"net/http"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/httpx"
)

// Config says who is let in by a [Door].
type Config struct {
	Tokens         []string // bearer tokens; empty means everybody is let in
	TrustedOrigins []string // whose pages may change what is served, beside those of the listener's own
	MaxInFlight    int      // how many requests are worked on at a time
	Changes        string   // what pages may change, for messages
}

// Door lets requests in. It is safe for concurrent use.
type Door struct {
	tokens  *httpx.Tokens
	origin  *http.CrossOriginProtection
	places  chan struct{}
	changes string
}

// NewDoor makes a door. The error has the code invalid_argument and names the field.
func NewDoor(cfg Config) (*Door, error) {
	tokens, err := httpx.NewTokens(cfg.Tokens)
	if err != nil {
		return nil, bus.Errorf(bus.InvalidArgument, "Tokens: %w", err)
	}
	origin, err := httpx.CrossOrigin(cfg.TrustedOrigins)
	if err != nil {
		return nil, bus.Errorf(bus.InvalidArgument, "TrustedOrigins: %w", err)
	}
	return &Door{tokens, origin, make(chan struct{}, cfg.MaxInFlight), cfg.Changes}, nil
}

// Enter lets a request in, which calls leave when it is done; or says why not, having set the header that the answer needs.
func (d *Door) Enter(w http.ResponseWriter, r *http.Request) (leave func(), err error) {
	if !d.tokens.Allow(r) {
		w.Header().Set("WWW-Authenticate", "Bearer")
		return nil, bus.Errorf(bus.Unauthenticated, "a bearer token that is known here is needed")
	}
	if err := d.origin.Check(r); err != nil {
		return nil, bus.Wrap(bus.PermissionDenied, "a page of another origin may not change "+d.changes+" (TrustedOrigins)", err)
	}
	select {
	case d.places <- struct{}{}:
		return func() { <-d.places }, nil
	default:
		return nil, bus.Errorf(bus.Unavailable, "this listener works on %d requests already", cap(d.places))
	}
}

package http

import (
	"context"
	"fmt"
	"io"
	"testing"

	"github.com/skybus-io/skybus/bus"
)

// Only the request tells that its client has gone. Whoever waits for an answer is told that he may ask again.
func TestAsErrorOfCancel(t *testing.T) {
	t.Parallel()
	gone, leave := context.WithCancel(t.Context())
	leave()
	for _, tt := range []struct {
		gone bool
		err  error
		code bus.Code
	}{
		{true, fmt.Errorf("call: %w", context.Canceled), bus.Canceled},
		{false, fmt.Errorf("call: %w", context.Canceled), bus.Unavailable},
		{false, bus.Errorf(bus.Canceled, "the service says so"), bus.Canceled},
		{true, bus.Errorf(bus.NotFound, "none"), bus.NotFound},
		{false, io.ErrUnexpectedEOF, bus.Unknown},
	} {
		ctx := t.Context()
		if tt.gone {
			ctx = gone
		}
		if e := asError(ctx, tt.err); e.Code != tt.code {
			t.Errorf("%v: %s, want %s", tt.err, e.Code, tt.code)
		}
	}
}

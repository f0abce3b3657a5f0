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
		ctx  context.Context
		err  error
		code bus.Code
	}{
		{gone, fmt.Errorf("call: %w", context.Canceled), bus.Canceled},
		{t.Context(), fmt.Errorf("call: %w", context.Canceled), bus.Unavailable},
		{t.Context(), bus.Errorf(bus.Canceled, "the service says so"), bus.Canceled},
		{gone, bus.Errorf(bus.NotFound, "none"), bus.NotFound},
		{t.Context(), io.ErrUnexpectedEOF, bus.Unknown},
	} {
		if e := asError(tt.ctx, tt.err); e.Code != tt.code {
			t.Errorf("%v: %s, want %s", tt.err, e.Code, tt.code)
		}
	}
}

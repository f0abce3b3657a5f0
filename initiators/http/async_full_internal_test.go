package http

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/jscode"
)

// Whatever limit is reached, there is no room, and another error stays what it is.
func TestPublishErrorFull(t *testing.T) {
	t.Parallel()
	for code, want := range map[jetstream.ErrorCode]string{
		jscode.StreamFull: LaterStream + " is full", jscode.AccountFull: "the store is full", jscode.ServerFull: "the store is full", jscode.StorageFull: "the store is full",
	} {
		cause := fmt.Errorf("publish: %w", &jetstream.APIError{ErrorCode: code})
		e := bus.AsError(publishError(cause))
		if e.Code != bus.ResourceExhausted || e.HTTPStatus() != http.StatusInsufficientStorage || !strings.HasPrefix(e.Message, want) || !errors.Is(e, cause) {
			t.Errorf("%d: %d %v", code, e.HTTPStatus(), e)
		}
	}
	if other := errors.New("x"); publishError(other) != other { //nolint:errorlint // the very value
		t.Error("another error is changed")
	}
}

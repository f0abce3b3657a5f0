package adminapi

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/skybus-io/skybus/internal/httpx"
	"github.com/skybus-io/skybus/mirror"
)

const (
	defaultDrainWait = 30 * time.Second
	maxDrainWait     = 10 * time.Minute
)

// drain waits until backends have applied all that is stored now.
func (h *Handler) drain(w http.ResponseWriter, r *http.Request) error {
	in, err := h.readInput(w, r)
	if err != nil {
		return err
	}
	var names []string
	take(in, "backends", "a list of names", &names)
	wait := defaultDrainWait
	var text string
	if take(in, "timeout", "a duration such as 30s", &text) {
		if wait, err = time.ParseDuration(text); err != nil || wait < 0 || wait > maxDrainWait {
			in.Wrong("timeout", "want a duration such as 30s, of %v at most", maxDrainWait)
		}
	}
	if err := in.end(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel()
	watching.Go(func() {
		select {
		case <-httpx.Stopping(r.Context()):
			cancel()
		case <-ctx.Done():
		}
	})
	var d mirror.Drained
	for step, err := range h.mirror.Drain(ctx, names...) {
		if err != nil {
			return err
		}
		d = step
	}
	if r.Context().Err() != nil {
		return r.Context().Err()
	}
	h.answer(w, r, http.StatusOK, d)
	return nil
}

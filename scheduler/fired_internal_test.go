package scheduler

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// A server that was killed may have forgotten that a timer was gone as it fired. Whoever fired it removes it, where it is seen that it was fired.
func TestRemoveForgotten(t *testing.T) {
	t.Parallel()
	r := newRetryRig(t, 0)
	sh := r.shards[0]
	made := func(id string) *stored {
		if _, err := r.Create(t.Context(), Spec{ID: id, After: time.Hour, Target: Target{URI: "https://example.com/"}}); err != nil {
			t.Fatal(err)
		}
		m, err := r.pending(t.Context(), sh, id)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	fireOnly := func(m *stored) { // without what removes it
		msg := sh.dueMessage(m, time.Now())
		delete(msg.Header, headerScheduleNext)
		delete(msg.Header, headerScheduler)
		if err := r.storeDue(t.Context(), msg); err != nil {
			t.Fatal(err)
		}
	}
	for id, tt := range map[string]struct {
		fired, changed bool
		answer         error // to the fire
		there          bool  // afterwards
	}{
		"forgotten":             {fired: true},
		"forgotten-and-no-word": {fired: true, answer: jetstream.ErrAsyncPublishTimeout},
		"not-fired":             {answer: jetstream.ErrAsyncPublishTimeout, there: true},
		"changed":               {fired: true, changed: true, there: true},
	} {
		m := made(id)
		if tt.fired {
			fireOnly(m)
		}
		if tt.changed {
			if _, err := r.Update(t.Context(), id, 0, Spec{After: 2 * time.Hour, Target: Target{URI: "https://example.com/"}}); err != nil {
				t.Fatal(err)
			}
		}
		r.o.window <- struct{}{}
		(&fire{r.o, m, time.Now()}).answered(0, tt.answer)
		r.o.removeForgotten(t.Context())
		if _, err := r.pending(t.Context(), sh, id); errors.Is(err, errNone) == tt.there {
			t.Errorf("%s: %v, want it to be there: %t", id, err, tt.there)
		}
	}
}

package scheduler

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
)

// TestEventEncode: events are what encoding/json makes of them.
func TestEventEncode(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, time.May, 3, 10, 20, 30, 123_000_000, time.UTC)
	for _, e := range []Event{
		{Kind: Created, ID: "a"},
		{Kind: Created, ID: "a-B_9", Time: now, Due: now.Add(time.Nanosecond), Occurrence: 1},
		{Kind: Fired, ID: "a", Time: now, Due: now, Occurrence: 7, Delivery: "a-g-7"},
		{Kind: Delivered, ID: "a", Time: now, Due: now, Occurrence: 7, Delivery: "a-g-7", Attempt: 3, Next: now.Add(time.Hour)},
		{Kind: Skipped, ID: "a", Time: now, Count: 4},
		{Kind: Retried, ID: "a", Time: now, Status: 503, Attempt: 1, Next: now},
		{Kind: Failed, ID: "a", Time: now, Code: bus.Unavailable, Error: "with \"quotes\" and \x01"},
		{Kind: Updated, ID: "a", Time: now.In(time.FixedZone("x", 3600))},
	} {
		want, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := e.encode(); err != nil || string(got) != string(want) {
			t.Errorf("got %s, %v: want %s", got, err, want)
		}
	}
}

package scheduler

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

// wrongServer is a stream of a server whose clock is wrong, and that takes its time.
type wrongServer struct {
	jetstream.Stream

	ahead, takes time.Duration
	asked        int
}

// Info tells the time of the server.
func (w *wrongServer) Info(context.Context, ...jetstream.StreamInfoOpt) (*jetstream.StreamInfo, error) {
	w.asked++
	time.Sleep(w.takes / 2)       // fake time
	defer time.Sleep(w.takes / 2) // fake time: the way back
	return &jetstream.StreamInfo{TimeStamp: time.Now().Add(w.ahead)}, nil
}

func newTestClock() (c *clock, w *wrongServer, warned *[]time.Duration) {
	w, warned = &wrongServer{takes: 2 * time.Millisecond}, new([]time.Duration)
	return &clock{
		stream: w, grace: time.Second, ahead: new(atomic.Int64), measuring: make(chan struct{}, 1),
		warn: func(skew time.Duration) { *warned = append(*warned, skew) },
	}, w, warned
}

// The clock is the server's, as exactly as its answers allow: never later for what fires, never earlier for what is refused as due.
func TestClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, w, _ := newTestClock()
		w.ahead, w.takes = 12*time.Second, 60*time.Millisecond
		early, err := c.now(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		late, err := c.latest(t.Context())
		if want := time.Now().Add(w.ahead); err != nil || early.After(want) || late.Before(want) || late.Sub(early) > w.takes {
			t.Errorf("%s to %s, %v, want %s", early, late, err, want)
		}
		asked := w.asked
		time.Sleep(clockFresh - time.Second) // fake time: the reading is still fresh then
		if _, err := c.now(t.Context()); err != nil || w.asked != asked {
			t.Errorf("measured again after a moment: %v", err)
		}
	})
}

// With another leader comes another clock: nobody goes by the one of before, however fresh.
func TestClockOfAnotherLeader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, w, _ := newTestClock()
		for _, ahead := range []time.Duration{0, -3 * time.Second, 3 * time.Second} {
			c.drop()
			if c.valid() {
				t.Error("valid without a measurement")
			}
			w.ahead = ahead
			if err := c.ready(t.Context()); err != nil || !c.valid() {
				t.Fatalf("not valid: %v", err)
			}
			if off := c.at(time.Now()).Sub(time.Now().Add(ahead)); off > 0 || off < -w.takes {
				t.Errorf("%s ahead: it is off by %s", ahead, off)
			}
		}
		c.drop()
		w.takes = time.Minute // no answer that says anything
		if _, err := c.now(t.Context()); bus.CodeOf(err) != bus.Unavailable {
			t.Errorf("by the clock of the leader of before: %v", err)
		}
	})
}

// A clock that is told too slowly to go by is refused, and an old one holds for a while.
func TestClockTooUncertain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, w, _ := newTestClock()
		w.takes = c.grace * 11 / 10
		if _, err := c.now(t.Context()); bus.CodeOf(err) != bus.Unavailable {
			t.Errorf("told within %s: %v", w.takes, err)
		}
		w.takes = c.grace * 9 / 10
		if _, err := c.now(t.Context()); err != nil {
			t.Errorf("told within %s: %v", w.takes, err)
		}
		w.takes = c.grace * 11 / 10
		time.Sleep(clockStale / 2) // fake time: the reading is still believed then
		if _, err := c.now(t.Context()); err != nil {
			t.Errorf("%s old: %v", clockStale/2, err)
		}
		time.Sleep(clockStale) // fake time: and not any more then
		if _, err := c.now(t.Context()); bus.CodeOf(err) != bus.Unavailable {
			t.Errorf("%s old: %v", clockStale*3/2, err)
		}
	})
}

// A clock that is half a second off is told of, once as long as it is.
func TestClockWarns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, w, warned := newTestClock()
		for _, tt := range []struct {
			ahead time.Duration
			times int
		}{{450 * time.Millisecond, 0}, {-450 * time.Millisecond, 0}, {550 * time.Millisecond, 1}, {600 * time.Millisecond, 1}, {0, 1}, {-550 * time.Millisecond, 2}} {
			w.ahead = tt.ahead
			time.Sleep(clockFresh) // fake time: the next reading is due
			if _, err := c.now(t.Context()); err != nil {
				t.Fatal(err)
			}
			if len(*warned) != tt.times {
				t.Errorf("%s ahead: warned of %v", tt.ahead, *warned)
			}
		}
	})
}

// Who sets timers hears that a shard has another leader, and that the connection came back: it may be one to another server.
func TestClockIsDropped(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: bustest.Cluster(t, 3).Node(0)})
	if err != nil {
		t.Fatal(err)
	}
	closing(t, conn)
	s, err := Open(t.Context(), conn, Config{Shards: 1})
	if err != nil {
		t.Fatal(err)
	}
	closing(t, s)
	c := s.shards[0].clock
	for what, cause := range map[string]func() error{
		"another leader": func() error {
			_, err := conn.NATS().RequestWithContext(t.Context(), "$JS.API.STREAM.LEADER.STEPDOWN."+streamName(0), nil)
			return err
		},
		"a reconnect": conn.NATS().ForceReconnect,
	} {
		poll(t, what+": the clock is known", func() bool { return c.ready(t.Context()) == nil })
		before := c.leader.Load()
		if err := cause(); err != nil {
			t.Fatal(err)
		}
		poll(t, what, func() bool { return c.leader.Load() > before })
	}
}

package scheduler

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
)

const (
	clockSamples = 3
	clockMost    = 10 // samples, while they are not exact enough
	clockTries   = 3  // where the leader changes meanwhile
	clockFresh   = 10 * time.Second
	clockStale   = time.Minute // then it is no longer believed
	clockWarn    = 500 * time.Millisecond
	clockTimeout = 2 * time.Second
)

// clock tells the time of the server that leads a shard: the one that fires what nobody else has fired.
type clock struct {
	stream jetstream.Stream
	grace  time.Duration
	ahead  *atomic.Int64            // nanoseconds, of virtual time
	warn   func(skew time.Duration) // the server's clock is that far from this process's

	last      atomic.Pointer[reading] // nil before the first
	leader    atomic.Uint64           // counts the servers that may have led the shard
	warned    atomic.Bool
	measuring chan struct{} // of capacity 1: held by who measures
}

// reading is a measurement of the server's clock.
type reading struct {
	at     time.Time // of this process, when it was made
	server time.Time
	within time.Duration // how far the server's time may be from that, before and after
	leader uint64
}

// drop is called when another server may lead the shard. Its clock is another one, too.
func (c *clock) drop() { c.leader.Add(1) }

// valid tells whether there is a measurement of the clock of who leads the shard.
func (c *clock) valid() bool {
	r := c.last.Load()
	return r != nil && r.leader == c.leader.Load()
}

// ready returns once there is one, however old.
func (c *clock) ready(ctx context.Context) error {
	if c.valid() {
		return nil
	}
	_, err := c.now(ctx)
	return err
}

// now is the server's time, or a little before it: never later than the server's own.
func (c *clock) now(ctx context.Context) (time.Time, error) {
	if c.youngerThan(clockFresh) {
		return c.at(time.Now()), nil
	}
	if err := c.refresh(ctx); err != nil && !c.youngerThan(clockStale) {
		return time.Time{}, err
	}
	return c.at(time.Now()), nil
}

// youngerThan tells whether a measurement is valid, and not so old.
func (c *clock) youngerThan(age time.Duration) bool {
	return c.valid() && time.Since(c.last.Load().at) < age
}

// latest is the server's time, or a little after it: never earlier than the server's own.
func (c *clock) latest(ctx context.Context) (time.Time, error) {
	now, err := c.now(ctx)
	if err != nil {
		return now, err
	}
	return now.Add(2 * c.last.Load().within), nil
}

// at is the server's time when this process's was t, by the last measurement; t itself before the first.
func (c *clock) at(t time.Time) time.Time {
	r := c.last.Load()
	if r == nil {
		return t.Add(time.Duration(c.ahead.Load()))
	}
	return r.server.Add(t.Sub(r.at) - r.within + time.Duration(c.ahead.Load()))
}

// atMost is the latest that the server's time may have been then.
func (c *clock) atMost(t time.Time) time.Time {
	if !c.valid() {
		return c.at(t).Add(c.grace)
	}
	return c.at(t).Add(2 * c.last.Load().within)
}

// skew is how far the server's clock is ahead of this process's, and how exact that is; 0 before the first measurement.
func (c *clock) skew() (skew, within time.Duration) {
	r := c.last.Load()
	if r == nil {
		return 0, 0
	}
	return r.server.Sub(r.at.Round(0)), r.within // Round: by the wall clocks
}

// refresh measures, unless somebody else does so at the moment: then it waits for that where there is nothing to go by yet.
func (c *clock) refresh(ctx context.Context) error {
	select {
	case c.measuring <- struct{}{}:
	default:
		if c.youngerThan(clockStale) {
			return nil
		}
		select {
		case c.measuring <- struct{}{}:
		case <-ctx.Done():
			return noTime(context.Cause(ctx))
		}
	}
	defer func() { <-c.measuring }()
	for range clockTries {
		if c.youngerThan(clockFresh) {
			return nil
		}
		leader := c.leader.Load()
		r, err := c.measure(ctx)
		if err != nil {
			return err
		}
		r.leader = leader
		c.last.Store(&r)
		c.compare()
	}
	if !c.valid() {
		return bus.Errorf(bus.Unavailable, "scheduler: time of the server: its leader changes all the time")
	}
	return nil
}

// compare warns where the clocks are far from each other.
func (c *clock) compare() {
	skew, within := c.skew()
	if large := skew.Abs() > clockWarn+within; c.warned.Swap(large) != large && large {
		c.warn(skew)
	}
}

// measure asks the server for its time. The middle of the shortest exchange is taken for when it answered.
func (c *clock) measure(ctx context.Context) (reading, error) {
	ctx, cancel := context.WithTimeout(ctx, clockTimeout)
	defer cancel()
	best := reading{within: math.MaxInt64}
	for i := 0; i < clockSamples || i < clockMost && best.within > c.grace/16; i++ {
		before := time.Now()
		info, err := c.stream.Info(ctx)
		if err != nil {
			return reading{}, noTime(err)
		}
		if half := time.Since(before) / 2; half < best.within {
			best = reading{at: before.Add(half), server: info.TimeStamp, within: half}
		}
	}
	if best.within > c.grace/2 {
		return reading{}, bus.Errorf(bus.Unavailable, "scheduler: time of the server: it takes %s to answer, too long to set timers by", best.within*2)
	}
	return best, nil
}

// noTime is the error where the server does not tell its time: whoever needs that has not begun, so it may be tried again.
func noTime(err error) error {
	if !again(err) {
		return fmt.Errorf("scheduler: time of the server: %w", err)
	}
	return bus.Wrap(bus.Unavailable, "scheduler: the server does not tell the time that timers go by, as it is away or has no leader; nothing was stored", err)
}

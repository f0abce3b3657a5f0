package scheduler

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/backoff"
)

const settlePause = time.Millisecond // between looks whether all is done

// Advance moves the time of a scheduler of Config.VirtualTime ahead by d and returns when everything due by then, retries included,
// was fired and delivered, or given up: in the order in which it was due, through the streams and the transports, as without it. Run must
// be running, else it waits for that until ctx ends. Time goes on by itself as well. One caller at a time. It is what package schedulertest uses.
func (s *Scheduler) Advance(ctx context.Context, d time.Duration) error {
	if !s.cfg.VirtualTime || d < 0 {
		return bus.Errorf(bus.FailedPrecondition, "scheduler: to advance takes Config.VirtualTime and a time that is not negative")
	}
	end := s.ahead.Load() + int64(d)
	for {
		if err := s.settle(ctx); err != nil {
			return err
		}
		next, err := s.nextStep(ctx)
		if err != nil {
			return err
		}
		if step := min(next, end); step > s.ahead.Load() {
			s.ahead.Store(step)
		}
		s.wakeOwners()
		if next >= end {
			return s.settle(ctx)
		}
	}
}

func (s *Scheduler) wakeOwners() {
	for _, sh := range s.shards {
		if o := sh.owner.Load(); o != nil {
			wake(o.wakeFire)
			wake(o.wakeFetch)
		}
	}
}

// nextStep is how far time has to be ahead for something to be due, at the earliest.
func (s *Scheduler) nextStep(ctx context.Context) (int64, error) {
	next := int64(math.MaxInt64)
	for _, sh := range s.shards {
		now, err := sh.clock.now(ctx)
		if err != nil {
			return 0, err
		}
		due := sh.owner.Load().next()
		err = s.retries(ctx, sh, 0, func(m *stored) bool {
			due = min(due, m.timer().NextAttempt.UnixNano())
			return true
		})
		if err != nil {
			return 0, err
		}
		if due < math.MaxInt64 {
			next = min(next, s.ahead.Load()+max(0, due-now.UnixNano())+1)
		}
	}
	return next, nil
}

// next is when the next timer is due, or looked at again.
func (o *owner) next() int64 {
	next := int64(math.MaxInt64)
	if o == nil {
		return next
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if m := o.near.first(); m != nil {
		next = m.due
	}
	for _, q := range []*queue{o.far, o.overdue} {
		if e, ok := q.first(); ok {
			next = min(next, e.due)
		}
	}
	return next
}

// settle waits until nothing is due that is not done with.
func (s *Scheduler) settle(ctx context.Context) error {
	for _, sh := range s.shards {
		for {
			settled, err := s.settled(ctx, sh)
			if err != nil {
				return err
			}
			if settled {
				break
			}
			if !backoff.Sleep(ctx, settlePause) {
				return fmt.Errorf("scheduler: advance: not all is delivered: %w", context.Cause(ctx))
			}
		}
	}
	return nil
}

func (s *Scheduler) settled(ctx context.Context, sh *shard) (bool, error) {
	o := sh.owner.Load()
	if o == nil {
		return false, nil
	}
	if err := o.sweepRetries(ctx, 0); err != nil {
		return false, err
	}
	o.sweepOverdue(ctx)
	due := sh.all(kindDue)
	before := o.quiet()
	info, err := sh.stream.Info(ctx, jetstream.WithSubjectFilter(due))
	if err != nil {
		return false, fmt.Errorf("scheduler: advance: %w", err)
	}
	if !before || len(info.State.Subjects) > 0 {
		return false, nil
	}
	// What was stored the owner may not have heard of yet.
	o.mu.Lock()
	read := o.read
	o.mu.Unlock()
	if info.State.LastSeq > read {
		return false, o.loadOnce(ctx)
	}
	return o.quiet(), nil
}

// quiet tells whether all is known, and nothing of it is due or under way.
func (o *owner) quiet() bool {
	now := o.sh.clock.at(time.Now()).UnixNano()
	if o.next() <= now {
		wake(o.wakeFire)
		wake(o.wakeFetch)
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.busy == 0 && o.loaded
}

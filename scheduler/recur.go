package scheduler

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
)

const overdueSoon = 2 * time.Second

// recur fires recurring timers.
func (o *owner) recur(ctx context.Context) {
	for {
		select {
		case m := <-o.recurring:
			fired, skipped, err := o.s.fireRecurring(ctx, o.sh, m)
			o.s.counters.fired.Add(uint64(fired))
			o.s.counters.skipped.Add(uint64(skipped))
			if errors.Is(err, errConflict) {
				o.lookAtOnce(m)
				continue
			}
			if err != nil {
				if ctx.Err() == nil {
					o.s.log.WarnContext(ctx, "recurring timer not fired, trying again", "timer", m.id, "error", err)
				}
				o.again(m, time.Second)
				continue
			}
			o.done(1)
		case <-ctx.Done():
			return
		}
	}
}

// again puts a timer back that was taken out, to be looked at after some time.
func (o *owner) again(m *stored, after time.Duration) {
	at := o.sh.clock.at(time.Now()).Add(after).UnixNano()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.far.put(m.id, at, m.seq)
	o.busy--
}

// fireOverdue fires a recurring timer that the server told to be overdue by the hint m.
func (s *Scheduler) fireOverdue(ctx context.Context, m *stored) error {
	sh := s.shard(m.id)
	now, err := sh.clock.now(ctx)
	if err != nil {
		return err
	}
	pending, err := s.pending(ctx, sh, m.id)
	if errors.Is(err, errNone) {
		return nil
	}
	if err != nil {
		return err
	}
	if pending.record.Repeat == nil || pending.record.Paused {
		return nil
	}
	if early := time.Duration(pending.due - now.UnixNano()); early > 0 {
		if early < overdueSoon {
			return bus.Errorf(bus.Unavailable, "scheduler: timer %q is due in %s", m.id, early) // the hint is to come again
		}
		return nil
	}
	_, _, err = s.fireRecurring(ctx, sh, pending)
	if errors.Is(err, errConflict) {
		err = nil
	}
	return err
}

// fireRecurring publishes the occurrences of m that are due, and then puts the next one in the place of m. Both compare with m, so that
// after a cancel nothing is published. Who dies between the two leaves what the next one repeats: with the same ids, so that the server
// drops it if that is within two minutes.
func (s *Scheduler) fireRecurring(ctx context.Context, sh *shard, m *stored) (fired, skipped int64, err error) {
	now := sh.clock.at(time.Now())
	table, err := m.record.Repeat.timetable(m.record.Gen, s.zones)
	if err != nil {
		return 0, 0, err
	}
	step := table.step(m.occurrence(), now, s.cfg.Grace+sweepSlack)
	occurrences, err := s.withoutOverlap(ctx, sh, m, step)
	if err != nil {
		return 0, 0, err
	}
	skipped = step.skipped + int64(len(step.fire)-len(occurrences))
	for _, occ := range occurrences {
		f, err := m.of(occ)
		if err != nil {
			return fired, 0, err
		}
		if err := s.storeDue(ctx, sh.dueMessage(f, now)); err != nil {
			return fired, 0, err
		}
		fired++
		s.tellFired(f, now)
	}
	next := sh.cancelMessage(m)
	if !step.done {
		d := m.draft()
		d.due, d.record.Nominal, d.record.N = step.next.due.UnixNano(), step.next.nominal.UnixNano(), step.next.n
		if next, err = d.message(sh, s.cfg.Grace, m.seq); err != nil {
			return fired, 0, err
		}
	}
	if _, err := s.store(ctx, sh, next); err != nil {
		return fired, 0, err
	}
	if skipped > 0 {
		s.tell(Event{Kind: Skipped, ID: m.id, Time: now.UTC(), Due: time.Unix(0, m.due).UTC(), Occurrence: m.record.N, Count: skipped})
	}
	return fired, skipped, nil
}

// of is m as it is for another occurrence.
func (m *stored) of(occ occurrence) (*stored, error) {
	f := *m
	f.due, f.record.N, f.record.Nominal = occ.due.UnixNano(), occ.n, occ.nominal.UnixNano()
	var err error
	f.body, err = f.record.encode(f.due, f.grace, f.payload)
	return &f, err
}

// withoutOverlap is those of the occurrences to fire that happen although earlier ones may still be delivered: the latest, where not all do. What was
// missed and is caught up with always does: one after the other, see courier.overlaps. Of no timer more than MaxUnderWay are under way.
func (s *Scheduler) withoutOverlap(ctx context.Context, sh *shard, m *stored, step step) ([]occurrence, error) {
	if len(step.fire) == 0 {
		return nil, nil
	}
	made, room := step.made, 1
	switch m.record.Repeat.Overlap {
	case Allow:
		made, room = 0, MaxUnderWay
	case BufferOne:
		room = 2
	case Skip, "":
	}
	if m.record.Repeat.Missed != CatchUp {
		made = 0
	}
	under, err := s.aboutUnderWay(ctx, sh, m.id)
	if err == nil && under <= fewUnderWay && room < fewUnderWay {
		under, err = s.underWay(ctx, sh, m.id)
	}
	if err != nil {
		return nil, err
	}
	caughtUp := latest(step.fire[:made], MaxUnderWay-under)
	return append(slices.Clip(caughtUp), latest(step.fire[made:], room-under-made)...), nil
}

// latest is the last n of the occurrences, or as many as there are.
func latest(all []occurrence, n int) []occurrence {
	return all[len(all)-min(len(all), max(0, n)):]
}

// underWay is how many occurrences of a timer are being delivered or wait to be tried again.
func (s *Scheduler) underWay(ctx context.Context, sh *shard, id string) (int, error) {
	n := 0
	err := s.each(ctx, sh, []string{sh.subject(kindDue, id), sh.retry(id, "*")}, func(m *nats.Msg, _ uint64) {
		if !isGone(m) {
			n++
		}
	})
	return n, err
}

// fewUnderWay are few enough to be read one by one. Of more than so many it does not matter that one counts twice while its next attempt is stored.
const fewUnderWay = 16

// aboutUnderWay is the same by the word of any replica, in two requests however many there are.
func (s *Scheduler) aboutUnderWay(ctx context.Context, sh *shard, id string) (int, error) {
	due, err := s.count(ctx, sh, sh.subject(kindDue, id))
	if err != nil {
		return 0, err
	}
	retries, err := s.count(ctx, sh, sh.retry(id, "*"))
	return due + retries, err
}

func parseInt(text string) (int64, error) { return strconv.ParseInt(text, 10, 64) }

func parseSeq(text string) (uint64, error) { return strconv.ParseUint(text, 10, 64) }

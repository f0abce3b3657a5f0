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
	occurrences, there, err := s.withoutOverlap(ctx, sh, m, step)
	if err != nil {
		return 0, 0, err
	}
	skipped = step.skipped + int64(len(step.fire)-len(occurrences))
	for _, occ := range occurrences {
		f, err := m.of(occ)
		if err != nil {
			return fired, 0, err
		}
		if !there[f.record.delivery(f.id)] {
			if err := s.storeDue(ctx, sh.dueMessage(f, now)); err != nil {
				return fired, 0, err
			}
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
// missed and is caught up with always does: one after the other, see courier.overlaps. Nothing fires by its schedule while about MaxUnderWay are under
// way, by the word of any replica; what is fired by hand counts, and is not held back. there are those under way that were read, by their ids: who stored one
// of the occurrences and did not hear of it comes again, and what is there happens, and takes the place of no other.
func (s *Scheduler) withoutOverlap(ctx context.Context, sh *shard, m *stored, step step) (happen []occurrence, there map[string]bool, err error) {
	if len(step.fire) == 0 {
		return nil, nil, nil
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
	if err == nil && room < fewUnderWay {
		most := fewUnderWay
		if under > most {
			most = room + 1 // enough to know that there is none, also where one of them is to be fired again
		}
		if there, err = s.underWay(ctx, sh, m.id, most); len(there) < most {
			under = len(there)
		} else {
			under = max(under, len(there))
		}
	}
	if err != nil {
		return nil, nil, err
	}
	isThere := func(occ occurrence) bool { return there[m.deliveryOf(occ)] }
	happen = latest(step.fire[:made], MaxUnderWay-under, isThere)
	for _, occ := range happen {
		if !isThere(occ) {
			under++
		}
	}
	return append(happen, latest(step.fire[made:], room-under, isThere)...), there, nil
}

// latest is those of the occurrences that are there, and the last n of the others, or as many as there are.
func latest(all []occurrence, n int, there func(occurrence) bool) []occurrence {
	var chosen []occurrence
	for _, occ := range slices.Backward(all) {
		if there(occ) {
			chosen = append(chosen, occ)
		} else if n > 0 {
			chosen = append(chosen, occ)
			n--
		}
	}
	slices.Reverse(chosen)
	return chosen
}

// deliveryOf is the id of the delivery of another occurrence of m.
func (m *stored) deliveryOf(occ occurrence) string {
	r := m.record
	r.N = occ.n
	return r.delivery(m.id)
}

// fewUnderWay are few enough to be read one by one. Where any replica knows of more, it is only asked whether there is room.
const fewUnderWay = 16

// underWay is the occurrences of a timer that are being delivered or wait to be tried again, at most so many of them, by the word of the shard's leader and
// by their ids: for a moment one is there twice, as the attempt that is over and as the next.
func (s *Scheduler) underWay(ctx context.Context, sh *shard, id string, most int) (map[string]bool, error) {
	under := map[string]bool{}
	err := s.each(ctx, sh, []string{sh.subject(kindDue, id), sh.retry(id, "*")}, func(m *nats.Msg, seq uint64) bool {
		if isGone(m) {
			return true
		}
		delivery := itoa(seq) // where it is not readable
		if r, err := readStored(m.Subject, seq, storedAt(m), m.Header, m.Data); err == nil {
			delivery = r.record.delivery(id)
		}
		under[delivery] = true
		return len(under) < most
	})
	return under, err
}

// aboutUnderWay is about how many they are, in two requests however many: any replica says so, also one that is behind, and what a cancel left behind counts
// until it goes.
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

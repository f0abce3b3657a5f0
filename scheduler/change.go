package scheduler

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/skybus-io/skybus/bus"
)

// Update replaces a pending timer by spec, whose ID and Key must be empty or its own. rev is the revision it must have, 0 means any.
// After counts from now, not from the creation; a spec from [Scheduler.Get] keeps its time, which is in At. Of a recurring timer that keeps it, and that spec
// does not pause any more, those of the pause do not happen, as with Resume.
//
// The error is not_found; aborted where the timer has another revision; failed_precondition with the detail "reason" already_due where
// it is due or being delivered; else as Create's. A recurring timer can be updated at any time.
func (s *Scheduler) Update(ctx context.Context, id string, rev uint64, spec Spec) (Timer, error) {
	if spec.ID == "" {
		spec.ID = id
	}
	if err := bus.CheckToken("id", id); err != nil {
		return Timer{}, bus.AsError(err).With("field", "id")
	}
	if spec.ID != id {
		return Timer{}, invalid("id", "is %.64q, the timer's is %q: an id does not change", spec.ID, id)
	}
	d, now, err := s.undated(ctx, spec)
	if err != nil {
		return Timer{}, err
	}
	return s.change(ctx, id, rev, func(m *stored) (*draft, error) {
		own := spec.At.Equal(m.timer().At) // it keeps its time, however long ago that is
		if !own {
			if err := checkAge(spec, now); err != nil {
				return nil, err
			}
		}
		if err := s.schedule(d, spec, now); err != nil {
			return nil, err
		}
		d.record.Created = m.record.Created // the new Gen keeps its deliveries apart from earlier ones
		if d.record.Key == "" {
			d.record.Key = m.record.Key
		}
		if d.record.Repeat == nil || m.record.Repeat == nil {
			return d, nil
		}
		d.record.N = m.record.N // Repeat.Max counts on
		if own && m.record.Paused && !d.record.Paused {
			return d, s.goOn(d, now)
		}
		return d, nil
	})
}

// goOn has a recurring timer whose pause is over go on with its first occurrence after now.
func (s *Scheduler) goOn(d *draft, now time.Time) error {
	table, err := d.record.Repeat.timetable(d.record.Gen, s.zones)
	if err != nil {
		return err
	}
	o := occurrence{n: d.record.N, nominal: time.Unix(0, d.record.Nominal).UTC(), due: time.Unix(0, d.due).UTC()}
	next, _, ok := table.resume(o, now)
	if !ok {
		return bus.Errorf(bus.FailedPrecondition, "timer %q has no occurrence left", d.id).With("reason", "ended")
	}
	d.due, d.record.Nominal, d.record.N = next.due.UnixNano(), next.nominal.UnixNano(), next.n
	return nil
}

// Pause keeps a timer from firing until Resume. To pause a paused one does nothing. rev 0 means any revision. Errors are those of Update.
func (s *Scheduler) Pause(ctx context.Context, id string, rev uint64) (Timer, error) {
	return s.change(ctx, id, rev, func(m *stored) (*draft, error) {
		d := m.draft()
		d.record.Paused = true
		return d, nil
	})
}

// Resume ends a pause. A timer whose time has passed meanwhile is due at once; a recurring one goes on with its next occurrence
// after now: those of the pause do not happen. rev 0 means any revision.
func (s *Scheduler) Resume(ctx context.Context, id string, rev uint64) (Timer, error) {
	return s.change(ctx, id, rev, func(m *stored) (*draft, error) {
		d := m.draft()
		if !d.record.Paused {
			return d, nil
		}
		d.record.Paused = false
		if m.record.Repeat == nil {
			return d, nil
		}
		now, err := s.shard(id).clock.latest(ctx)
		if err != nil {
			return nil, err
		}
		return d, s.goOn(d, now)
	})
}

// draft is the timer of a message, to be changed.
func (m *stored) draft() *draft {
	return &draft{id: m.id, due: m.due, record: m.record, payload: m.payload}
}

func (m *stored) occurrence() occurrence {
	return occurrence{n: m.record.N, nominal: time.Unix(0, m.record.Nominal).UTC(), due: time.Unix(0, m.due).UTC()}
}

// change replaces the pending message of a timer by what edit makes of it; unless that is what is there. What others change meanwhile
// is edited again, but with a revision given it is an error.
func (s *Scheduler) change(ctx context.Context, id string, rev uint64, edit func(*stored) (*draft, error)) (Timer, error) {
	for range replaceTries {
		sh, m, err := s.changeable(ctx, id, rev)
		if err != nil {
			return Timer{}, err
		}
		d, err := edit(m)
		if err != nil {
			return Timer{}, err
		}
		msg, err := d.message(sh, s.cfg.Grace, m.seq)
		if err != nil {
			return Timer{}, err
		}
		if bytes.Equal(msg.Data, m.body) {
			return m.timer(), nil
		}
		if err := s.room.take(ctx, len(msg.Data)-len(m.body)-roomNoise); err != nil {
			return Timer{}, err
		}
		seq, err := s.store(ctx, sh, msg)
		if errors.Is(err, errConflict) {
			continue
		}
		if err == nil {
			err = s.inTime(ctx, sh, m.subject, s.handed(m), seq)
		}
		if err != nil {
			return Timer{}, err
		}
		t := d.timer(seq)
		s.tell(Event{Kind: Updated, ID: id, Time: sh.clock.at(time.Now()), Due: t.Due, Occurrence: t.Occurrence})
		return t, nil
	}
	return Timer{}, bus.Errorf(bus.Aborted, "timer %q is being changed by others", id)
}

// fixed tells whether the server fires the timer by itself, so that it must not be changed any more once it is due: a change that it
// takes after due plus the grace may come too late, although it is acknowledged.
func (m *stored) fixed() bool { return m.record.Repeat == nil && !m.record.Paused }

// inTime tells whether what took the place of m, at sequence seq, was stored before handed, when the server may begin to fire m by itself. Only a
// server that was slow gives reason to look.
func (s *Scheduler) inTime(ctx context.Context, sh *shard, subject string, handed time.Time, seq uint64) error {
	if sh.clock.atMost(time.Now()).Before(handed) {
		return nil
	}
	// The time of a message says when it was stored where there is one replica; where there are several, only when it was proposed.
	if !sh.replicated() {
		if m, at, err := s.last(ctx, sh, subject); err == nil && at == seq && storedAt(m).Before(handed) {
			return nil
		}
	}
	return tooSlow()
}

func tooSlow() error {
	return bus.Errorf(bus.Unavailable, "scheduler: the server was slow, and nobody knows whether the timer fires as it was").With("reason", "uncertain")
}

// handed is when the server may begin to fire m by itself, never where it does not.
func (s *Scheduler) handed(m *stored) time.Time {
	if !m.fixed() {
		return maxTime()
	}
	return m.overdue()
}

func otherRevision(id string, has, asked uint64) error {
	return bus.Errorf(bus.Aborted, "timer %q has the revision %d, not %d", id, has, asked).With("revision", itoa(has))
}

func alreadyDue(id string) error {
	return bus.Errorf(bus.FailedPrecondition, "timer %q is already due", id).With("reason", "already_due")
}

// Cancel removes a pending timer, and ends the retries of what has fired already. Errors are those of Update: a timer that fires once and is
// being delivered is already_due, unless it waits for its next attempt. Once it has returned nil, nothing fires that was not due before, and no
// further attempt begins but one that was about to. It needs no room in the store, and removes what is not readable, too. A timer that
// others make meanwhile under the id it leaves alone where rev is given.
func (s *Scheduler) Cancel(ctx context.Context, id string, rev uint64) error {
	removed := false
	for range replaceTries {
		err := s.cancelOnce(ctx, id, rev)
		switch {
		case errors.Is(err, errConflict):
		case bus.CodeOf(err) == bus.DataLoss && !removed:
			if err := s.removeUnreadable(ctx, id, rev); err != nil {
				return err
			}
			if rev != 0 { // what had it is gone
				return s.endRetries(ctx, s.shard(id), id)
			}
			removed = true
		case removed && bus.CodeOf(err) == bus.NotFound: // there was nothing else
			return nil
		default:
			return err
		}
	}
	return bus.Errorf(bus.Aborted, "timer %q is being changed by others", id)
}

// cancelOnce makes one attempt. The error is errConflict where others changed the timer meanwhile.
func (s *Scheduler) cancelOnce(ctx context.Context, id string, rev uint64) error {
	sh, m, err := s.changeable(ctx, id, rev)
	if reason(err) == "already_due" {
		return s.cancelFired(ctx, id, rev, err)
	}
	if err == nil {
		err = s.remove(ctx, sh, m, s.handed(m))
	}
	if err != nil {
		return err
	}
	s.tellCancelled(sh, m)
	if m.record.Repeat == nil {
		return nil
	}
	return s.endRetries(ctx, sh, id)
}

// endRetries ends the retries of a timer that is not pending any more, as far as there is time for it, also those that are not readable.
func (s *Scheduler) endRetries(ctx context.Context, sh *shard, id string) error {
	deliveries, err := s.deliveries(ctx, sh, id)
	if bus.CodeOf(err) == bus.DataLoss {
		if err := s.removeUnreadable(ctx, id, 0); err != nil {
			return err
		}
		deliveries, err = s.deliveries(ctx, sh, id)
	}
	if err == nil {
		_, _, err = s.cancelRetries(ctx, sh, deliveries, 0)
	}
	return err
}

// cancelFired ends the retries of a timer that fires once, where there is time for it; else the error is due, and nothing was changed. For a moment a
// delivery is there twice, as the attempt that is over and as the retry that it has stored: then it is too late too, since whoever gets the first
// once more, after a crash, would make the attempt again.
func (s *Scheduler) cancelFired(ctx context.Context, id string, rev uint64, due error) error {
	sh := s.shard(id)
	if m, err := s.pending(ctx, sh, id); err == nil && m.fixed() {
		return due // it is about to fire
	}
	deliveries, err := s.deliveries(ctx, sh, id)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(deliveries, func(m *stored) bool { return m.kind != kindRetry }) {
		return due
	}
	ended, left, err := s.cancelRetries(ctx, sh, deliveries, rev)
	if err == nil && (ended == 0 || left > 0) {
		err = due
	}
	return err
}

// cancelRetries ends the waiting of a timer's deliveries for their next attempts, and tells of how many, and for how many it is too
// late. rev is the revision they must have, 0 means any.
func (s *Scheduler) cancelRetries(ctx context.Context, sh *shard, deliveries []*stored, rev uint64) (ended, left int, err error) {
	for _, m := range deliveries {
		if rev != 0 && rev != m.seq {
			return ended, left, otherRevision(m.id, m.seq, rev)
		}
		now, err := sh.clock.latest(ctx)
		if err != nil {
			return ended, left, err
		}
		next := m.timer().NextAttempt
		if m.kind != kindRetry || !now.Add(retryMargin).Before(next) {
			left++
			continue
		}
		err = s.remove(ctx, sh, m, next)
		if errors.Is(err, errConflict) {
			left++
			continue
		}
		if err != nil {
			return ended, left, err
		}
		ended++
		s.tellCancelled(sh, m)
	}
	return ended, left, nil
}

func (s *Scheduler) tellCancelled(sh *shard, m *stored) {
	s.tell(Event{Kind: Cancelled, ID: m.id, Time: sh.clock.at(time.Now()), Due: time.Unix(0, m.due).UTC(), Occurrence: m.record.N})
}

// retryMargin before the next attempt a delivery counts as under way.
const retryMargin = 250 * time.Millisecond

// FireNow makes a timer due now. One that fires once is gone with it; of a recurring one it is an occurrence beside the schedule. A paused
// one fires too. rev 0 means any revision. It returns the Delivery.ID. Errors are those of Update; resource_exhausted is for recurring timers alone.
func (s *Scheduler) FireNow(ctx context.Context, id string, rev uint64) (string, error) {
	manual := "m" + nuid.Next()
	for range replaceTries {
		sh, m, err := s.changeable(ctx, id, rev)
		if err != nil {
			return "", err
		}
		now := sh.clock.at(time.Now())
		msg, err := sh.manualMessage(m, manual, now)
		if err == nil && m.record.Repeat != nil { // of others it takes the place
			err = s.room.take(ctx, len(msg.Data)+storedOverhead)
		}
		if err != nil {
			return "", err
		}
		if _, err := s.store(ctx, sh, msg); errors.Is(err, errConflict) {
			continue
		} else if err != nil {
			return "", err
		}
		if m.record.Paused && m.record.Repeat == nil {
			if err := s.removeFired(ctx, sh, m); err != nil {
				return "", err
			}
		}
		delivery := m.record.delivery(id)
		if m.record.Repeat != nil {
			r := m.record
			r.Manual = manual
			delivery = r.delivery(id)
		}
		s.tell(Event{Kind: Fired, ID: id, Time: now, Due: now, Occurrence: m.record.N, Delivery: delivery})
		return delivery, nil
	}
	return "", bus.Errorf(bus.Aborted, "timer %q is being changed by others", id)
}

// removeFired removes a paused timer that was fired by hand: there is no schedule that the server could purge with it. Who resumes it at
// that moment does not make it fire again.
func (s *Scheduler) removeFired(ctx context.Context, sh *shard, m *stored) error {
	for range replaceTries {
		_, err := s.store(ctx, sh, sh.cancelMessage(m))
		if !errors.Is(err, errConflict) {
			return err
		}
		now, err := s.pending(ctx, sh, m.id)
		if errors.Is(err, errNone) || err == nil && now.record.Gen != m.record.Gen {
			return nil
		}
		if err != nil {
			return err
		}
		m = now
	}
	return bus.Errorf(bus.Aborted, "timer %q was fired, and is being changed by others", m.id)
}

// storeDue publishes the message that fires a timer whose time has come, for whoever sees to it that it does; the many of an owner go their own way.
// An attempt whose answer was lost is not repeated: they come again if need be.
func (s *Scheduler) storeDue(ctx context.Context, msg *nats.Msg) error {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	_, err := s.publish(ctx, msg)
	return err
}

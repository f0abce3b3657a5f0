package scheduler

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
)

// Filter chooses timers: those that meet all that is set. The zero value chooses all.
type Filter struct {
	Prefix    string            // of the id
	States    []State           // one of them
	DueFrom   time.Time         // due then or later
	DueBefore time.Time         // due before
	Labels    map[string]string // each of them
	// Cursor goes on after the timer with this [Timer.Cursor].
	Cursor string
}

func (f *Filter) check() error {
	for _, state := range f.States {
		if !slices.Contains(States(), state) {
			return invalid("state", "%.32q is none of %v", state, States())
		}
	}
	return nil
}

// match tells whether a message is of a timer that f chooses.
func (f *Filter) match(m *stored) bool {
	due := time.Unix(0, m.due)
	if len(f.States) > 0 && !slices.Contains(f.States, m.state()) ||
		!f.DueFrom.IsZero() && due.Before(f.DueFrom) || !f.DueBefore.IsZero() && !due.Before(f.DueBefore) {
		return false
	}
	for name, value := range f.Labels {
		if v, ok := m.record.Labels[name]; !ok || v != value {
			return false
		}
	}
	return true
}

// Get is the timer as it is stored, not_found where it is not, data_loss where it is not readable. Of a recurring timer that is being delivered it is the next occurrence,
// with the attempts of the delivery.
func (s *Scheduler) Get(ctx context.Context, id string) (Timer, error) {
	if err := bus.CheckToken("id", id); err != nil {
		return Timer{}, bus.AsError(err).With("field", "id")
	}
	sh := s.shard(id)
	var t *Timer
	pending, err := s.pending(ctx, sh, id)
	switch {
	case err == nil:
		t = new(pending.timer())
		if pending.record.Repeat == nil {
			return *t, nil
		}
	case !errors.Is(err, errNone):
		return Timer{}, err
	}
	deliveries, err := s.deliveries(ctx, sh, id)
	if err != nil && (bus.CodeOf(err) != bus.DataLoss || t == nil && len(deliveries) == 0) {
		return Timer{}, err
	}
	if n := len(deliveries); n > 0 {
		newest := deliveries[n-1].timer()
		if t == nil {
			return newest, nil
		}
		t.Attempts, t.NextAttempt = newest.Attempts, newest.NextAttempt
	}
	if t == nil {
		return Timer{}, notFound(id)
	}
	return *t, nil
}

// deliveries are the messages of occurrences of a timer that are being delivered or wait to be tried again, by occurrence. The error is data_loss where
// one of them is not readable.
func (s *Scheduler) deliveries(ctx context.Context, sh *shard, id string) (found []*stored, err error) {
	// One that is put off goes from what is due to what waits, and back: it may go to where was looked already.
	for range 2 {
		if found, err = s.lookForDeliveries(ctx, sh, id); err != nil || len(found) > 0 {
			break
		}
	}
	return found, err
}

func (s *Scheduler) lookForDeliveries(ctx context.Context, sh *shard, id string) ([]*stored, error) {
	var found []*stored
	var bad error
	patterns := []string{sh.subject(kindDue, id), sh.retry(id, "*")}
	err := s.each(ctx, sh, patterns, func(m *nats.Msg, seq uint64) bool {
		if isGone(m) {
			return true // what a cancel left behind
		}
		r, err := readStored(m.Subject, seq, storedAt(m), m.Header, m.Data)
		if err != nil {
			bad = unreadable(err)
			return true
		}
		found = append(found, r)
		return true
	})
	slices.SortFunc(found, func(a, b *stored) int { return cmp.Compare(a.record.N, b.record.N) })
	return found, cmp.Or(err, bad)
}

func notFound(id string) error { return bus.Errorf(bus.NotFound, "there is no timer %q", id) }

// List is the timers that f chooses, shard by shard, and within one in the order of their last change. It reads them as the loop goes on:
// what changes meanwhile may come twice, or not; what is there all the time and does not change comes exactly once. A recurring timer
// whose occurrence is being delivered comes once for itself and once for each such occurrence, in the state firing or retrying.
//
// An error of the code data_loss is of one timer that is not readable, of which only the ID is known, and does not end the sequence. Any other
// error does.
func (s *Scheduler) List(ctx context.Context, f Filter) iter.Seq2[Timer, error] {
	return func(yield func(Timer, error) bool) {
		shard, from, err := s.readCursor(f.Cursor)
		if err == nil {
			err = f.check()
		}
		if err != nil {
			yield(Timer{}, err)
			return
		}
		for _, sh := range s.shards[shard:] {
			more := true
			err := s.scan(ctx, sh, sh.all("*"), from, func(m *nats.Msg, seq uint64) bool {
				if isGone(m) || isHint(m.Subject) || !strings.HasPrefix(idOf(m.Subject), f.Prefix) {
					return true
				}
				r, err := readStored(m.Subject, seq, storedAt(m), m.Header, m.Data)
				if err != nil {
					more = yield(Timer{Spec: Spec{ID: idOf(m.Subject)}}, unreadable(err))
					return more
				}
				if f.match(r) {
					t := r.timer()
					t.cursor = cursor(sh.shard, seq)
					more = yield(t, nil)
				}
				return more
			})
			if !more {
				return
			}
			if err != nil {
				yield(Timer{}, err)
				return
			}
			from = 0
		}
	}
}

// Cursor is where List goes on after t, for pages: see [Filter]. It is empty for a timer that is not from List.
func (t *Timer) Cursor() string { return t.cursor }

func cursor(shard int, seq uint64) string {
	return strconv.Itoa(shard) + "." + strconv.FormatUint(seq, 10)
}

func (s *Scheduler) readCursor(c string) (shard int, from uint64, err error) {
	if c == "" {
		return 0, 0, nil
	}
	a, b, _ := strings.Cut(c, ".")
	shard, err1 := strconv.Atoi(a)
	seq, err2 := strconv.ParseUint(b, 10, 63)
	if err1 != nil || err2 != nil || shard < 0 || shard >= len(s.shards) {
		return 0, 0, invalid("cursor", "%.64q is none of this list", c)
	}
	return shard, seq + 1, nil
}

// state is that of the timer of a message.
func (m *stored) state() State {
	switch {
	case m.kind == kindRetry:
		return Retrying
	case m.kind == kindDue:
		return Firing
	case m.record.Paused:
		return Paused
	}
	return Scheduled
}

// timer is the timer of a message.
func (m *stored) timer() Timer {
	r := &m.record
	t := Timer{
		Spec: Spec{
			ID: m.id, Key: r.Key, At: time.Unix(0, m.due).UTC(), Repeat: r.Repeat, Target: r.Target, Payload: m.payload,
			ContentType: r.ContentType, Header: maps.Clone(r.Header), Retry: r.Retry, Labels: maps.Clone(r.Labels), Paused: r.Paused,
		},
		State: m.state(), Revision: m.seq, Created: time.Unix(0, r.Created).UTC(), Occurrence: r.N,
	}
	if r.Repeat != nil {
		t.At = time.Unix(0, r.Nominal).UTC()
	}
	t.Due = time.Unix(0, m.due).UTC()
	if text := first(m.header, headerAttempts); text != "" {
		_ = json.Unmarshal([]byte(text), &t.Attempts) // for people to read: what does not decode is left out
	}
	if at, ok := strings.CutPrefix(first(m.header, headerSchedule), "@at "); ok && m.kind == kindRetry {
		t.NextAttempt, _ = time.Parse(time.RFC3339Nano, at)
	}
	return t
}

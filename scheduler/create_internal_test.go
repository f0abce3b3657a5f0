package scheduler

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

// A timer of CreateMany whose answer was lost is not made once more: neither while it is pending, nor when it has gone on or is being delivered.
func TestCreateAgain(t *testing.T) {
	t.Parallel()
	r := newRetryRig(t, 0)
	sh := r.shards[0]
	for id, tt := range map[string]struct {
		repeat *Repeat
		then   func(m *stored) error
	}{
		"pending": {},
		"fired":   {then: func(m *stored) error { return r.storeDue(t.Context(), sh.dueMessage(m, time.Now())) }},
		"recurred": {&Repeat{Every: time.Hour}, func(m *stored) error {
			next := m.draft()
			next.record.N++
			msg, err := next.message(sh, DefaultGrace, m.seq)
			if err == nil {
				_, err = r.store(t.Context(), sh, msg)
			}
			return err
		}},
	} {
		c := lostCreation(t, r.Scheduler, Spec{ID: id, After: time.Hour, Repeat: tt.repeat, Target: Target{URI: "https://example.com/"}})
		if _, err := r.createDraft(t.Context(), c.draft, false); err != nil {
			t.Fatal(err)
		}
		m, err := r.pending(t.Context(), sh, id)
		if err == nil && tt.then != nil {
			err = tt.then(m)
		}
		if err != nil {
			t.Fatal(err)
		}
		before := lastSequence(t, r.Scheduler)
		if tm, err := r.createAgain(t.Context(), c); err != nil || tm.ID != id {
			t.Errorf("%s: %+v, %v", id, tm, err)
		}
		if m, err := r.pending(t.Context(), sh, id); lastSequence(t, r.Scheduler) != before {
			t.Errorf("%s: stored once more: %+v, %v", id, m, err)
		}
	}
}

// Of many whose answers were lost those that are stored are told at once.
func TestCreationsAreRecognised(t *testing.T) {
	t.Parallel()
	r := newRetryRig(t, 0)
	all := map[string]*creation{}
	var some []*creation
	for _, id := range []string{"pending", "fired", "lost", "refused", "another"} {
		c := lostCreation(t, r.Scheduler, Spec{ID: id, After: time.Hour, Target: Target{URI: "https://example.com/"}})
		all[id], some = c, append(some, c)
	}
	all["refused"].first = nats.ErrNoResponders
	twice := lostCreation(t, r.Scheduler, Spec{ID: "pending", After: time.Hour, Target: Target{URI: "https://example.com/"}})
	some = append(some, twice)
	for _, id := range []string{"pending", "fired"} {
		if _, err := r.createDraft(t.Context(), all[id].draft, false); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.FireNow(t.Context(), "fired", 0); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Create(t.Context(), Spec{ID: "another", After: time.Hour, Target: Target{URI: "https://example.com/"}}); err != nil {
		t.Fatal(err)
	}
	rest := r.unknown(t.Context(), some)
	for id, c := range all {
		known := id == "pending" || id == "fired"
		if c.known.Load() != known || slices.Contains(rest, c) == known || known && c.made.ID != id {
			t.Errorf("%s: known %t, %+v; to be stored %t", id, c.known.Load(), c.made, slices.Contains(rest, c))
		}
	}
	if !slices.Contains(rest, twice) || len(rest) != 4 {
		t.Errorf("%d are to be stored, want 4", len(rest))
	}
}

// A timer whose answer was lost, and that somebody has cancelled meanwhile, is not made again.
func TestCreateAgainAfterCancel(t *testing.T) {
	t.Parallel()
	r := newRetryRig(t, 0)
	c := lostCreation(t, r.Scheduler, Spec{ID: "a", After: time.Hour, Target: Target{URI: "https://example.com/"}})
	if _, err := r.createDraft(t.Context(), c.draft, false); err != nil {
		t.Fatal(err)
	}
	if err := r.Cancel(t.Context(), "a", 0); err != nil {
		t.Fatal(err)
	}
	if tm, err := r.createAgain(t.Context(), c); bus.CodeOf(err) != bus.DeadlineExceeded || reason(err) != "uncertain" {
		t.Errorf("%+v, %v, want it to be uncertain", tm, err)
	}
	if _, err := r.Get(t.Context(), "a"); bus.CodeOf(err) != bus.NotFound {
		t.Errorf("it is there again: %v", err)
	}
	if _, err := r.Create(t.Context(), Spec{ID: "a", After: time.Hour, Target: Target{URI: "https://example.com/"}}); err != nil {
		t.Errorf("another one under its id: %v", err)
	}
}

// Of a timer that was sent, and whose answer was lost, nobody knows whether it was stored, as long as nobody can look.
func TestCreateAgainWithoutServer(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		n := bustest.Server(t)
		s := openIn(t, n, "dev")
		c := lostCreation(t, s, Spec{ID: "a", After: time.Hour, Target: Target{URI: "http://127.0.0.1:9999/"}})
		n.Stop()
		poll(t, "the loss is noticed", func() bool { return !s.conn.NATS().IsConnected() })
		if _, err := s.createAgain(t.Context(), c); bus.CodeOf(err) != bus.DeadlineExceeded {
			t.Errorf("%v, want %s", err, bus.DeadlineExceeded)
		}
	})
}

// lostCreation is one whose answer did not come.
func lostCreation(t *testing.T, s *Scheduler, spec Spec) *creation {
	t.Helper()
	d, err := s.draft(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	msg, err := d.message(s.shard(d.id), s.cfg.Grace, 0)
	if err != nil {
		t.Fatal(err)
	}
	return &creation{draft: d, shard: s.shard(d.id), body: msg.Data, begun: time.Now(), first: jetstream.ErrAsyncPublishTimeout}
}

func lastSequence(t *testing.T, s *Scheduler) uint64 {
	t.Helper()
	info, err := s.shards[0].stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return info.State.LastSeq
}

// What is due while there is no connection does not wait in a buffer for it, to arrive when the server has fired: until half the grace is over it is tried, and
// then left to the server.
func TestFireWithoutConnection(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		n := bustest.Server(t)
		s := openIn(t, n, "dev")
		if _, err := s.Create(t.Context(), Spec{ID: "a", After: time.Hour, Target: Target{URI: "http://127.0.0.1:9999/"}}); err != nil {
			t.Fatal(err)
		}
		m, err := s.pending(t.Context(), s.shard("a"), "a")
		if err != nil {
			t.Fatal(err)
		}
		o := s.newOwner(s.shard("a"))
		n.Stop()
		poll(t, "the loss is noticed", func() bool { return !s.conn.NATS().IsConnected() })
		held, err := s.conn.NATS().Buffered()
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Until(time.Unix(0, m.due))) // fake time
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		o.fire(ctx, m, time.Unix(0, m.due))
		if more, err := s.conn.NATS().Buffered(); more != held || err != nil {
			t.Errorf("%d bytes wait for a connection, %d did before: %v", more, held, err)
		}
		if _, late := o.overdue.byID["a"]; !late || s.counters.shed.Load() != 1 || ctx.Err() != nil {
			t.Errorf("left to the server: %t, %d, %v", late, s.counters.shed.Load(), ctx.Err())
		}
	})
}

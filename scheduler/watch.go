package scheduler

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"slices"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
)

const watchBuffer = 8192 // events that wait for a loop

// EventFilter chooses events. The zero value chooses all.
type EventFilter struct {
	ID    string // of one timer
	Kinds []EventKind
}

// Watch yields the events from now on, until ctx ends or the loop is left. Events are a hint for speed: those that come while the connection is
// down, or faster than the loop takes them, are missed, and an error of the code data_loss says so and does not end the sequence. Any other
// error does: it could not begin, or the connection was closed for good, which is unavailable.
// Those told by different processes, or parts of one, may change places: delivered may come before fired.
func (s *Scheduler) Watch(ctx context.Context, f EventFilter) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		id := "*"
		if f.ID != "" {
			if err := bus.CheckToken("id", f.ID); err != nil {
				yield(Event{}, bus.AsError(err).With("field", "id"))
				return
			}
			id = f.ID
		}
		loss := make(chan struct{}, 1)
		defer s.conn.NotifyLoss(loss)()
		events := make(chan *nats.Msg, watchBuffer)
		subs := make([]*nats.Subscription, 0, 1)
		defer func() {
			for _, sub := range subs {
				_ = sub.Unsubscribe() // fails only when the connection is closed
			}
		}()
		if err := s.listen(ctx, map[string]nats.MsgHandler{eventSubject(s.conn.Namespace(), "*", id): func(m *nats.Msg) {
			select {
			case events <- m:
			default:
				wake(loss)
			}
		}}, &subs); err != nil {
			yield(Event{}, err)
			return
		}
		w := watching{filter: f, events: events, loss: loss, closed: s.conn.Closed()}
		w.loop(ctx, yield)
	}
}

// watching is a watch under way.
type watching struct {
	filter EventFilter
	events <-chan *nats.Msg
	loss   <-chan struct{} // some may have been missed
	closed <-chan struct{} // the connection is, for good
}

func (w *watching) loop(ctx context.Context, yield func(Event, error) bool) {
	for {
		var m *nats.Msg
		select {
		case <-ctx.Done():
			return
		case <-w.closed:
			yield(Event{}, bus.Errorf(bus.Unavailable, "scheduler: watch: the connection was closed"))
			return
		case <-w.loss:
			if !yield(Event{}, bus.Errorf(bus.DataLoss, "scheduler: events may have been missed")) {
				return
			}
			continue
		case m = <-w.events:
		}
		var e Event
		if err := json.Unmarshal(m.Data, &e); err != nil {
			continue // somebody else's
		}
		if len(w.filter.Kinds) > 0 && !slices.Contains(w.filter.Kinds, e.Kind) {
			continue
		}
		if !yield(e, nil) {
			return
		}
	}
}

// hearLeaders drops what is known of a shard's clock when it has another leader, until stop is called. Who may not hear of that measures anew after a
// while, as all do.
func (s *Scheduler) hearLeaders(ctx context.Context) (stop func()) {
	handlers := map[string]nats.MsgHandler{}
	for _, sh := range s.shards {
		if sh.replicated() {
			handlers[sh.elected()] = func(*nats.Msg) { sh.clock.drop() }
		}
	}
	var subs []*nats.Subscription
	stop = func() {
		for _, sub := range subs {
			_ = sub.Unsubscribe() // fails only when the connection is closed
		}
	}
	if len(handlers) == 0 {
		return stop
	}
	if err := s.listen(ctx, handlers, &subs); err != nil {
		s.log.DebugContext(ctx, "a change of the servers' leader is not heard of", "error", err)
		stop()
	}
	return stop
}

// listen subscribes, and returns when the server has heard of it, or refused it.
func (s *Scheduler) listen(ctx context.Context, handlers map[string]nats.MsgHandler, subs *[]*nats.Subscription) error {
	var access bus.Access
	for subject := range handlers {
		access.Subscribe = append(access.Subscribe, subject)
	}
	return s.conn.Permitted(ctx, access, func(ctx context.Context) error {
		for subject, handler := range handlers {
			sub, err := s.conn.NATS().Subscribe(subject, handler)
			if err != nil {
				return fmt.Errorf("scheduler: listen to %q: %w", subject, err)
			}
			*subs = append(*subs, sub)
		}
		return s.conn.Flush(ctx)
	})
}

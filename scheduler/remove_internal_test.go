package scheduler

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

// What is removed without a trace is so once, and only where nobody may have begun to fire it.
func TestErase(t *testing.T) {
	t.Parallel()
	c, _ := workbench(t)
	s := c.s
	pending := func(id string) (*shard, *stored) {
		t.Helper()
		if _, err := s.Create(t.Context(), Spec{ID: id, After: time.Hour, Target: Target{URI: "nats://default.dev.pub.x"}}); err != nil {
			t.Fatal(err)
		}
		m, err := s.pending(t.Context(), s.shard(id), id)
		if err != nil {
			t.Fatal(err)
		}
		return s.shard(id), m
	}
	sh, m := pending("a")
	if err := s.erase(t.Context(), sh, m, maxTime()); err != nil {
		t.Error(err)
	}
	if _, err := s.Get(t.Context(), "a"); bus.CodeOf(err) != bus.NotFound {
		t.Errorf("after that: %v", err)
	}
	if err := s.erase(t.Context(), sh, m, maxTime()); !errors.Is(err, errConflict) {
		t.Errorf("once more: %v", err)
	}
	sh, m = pending("b")
	if _, err := s.Pause(t.Context(), "b", 0); err != nil {
		t.Fatal(err)
	}
	if err := s.erase(t.Context(), sh, m, maxTime()); !errors.Is(err, errConflict) {
		t.Errorf("after a change: %v", err)
	}
	sh, m = pending("c")
	if err := s.erase(t.Context(), sh, m, time.Now()); reason(err) != "uncertain" {
		t.Errorf("when it may have been fired: %v", err)
	}
}

// after calls then when a message without a body was stored, as a cancel leaves it behind.
type after struct {
	jetstream.JetStream

	then func()
}

func (a after) PublishMsg(ctx context.Context, m *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	ack, err := a.JetStream.PublishMsg(ctx, m, opts...)
	if err == nil && isGone(m) {
		a.then()
	}
	return ack, err
}

// A cancel of what is not readable, by its revision, leaves alone what another makes under the id as soon as that is gone.
func TestCancelUnreadableLeavesTheNext(t *testing.T) {
	t.Parallel()
	n := bustest.Server(t)
	s, other := openIn(t, n, "dev"), openIn(t, n, "dev")
	ack, err := s.js.Publish(t.Context(), s.shards[0].subject(kindPending, "a"), []byte("nonsense"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.js.Publish(t.Context(), s.shards[0].retry("a", "a-G-1"), []byte("nonsense")); err != nil { // goes with it
		t.Fatal(err)
	}
	made := false
	s.js = after{s.js, func() {
		if made {
			return
		}
		made = true
		if _, err := other.Create(t.Context(), Spec{ID: "a", After: time.Hour, Target: Target{URI: "http://127.0.0.1:9999/"}}); err != nil {
			t.Error(err)
		}
	}}
	if err := s.Cancel(t.Context(), "a", ack.Sequence); err != nil {
		t.Error(err)
	}
	if tm, err := other.Get(t.Context(), "a"); err != nil || tm.State != Scheduled || !made {
		t.Errorf("made %t, the next timer: %+v, %v, want it scheduled", made, tm, err)
	}
}

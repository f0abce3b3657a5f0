package scheduler

import (
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

// A delivery that is put off and due again, time after time, is always somewhere, and is found.
func TestDeliveriesThatMove(t *testing.T) {
	t.Parallel()
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: bustest.Server(t)})
	if err != nil {
		t.Fatal(err)
	}
	closing(t, conn)
	s, err := Open(t.Context(), conn, Config{Shards: 1}) // without workers
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	sh := s.shard("a")
	if _, err := s.Create(t.Context(), Spec{ID: "a", After: time.Hour, Target: Target{Transport: transportNATS, URI: "default.dev.pub.a"}}); err != nil {
		t.Fatal(err)
	}
	m, err := s.pending(t.Context(), sh, "a")
	if err != nil {
		t.Fatal(err)
	}
	stream, err := conn.JetStream().Stream(t.Context(), streamName(0))
	if err != nil {
		t.Fatal(err)
	}
	due, later := sh.subject(kindDue, "a"), sh.retry("a", "x")
	store := func(subject string, h nats.Header) (seq uint64) {
		ack, err := conn.JetStream().PublishMsg(t.Context(), &nats.Msg{Subject: subject, Header: h, Data: m.body}, jetstream.WithRetryAttempts(0))
		if err != nil {
			t.Error(err)
			return 0
		}
		return ack.Sequence
	}
	waits := nats.Header{headerSchedule: {"@at " + time.Now().Add(time.Hour).UTC().Format(time.RFC3339Nano)}, headerScheduleTarget: {due}, headerRollup: {"sub"}}
	at := store(due, nil)
	var moving sync.WaitGroup
	defer moving.Wait()
	over := make(chan struct{})
	defer close(over)
	moving.Go(func() {
		for {
			store(later, waits) // as a worker does
			if err := stream.DeleteMsg(t.Context(), at); err != nil {
				t.Error(err)
				return
			}
			select {
			case <-over:
				return
			case <-time.After(10 * time.Millisecond): // a delivery stays for longer than it takes to look for it
			}
			at = store(due, nats.Header{headerScheduleNext: {"purge"}, headerScheduler: {later}}) // as the server does, in one step
			select {
			case <-over:
				return
			case <-time.After(10 * time.Millisecond): // as above
			}
		}
	})
	for begin := time.Now(); time.Since(begin) < 2*time.Second; {
		if found, err := s.deliveries(t.Context(), sh, "a"); err != nil || len(found) == 0 {
			t.Fatalf("%d found, %v", len(found), err)
		}
	}
}

package bustest_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus/bustest"
)

func TestBubbleKeyExpires(t *testing.T) {
	for _, storage := range []jetstream.StorageType{jetstream.FileStorage, jetstream.MemoryStorage} {
		t.Run(storage.String(), func(t *testing.T) {
			bustest.Bubble(t, func(t *testing.T) {
				js := newJetStream(t, bustest.Server(t).Connect(t))
				kv := newBucket(t, js, jetstream.KeyValueConfig{Bucket: "b", TTL: time.Hour, Storage: storage})
				if _, err := kv.PutString(t.Context(), "k", "v"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(59 * time.Minute)
				if _, err := kv.Get(t.Context(), "k"); err != nil {
					t.Errorf("after 59 minutes: %v", err)
				}
				time.Sleep(61 * time.Minute)
				if _, err := kv.Get(t.Context(), "k"); !errors.Is(err, jetstream.ErrKeyNotFound) {
					t.Errorf("after 2 hours: %v, want %v", err, jetstream.ErrKeyNotFound)
				}
			})
		})
	}
}

func TestBubbleScheduleFires(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		js := newJetStream(t, bustest.Server(t).Connect(t))
		stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
			Name: "S", Subjects: []string{"s.>"}, AllowMsgSchedules: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		due := time.Now().Add(3 * time.Hour)
		m := nats.NewMsg("s.pending")
		m.Header.Set("Nats-Schedule", "@at "+due.Format(time.RFC3339Nano))
		m.Header.Set("Nats-Schedule-Target", "s.fired")
		if _, err := js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}

		time.Sleep(4 * time.Hour)

		fired, err := stream.GetLastMsgForSubject(t.Context(), "s.fired")
		if err != nil {
			t.Fatal(err)
		}
		if late := fired.Time.Sub(due); late < 0 || late > time.Second {
			t.Errorf("fired %v after it was due", late)
		}
	})
}

func TestBubbleRestart(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		s := bustest.Server(t)
		nc := s.Connect(t)
		js := newJetStream(t, nc)
		kv := newBucket(t, js, jetstream.KeyValueConfig{Bucket: "b", TTL: time.Hour})
		if _, err := kv.PutString(t.Context(), "k", "v"); err != nil {
			t.Fatal(err)
		}
		s.Stop()
		time.Sleep(30 * time.Minute)
		s.Start(t)
		time.Sleep(time.Second)
		if _, err := kv.Get(t.Context(), "k"); err != nil {
			t.Errorf("after 30 minutes: %v", err)
		}
		s.Stop()
		time.Sleep(time.Hour)
		s.Start(t)
		time.Sleep(time.Second)
		if _, err := kv.Get(t.Context(), "k"); !errors.Is(err, jetstream.ErrKeyNotFound) {
			t.Errorf("after 90 minutes: %v, want %v", err, jetstream.ErrKeyNotFound)
		}
	})
}

// TestBubblesInSequence passes only if nothing of one bubble gets into the next.
func TestBubblesInSequence(t *testing.T) {
	for i := range 20 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			bustest.Bubble(t, func(t *testing.T) {
				nc := bustest.Server(t).Connect(t)
				if _, err := nc.Subscribe("echo", func(m *nats.Msg) { _ = m.Respond(m.Data) }); err != nil {
					t.Fatal(err)
				}
				for range 3 {
					if _, err := nc.Request("echo", []byte("x"), time.Second); err != nil {
						t.Fatal(err)
					}
					time.Sleep(time.Hour)
				}
				if err := nc.FlushTimeout(time.Second); err != nil {
					t.Fatal(err)
				}
				if err := nc.Drain(); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

func TestBubbleRefusesParallel(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("a parallel test got a bubble")
		}
	}()
	bustest.Bubble(t, func(*testing.T) {})
}

package http

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus/bustest"
)

// Events that others have heard and that were removed since are in nobody's way: who would have heard them next hears what follows.
func TestEventsRemovedWhileOthersListen(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := r.stream(t)
	h := r.hub(t, 10)
	url := serveEvents(t, h, Events{Stream: "ORDERS", Subject: "default.dev.pub.orders.>"})
	first := subscribe(t, url)
	r.store(t, "1", 8)
	r.store(t, "2", 2)
	first.wantIDs(t, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
	if err := s.Purge(t.Context(), jetstream.WithPurgeSubject("default.dev.pub.orders.2")); err != nil {
		t.Fatal(err)
	}
	l := subscribe(t, url, headerLastEventID, "8")
	bustest.Eventually(t, "both to hear what follows", func() bool {
		return len(h.open()[0].snapshot()) == 2
	})
	r.store(t, "1", 1)
	first.wantIDs(t, 11)
	l.wantIDs(t, 11)
	l.silent(t)
}

// A consumer whose pending events are removed is not waited for: nothing tells of it.
func TestEventsRemovedWhileReplayed(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		r := bareRig(t, bustest.Server(t))
		s := r.stream(t)
		h := &eventHub{conn: r.conn}
		large := make([]byte, replayBytes*3/4) // one is sent at a time
		for range 4 {
			if _, err := r.conn.JetStream().Publish(t.Context(), "default.dev.pub.orders.1", large); err != nil {
				t.Fatal(err)
			}
		}
		begin := time.Now()
		last, err := newTopic(h, topicKey{"ORDERS", "default.dev.pub.orders.1", ""}).replay(t.Context(), place{}, func(event) error {
			return s.Purge(t.Context())
		})
		if err != nil || last == 0 {
			t.Errorf("up to %d, %v", last, err)
		}
		if took := time.Since(begin); took > 2*streamAttempt {
			t.Errorf("it was waited for %v", took)
		}
	})
}

// A client that waits for what it missed, as its server is away, is sent away at once when the gateway stops.
func TestEventsStopWhileCatchingUp(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		r := bareRig(t, bustest.Server(t))
		h := &eventHub{conn: r.conn, closing: make(chan struct{})}
		r.node.Stop()
		begin := time.Now()
		time.AfterFunc(time.Second, h.close)
		w := httptest.NewRecorder()
		a := &eventAnswer{hub: h, sub: newSubscriber(1), w: w, rc: http.NewResponseController(w)}
		err := a.catchUp(t.Context(), newTopic(h, topicKey{"ORDERS", "default.dev.pub.orders.1", ""}), place{})
		if took := time.Since(begin); !errors.Is(err, errStopping) || took != time.Second {
			t.Errorf("%v after %v", err, took)
		}
	})
}

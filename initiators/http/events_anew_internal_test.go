package http

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

// fleeting makes the stream ORDERS in memory: of one in files that is deleted twice within a moment the server (2.15.2) leaves the messages, and the next of its
// name begins with them.
func (r *rig) fleeting(t testing.TB) {
	t.Helper()
	r.streamIn(t, jetstream.MemoryStorage)
}

// anew deletes the stream ORDERS and makes another one of its name.
func (r *rig) anew(t testing.TB) {
	t.Helper()
	if err := r.conn.JetStream().DeleteStream(t.Context(), "ORDERS"); err != nil {
		t.Fatal(err)
	}
	r.fleeting(t)
}

// wantIDs takes the next events of a client, which have these ids.
func (l *listener) wantIDs(t testing.TB, ids ...int) {
	t.Helper()
	for _, id := range ids {
		if got := l.next(t); got.ID != strconv.Itoa(id) {
			t.Fatalf("%+v, want event %d", got, id)
		}
	}
}

// Clients of a stream that is made anew are told, and hear the new one from its beginning.
func TestEventsOfStreamMadeAnew(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.fleeting(t)
	h := r.hub(t, 10)
	url := serveEvents(t, h, Events{Stream: "ORDERS", Subject: "default.dev.pub.orders.{path.id}"})
	l := subscribe(t, url+"/1")
	r.store(t, "1", 5)
	l.wantIDs(t, 1, 2, 3, 4, 5)
	r.anew(t)
	r.store(t, "1", 2)
	h.lookAtStreams(t.Context()) // which is done every 5 s
	if got := l.next(t); got != (seen{Name: "reset", Data: `{"last":5,"first":1}`}) {
		t.Errorf("%+v", got)
	}
	l.wantIDs(t, 1, 2)
	r.store(t, "1", 1)
	l.wantIDs(t, 3)
	h.lookAtStreams(t.Context()) // which finds nothing
	r.store(t, "1", 1)
	l.wantIDs(t, 4)
	if n := h.stats.resets.Load(); n != 1 {
		t.Errorf("%d resets", n)
	}
	// Whoever connects finds it out too, for all.
	r.anew(t)
	r.store(t, "1", 1)
	second := subscribe(t, url+"/1", headerLastEventID, "4")
	for _, l := range []*listener{l, second} {
		if got := l.next(t); got != (seen{Name: "reset", Data: `{"last":4,"first":1}`}) {
			t.Errorf("%+v", got)
		}
		l.wantIDs(t, 1)
	}
	r.store(t, "1", 1)
	l.wantIDs(t, 2)
	second.wantIDs(t, 2)
}

// An id is of one stream: with that of another one of its name nobody resumes in the middle, however far that has come.
func TestEventsIDsOfStreamMadeAnew(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.fleeting(t)
	url := serveEvents(t, r.hub(t, 10), Events{Stream: "ORDERS", Subject: "default.dev.pub.orders.>"})
	l := subscribe(t, url)
	r.store(t, "1", 3)
	l.wantIDs(t, 1, 2, 3)
	old := l.last
	l.stop() // with the only client the subscription of the bus goes
	r.anew(t)
	r.store(t, "1", 5)
	l = subscribe(t, url, headerLastEventID, old)
	if got := l.next(t); got != (seen{Name: "reset", Data: `{"last":3,"first":1}`}) {
		t.Errorf("with the id of the old stream: %+v", got)
	}
	began := l.last
	l.wantIDs(t, 1, 2, 3, 4, 5)
	last := l.last
	l.silent(t)
	l.stop()
	if last == old || began == last {
		t.Errorf("ids %q, %q, %q", old, began, last)
	}
	// Who had only the reset goes on behind it.
	l = subscribe(t, url, headerLastEventID, began)
	l.wantIDs(t, 1, 2, 3, 4, 5)
	l.stop()
	l = subscribe(t, url, headerLastEventID, last)
	r.store(t, "1", 1)
	l.wantIDs(t, 6)
	// A sequence alone is one of the stream that is there.
	l = subscribe(t, url, headerLastEventID, "4")
	l.wantIDs(t, 5, 6)
}

// An id that is none of a stream's counts as none, and its client is told.
func TestEventsUnknownID(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.fleeting(t)
	h := r.hub(t, 100)
	fresh := serveEvents(t, h, Events{Stream: "ORDERS", Subject: "default.dev.pub.orders.>"})
	all := serveEvents(t, h, Events{Stream: "ORDERS", Subject: "default.dev.pub.orders.>", Start: "all"})
	r.store(t, "1", 1)
	ids := []int{1}
	for _, id := range []string{"x", "-1", "1.5", "18446744073709551616", "4f1c-9e", "3-"} {
		l := subscribe(t, fresh, headerLastEventID, id)
		if got := l.next(t); got != (seen{Name: "reset", Data: fmt.Sprintf(`{"first":%d}`, len(ids)+1)}) {
			t.Errorf("Last-Event-ID %s, from now on: %+v", id, got)
		}
		l.stop()
		r.store(t, "1", 1)
		ids = append(ids, len(ids)+1)
		l = subscribe(t, fresh, headerLastEventID, l.last) // what the reset gave it: it is not told once more
		l.wantIDs(t, len(ids))
		l.stop()
		l = subscribe(t, all, headerLastEventID, id)
		if got := l.next(t); got != (seen{Name: "reset", Data: `{"first":1}`}) {
			t.Errorf("Last-Event-ID %s, from the beginning: %+v", id, got)
		}
		l.wantIDs(t, ids...)
		l.stop()
	}
	if n := h.stats.resets.Load(); n != 12 {
		t.Errorf("%d resets", n)
	}
}

// A client that is still catching up begins again too.
func TestEventsCatchUpWithStreamMadeAnew(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.fleeting(t)
	h := r.hub(t, 10)
	topic, err := h.join(t.Context(), topicKey{stream: "ORDERS", subject: "default.dev.pub.orders.1"})
	if err != nil {
		t.Fatal(err)
	}
	defer topic.leave()
	r.store(t, "1", 3)
	s := newSubscriber(10)
	defer topic.detach(s)
	var frames []string
	err = topic.catchUp(t.Context(), s, place{after: 2, epoch: 0, stream: "old"}, func(e event) error {
		frames = append(frames, string(e.frame))
		return nil
	})
	tag := streamTag(topic.created)
	want := []string{"id: 3-old\ndata: 1\n\n", "id: 0-TAG\nevent: reset\ndata: {\"last\":3,\"first\":1}\n\n", "id: 1-TAG\ndata: 1\n\n", "id: 2-TAG\ndata: 1\n\n", "id: 3-TAG\ndata: 1\n\n"}
	for i := range want {
		want[i] = strings.ReplaceAll(want[i], "TAG", tag)
	}
	if err != nil || strings.Join(frames, "") != strings.Join(want, "") {
		t.Errorf("%q, %v", frames, err)
	}
}

// consumers are those of ORDERS.
func (r *rig) consumers(t testing.TB) (n int) {
	t.Helper()
	s, err := r.conn.JetStream().Stream(t.Context(), "ORDERS")
	if err != nil {
		t.Fatal(err)
	}
	info, err := s.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return info.State.Consumers
}

// What was made for a client on the server goes with it.
func TestEventsLeaveNoConsumer(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.fleeting(t)
	url := serveEvents(t, r.hub(t, 10), Events{Stream: "ORDERS", Subject: "default.dev.pub.orders.{path.id}"})
	var all []*listener
	for id := range 3 {
		r.store(t, strconv.Itoa(id), 3*catchUpSteps)
	}
	for id := range 3 {
		l := subscribe(t, url+"/"+strconv.Itoa(id), headerLastEventID, "0") // far enough for a consumer of its own
		for range 3 * catchUpSteps {
			l.next(t)
		}
		all = append(all, l)
	}
	begin := time.Now()
	bustest.Eventually(t, "one consumer of each subject", func() bool { return r.consumers(t) == 3 })
	for _, l := range all {
		l.stop()
	}
	bustest.Eventually(t, "no consumer", func() bool { return r.consumers(t) == 0 })
	if took := time.Since(begin); took > consumerIdle-5*time.Second {
		t.Errorf("they went after %v: the server forgot them", took)
	}
}

// Who catches up with a stream that is deleted meanwhile is not held until it is there again.
func TestEventsReplayOfDeletedStream(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.fleeting(t)
	h := r.hub(t, 10)
	topic, err := h.join(t.Context(), topicKey{stream: "ORDERS", subject: "default.dev.pub.orders.1"})
	if err != nil {
		t.Fatal(err)
	}
	defer topic.leave()
	for range 30 {
		if _, err := r.conn.JetStream().Publish(t.Context(), "default.dev.pub.orders.1", make([]byte, 128<<10)); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error, 1)
	go func() {
		_, err := topic.replay(t.Context(), place{}, func(e event) error {
			if e.sequence > 1 {
				return nil
			}
			return r.conn.JetStream().DeleteStream(t.Context(), "ORDERS")
		})
		if err == nil { // it was only told that nothing comes
			_, _, err = topic.next(t.Context(), place{})
		}
		done <- err
	}()
	select {
	case err := <-done:
		if err == nil {
			t.Error("no error")
		}
	case <-time.After(20 * time.Second):
		t.Error("it waits")
	}
}

// However many subjects are followed, one goroutine watches over them, and beside it each subscription has its own. It
// counts goroutines, so nothing runs beside it.
func TestEventsShareWatch(t *testing.T) {
	r := newRig(t)
	h := r.hub(t, 100)
	var all []*topic
	for i := range 20 {
		topic, err := h.join(t.Context(), topicKey{subject: "default.dev.pub." + strconv.Itoa(i)})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, topic)
	}
	stacks := make([]byte, 4<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	if n := bytes.Count(stacks, []byte("(*eventHub).watch(")); n != 1 {
		t.Errorf("%d goroutines watch over 20 subjects", n)
	}
	// What was lost by one is told to its clients alone.
	hears, other := newSubscriber(10), newSubscriber(10)
	all[3].attach(hears, place{})
	all[4].attach(other, place{})
	all[3].dropped = -1
	for _, t := range h.open() {
		t.tellLoss()
	}
	if events, _, _ := hears.take(); len(events) != 1 || !strings.Contains(string(events[0].frame), "event: reset") {
		t.Errorf("%d events", len(events))
	}
	if events, _, _ := other.take(); len(events) != 0 {
		t.Errorf("%d events for another", len(events))
	}
	for _, topic := range all {
		topic.leave()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.unwatch != nil {
		t.Error("nothing is followed, and somebody watches")
	}
}

// An instance that does not take a stream is not waited for longer than a request of the entry may take.
func TestEventsOfEndpointThatHangs(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var asked atomic.Int64
	sub, err := r.conn.NATS().Subscribe("default.dev.svc.app.hang", func(*nats.Msg) { asked.Add(1) })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	h := r.hub(t, 10)
	src, err := Events{Call: "app.hang"}.compile()
	if err != nil {
		t.Fatal(err)
	}
	src.opening = 200 * time.Millisecond
	w := httptest.NewRecorder()
	err = h.serve(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil), eventRequest{entry: "orders", src: src})
	if bus.CodeOf(err) != bus.DeadlineExceeded || asked.Load() == 0 {
		t.Errorf("%v after %d attempts", err, asked.Load())
	}
}

// A client whose credential is not good any more is sent no more events.
func TestEventsAreAllowedAgain(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		r := newRig(t)
		h := r.hub(t, 10)
		src, err := Events{Subject: "default.dev.pub.a"}.compile()
		if err != nil {
			t.Fatal(err)
		}
		var looks atomic.Int64
		allowed := func() error {
			switch looks.Add(1) {
			case 1:
				return nil
			case 2:
				return bus.Errorf(bus.Unavailable, "that cannot be told now")
			}
			return bus.Errorf(bus.Unauthenticated, "the token has expired")
		}
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		w := httptest.NewRecorder()
		if err := h.serve(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil), eventRequest{entry: "orders", src: src, allowed: allowed}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took != 3*allowedEvery {
			t.Errorf("it was heard for %v", took)
		}
	})
}

package http

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
)

// stream makes the stream ORDERS of default.dev.pub.orders.>.
func (r *rig) stream(t testing.TB) jetstream.Stream {
	t.Helper()
	return r.streamIn(t, jetstream.FileStorage)
}

func (r *rig) streamIn(t testing.TB, storage jetstream.StorageType) jetstream.Stream {
	t.Helper()
	s, err := r.conn.JetStream().CreateStream(t.Context(), jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"default.dev.pub.orders.>"}, Storage: storage})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// store stores messages of ORDERS.
func (r *rig) store(t testing.TB, order string, n int) {
	t.Helper()
	for range n {
		if _, err := r.conn.JetStream().Publish(t.Context(), "default.dev.pub.orders."+order, []byte(order)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEventsOfStream(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	stream := r.stream(t)
	h := r.hub(t, 100)
	url := serveEvents(t, h, Events{Stream: "ORDERS", Subject: "default.dev.pub.orders.{path.id}", Name: "subject"})
	r.store(t, "7", 20) // before anybody asked
	fresh := subscribe(t, url+"/7")
	for c := range stream.ListConsumers(t.Context()).Info() { // what is stored already is not sent to the gateway
		if c.Config.OptStartSeq != 21 {
			t.Errorf("the gateway has the stream sent from %d on", c.Config.OptStartSeq)
		}
	}
	r.store(t, "8", 3) // of another
	r.store(t, "7", 2)
	for _, id := range []string{"24", "25"} {
		if got := fresh.next(t); got != (seen{ID: id, Name: "7", Data: "7"}) {
			t.Errorf("%+v, want event %s", got, id)
		}
	}
	for _, last := range []int{25, 24, 23, 20, 19, 10, 1, 0} { // far and near
		l := subscribe(t, url+"/7", headerLastEventID, strconv.Itoa(last))
		for id := last + 1; id <= 25; id++ {
			if id > 20 && id < 24 {
				continue
			}
			if got := l.next(t); got.ID != strconv.Itoa(id) {
				t.Fatalf("after %d came %+v, want %d", last, got, id)
			}
		}
		l.silent(t)
		l.stop()
	}
	if n := h.stats.resumed.Load(); n != 8 {
		t.Errorf("%d clients resumed", n)
	}
	if l := subscribe(t, url+"/7", headerLastEventID, "1", headerLastEventID, "2"); l.resp.StatusCode != http.StatusBadRequest {
		t.Errorf("two ids: %s", l.resp.Status)
	}
}

func TestEventsFromTheBeginning(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := r.stream(t)
	url := serveEvents(t, r.hub(t, 10), Events{Stream: "ORDERS", Subject: "default.dev.pub.orders.>", Start: "all"})
	r.store(t, "1", 100)
	if err := s.Purge(t.Context(), jetstream.WithPurgeSequence(41)); err != nil {
		t.Fatal(err)
	}
	l := subscribe(t, url)
	for id := 41; id <= 100; id++ {
		if got := l.next(t); got.ID != strconv.Itoa(id) {
			t.Fatalf("%+v, want %d", got, id)
		}
	}
	r.store(t, "1", 1)
	if got := l.next(t); got.ID != "101" {
		t.Errorf("then came %+v", got)
	}
}

// A client whose next events are not kept any more, or that knows a stream of the past, is told so.
func TestEventsReset(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := r.stream(t)
	h := r.hub(t, 10)
	url := serveEvents(t, h, Events{Stream: "ORDERS", Subject: "default.dev.pub.orders.>"})
	r.store(t, "1", 20)
	if err := s.Purge(t.Context(), jetstream.WithPurgeSequence(11)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		last  int
		reset string
		first int
	}{
		{10, "", 11},
		{9, `{"last":9,"first":11}`, 11},
		{21, `{"last":21,"first":11}`, 11},
		{20, "", 21},
	} {
		l := subscribe(t, url, headerLastEventID, strconv.Itoa(tt.last))
		if tt.reset != "" {
			if got := l.next(t); got != (seen{Name: "reset", Data: tt.reset}) {
				t.Errorf("after %d came %+v", tt.last, got)
			}
		}
		for id := tt.first; id <= 20; id++ {
			if got := l.next(t); got.ID != strconv.Itoa(id) {
				t.Fatalf("after %d came %+v, want %d", tt.last, got, id)
			}
		}
		l.silent(t)
		l.stop()
	}
	if n := h.stats.resets.Load(); n != 2 {
		t.Errorf("%d resets", n)
	}
	// A stream that is empty now.
	if err := s.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := subscribe(t, url, headerLastEventID, "19").next(t); got != (seen{Name: "reset", Data: `{"last":19,"first":21}`}) {
		t.Errorf("of an empty stream: %+v", got)
	}
}

// Clients that connect again and again while events are stored miss none and get none twice, over a restart of the server too.
func TestEventsResumeUnderLoad(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.stream(t)
	h := r.hub(t, 100)
	url := serveEvents(t, h, Events{Stream: "ORDERS", Subject: "default.dev.pub.orders.1"})
	const each, all, clients = 40, 240, 4
	ctx, stop := context.WithCancel(t.Context())
	var storing sync.WaitGroup
	var stored atomic.Int64
	storing.Go(func() {
		for n := 0; ctx.Err() == nil; n++ { // each order has events with the numbers from 0 on, each stored once
			r.storeOnce(ctx, "0", n)
			r.storeOnce(ctx, "1", n)
			stored.Store(int64(n))
		}
	})
	t.Run("clients", func(t *testing.T) {
		for i := range clients {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				last, number := "0", -1
				for number < all { // and goes on where it was, after it has left, or the server
					l := subscribe(t, url, headerLastEventID, last)
					for range each {
						e, ok := l.more(t)
						if !ok {
							break
						}
						if e.Data != strconv.Itoa(number+1) {
							t.Fatalf("%+v after number %d", e, number)
						}
						last, number = l.last, number+1
					}
					l.stop()
				}
			})
		}
		t.Run("restart", func(t *testing.T) {
			t.Parallel()
			bustest.Eventually(t, "some events", func() bool { return stored.Load() > 50 })
			r.node.Restart(t)
		})
	})
	stop()
	storing.Wait()
	t.Logf("%d stored", stored.Load())
}

// storeOnce stores the event of an order with that number, if it takes more than one try.
func (r *rig) storeOnce(ctx context.Context, order string, n int) {
	for ctx.Err() == nil {
		try, cancel := context.WithTimeout(ctx, 2*time.Second)
		_, err := r.conn.JetStream().Publish(try, "default.dev.pub.orders."+order, []byte(strconv.Itoa(n)), jetstream.WithMsgID(order+"-"+strconv.Itoa(n)))
		cancel()
		if err == nil {
			return
		}
	}
}

func TestEventsNoStream(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	url := serveEvents(t, r.hub(t, 10), Events{Stream: "ORDERS", Subject: "default.dev.pub.orders.>"})
	if l := subscribe(t, url); l.resp.StatusCode != http.StatusNotFound {
		t.Errorf("without a stream: %s", l.resp.Status)
	}
	r.stream(t)
	l := subscribe(t, url)
	r.store(t, "1", 1)
	if got := l.next(t); got.ID != "1" {
		t.Errorf("once there is one: %+v", got)
	}
}

// serveStreams runs the service app with the streaming endpoints count (as many as asked for), fail (one, then an error) and endless, until the test ends.
func (r *rig) serveStreams(t testing.TB, sent *atomic.Int64, ended chan<- error) {
	t.Helper()
	started := make(chan struct{})
	s, err := micro.NewService(r.conn, micro.Config{Name: "app", Hooks: micro.Hooks{Started: func() { close(started) }}})
	if err != nil {
		t.Fatal(err)
	}
	type request struct {
		ID int `json:"id,string"`
	}
	type number struct {
		N int `json:"n"`
	}
	if err := errors.Join(
		micro.HandleServerStream(s, "count", func(ctx context.Context, req request, out *micro.Sender[number]) error {
			for i := range req.ID {
				if err := out.Send(ctx, number{i}); err != nil {
					return err
				}
			}
			return nil
		}),
		micro.HandleServerStream(s, "fail", func(ctx context.Context, _ request, out *micro.Sender[number]) error {
			if err := out.Send(ctx, number{1}); err != nil {
				return err
			}
			return bus.Errorf(bus.FailedPrecondition, "no more").With("why", "test")
		}),
		micro.HandleServerStream(s, "endless", func(ctx context.Context, _ request, out *micro.Sender[[]byte]) error {
			for {
				if err := out.Send(ctx, make([]byte, 10_000)); err != nil {
					ended <- err
					return err
				}
				sent.Add(1)
			}
		}),
		micro.Handle(s, "unary", func(context.Context, []byte) ([]byte, error) { return nil, nil }),
	); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() { _ = s.Run(ctx) }) // the tests see what goes wrong
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	bustest.Receive(t, "the service", started)
}

func TestEventsOfEndpoint(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.serveStreams(t, new(atomic.Int64), make(chan error, 1))
	h := r.hub(t, 10)
	l := subscribe(t, serveEvents(t, h, Events{Call: "app.count", Buffer: 4})+"/1000")
	for i := range 1000 {
		if got := l.next(t); got != (seen{Data: fmt.Sprintf(`{"n":%d}`, i)}) {
			t.Fatalf("%+v, want %d", got, i)
		}
	}
	if rest := l.ended(t); len(rest) != 1 || rest[0] != (seen{Name: "end"}) {
		t.Errorf("at the end came %+v", rest)
	}
	l = subscribe(t, serveEvents(t, h, Events{Call: "app.fail"})+"/1")
	rest := l.ended(t)
	want := `{"type":"about:blank","title":"Bad Request","status":400,"detail":"no more","code":"failed_precondition","details":{"why":"test"}}`
	if len(rest) != 3 || rest[1].Data != `{"n":1}` || rest[2] != (seen{Name: "failed", Data: want}) {
		t.Errorf("of one that fails came %+v", rest)
	}
	for target, status := range map[string]int{"app.unary": 400, "app.nothing": 501, "nowhere.get": 503} {
		if l := subscribe(t, serveEvents(t, h, Events{Call: target})+"/1"); l.resp.StatusCode != status {
			t.Errorf("%s: %s, want %d", target, l.resp.Status, status)
		}
	}
}

// An endpoint waits for a client that takes nothing, and hears when it goes.
func TestEventsOfEndpointWait(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var sent atomic.Int64
	ended := make(chan error, 1)
	r.serveStreams(t, &sent, ended)
	h := r.hub(t, 10)
	w := &head{header: http.Header{}, flushes: make(chan string)} // nobody takes a flush
	handler := eventsHandler(t, h, Events{Call: "app.endless"})
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "/1", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		handler.ServeHTTP(w, req)
	}()
	bustest.Receive(t, "a flush", w.flushes)
	var before int64
	same := 0
	bustest.Eventually(t, "the endpoint to wait", func() bool {
		if now := sent.Load(); now != before || now == 0 {
			before, same = now, 0
		}
		same++
		return same > 100
	})
	if before > 2000 {
		t.Errorf("%d messages of 10 kB were sent to a client that takes nothing", before)
	}
	go func() {
		for range w.flushes {
		}
	}()
	cancel()
	if err := bustest.Receive(t, "the end of the endpoint", ended); bus.CodeOf(err) != bus.Canceled {
		t.Errorf("the endpoint ended with %v", err)
	}
	bustest.Receive(t, "the end", done)
	close(w.flushes)
}

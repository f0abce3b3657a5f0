package route_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/route"
)

// messages is how many messages a stream holds, none if there is no such stream.
func messages(t testing.TB, conn *bus.Conn, stream string) uint64 {
	t.Helper()
	s, err := conn.JetStream().Stream(t.Context(), stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}

// last is the last message of a stream.
func last(t testing.TB, conn *bus.Conn, stream string) *jetstream.RawStreamMsg {
	t.Helper()
	s, err := conn.JetStream().Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.GetMsg(t.Context(), s.CachedInfo().State.LastSeq)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// The step is in the stream before the next one begins.
func TestAsyncStoredFirst(t *testing.T) {
	t.Parallel()
	h := build(t, bustest.Server(t))
	stored := make(chan uint64, 1)
	h.serve(t, "app", "", endpoint("next", func(context.Context, []byte) ([]byte, error) {
		stored <- messages(t, h.conn, route.AsyncStream)
		return []byte(`{"a":1}`), nil
	}))
	h.put(t, "r", step("app.later", async, version("1.2.3"), within(time.Second)), step("app.next"))
	body := `{"n": 9007199254740993}`
	res, err := h.runner.Run(micro.WithRequestID(t.Context(), "id-1"), "r", route.Request{Body: []byte(body), ContentType: typeJSON})
	if err != nil {
		t.Fatal(err)
	}
	if n := bustest.Receive(t, "the next step", stored); n != 1 {
		t.Errorf("%d steps were stored when the next step ran, want 1", n)
	}
	if string(res.Body) != `{"a":1}` || !res.Hops[0].Async || res.Hops[0].Code != "" || res.Hops[0].Instance != "" || res.Hops[0].Took <= 0 {
		t.Errorf("%s, %+v", res.Body, res.Hops[0])
	}
	m := last(t, h.conn, route.AsyncStream)
	if m.Subject != "skybus.async.default.dev.app.later" || string(m.Data) != body {
		t.Errorf("stored %s on %s", m.Data, m.Subject)
	}
	want := map[string]string{bus.HeaderRequestID: "id-1", bus.HeaderContentType: typeJSON, "Skybus-Version": "1.2.3"}
	got := map[string]string{}
	for k := range want {
		got[k] = m.Header.Get(k)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	if m.Header.Get("Nats-Msg-Id") == "" {
		t.Error("the step has no message id: a repetition would be stored twice")
	}
}

// Two runs with the same request id are two steps.
func TestAsyncTwice(t *testing.T) {
	t.Parallel()
	h := build(t, bustest.Server(t))
	h.put(t, "r", step("app.later", async), step("app.later", async))
	for range 2 {
		if _, err := h.runner.Run(micro.WithRequestID(t.Context(), "same"), "r", route.Request{}); err != nil {
			t.Fatal(err)
		}
	}
	if n := messages(t, h.conn, route.AsyncStream); n != 4 {
		t.Errorf("%d steps are stored, want 4", n)
	}
}

func TestAsyncStreamFull(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	conn := connect(t, srv)
	if _, err := conn.OpenStream(t.Context(), jetstream.StreamConfig{
		Name: route.AsyncStream, Subjects: []string{"skybus.async.>"}, Retention: jetstream.WorkQueuePolicy,
		MaxBytes: 4 << 10, Discard: jetstream.DiscardNew,
	}); err != nil {
		t.Fatal(err)
	}
	h := build(t, srv)
	h.serve(t, "app", "", says("next", `{"a":1}`))
	h.put(t, "must", step("app.later", async), step("app.next"))
	h.put(t, "may", step("app.later", async, optional), step("app.next"))
	body := []byte(`"` + strings.Repeat("x", 1000) + `"`)
	var err error
	var res route.Result
	n := 0
	for ; err == nil && n < 10; n++ {
		res, err = h.runner.Run(t.Context(), "must", route.Request{Body: body})
	}
	wantCode(t, err, bus.ResourceExhausted, "step 1 (app.later)", route.AsyncStream, "full")
	if status := bus.AsError(err).HTTPStatus(); status != http.StatusInsufficientStorage {
		t.Errorf("status %d, want 507", status)
	}
	if n < 3 || len(res.Hops) != 1 || res.Hops[0].Code != bus.ResourceExhausted {
		t.Errorf("run %d: hops %+v", n, res.Hops)
	}
	res, err = h.runner.Run(t.Context(), "may", route.Request{Body: body})
	if err != nil || res.Hops[0].Code != bus.ResourceExhausted || string(res.Body) != `{"a":1}` {
		t.Errorf("optional: %s, %+v, %v", res.Body, res.Hops, err)
	}
}

// A store that is full is no outage, though the queue itself has room.
func TestAsyncStoreFull(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t, bustest.Configure(func(o *server.Options) { o.JetStreamMaxStore = 8 << 20 }))
	h := build(t, srv, func(cfg *bus.Config) { cfg.Store = 1 << 20 })
	h.put(t, "later", step("app.later", async))
	if _, err := h.runner.Run(t.Context(), "later", route.Request{Body: []byte(`{}`)}); err != nil {
		t.Fatal(err)
	}
	js := h.conn.JetStream()
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "FILL", Subjects: []string{"fill"}}); err != nil {
		t.Fatal(err)
	}
	for size := 64 << 10; size > 0; { // until not even a small message fits
		if _, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: "fill", Data: make([]byte, size)}); err != nil {
			size /= 4
		}
	}
	_, err := h.runner.Run(t.Context(), "later", route.Request{Body: []byte(`"` + strings.Repeat("x", 1000) + `"`)})
	wantCode(t, err, bus.ResourceExhausted, "step 1 (app.later)", "the store is full")
	if status := bus.AsError(err).HTTPStatus(); status != http.StatusInsufficientStorage {
		t.Errorf("status %d, want 507", status)
	}
}

func TestAsyncTooLarge(t *testing.T) {
	t.Parallel()
	h := build(t, bustest.Server(t, bustest.MaxPayload(4<<10)))
	h.put(t, "r", step("app.later", async))
	begin := time.Now()
	for _, size := range []int{4<<10 - 10, 4 << 10, 1 << 20} {
		_, err := h.runner.Run(t.Context(), "r", route.Request{Body: []byte(`"` + strings.Repeat("x", size-2) + `"`)})
		wantCode(t, err, bus.ResourceExhausted)
		if e := bus.AsError(err); e.HTTPStatus() != 413 {
			t.Errorf("%d bytes: status %d, want 413", size, e.HTTPStatus())
		}
	}
	if took := time.Since(begin); took > 6*time.Second {
		t.Errorf("the errors took %v", took)
	}
	if h.conn.NATS().Stats().Reconnects != 0 {
		t.Error("the connection was lost")
	}
}

// Who publishes waits for a server that is away, within its time.
func TestAsyncServerAway(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	h := build(t, srv)
	h.put(t, "r", step("app.later", async))
	srv.Stop()
	h.notices(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := h.runner.Run(ctx, "r", route.Request{})
	wantCode(t, err, bus.Unavailable, "not connected")
	results := make(chan error, 1)
	go func() {
		_, err := h.runner.Run(t.Context(), "r", route.Request{})
		results <- err
	}()
	srv.Start(t)
	if err := bustest.Receive(t, "the run", results); err != nil {
		t.Error(err)
	}
	if n := messages(t, h.conn, route.AsyncStream); n != 1 {
		t.Errorf("%d steps are stored, want 1", n)
	}
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	_, err = h.runner.Run(ctx, "r", route.Request{})
	wantCode(t, err, bus.Canceled)
}

// A stream that was deleted is made again by the next step.
func TestAsyncStreamGone(t *testing.T) {
	t.Parallel()
	h := build(t, bustest.Server(t))
	h.put(t, "r", step("app.later", async))
	h.run(t, "r", "")
	if err := h.conn.JetStream().DeleteStream(t.Context(), route.AsyncStream); err != nil {
		t.Fatal(err)
	}
	h.run(t, "r", "")
	if n := messages(t, h.conn, route.AsyncStream); n != 1 {
		t.Errorf("%d steps are stored, want 1", n)
	}
}

// An acknowledgement that does not come is asked for again, by the same message id.
func TestAsyncAcknowledgementLost(t *testing.T) {
	t.Parallel()
	h := build(t, bustest.Server(t))
	h.put(t, "r", step("app.later", async))
	if err := h.conn.JetStream().DeleteStream(t.Context(), route.AsyncStream); err != nil {
		t.Fatal(err)
	}
	taken := make(chan *nats.Msg, 1)
	sub, err := h.conn.NATS().ChanSubscribe("skybus.async.>", taken)
	if err != nil {
		t.Fatal(err)
	}
	results := make(chan error, 1)
	go func() {
		_, err := h.runner.Run(t.Context(), "r", route.Request{})
		results <- err
	}()
	first := bustest.Receive(t, "the first attempt", taken)
	if err := sub.Unsubscribe(); err != nil {
		t.Fatal(err)
	}
	if err := bustest.Receive(t, "the run", results); err != nil {
		t.Fatal(err)
	}
	if id := last(t, h.conn, route.AsyncStream).Header.Get(nats.MsgIdHdr); id == "" || id != first.Header.Get(nats.MsgIdHdr) {
		t.Errorf("stored by the id %q, first sent by %q", id, first.Header.Get(nats.MsgIdHdr))
	}
}

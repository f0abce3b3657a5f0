package route_test

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/route"
)

// letter waits for so many dead letters and returns the last.
func (h *house) letter(t testing.TB, n uint64) *deadLetter {
	t.Helper()
	bustest.Eventually(t, "a dead letter", func() bool { return messages(t, h.conn, route.DeadLetterStream) == n })
	m := last(t, h.conn, route.DeadLetterStream)
	return &deadLetter{m.Subject, string(m.Data), m.Header}
}

type deadLetter struct {
	subject, body string
	header        nats.Header
}

func TestDeadLetterAtOnce(t *testing.T) {
	t.Parallel()
	for _, code := range []bus.Code{bus.InvalidArgument, bus.NotFound, bus.PermissionDenied, bus.FailedPrecondition} {
		t.Run(string(code), func(t *testing.T) {
			t.Parallel()
			h := build(t, bustest.Server(t))
			h.serve(t, "app", "", endpoint("later", func(context.Context, []byte) ([]byte, error) {
				return nil, bus.Errorf(code, "I cannot\r\nread %s", strings.Repeat("this ", 1000))
			}))
			h.put(t, "r", step("app.later", async))
			work(t, h.client)
			if _, err := h.runner.Run(micro.WithRequestID(t.Context(), "bad-1"), "r", route.Request{Body: []byte(`"bad"`)}); err != nil {
				t.Fatal(err)
			}
			l := h.letter(t, 1)
			if !strings.HasPrefix(l.subject, "skybus.dlq.default.dev.async.") || l.body != `"bad"` {
				t.Errorf("dead letter %q on %s", l.body, l.subject)
			}
			if s, n := l.header.Get(route.HeaderDeadSubject), l.header.Get(route.HeaderDeadAttempts); s != "skybus.async.default.dev.app.later" || n != "1" {
				t.Errorf("subject %q, attempts %q", s, n)
			}
			if text := l.header.Get(route.HeaderDeadError); !strings.Contains(text, string(code)) || !strings.Contains(text, "I cannot") || len(text) > 1100 {
				t.Errorf("error %.100q of %d bytes", text, len(text))
			}
			if id := l.header.Get(bus.HeaderRequestID); id != "bad-1" {
				t.Errorf("request id %q", id)
			}
			h.idle(t)
		})
	}
}

// Messages that somebody else put into the stream, and that are no steps, are given up and do not stop the others.
func TestDeadLetterOfForeignMessage(t *testing.T) {
	t.Parallel()
	h := build(t, bustest.Server(t))
	var done handled
	for _, service := range []string{"app", "dev"} { // the second by the name of the environment
		h.serve(t, service, "", endpoint("later", func(ctx context.Context, _ []byte) ([]byte, error) {
			done.add(micro.Info(ctx).Service)
			return nil, nil
		}))
	}
	h.put(t, "r", step("app.later", async))
	foreign := []nats.Msg{
		{Subject: "skybus.async.default.dev.later"},
		{Subject: "skybus.async.default.dev.a.b.app.later"},
		{Subject: "skybus.async.default.dev.app.l√ter"},
		{Subject: "skybus.async.default.dev." + strings.Repeat("s", 100) + ".later"},
		{Subject: "skybus.async.default.dev.app.later", Header: nats.Header{bus.HeaderAttempt: {"-1"}}},
		{Subject: "skybus.async.default.dev.app.later", Header: nats.Header{"Skybus-Version": {"1.>"}}},
		{Subject: "skybus.async.default.dev.app.later", Header: nats.Header{bus.HeaderContentType: {"text/nonsense"}, "Nats-Msg-Id": {"a.b>"}}},
	}
	for i := range foreign {
		if _, err := h.conn.JetStream().PublishMsg(t.Context(), &foreign[i]); err != nil {
			t.Fatal(err)
		}
	}
	h.publish(t, "r", "id", 1)
	work(t, h.client)
	h.idle(t)
	if got := done.ids(); !slices.Equal(got, []string{"app"}) || done.times["app"] != 1 {
		t.Errorf("called: %v, want app once", done.times)
	}
	if n := messages(t, h.conn, route.DeadLetterStream); n != uint64(len(foreign)) {
		t.Errorf("%d dead letters, want %d", n, len(foreign))
	}
	if h.conn.NATS().Stats().Reconnects != 0 {
		t.Error("the connection was lost")
	}
}

// A step that was just small enough to be stored is given up without its body.
func TestDeadLetterTooLarge(t *testing.T) {
	t.Parallel()
	const limit = 8 << 10
	h := build(t, bustest.Server(t, bustest.MaxPayload(limit)))
	const size = limit - 200 // the rest is for headers
	msg := &nats.Msg{
		Subject: h.conn.Namespace().AsyncSubject("app", "later"),
		Header:  nats.Header{bus.HeaderAttempt: {"-1"}, bus.HeaderRequestID: {strings.Repeat("r", 100)}},
		Data:    []byte(strings.Repeat("x", size)),
	}
	h.serve(t, "app", "", says("later", "{}"))
	h.put(t, "r", step("app.later", async))
	h.publish(t, "r", "id", 1) // opens the stream
	if _, err := h.conn.JetStream().PublishMsg(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
	work(t, h.client)
	l := h.letter(t, 1)
	if n := l.header.Get(route.HeaderDeadTruncated); l.body != "" || n != strconv.Itoa(size) {
		t.Errorf("dead letter of %d bytes, truncated %q, want none of %d", len(l.body), n, size)
	}
	if got := l.header.Get(bus.HeaderRequestID); got != msg.Header.Get(bus.HeaderRequestID) {
		t.Errorf("request id %q", got)
	}
	h.idle(t)
}

// Without a stream for dead letters steps are done; one to be given up stays until there is one.
func TestDeadLetterStreamCannotBeOpened(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		h := build(t, bustest.Server(t))
		js := h.conn.JetStream()
		if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "TAKEN", Subjects: []string{"skybus.dlq.x"}}); err != nil {
			t.Fatal(err)
		}
		h.serve(t, "app", "", endpoints(says("fine", "{}"), endpoint("bad", func(context.Context, []byte) ([]byte, error) {
			return nil, bus.Errorf(bus.InvalidArgument, "no")
		})))
		h.put(t, "bad", step("app.bad", async))
		h.put(t, "fine", step("app.fine", async))
		work(t, h.client)
		h.publish(t, "bad", "bad", 1)
		time.Sleep(time.Minute)
		h.publish(t, "fine", "id", 3)
		time.Sleep(time.Second)
		if n := messages(t, h.conn, route.AsyncStream); n != 1 {
			t.Fatalf("%d steps are queued, want 1", n)
		}
		if err := js.DeleteStream(t.Context(), "TAKEN"); err != nil {
			t.Fatal(err)
		}
		h.untilDone(t, 10*time.Minute)
		if n := messages(t, h.conn, route.DeadLetterStream); n != 1 {
			t.Errorf("%d dead letters, want 1", n)
		}
	})
}

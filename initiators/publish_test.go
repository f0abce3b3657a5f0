package initiators_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/micro"
)

// sources are targets on a server of the test's own.
func sources(t testing.TB) (initiators.Sources, *bus.Conn) {
	t.Helper()
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: bustest.Server(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // the server may be gone
	client, err := micro.NewClient(t.Context(), conn, micro.ClientConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() }) // has no error to tell
	return initiators.Sources{Client: client}, conn
}

// echoing has the endpoint app.echo, and tells which headers came there.
func echoing(t testing.TB) (initiators.Sources, <-chan nats.Header) {
	t.Helper()
	s, conn := sources(t)
	headers := make(chan nats.Header, 10)
	started := make(chan struct{})
	app, err := micro.NewService(conn, micro.Config{Name: "app", Hooks: micro.Hooks{Started: func() { close(started) }}})
	if err != nil {
		t.Fatal(err)
	}
	if err := micro.Handle(app, "echo", func(ctx context.Context, body []byte) ([]byte, error) {
		headers <- micro.RequestHeader(ctx)
		return body, nil
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan struct{})
	go func() { defer close(ended); _ = app.Run(ctx) }() // the tests see what goes wrong
	t.Cleanup(func() { cancel(); <-ended })
	<-started
	return s, headers
}

type answered struct {
	Subject, Stream string
	Sequence        uint64
	Duplicate       bool
}

func TestPublish(t *testing.T) {
	t.Parallel()
	s, conn := sources(t)
	target, err := s.Target(initiators.Spec{Publish: "default.dev.pub.orders.{path.id}"})
	if err != nil {
		t.Fatal(err)
	}
	sub, err := conn.NATS().SubscribeSync("default.dev.pub.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	req := outside("", `{"a":1}`)
	req.Key, req.Header = "k", nats.Header{"X-A": {"b"}}
	rep, err := target.Send(t.Context(), req)
	if err != nil || string(rep.Body) != `{"subject":"default.dev.pub.orders.7"}` {
		t.Fatalf("%s, %v", rep.Body, err)
	}
	msg, err := sub.NextMsg(20 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if msg.Reply != "" || string(msg.Data) != `{"a":1}` || msg.Header.Get("Nats-Msg-Id") != "k" || msg.Header.Get("X-A") != "b" ||
		msg.Header.Get("Skybus-Request-Id") != "rid" || msg.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%+v", msg)
	}
	for _, evil := range []string{"", "a.b", ">", "*", "a b", "é", strings.Repeat("x", 65), "a\r\n"} {
		req.Values = func(string) (string, bool) { return evil, true }
		if _, err := target.Send(t.Context(), req); bus.CodeOf(err) != bus.InvalidArgument {
			t.Errorf("%q in a subject: %v", evil, err)
		}
	}
}

func TestPublishWhere(t *testing.T) {
	t.Parallel()
	s, _ := sources(t)
	for subject, code := range map[string]bus.Code{
		"default.dev.pub.a":       "",
		"default.dev.pub.{x}":     "",
		"default.dev.pub{x}.a":    bus.PermissionDenied,
		"{x}.a":                   bus.PermissionDenied,
		"default.dev.svc.app.get": bus.PermissionDenied,
		"orders.new":              bus.PermissionDenied,
		"$JS.API.X":               bus.InvalidArgument,
	} {
		if _, err := s.Target(initiators.Spec{Stream: subject}); bus.CodeOf(err) != code && (err != nil || code != "") {
			t.Errorf("%s: %v, want %q", subject, err, code)
		}
	}
	s.PublishPrefixes = []string{"orders.", "default.dev."}
	if _, err := s.Target(initiators.Spec{Publish: "orders.new"}); err != nil {
		t.Error(err)
	}
	svc, err := s.Target(initiators.Spec{Publish: "default.dev.{x}.app.get"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := svc.Send(t.Context(), initiators.Request{Values: func(string) (string, bool) { return "svc", true }}); bus.CodeOf(err) != bus.PermissionDenied {
		t.Errorf("where services listen: %v", err)
	}
	for _, bad := range []string{"orders", "skybus.", "default.dev.svc.", "$JS.", ""} {
		s.PublishPrefixes = []string{bad}
		if _, err := s.Target(initiators.Spec{Publish: "orders.new"}); bus.CodeOf(err) != bus.InvalidArgument {
			t.Errorf("prefix %q: %v", bad, err)
		}
	}
}

func TestStream(t *testing.T) {
	t.Parallel()
	s, conn := sources(t)
	target, err := s.Target(initiators.Spec{Stream: "default.dev.pub.kept.{path.id}"})
	if err != nil {
		t.Fatal(err)
	}
	req := outside("", `{"a":1}`)
	if _, err := target.Send(t.Context(), req); bus.CodeOf(err) != bus.FailedPrecondition {
		t.Errorf("without a stream: %v", err)
	}
	if _, err := conn.JetStream().CreateStream(t.Context(), jetstream.StreamConfig{Name: "KEPT", Subjects: []string{"default.dev.pub.kept.>"}, MaxMsgs: 2, Discard: jetstream.DiscardNew}); err != nil {
		t.Fatal(err)
	}
	for i, want := range []answered{{Sequence: 1}, {Sequence: 1, Duplicate: true}, {Sequence: 2}} {
		req.Key = map[bool]string{true: "a", false: "b"}[i < 2]
		rep, err := target.Send(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		want.Subject, want.Stream = "default.dev.pub.kept.7", "KEPT"
		var got answered
		if err := json.Unmarshal(rep.Body, &got); err != nil || got != want {
			t.Errorf("%d: %s, %v, want %+v", i, rep.Body, err, want)
		}
	}
	req.Key = "c"
	if _, err := target.Send(t.Context(), req); bus.CodeOf(err) != bus.ResourceExhausted {
		t.Errorf("a full stream: %v", err)
	}
}

// taken has the timer of one id already.
type taken struct{ seen []initiators.TimerRequest }

func (x *taken) CreateTimer(_ context.Context, r initiators.TimerRequest) (string, error) {
	x.seen = append(x.seen, r)
	if len(x.seen) > 1 && r.ID == x.seen[0].ID && r.ID != "" {
		return "", bus.Errorf(bus.AlreadyExists, "timer %q exists", r.ID)
	}
	return r.ID, nil
}

func TestTimer(t *testing.T) {
	t.Parallel()
	timers := &taken{}
	s := initiators.Sources{Timers: timers}
	target, err := s.Target(initiators.Spec{Timer: &initiators.TimerSpec{After: "{query.n}s", Target: "call://app.{path.id}"}})
	if err != nil {
		t.Fatal(err)
	}
	req := outside("", `{"a":1}`)
	req.Key = "k"
	for range 2 { // the second is a repeat
		rep, err := target.Send(t.Context(), req)
		if err != nil || string(rep.Body) != `{"id":"`+timers.seen[0].ID+`"}` {
			t.Fatalf("%s, %v", rep.Body, err)
		}
	}
	if got := timers.seen[0]; got.After != 12*time.Second || got.Target != "call://app.7" || got.ContentType != "application/json" || string(got.Payload) != `{"a":1}` || bus.CheckToken("id", got.ID) != nil {
		t.Errorf("%+v", got)
	}
	at, err := s.Target(initiators.Spec{Timer: &initiators.TimerSpec{At: "{body.at}", ID: "{body.id}", Target: "route://r"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := at.Send(t.Context(), initiators.Request{Body: []byte(`{"at":"2031-01-02T03:04:05Z","id":"x"}`)}); err != nil {
		t.Fatal(err)
	}
	if got := timers.seen[2]; got.ID != "x" || !got.At.Equal(time.Date(2031, 1, 2, 3, 4, 5, 0, time.UTC)) {
		t.Errorf("%+v", got)
	}
	for _, body := range []string{`{"id":"x"}`, `{"at":"soon","id":"x"}`, `{"at":"","id":"x"}`} {
		if _, err := at.Send(t.Context(), initiators.Request{Body: []byte(body)}); bus.CodeOf(err) != bus.InvalidArgument {
			t.Errorf("%s: %v", body, err)
		}
	}
	if _, err := (initiators.Sources{}).Target(initiators.Spec{Timer: &initiators.TimerSpec{After: "1s", Target: "route://r"}}); bus.CodeOf(err) != bus.InvalidArgument {
		t.Errorf("without a scheduler: %v", err)
	}
}

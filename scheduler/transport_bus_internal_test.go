package scheduler

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

func TestNATSSubjects(t *testing.T) {
	t.Parallel()
	_, s := openTransports(t, Config{Publish: []string{"default.dev.pub.", "default.dev.", "orders.", "other.prod."}})
	for _, tt := range []struct {
		subject string
		code    bus.Code
	}{
		{"default.dev.pub.a", ""},
		{"default.dev.pub.a-b_c=d.E1", ""},
		{"default.dev.mine", ""},
		{"orders.eu.all", ""},
		{"orders.eu.all.x", ""},
		{"default.dev.svc.greeter.hello", bus.PermissionDenied},
		{"default.dev.ver.greeter.1_0_0.hello", bus.PermissionDenied},
		{"default.dev.one.greeter.hello", bus.PermissionDenied},
		{"default.dev.inst.greeter.i1.hello", bus.PermissionDenied},
		{"default.dev.all.greeter.hello", bus.PermissionDenied},
		{"default.dev.ctl.greeter.i1.stop", bus.PermissionDenied},
		{"default.dev.ev.timer.fired.t1", bus.PermissionDenied},
		{"default.dev.ev", bus.PermissionDenied},
		{"other.prod.svc.greeter.hello", bus.PermissionDenied},
		{"default.devil.x", bus.PermissionDenied},
		{"skybus.tmr.0.f.default.dev.t1", bus.PermissionDenied},
		{"skybus", bus.PermissionDenied},
		{"_INBOX.abc", bus.PermissionDenied},
		{"_R_.abc", bus.PermissionDenied},
		{"free", bus.PermissionDenied},
		{"$JS.API.STREAM.DELETE.X", bus.InvalidArgument},
		{"$SYS.x", bus.InvalidArgument},
		{"default.dev.pub.*", bus.InvalidArgument},
		{"default.dev.pub.>", bus.InvalidArgument},
		{"default.dev.pub.", bus.InvalidArgument},
		{"default.dev.pub..a", bus.InvalidArgument},
		{".default.dev.pub.a", bus.InvalidArgument},
		{"default.dev.pub.a b", bus.InvalidArgument},
		{"default.dev.pub.ü", bus.InvalidArgument},
		{"default.dev.pub." + strings.Repeat("a", 65), bus.InvalidArgument},
		{"default.dev.pub." + strings.Repeat("a.", 125) + "a", bus.InvalidArgument},
		{"default.dev.pub.a\r\nPUB x 0", bus.InvalidArgument},
	} {
		target := Target{Transport: "nats", URI: tt.subject}
		if err := check(t, s, target); bus.CodeOf(err) != tt.code {
			t.Errorf("%q: %v, want %q", tt.subject, err, tt.code)
		}
		if tt.code == "" {
			continue
		}
		d := attempt(target, "x")
		if e := failed(t, s.transports["nats"].Deliver(t.Context(), d)); !e.Unharmed || e.Permanent != (tt.code == bus.InvalidArgument) {
			t.Errorf("%q is delivered: %+v", tt.subject, e)
		}
	}
}

func TestNATSPrefixes(t *testing.T) {
	t.Parallel()
	_, plain := openTransports(t, Config{})
	err := check(t, plain, Target{Transport: "nats", URI: "default.dev.mine"})
	wantField(t, err, bus.PermissionDenied, "target.uri")
	if bus.AsError(err).HTTPStatus() != http.StatusUnprocessableEntity || !strings.Contains(err.Error(), "Config.Publish") {
		t.Errorf("%v: want the setting and 422", err)
	}
	for _, p := range []string{"", ".", "orders", "default.dev.svc.", "default.dev.ev.", "$JS.", "_INBOX.", "skybus.", "a..", "a.*."} {
		if _, err := newNATSTransport(plain.conn, []string{p}); bus.CodeOf(err) != bus.InvalidArgument {
			t.Errorf("prefix %q: %v, want it refused", p, err)
		}
	}
}

func TestNATSWithoutStream(t *testing.T) {
	t.Parallel()
	conn, s := openTransports(t, Config{})
	d := attempt(Target{URI: "nats://default.dev.pub.news"}, "x")
	if err := deliver(t, s, d); err != nil {
		t.Fatalf("nobody listens: %v", err)
	}
	sub, err := conn.NATS().SubscribeSync("default.dev.pub.news")
	if err != nil {
		t.Fatal(err)
	}
	d.Header = map[string]string{"X-Tenant": "acme"}
	if err := deliver(t, s, d); err != nil {
		t.Fatal(err)
	}
	m, err := sub.NextMsg(10 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	want := nats.Header{
		"Content-Type": {"application/json"}, "X-Tenant": {"acme"}, "Idempotency-Key": {"t1-gen-1"}, "Skybus-Timer-Id": {"t1"}, "Skybus-Attempt": {"2"},
		"Skybus-Due": {"2026-05-01T12:00:00.000000001Z"}, "Skybus-Fired": {"2026-05-01T12:00:00.001000001Z"}, "Nats-Msg-Id": {"t1-gen-1"},
	}
	if diff := cmp.Diff(want, m.Header); diff != "" || m.Reply != "" || string(m.Data) != "x" {
		t.Errorf("reply %q, data %q\n%s", m.Reply, m.Data, diff)
	}
}

func TestNATSWithStream(t *testing.T) {
	t.Parallel()
	conn, s := openTransports(t, Config{})
	stream, err := conn.JetStream().CreateStream(t.Context(), jetstream.StreamConfig{Name: "NEWS", Subjects: []string{"default.dev.pub.>"}, MaxMsgs: 2, Discard: jetstream.DiscardNew})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := deliver(t, s, attempt(Target{Transport: "nats", URI: "default.dev.pub.news"}, "x")); err != nil {
			t.Fatal(err)
		}
	}
	info, err := stream.Info(t.Context())
	if err != nil || info.State.Msgs != 1 {
		t.Fatalf("%d messages for one delivery id, %v", info.State.Msgs, err)
	}
	other := attempt(Target{Transport: "nats", URI: "default.dev.pub.news"}, "x")
	for _, id := range []string{"t2-g-1", "t3-g-1"} {
		other.ID = id
		err = deliver(t, s, other)
	}
	if e := failed(t, err); e.Permanent || bus.CodeOf(err) != bus.ResourceExhausted {
		t.Errorf("the stream is full: %v", err)
	}
	// A stream that goes away while it is remembered.
	if err := conn.JetStream().DeleteStream(t.Context(), "NEWS"); err != nil {
		t.Fatal(err)
	}
	other.Target.URI = "default.dev.pub.news"
	s.transports["nats"].(*natsTransport).streams.put(other.Target.URI, true, time.Hour)
	if e := failed(t, deliver(t, s, other)); e.Permanent {
		t.Errorf("%v, want it tried again", e)
	}
	if err := deliver(t, s, other); err != nil {
		t.Errorf("without a stream: %v", err)
	}
}

// answerCalls answers requests as f says, and hands on what came.
func answerCalls(t *testing.T, conn *bus.Conn, subject string, f func(*nats.Msg) *nats.Msg) chan *nats.Msg {
	t.Helper()
	got := make(chan *nats.Msg, 16)
	sub, err := conn.NATS().Subscribe(subject, func(m *nats.Msg) {
		got <- m
		if reply := f(m); reply != nil {
			_ = m.RespondMsg(reply)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Unsubscribe() })
	if err := conn.NATS().Flush(); err != nil {
		t.Fatal(err)
	}
	return got
}

func TestCall(t *testing.T) {
	t.Parallel()
	conn, s := openTransports(t, Config{})
	ok := func(*nats.Msg) *nats.Msg { return &nats.Msg{Data: []byte("{}")} }
	got := answerCalls(t, conn, "default.dev.svc.greeter.hello", ok)
	routed := answerCalls(t, conn, "default.dev.svc.route.signup", ok)
	d := attempt(Target{URI: "call://greeter.hello"}, `{"name":"x"}`)
	d.Header = map[string]string{"X-Tenant": "acme"}
	if err := deliver(t, s, d); err != nil {
		t.Fatal(err)
	}
	m := <-got
	env, err := bus.ReadEnvelope(m.Header)
	if err != nil {
		t.Fatal(err)
	}
	if env.Timeout <= 0 || env.Timeout > 20*time.Second {
		t.Errorf("timeout %v", env.Timeout)
	}
	env.Timeout = 0
	if diff := cmp.Diff(bus.Envelope{ContentType: "application/json", RequestID: "t1-gen-1", Attempt: 2}, env); diff != "" {
		t.Error(diff)
	}
	if m.Header.Get("X-Tenant") != "acme" || m.Header.Get("Idempotency-Key") != "t1-gen-1" || m.Header.Get("Skybus-Timer-Id") != "t1" || string(m.Data) != `{"name":"x"}` || conn.CheckRequest(m) != "" {
		t.Errorf("%q %v, dropped as %q", m.Data, m.Header, conn.CheckRequest(m))
	}
	for _, tt := range []struct{ contentType, wantType, body string }{
		{"", "application/json", "{}"},
		{"application/json; charset=utf-8", "application/json; charset=utf-8", "{}"},
		{"application/msgpack", "application/msgpack", "\x80"},
		{"application/octet-stream", "application/octet-stream", ""},
	} {
		d := attempt(Target{Transport: "route", URI: "signup"}, "")
		d.ContentType = tt.contentType
		if err := deliver(t, s, d); err != nil {
			t.Fatal(err)
		}
		if m := <-routed; string(m.Data) != tt.body || m.Header.Get("Content-Type") != tt.wantType {
			t.Errorf("%q without payload: %q of %q", tt.contentType, m.Data, m.Header.Get("Content-Type"))
		}
	}
}

func TestCallFailures(t *testing.T) {
	t.Parallel()
	conn, s := openTransports(t, Config{})
	answerCalls(t, conn, "default.dev.svc.greeter.*", func(m *nats.Msg) *nats.Msg {
		code := m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]
		reply := bus.NewErrorReply(bus.JSON{}, bus.Errorf(bus.Code(code), "no"))
		reply.Header.Set("Retry-After", "3")
		if code == "gone" {
			reply = &nats.Msg{Header: nats.Header{"Nats-Service-Error": {"gone"}, "Nats-Service-Error-Code": {"410"}}}
		}
		if code == "silent" {
			return nil
		}
		return reply
	})
	for endpoint, want := range map[string]struct{ permanent, unharmed, answered bool }{
		"invalid_argument":    {true, true, true},
		"failed_precondition": {true, true, true},
		"out_of_range":        {true, true, true},
		"not_found":           {true, true, true},
		"already_exists":      {true, true, true},
		"permission_denied":   {true, true, true},
		"unimplemented":       {false, true, true},
		"unauthenticated":     {false, true, true},
		"aborted":             {false, true, true},
		"unavailable":         {false, false, true},
		"resource_exhausted":  {false, false, true},
		"internal":            {false, false, true},
		"unknown":             {false, false, true},
		"gone":                {true, true, false},
	} {
		e := failed(t, deliver(t, s, attempt(Target{Transport: "call", URI: "greeter." + endpoint}, "{}")))
		if e.Permanent != want.permanent || e.Unharmed != want.unharmed || (e.RetryAfter == 3*time.Second) != want.answered {
			t.Errorf("%s: %+v, want %+v", endpoint, e, want)
		}
	}
	if e := failed(t, deliver(t, s, attempt(Target{Transport: "call", URI: "nobody.there"}, "{}"))); e.Permanent || e.Unharmed || bus.CodeOf(e) != bus.Unavailable {
		t.Errorf("nobody listens: %+v", e)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if e := failed(t, s.transports["call"].Deliver(ctx, attempt(Target{URI: "greeter.silent"}, "{}"))); e.Permanent || e.Unharmed || bus.CodeOf(e) != bus.DeadlineExceeded {
		t.Errorf("no answer: %+v", e)
	}
	for _, uri := range []string{"", "greeter", "greeter.", ".x", "greeter.x.y", "greeter.*", "a b.c", "greeter." + strings.Repeat("a", 65), "http://u:canary@h.x"} {
		target := Target{Transport: "call", URI: uri}
		err := check(t, s, target)
		wantField(t, err, bus.InvalidArgument, "target.uri")
		e := failed(t, s.transports["call"].Deliver(t.Context(), attempt(target, "{}")))
		if !e.Permanent || !e.Unharmed || strings.Contains(e.Error()+err.Error(), "canary") {
			t.Errorf("%q: %+v", uri, e)
		}
	}
	wantField(t, check(t, s, Target{Transport: "route", URI: "a.b"}), bus.InvalidArgument, "target.uri")
	_, err := s.checkTarget(t.Context(), Target{Transport: "call", URI: "a.b"}, []byte("x"), "image/png", nil)
	wantField(t, err, bus.InvalidArgument, "content_type")
}

func TestSubjectTransport(t *testing.T) {
	t.Parallel()
	n := bustest.Server(t)
	conn := connectBus(t, n)
	sms, err := SubjectTransport(conn, "gateways.sms")
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), conn, Config{Transports: map[string]Transport{"sms": sms}})
	if err != nil {
		t.Fatal(err)
	}
	closing(t, s)
	got := answerCalls(t, conn, "gateways.sms", func(m *nats.Msg) *nats.Msg {
		if string(m.Data) == "bad" {
			return &nats.Msg{Header: nats.Header{"Nats-Service-Error": {"no such number"}, "Nats-Service-Error-Code": {"400"}}}
		}
		return &nats.Msg{}
	})
	d := attempt(Target{URI: "sms://+4912345", Method: "Flash"}, "hello")
	if err := deliver(t, s, d); err != nil {
		t.Fatal(err)
	}
	m := <-got
	for name, want := range map[string]string{
		"Skybus-Timer-Uri": "sms://+4912345", "Skybus-Timer-Method": "Flash", "Skybus-Timer-Id": "t1", "Skybus-Request-Id": "t1-gen-1", "Content-Type": "application/json",
	} {
		if m.Header.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, m.Header.Get(name), want)
		}
	}
	if e := failed(t, deliver(t, s, attempt(Target{URI: "sms://1"}, "bad"))); !e.Permanent || !strings.Contains(e.Error(), "no such number") {
		t.Errorf("%+v", e)
	}
	if e := failed(t, sms.Deliver(t.Context(), attempt(Target{URI: "sms://\r\nX: y"}, "x"))); !e.Permanent {
		t.Errorf("%+v", e)
	}
	if got := sms.(Destinationer).Destination(Target{URI: "sms://1"}); got != "gateways.sms" {
		t.Errorf("destination %q", got)
	}
	for _, subject := range []string{"", "a..b", "a.*", "$JS.API.INFO", "_INBOX.x", "_R_.x", "skybus.tmr.0", "a b", strings.Repeat("a.", 200) + "a"} {
		if _, err := SubjectTransport(conn, subject); bus.CodeOf(err) != bus.InvalidArgument {
			t.Errorf("%q: %v, want it refused", subject, err)
		}
	}
}

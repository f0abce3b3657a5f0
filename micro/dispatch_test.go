package micro_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
)

const helloSubject = "default.dev.svc.greeter.hello"

// request is a plain NATS request.
func request(t testing.TB, nc *nats.Conn, subject string, h nats.Header, data string) *nats.Msg {
	t.Helper()
	reply, err := nc.RequestMsg(&nats.Msg{Subject: subject, Header: h, Data: []byte(data)}, patience)
	if err != nil {
		t.Fatalf("request %s: %v", subject, err)
	}
	return reply
}

// wantError checks a reply as a client without our SDK sees it.
func wantError(t testing.TB, reply *nats.Msg, code bus.Code, status int, parts ...string) {
	t.Helper()
	text := reply.Header.Get("Nats-Service-Error")
	if got := reply.Header.Get("Skybus-Error-Code"); got != string(code) {
		t.Errorf("code %q (%s), want %q", got, text, code)
	}
	if got := reply.Header.Get("Nats-Service-Error-Code"); got != strconv.Itoa(status) {
		t.Errorf("status %q (%s), want %d", got, text, status)
	}
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("error %q does not say %q", text, part)
		}
	}
}

func TestPlainRequest(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	svc := serve(t, connect(t, s), micro.Config{Name: "greeter"}, endpoints(
		endpoint("hello", greet),
		endpoint("fail", func(context.Context, hello) (greeting, error) {
			return greeting{}, bus.Errorf(bus.NotFound, "no such\nperson").With("field", "name")
		}),
	))
	nc := s.Connect(t)
	reply, err := nc.Request(helloSubject, []byte(`{"name":"you"}`), patience)
	if err != nil {
		t.Fatal(err)
	}
	want := nats.Header{"Content-Type": {"application/json"}, "Skybus-From": {"skybus://default.dev.greeter/" + svc.id}}
	if got := string(reply.Data); got != `{"text":"Hello you"}` || !cmp.Equal(want, reply.Header) {
		t.Errorf("answer %s %v", got, reply.Header)
	}
	if reply := request(t, nc, helloSubject, nil, ""); string(reply.Data) != `{"text":"Hello "}` {
		t.Errorf("answer %s to an empty body", reply.Data)
	}
	for _, contentType := range []string{"application/json; charset=utf-8", "application/json"} {
		reply := request(t, nc, helloSubject, nats.Header{"Content-Type": {contentType}}, `{"name":"you"}`)
		if string(reply.Data) != `{"text":"Hello you"}` {
			t.Errorf("answer %s to %s", reply.Data, contentType)
		}
	}
	reply = request(t, nc, "default.dev.svc.greeter.fail", nil, `{}`)
	wantError(t, reply, bus.NotFound, 404, "no such person")
	var body map[string]any
	if err := json.Unmarshal(reply.Data, &body); err != nil {
		t.Fatal(err)
	}
	wantBody := map[string]any{"code": "not_found", "message": "no such\nperson", "details": map[string]any{"field": "name"}}
	if diff := cmp.Diff(wantBody, body); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestBadBody(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	ran := make(chan struct{}, 100)
	svc := serve(t, connect(t, s), micro.Config{Name: "greeter"}, endpoint("hello", func(ctx context.Context, req hello) (greeting, error) {
		ran <- struct{}{}
		return greet(ctx, req)
	}))
	nc := s.Connect(t)
	const msgpack = "application/msgpack"
	bad := []struct{ what, contentType, body string }{
		{"cut off", "", `{"name":`},
		{"no JSON", "", `hello`},
		{"two values", "", `{} {}`},
		{"wrong type", "", `{"name":5}`},
		{"wrong shape", "", `[1,2]`},
		{"deep", "", strings.Repeat("[", 20000)},
		{"MessagePack told to be JSON", "application/json", "\x81\xa4name\xa1x"},
		{"cut off", msgpack, "\x81\xa4name\xa5x"},
		{"nothing of the announced", msgpack, "\xdd\xff\xff\xff\xff"},
		{"no code", msgpack, "\xc1"},
		{"two values", msgpack, "\x80\x80"},
		{"wrong type", msgpack, "\x81\xa4name\x93\x01\x02\x03"},
		{"wrong shape", msgpack, "\x05"},
		{"deep", msgpack, strings.Repeat("\x91", 20000)},
		{"JSON told to be MessagePack", msgpack, `{"name":"x"}`},
		{"bytes for a struct", "application/octet-stream", "x"},
	}
	for _, b := range bad {
		h := nats.Header{}
		if b.contentType != "" {
			h.Set("Content-Type", b.contentType)
		}
		status := 400
		if b.contentType == "application/octet-stream" {
			status = 415
		}
		reply := request(t, nc, helloSubject, h, b.body)
		wantError(t, reply, bus.InvalidArgument, status, "request is not")
		if says := reply.Header.Get("Nats-Service-Error"); strings.Contains(says, "Go ") || strings.Contains(says, "micro_test.") {
			t.Errorf("%s: the caller is told %s", b.what, says)
		}
	}
	for _, contentType := range []string{"text/xml", "application/protobuf", "x", ";", "application/json/x", strings.Repeat("x", 500)} {
		reply := request(t, nc, helloSubject, nats.Header{"Content-Type": {contentType}}, `{}`)
		wantError(t, reply, bus.InvalidArgument, 415, "is not known here")
	}
	if len(ran) > 0 {
		t.Errorf("the handler ran %d times", len(ran))
	}
	if st := svc.Stats().Endpoints[0]; st.Errors != st.Requests || st.Errors != uint64(len(bad)+6) {
		t.Errorf("%d errors of %d requests are counted, want %d", st.Errors, st.Requests, len(bad)+6)
	}
	if reply := request(t, nc, helloSubject, nil, `{"name":"you"}`); string(reply.Data) != `{"text":"Hello you"}` {
		t.Errorf("answer %s afterwards", reply.Data)
	}
}

func TestBadEnvelope(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	serve(t, connect(t, s), micro.Config{Name: "greeter"}, endpoint("hello", greet))
	nc := s.Connect(t)
	long := strings.Repeat("x", 601)
	for _, b := range []struct{ header, value string }{
		{"Skybus-Attempt", "0"},
		{"Skybus-Attempt", "-1"},
		{"Skybus-Attempt", "1001"},
		{"Skybus-Attempt", "99999999999999999999"},
		{"Skybus-Attempt", "two"},
		{"Skybus-Timeout", "0"},
		{"Skybus-Timeout", "-5"},
		{"Skybus-Timeout", "1.5"},
		{"Skybus-Timeout", "86400001"},
		{"Skybus-Timeout", "9223372036854775808"},
		{"Skybus-Timeout", long},
		{"Skybus-Prior", "-1"},
		{"Skybus-Prior", "3"},
		{"Skybus-Prior", "99999999999999999999"},
		{"Skybus-Prior", "x"},
		{"Skybus-Request-Id", long},
		{"Skybus-From", long},
		{"Content-Type", long},
		{"traceparent", long},
	} {
		reply := request(t, nc, helloSubject, nats.Header{b.header: {b.value}}, `{}`)
		wantError(t, reply, bus.InvalidArgument, 400, b.header)
	}
	// At the bounds, and what is only odd.
	for _, h := range []nats.Header{
		{"Skybus-Attempt": {"1000"}, "Skybus-Timeout": {"86400000"}, "Skybus-Prior": {"2"}},
		{"Skybus-Request-Id": {"a b"}, "Skybus-From": {"who knows"}, "traceparent": {"0"}, "X": {"y", "z"}},
		{"Skybus-Attempt": {""}, "Skybus-Timeout": {""}, "Skybus-Prior": {""}, "Content-Type": {""}},
	} {
		if reply := request(t, nc, helloSubject, h, `{}`); reply.Header.Get("Nats-Service-Error") != "" {
			t.Errorf("%v is refused: %s", h, reply.Header.Get("Nats-Service-Error"))
		}
	}
}

type perhaps struct {
	Name  string `json:"name"`
	Maybe *int   `json:"maybe"`
}

func TestHandlerPanic(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	var book logBook
	svc := serve(t, connect(t, s), micro.Config{Name: "shaky", Logger: book.logger(), Concurrency: 1}, endpoint("fall",
		func(_ context.Context, req perhaps) (greeting, error) {
			switch req.Name {
			case "error":
				panic(errors.New("secret")) // an error, too
			case "nil":
				return greeting{strconv.Itoa(*req.Maybe)}, nil
			}
			return greeting{"fine"}, nil
		}))
	c := newClient(t, connect(t, s), micro.ClientConfig{})
	for _, how := range []string{"error", "nil", "error"} {
		_, err := micro.Call[greeting](t.Context(), c, "shaky.fall", hello{Name: how})
		wantCode(t, err, bus.Internal, "shaky.fall panicked", svc.id)
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("the caller is told what is none of its business: %v", err)
		}
	}
	roundTrip(t, c, "shaky.fall", hello{}, greeting{"fine"}) // its place was freed
	if st := svc.Stats().Endpoints[0]; st.Requests != 4 || st.Panics != 3 || st.Errors != 3 || st.InFlight != 0 {
		t.Errorf("%+v", st)
	}
	for _, part := range []string{"handler panicked", "secret", "dispatch_test.go", "request_id=", "endpoint=fall"} {
		if !strings.Contains(book.String(), part) {
			t.Errorf("the log does not say %q:\n%s", part, book.String())
		}
	}
}

// A caller is answered at its deadline though the handler goes on; the handler's place is free when it is done.
func TestHandlerPastDeadline(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	release, left := make(chan struct{}), make(chan error, 10)
	svc := serve(t, connect(t, s), micro.Config{Name: "slow", Timeout: 100 * time.Millisecond}, endpoint("wait",
		func(ctx context.Context, _ hello) (greeting, error) {
			bustest.Hold(t, release)
			left <- ctx.Err()
			return greeting{"late"}, nil
		}, micro.Concurrency(1)))
	nc := s.Connect(t)
	for _, h := range []nats.Header{{"Skybus-Timeout": {"100"}}, {}} { // the caller's deadline, the service's own
		start := time.Now()
		wantError(t, request(t, nc, "default.dev.svc.slow.wait", h, `{}`), bus.DeadlineExceeded, 504, "slow.wait", "did not finish in time")
		if took := time.Since(start); took < 100*time.Millisecond || took > 5*time.Second {
			t.Errorf("answered after %v, want 100ms", took)
		}
		if st := svc.Stats().Endpoints[0]; st.InFlight != 1 {
			t.Errorf("%d are in flight, want the handler that still runs", st.InFlight)
		}
		wantError(t, request(t, nc, "default.dev.svc.slow.wait", nil, `{}`), bus.Unavailable, 503, "already")
		release <- struct{}{}
		if err := bustest.Receive(t, "the handler", left); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the handler's ctx says %v", err)
		}
		bustest.Eventually(t, "the place to be free", func() bool { return svc.Stats().Endpoints[0].InFlight == 0 })
	}
	close(release)
	if reply := request(t, nc, "default.dev.svc.slow.wait", nil, `{}`); string(reply.Data) != `{"text":"late"}` {
		t.Errorf("answer %s afterwards", reply.Data)
	}
	if st := svc.Stats().Endpoints[0]; st.Requests != 3 || st.Errors != 2 || st.Shed != 2 {
		t.Errorf("%+v: want two errors and two refused", st)
	}
}

func TestConcurrencyBound(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	nc := s.Connect(t)
	for _, ep := range []struct {
		name  string
		limit int
		opts  []micro.EndpointOption
	}{
		{"own", 2, []micro.EndpointOption{micro.Concurrency(2)}},
		{"default", micro.DefaultConcurrency, nil},
	} {
		t.Run(ep.name, func(t *testing.T) {
			t.Parallel()
			testConcurrencyBound(t, connect(t, s), nc, ep.name, ep.limit, ep.opts)
		})
	}
}

func testConcurrencyBound(t *testing.T, conn *bus.Conn, nc *nats.Conn, name string, limit int, opts []micro.EndpointOption) {
	t.Helper()
	entered, release := make(chan string, 1000), make(chan struct{})
	defer close(release)
	svc := serve(t, conn, micro.Config{Name: name}, endpoint("wait", func(_ context.Context, req hello) (greeting, error) {
		entered <- req.Name
		bustest.Hold(t, release)
		return greeting{req.Name}, nil
	}, opts...))
	subject := "default.dev.svc." + name + ".wait"
	inbox := nc.NewInbox()
	answers, err := nc.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	begin := func(who string) {
		if err := nc.PublishRequest(subject, inbox, fmt.Appendf(nil, `{"name":%q}`, who)); err != nil {
			t.Fatal(err)
		}
	}
	for range limit {
		begin("first")
	}
	for range limit {
		bustest.Receive(t, "a handler", entered)
	}
	slowest := time.Duration(0)
	for range 20 {
		start := time.Now()
		reply := request(t, nc, subject, nil, `{}`)
		slowest = max(slowest, time.Since(start))
		wantError(t, reply, bus.Unavailable, 503, name+".wait", svc.id, strconv.Itoa(limit))
		var body struct{ Details map[string]string }
		if err := json.Unmarshal(reply.Data, &body); err != nil || body.Details["reason"] != "overloaded" {
			t.Errorf("body %s: %v", reply.Data, err)
		}
	}
	t.Logf("refused in %v at most while %d were in flight", slowest, limit)
	if n, _, _ := answers.Pending(); n > 0 || len(entered) > 0 {
		t.Errorf("%d answers and %d more handlers while all places were taken", n, len(entered))
	}
	release <- struct{}{}
	if _, err := answers.NextMsg(patience); err != nil {
		t.Error(err)
	}
	bustest.Eventually(t, "the place to be free", func() bool { return svc.Stats().Endpoints[0].InFlight == int64(limit-1) })
	begin("next")
	if got := bustest.Receive(t, "the handler in the free place", entered); got != "next" {
		t.Errorf("%q took the free place: something was queued", got)
	}
	if ep := svc.Stats().Endpoints[0]; ep.Shed != 20 || ep.Requests != 1 || ep.InFlight != ep.Limit {
		t.Errorf("%+v: want 20 refused, one done, all places taken", ep)
	}
}

// A refused call says so in the caller's codec and is not tried again.
func TestOverloadedCall(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	entered, release := make(chan struct{}, 10), make(chan struct{})
	svc := serve(t, connect(t, s), micro.Config{Name: "busy", Concurrency: 1}, endpoint("wait",
		func(context.Context, hello) (greeting, error) {
			entered <- struct{}{}
			bustest.Hold(t, release)
			return greeting{"done"}, nil
		}, micro.Idempotent()))
	c := newClient(t, connect(t, s), micro.ClientConfig{})
	first := make(chan error, 1)
	go func() {
		_, err := micro.Call[greeting](t.Context(), c, "busy.wait", hello{})
		first <- err
	}()
	bustest.Receive(t, "the handler", entered)
	_, err := micro.Call[greeting](t.Context(), c, "busy.wait", hello{})
	wantCode(t, err, bus.Unavailable)
	if e := busError(t, err); e.Details["reason"] != "overloaded" || errors.Is(err, bus.ErrNoResponders) {
		t.Errorf("%v %v", e, e.Details)
	}
	close(release)
	if err := bustest.Receive(t, "the first call", first); err != nil {
		t.Error(err)
	}
	if st := svc.Stats().Endpoints[0]; st.Shed != 1 {
		t.Errorf("%d were refused, want the one call", st.Shed)
	}
}

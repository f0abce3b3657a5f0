package micro_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/registry"
)

func TestControlVerbs(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	level := new(slog.LevelVar)
	svc := serve(t, connect(t, s), micro.Config{Name: "greeter", LogLevel: level}, endpoint("hello", greet))
	plain := serve(t, connect(t, s), micro.Config{Name: "plain"}, endpoint("hello", greet))
	conn := connect(t, s)
	c := newClient(t, conn, micro.ClientConfig{})
	sees(t, c, "greeter", 1)
	control := func(verb, body, want string) {
		t.Helper()
		got, err := micro.Control(t.Context(), conn, "greeter", svc.id, verb, []byte(body))
		if err != nil || string(got) != want {
			t.Errorf("%s %s: %s, %v; want %s", verb, body, got, err, want)
		}
	}
	for range 2 {
		control(micro.VerbUnregister, "", `{"registered":false}`)
		if _, err := conn.NATS().Request(helloSubject, nil, patience); !errors.Is(err, nats.ErrNoResponders) {
			t.Errorf("error %v, want no responders", err)
		}
	}
	bustest.Eventually(t, "the state", func() bool { return state(c, svc.id) == registry.Unregistered })
	var pong struct {
		Registered bool   `json:"registered"`
		LogLevel   string `json:"log_level"`
	}
	reply, err := micro.Control(t.Context(), conn, "greeter", svc.id, micro.VerbPing, nil)
	if err != nil || json.Unmarshal(reply, &pong) != nil || pong.Registered || pong.LogLevel != "info" {
		t.Errorf("%s: %v", reply, err)
	}
	if info := string(request(t, conn.NATS(), "$SRV.INFO.greeter", nil, "").Data); !strings.Contains(info, `"skybus.registered":"false"`) {
		t.Errorf("INFO %s", info)
	}
	for range 2 {
		control(micro.VerbRegister, "", `{"registered":true}`)
		request(t, conn.NATS(), helloSubject, nil, `{}`)
	}
	for _, word := range []string{"debug", "warn", "error", "info", "debug"} {
		control(micro.VerbLog, word, `{"level":"`+word+`"}`)
	}
	control(micro.VerbLog, "", `{"level":"debug"}`)
	if level.Level() != slog.LevelDebug {
		t.Errorf("level %v", level)
	}
	_, err = micro.Control(t.Context(), conn, "greeter", svc.id, micro.VerbLog, []byte("loud"))
	wantCode(t, err, bus.InvalidArgument, `"loud"`, "debug, info, warn or error")
	_, err = micro.Control(t.Context(), conn, "plain", plain.id, micro.VerbLog, []byte("debug"))
	wantCode(t, err, bus.FailedPrecondition, "LogLevel")
	_, err = micro.Control(t.Context(), conn, "greeter", svc.id, "dance", nil)
	wantCode(t, err, bus.Unimplemented, `"dance"`, "log, ping, register, stop, unregister")
	_, err = micro.Control(t.Context(), conn, "greeter", "nobody", micro.VerbPing, nil)
	wantCode(t, err, bus.Unavailable, "no instance nobody of service greeter")
	for _, bad := range [][3]string{{"a.b", "c", "ping"}, {"a", "", "ping"}, {"a", "b", "*"}} {
		_, err = micro.Control(t.Context(), conn, bad[0], bad[1], bad[2], nil)
		wantCode(t, err, bus.InvalidArgument)
	}
}

// Stop is acknowledged; what was given to the instance is finished, and Run ends as by its ctx.
func TestControlStop(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	entered, release := make(chan struct{}), make(chan struct{})
	unregistered := make(chan struct{})
	svc := serve(t, connect(t, s), micro.Config{Name: "slow", Hooks: micro.Hooks{Unregistered: func() { close(unregistered) }}},
		endpoint("wait", func(ctx context.Context, _ hello) (greeting, error) {
			close(entered)
			bustest.Hold(t, release)
			return greeting{"done"}, ctx.Err()
		}))
	conn := connect(t, s)
	answered := make(chan *nats.Msg, 1)
	go func() {
		reply, _ := conn.NATS().Request("default.dev.svc.slow.wait", []byte(`{}`), patience)
		answered <- reply
	}()
	bustest.Receive(t, "the handler", entered)
	for range 2 { // the second finds it stopping, or its control subject gone
		reply, err := micro.Control(t.Context(), conn, "slow", svc.id, micro.VerbStop, nil)
		if (err != nil || string(reply) != `{"stopping":true}`) && !errors.Is(err, bus.ErrNoResponders) {
			t.Errorf("%s: %v", reply, err)
		}
	}
	bustest.Receive(t, "the end of new requests", unregistered)
	select {
	case <-svc.done:
		t.Error("Run returned before the handler")
	default:
	}
	close(release)
	if reply := bustest.Receive(t, "the answer", answered); reply == nil || string(reply.Data) != `{"text":"done"}` {
		t.Errorf("answer %+v", reply)
	}
	bustest.Receive(t, "the end of Run", svc.done)
	if svc.err != nil {
		t.Error(svc.err)
	}
}

// While JetStream is away the control verb says that the record does not say yet what is so, in time.
func TestControlRegisterLate(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	conn := connect(t, s)
	svc := serve(t, conn, micro.Config{Name: "greeter"}, endpoint("hello", greet))
	if err := conn.JetStream().DeleteStream(t.Context(), "KV_"+registry.InstancesBucket); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, err := micro.Control(ctx, conn, "greeter", svc.id, micro.VerbUnregister, nil)
	if err != nil && bus.CodeOf(err) != bus.Unavailable && bus.CodeOf(err) != bus.DeadlineExceeded {
		t.Errorf("error %v", err)
	}
	if svc.Registered() {
		t.Error("it is registered")
	}
}

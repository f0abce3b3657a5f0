package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
)

// TestControl tells instances what to do, of which one obeys, one refuses, and one is offline.
func TestControl(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t, bustest.TCP())
	conn := connectTo(t, s)
	putInstances(t, conn)
	var mu sync.Mutex
	var told []string
	if _, err := conn.NATS().Subscribe("default.dev.ctl.shop.*.*", func(m *nats.Msg) {
		tokens := strings.Split(m.Subject, ".")
		mu.Lock()
		told = append(told, strings.TrimSpace(tokens[4]+" "+tokens[5]+" "+string(m.Data)))
		mu.Unlock()
		reply := &nats.Msg{Data: []byte(`{"done":true}`)}
		if tokens[4] == "b" {
			reply = bus.NewErrorReply(bus.JSON{}, bus.Errorf(bus.FailedPrecondition, "not now"))
		}
		if err := m.RespondMsg(reply); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := conn.NATS().Flush(); err != nil {
		t.Fatal(err)
	}
	control := func(args ...string) (code int, stdout, stderr string) {
		return runs(t.Context(), &cli{}, append(append([]string{"instances"}, args...), "--server", s.URL())...)
	}

	// Nobody is told before it was agreed to.
	code, stdout, stderr := control("stop", "--service", "shop")
	const refused = "1 instance is offline and left out\nskybus: 2 instances will be stopped, and there is no terminal to ask at\nhint: --yes does not ask\n"
	if code != exitUsage || stdout != "" || stderr != refused {
		t.Errorf("without --yes: exit %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	code, stdout, _ = control("stop", "--service", "other", "--yes")
	if code != exitFailed || stdout != "" {
		t.Errorf("nobody chosen: exit %d, stdout %q", code, stdout)
	}
	if len(told) > 0 {
		t.Fatalf("told %q", told)
	}

	code, stdout, stderr = control("unregister", "--yes")
	const table = "SERVICE  INSTANCE  HOST  RESULT\nshop     a         -     ok\nshop     b         h1    failed_precondition: not now\n"
	if diff := cmp.Diff(table, stdout); code != exitFailed || !strings.HasSuffix(stderr, "skybus: 1 of 2 instances failed\n") || diff != "" {
		t.Errorf("exit %d, stderr %q (-want +got):\n%s", code, stderr, diff)
	}
	code, stdout, stderr = control("log", "debug", "--instance", "a,c", "-y", "-o", "json")
	var rows []controlRow
	if err := json.Unmarshal([]byte(stdout), &rows); err != nil || code != exitOK || stderr != "" {
		t.Errorf("exit %d, stderr %q, %v: %s", code, stderr, err, stdout)
	}
	mu.Lock()
	defer mu.Unlock()
	got := strings.Join(told, ", ")
	if want := `a unregister, b unregister, a log debug`; got != want && got != `b unregister, a unregister, a log debug` {
		t.Errorf("told %s, want %s", got, want)
	}
	if len(rows) != 1 || !rows[0].OK || rows[0].Instance != "a" {
		t.Errorf("rows %+v", rows)
	}
}

func TestAsk(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]error{"y\n": nil, " Yes \n": nil, "n\n": errDeclined, "\n": errDeclined, "": errDeclined, "y": nil, "yess\n": errDeclined} {
		var out strings.Builder
		err := ask(t.Context(), strings.NewReader(answer), &out, "3 instances will be stopped")
		if !errors.Is(err, want) || out.String() != "3 instances will be stopped; continue? [y/N] " {
			t.Errorf("%q: error %v, want %v; asked %q", answer, err, want, out.String())
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	in, typing := io.Pipe()
	t.Cleanup(func() { _ = typing.Close() })
	if err := ask(ctx, in, io.Discard, "all will be stopped"); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

// TestControlOfAService tells a real one all there is.
func TestControlOfAService(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t, bustest.TCP())
	level, registered := &slog.LevelVar{}, make(chan struct{})
	svc, err := micro.NewService(connectTo(t, s), micro.Config{
		Name: "told", LogLevel: level, Hooks: micro.Hooks{Registered: sync.OnceFunc(func() { close(registered) })},
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- svc.Run(t.Context()) }()
	<-registered
	control := func(want string, args ...string) {
		t.Helper()
		code, stdout, stderr := runs(t.Context(), &cli{}, append(append([]string{"instances"}, args...), "--service", "told", "-y", "-o", "json", "--server", s.URL())...)
		var rows []controlRow
		if err := json.Unmarshal([]byte(stdout), &rows); err != nil || code != exitOK || len(rows) != 1 {
			t.Fatalf("%s: exit %d, stderr %q, %v: %s", args, code, stderr, err, stdout)
		}
		var answer bytes.Buffer
		if err := json.Compact(&answer, rows[0].Answer); err != nil || answer.String() != want {
			t.Errorf("%s: answer %s, want %s, error %v", args, answer.String(), want, err)
		}
	}
	control(`{"registered":false}`, "unregister")
	control(`{"registered":true}`, "register", "--registered=false")
	control(`{"level":"debug"}`, "log", "debug")
	if level.Level() != slog.LevelDebug {
		t.Errorf("level %v", level.Level())
	}
	control(`{"stopping":true}`, "stop")
	if err := <-done; err != nil {
		t.Error(err)
	}
	code, _, stderr := runs(t.Context(), &cli{}, "instances", "stop", "--service", "told", "-y", "--server", s.URL())
	if want := "skybus: there is no instance alive with --service told\nhint: `skybus instances` lists all of this namespace\n"; code != exitFailed || stderr != want {
		t.Errorf("exit %d, stderr %q, want %q", code, stderr, want)
	}
}

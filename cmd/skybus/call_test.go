package main

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
)

// startSlow starts a service "slow" that answers wait when the test ends, and refuse with details. It returns the
// server's URL.
func startSlow(t *testing.T) string {
	t.Helper()
	s := bustest.Server(t, bustest.TCP())
	started := make(chan struct{})
	svc, err := micro.NewService(connectTo(t, s), micro.Config{Name: "slow", Version: "1.0.0", Hooks: micro.Hooks{Started: func() { close(started) }}})
	if err != nil {
		t.Fatal(err)
	}
	end := make(chan struct{})
	type body map[string]any
	handlers := map[string]func(context.Context, body) (body, error){
		"wait": func(context.Context, body) (body, error) {
			<-end
			return nil, errors.New("it is too late")
		},
		"refuse": func(context.Context, body) (body, error) {
			return nil, bus.Errorf(bus.FailedPrecondition, "route: not \x1b[31m now").With("shelf", "empty")
		},
	}
	for name, h := range handlers {
		if err := micro.Handle(svc, name, h); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- svc.Run(ctx) }()
	t.Cleanup(func() {
		close(end)
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	<-started
	return s.URL()
}

func TestCallErrors(t *testing.T) {
	t.Parallel()
	url := startSlow(t)
	begin := time.Now()
	code, stdout, stderr := runs(t.Context(), &cli{}, "call", "slow.wait", "--server", url, "--timeout", "300ms")
	if took := time.Since(begin); code != exitFailed || stdout != "" || took > 5*time.Second ||
		!strings.HasPrefix(stderr, "skybus: deadline_exceeded: ") || !strings.HasSuffix(stderr, "\nhint: --timeout waits longer than 300ms\n") {
		t.Errorf("no answer in time: exit %d after %v, stdout %q, stderr %q", code, took, stdout, stderr)
	}

	// What the service says is not taken for the name of a package, and steers no terminal.
	code, _, stderr = runs(t.Context(), &cli{}, "call", "slow.refuse", "--server", url)
	if want := "skybus: failed_precondition: route: not \ufffd[31m now\n"; code != exitFailed || stderr != want {
		t.Errorf("exit %d, stderr %q, want %q", code, stderr, want)
	}
	const want = `error:
  code: failed_precondition
  message: "route: not \x1b[31m now"
  details:
    shelf: empty
`
	code, _, stderr = runs(t.Context(), &cli{}, "call", "slow.refuse", "--server", url, "-o", "yaml")
	if diff := cmp.Diff(want, stderr); code != exitFailed || diff != "" {
		t.Errorf("exit %d (-want +got):\n%s", code, diff)
	}
}

// TestCallIsInterrupted stops a call that waits for its answer, and one that waits for its request.
func TestCallIsInterrupted(t *testing.T) {
	t.Parallel()
	url := startSlow(t)
	input, typing := io.Pipe()
	t.Cleanup(func() { _ = typing.Close() })
	for _, body := range []string{"{}", "-"} {
		ctx, cancel := context.WithCancel(t.Context())
		stop := time.AfterFunc(200*time.Millisecond, cancel)
		var stdout, stderr strings.Builder
		begin := time.Now()
		code := execute(ctx, &cli{}, []string{"call", "slow.wait", body, "--server", url, "--timeout", "1m"}, input, &stdout, &stderr)
		if took := time.Since(begin); code != exitFailed || stderr.String() != "skybus: interrupted\n" || took > waitTimeout {
			t.Errorf("%s: exit %d after %v, stderr %q", body, code, took, stderr.String())
		}
		stop.Stop()
		cancel()
	}
}

func TestCallPrintsAnyAnswer(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t, bustest.TCP())
	nc := s.Connect(t)
	answers := map[string]string{"json": `{"a": [123456789012345678]}`, "text": "hello", "line": "hello\n", "binary": "\xff\x00", "nothing": ""}
	for endpoint, answer := range answers {
		if _, err := nc.Subscribe("default.dev.svc.plain."+endpoint, func(m *nats.Msg) {
			if err := m.Respond([]byte(answer)); err != nil {
				t.Error(err)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ endpoint, format, want string }{
		{"json", "table", "{\n  \"a\": [\n    123456789012345678\n  ]\n}\n"},
		{"json", "yaml", "a:\n- 123456789012345678\n"},
		{"text", "table", "hello\n"},
		{"line", "json", "hello\n"},
		{"binary", "table", "\xff\x00"},
		{"nothing", "table", ""},
		{"nothing", "json", "null\n"},
	} {
		code, stdout, stderr := runs(t.Context(), &cli{}, "call", "plain."+tt.endpoint, "--server", s.URL(), "-o", tt.format)
		if code != exitOK || stdout != tt.want {
			t.Errorf("%s as %s: exit %d, stdout %q, want %q; stderr %q", tt.endpoint, tt.format, code, stdout, tt.want, stderr)
		}
	}
}

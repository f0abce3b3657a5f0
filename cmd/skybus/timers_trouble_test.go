package main

import (
	"io"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus/bustest"
)

// timersSay runs a command of timers and wants its exit code, and words in what it writes.
func timersSay(t *testing.T, url string, code int, words []string, args ...string) {
	t.Helper()
	got, stdout, stderr := runs(t.Context(), &cli{}, append([]string{"timers", "--server", url}, args...)...)
	all := stdout + stderr
	if got != code {
		t.Errorf("%q: exit %d, want %d: %s", args, got, code, all)
	}
	for _, w := range words {
		if !strings.Contains(all, w) {
			t.Errorf("%q does not say %q: %s", args, w, all)
		}
	}
}

// A timer that is not readable is told of, with what to do, and removed.
func TestTimersUnreadable(t *testing.T) {
	t.Parallel()
	node := bustest.Server(t, bustest.TCP())
	url := node.URL()
	timersSay(t, url, exitOK, nil, "create", "--id", "good", "--after", "1h", "--publish", "default.dev.pub.x")
	js, err := jetstream.New(node.Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, shard := range []string{"0", "1", "2", "3"} { // one is its shard
		if _, err := js.Publish(t.Context(), "skybus.tmr."+shard+".s.default.dev.bad", []byte("nonsense")); err != nil {
			t.Fatal(err)
		}
	}
	timersSay(t, url, exitOK, []string{"good", "left out, as it is not readable", ".s.default.dev.bad"}, "ls")
	timersSay(t, url, exitFailed, []string{".s.default.dev.bad", "something else wrote it", "hint: `skybus timers cancel ID` removes it"}, "get", "bad")
	timersSay(t, url, exitOK, []string{"cancelled"}, "cancel", "bad")
	timersSay(t, url, exitFailed, []string{"there is no timer"}, "get", "bad")
}

// In a full store a create says what is the matter and what helps, and a cancel does it.
func TestTimersInFullStore(t *testing.T) {
	t.Parallel()
	node := bustest.Server(t, bustest.TCP(), bustest.Configure(func(o *server.Options) { o.JetStreamMaxStore = 32 << 20 }))
	url := node.URL()
	timersSay(t, url, exitOK, nil, "create", "--id", "a", "--after", "1h", "--publish", "default.dev.pub.x")
	js, err := jetstream.New(node.Connect(t))
	if err == nil {
		_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "FILL", Subjects: []string{"fill"}})
	}
	if err != nil {
		t.Fatal(err)
	}
	for size := 256 << 10; size > 0; { // until not even a small message fits
		if _, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: "fill", Data: make([]byte, size)}); err != nil {
			size /= 4
		}
	}
	full := []string{"the store of the servers is full", "hint: `skybus timers cancel` and `skybus timers dead rm` make room", "--max-store", "--store-size"}
	timersSay(t, url, exitFailed, full, "create", "--id", "b", "--after", "1h", "--publish", "default.dev.pub.x")
	importIntoFullStore(t, url)
	timersSay(t, url, exitOK, []string{"a "}, "ls")
	timersSay(t, url, exitOK, []string{"cancelled"}, "cancel", "a")
	timersSay(t, url, exitOK, []string{"there are no timers"}, "ls")
}

// importIntoFullStore wants an import to stop at the first line and say so: while its input has far more, and while that stays open.
func importIntoFullStore(t *testing.T, url string) {
	t.Helper()
	const line = `{"after":"1h","target":{"transport":"nats","uri":"default.dev.pub.x"}}` + "\n"
	open, input := io.Pipe()
	defer func() { _ = input.Close() }()
	go func() { _, _ = io.WriteString(input, line) }() // the test sees what comes of it
	for name, in := range map[string]io.Reader{"many lines": strings.NewReader(strings.Repeat(line, 4*linesAhead)), "an open pipe": open} {
		var stdout, stderr strings.Builder
		done := make(chan int, 1)
		go func() {
			done <- execute(t.Context(), &cli{}, []string{"timers", "import", "-", "--server", url}, in, &stdout, &stderr)
		}()
		code := bustest.Receive(t, "the end of an import of "+name, done)
		if code != exitFailed || !strings.Contains(stderr.String(), "--from-line 1 goes on where it stopped") {
			t.Errorf("import of %s: exit %d: %s%s", name, code, stdout.String(), stderr.String())
		}
	}
}

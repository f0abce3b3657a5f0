package main

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/jlaffaye/ftp"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
)

// logged are the first lines of a log.
type logged chan string

func (l logged) Write(p []byte) (int, error) {
	select {
	case l <- string(p):
	default:
	}
	return len(p), nil
}

type file struct {
	Name    string
	Content []byte
}

// start runs the example in front of a service, which tells what it was sent and refuses files called bad.
func start(t *testing.T) (addr string, files <-chan file) {
	t.Helper()
	srv := bustest.Server(t, bustest.TCP())
	conn, err := bus.Connect(t.Context(), bus.Config{Server: srv.URL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // the server may be gone
	got, started := make(chan file, 10), make(chan struct{})
	s, err := micro.NewService(conn, micro.Config{Name: "files", Hooks: micro.Hooks{Started: func() { close(started) }}})
	if err != nil {
		t.Fatal(err)
	}
	if err := micro.Handle(s, "take", func(_ context.Context, f file) (struct{}, error) {
		if f.Name == "bad" {
			return struct{}{}, bus.Errorf(bus.InvalidArgument, "no bad files here")
		}
		got <- f
		return struct{}{}, nil
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended, lines := make(chan struct{}), make(logged, 10)
	go func() { defer close(ended); _ = s.Run(ctx) }() // the test sees what goes wrong
	<-started
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, []string{"--listen", "127.0.0.1:0", "--server", srv.URL(), "--call", "files.take"}, func(string) string { return "me" }, lines)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	line := <-lines
	_, addr, _ = strings.Cut(line, "ftp=ftp://")
	addr, _, _ = strings.Cut(addr, " ")
	return addr, got
}

func TestUploads(t *testing.T) {
	t.Parallel()
	addr, files := start(t)
	c, err := ftp.Dial(addr, ftp.DialWithTimeout(20*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Login("me", "you"); err == nil {
		t.Error("a wrong password")
	}
	if c, err = ftp.Dial(addr, ftp.DialWithTimeout(20*time.Second)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Quit() }) // the server may be gone
	if err := c.Login("me", "me"); err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"line 1\r\nline 2\n", "\x89PNG\r\n\x1a\n\x00\xff\xfe"} {
		if err := c.Stor("/dir/../a.txt", strings.NewReader(content)); err != nil {
			t.Fatal(err)
		}
		if got := <-files; got.Name != "a.txt" || string(got.Content) != content {
			t.Errorf("%q came as %q", content, got)
		}
	}
	if err := c.Stor("bad", strings.NewReader("x")); err == nil || !strings.Contains(err.Error(), "no bad files here") {
		t.Errorf("a file that is refused: %v", err)
	}
	if err := c.Stor("large", bytes.NewReader(make([]byte, maxUpload+1))); err == nil {
		t.Error("a large file was taken")
	}
	if err := c.StorFrom("late", strings.NewReader("x"), 5); err == nil {
		t.Error("half a file was taken")
	}
	if err := c.Append("a.txt", strings.NewReader("x")); err == nil {
		t.Error("a piece of a file was taken")
	}
	if _, err := c.Retr("a.txt"); err == nil {
		t.Error("a file was given")
	}
	select {
	case f := <-files:
		t.Errorf("sent nevertheless: %+v", f)
	default:
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	if err := run(t.Context(), []string{"--call", "a.b"}, func(string) string { return "" }, io.Discard); err == nil || !strings.Contains(err.Error(), "FTP_PASSWORD") {
		t.Errorf("without a password: %v", err)
	}
}

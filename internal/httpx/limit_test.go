package httpx_test

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/skybus-io/skybus/internal/httpx"
)

// Connections beyond the bound wait until one is closed.
func TestMaxConns(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	srv := httpx.Server{
		Handler:  http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }),
		MaxConns: 2, Timeout: time.Second, Drain: time.Second, Logger: slog.New(slog.DiscardHandler),
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx, l) }()
	ask := func() (net.Conn, *bufio.Reader) {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() }) // some are closed before
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		return c, bufio.NewReader(c)
	}
	answered := func(c net.Conn, r *bufio.Reader, within time.Duration) bool {
		if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return false
		}
		_, _ = io.Copy(io.Discard, resp.Body) // the status is what counts
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}
	first, r1 := ask()
	second, r2 := ask()
	if !answered(first, r1, 10*time.Second) || !answered(second, r2, 10*time.Second) {
		t.Fatal("the first two are not answered")
	}
	third, r3 := ask()
	if answered(third, r3, 200*time.Millisecond) {
		t.Fatal("the third is answered too")
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if !answered(third, bufio.NewReader(third), 10*time.Second) {
		t.Fatal("the third is not answered when there is room")
	}
	waits, _ := ask()
	stop() // while one waits for a place
	if err := <-done; err != nil {
		t.Errorf("Serve returned %v", err)
	}
	_ = waits.Close()
}

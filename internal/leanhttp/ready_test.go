package leanhttp_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/skybus-io/skybus/internal/leanhttp"
)

var errNotNow = errors.New("not now")

// What may not be sent any more when all is ready the backend does not get: not at all, or not to its end.
func TestReady(t *testing.T) {
	t.Parallel()
	var whole atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			whole.Add(1)
		}
	}))
	t.Cleanup(s.Close)
	addr := s.Listener.Addr().String()
	for _, size := range []int{0, 1000, 32<<10 + 1, 64 << 10, 64<<10 + 1, 4 << 20} {
		c := client(t, addr, leanhttp.Config{})
		asked, answer := 0, error(nil)
		req := put(bytes.Repeat([]byte("x"), size))
		req.Repeatable = true
		req.Ready = func() error { asked++; return answer }
		whole.Store(0)
		if _, err := c.Do(t.Context(), req); err != nil || asked != 1 || whole.Load() != 1 {
			t.Errorf("%d bytes: %v, asked %d times, sent %d times, want once each", size, err, asked, whole.Load())
		}
		for _, where := range []string{"a kept connection", "a new one"} {
			asked, answer = 0, errNotNow
			_, err := c.Do(t.Context(), req)
			if !errors.Is(err, errNotNow) || asked != 1 || whole.Load() != 1 {
				t.Errorf("%d bytes on %s: %v, asked %d times, sent %d times, want it refused", size, where, err, asked, whole.Load()-1)
			}
			if size <= 32<<10 && !leanhttp.NotSent(err) {
				t.Errorf("%d bytes on %s: %v counts as sent", size, where, err)
			}
		}
		if open, _ := c.Count(); open != 0 {
			t.Errorf("%d bytes: %d connections are left", size, open)
		}
	}
}

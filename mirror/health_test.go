package mirror_test

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skybus-io/skybus/mirror"
)

// logged counts messages at info and above.
type logged struct {
	slog.Handler

	mu sync.Mutex
	n  map[string]int
}

func (l *logged) Enabled(context.Context, slog.Level) bool { return true }

func (l *logged) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.Level >= slog.LevelInfo {
		l.n[r.Message]++
	}
	return nil
}

func (l *logged) WithAttrs([]slog.Attr) slog.Handler { return l }

func (l *logged) count(prefix string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for message, times := range l.n {
		if strings.HasPrefix(message, prefix) {
			n += times
		}
	}
	return n
}

// A backend that fails its checks takes no reads until they succeed again.
func TestHealth(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	log := &logged{Handler: slog.DiscardHandler, n: map[string]int{}}
	m := r.open(t, mirror.Config{Logger: slog.New(log), Health: mirror.Health{Path: "/health?full", Every: 10 * time.Millisecond, Status: "200,204-206", Body: "^(ok|fine)$", Healthy: 2, Unhealthy: 2}})
	var answer atomic.Value
	answer.Store("ok")
	for i, b := range r.backends {
		b.setRefuse(func(w http.ResponseWriter, req *http.Request) bool {
			switch {
			case req.URL.RequestURI() == "/health?full" && i == 1:
				body, _ := answer.Load().(string)
				if body == "503" {
					w.WriteHeader(http.StatusServiceUnavailable)
				}
				_, _ = io.WriteString(w, body)
			case req.URL.Path == "/health":
				w.WriteHeader(http.StatusPartialContent)
				_, _ = io.WriteString(w, "fine")
			case req.Method == http.MethodGet:
				_, _ = io.WriteString(w, name(i))
			default:
				return false
			}
			return true
		})
	}
	run(t, m)
	front := serve(t, m)
	if got, want := readers(t, front.URL, 4), map[string]int{"a": 2, "b": 2}; !maps.Equal(got, want) {
		t.Errorf("healthy: %v, want %v", got, want)
	}
	for _, sick := range []string{"503", "no", strings.Repeat("x", 100<<10) + "ok"} {
		answer.Store(sick)
		eventually(t, "no reads from the sick one", func() bool { return readers(t, front.URL, 4)["a"] == 4 })
		answer.Store("ok")
		eventually(t, "reads from the healthy one", func() bool { return readers(t, front.URL, 4)["b"] == 2 })
	}
	if down, up := log.count("backend unhealthy"), log.count("backend healthy"); down != 3 || up != 3 {
		t.Errorf("%d and %d messages, want 3 of each", down, up)
	}
	if got := do(t, "PUT", front.URL+"/x", ""); got.status != http.StatusOK {
		t.Errorf("write: %d %q", got.status, got.body)
	}
}

// The writes that wait for a backend are sent at once when a check finds it back, and reads come back to it when it is level.
func TestRecovery(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	m := r.open(t, mirror.Config{Lanes: 1, MaxLag: 300 * time.Millisecond, Health: mirror.Health{Every: 20 * time.Millisecond, Unhealthy: 1}})
	run(t, m)
	front := serve(t, m)
	var down, stale atomic.Bool
	var refused atomic.Int64
	b := r.backends[1]
	b.setRefuse(func(w http.ResponseWriter, req *http.Request) bool {
		if down.Load() {
			if req.Method == http.MethodPut {
				refused.Add(1)
			}
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		if req.URL.Path == "/x" && req.Method == http.MethodGet && b.state()["/x"] != "last" {
			stale.Store(true)
		}
		return false
	})
	down.Store(true)
	for range 30 {
		do(t, "PUT", front.URL+"/x", "some")
	}
	do(t, "PUT", front.URL+"/x", "last")
	eventually(t, "pauses between attempts are long", func() bool { return refused.Load() >= 9 && do(t, "GET", front.URL+"/x", "").status == http.StatusOK })
	down.Store(false)
	eventually(t, "backend level", func() bool {
		do(t, "GET", front.URL+"/x", "")
		return b.state()["/x"] == "last"
	})
	if stale.Load() {
		t.Error("it was read while it was behind")
	}
}

func TestHealthConfig(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	for _, h := range []mirror.Health{
		{Path: "x"}, {Path: "http://evil.example/"}, {Status: "abc"}, {Status: "99"}, {Status: "300-200"}, {Status: "600"}, {Body: "("}, {Timeout: -1}, {Healthy: -1}, {Unhealthy: -2},
	} {
		if m, err := mirror.Open(t.Context(), r.conn, mirror.Config{Health: h}); err == nil {
			_ = m.Close()
			t.Errorf("%+v was taken", h)
		}
	}
}

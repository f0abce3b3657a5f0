package mirror_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/mirror"
)

func TestStats(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	var log lines
	m := r.open(t, mirror.Config{Ack: mirror.Primary, AnswerTimeout: 5 * time.Second, MaxBody: 100, Tries: 2, Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	stop := run(t, m)
	front := serve(t, m)
	for i := range 10 {
		put(t, front.URL+fmt.Sprintf("/item/%d", i), "x")
	}
	do(t, http.MethodDelete, front.URL+"/item/1", "")
	do(t, http.MethodGet, front.URL+"/item/2", "")
	if got := do(t, http.MethodPut, front.URL+"/large", strings.Repeat("x", 101)); got.status != http.StatusRequestEntityTooLarge {
		t.Errorf("large body: %d", got.status)
	}
	r.backends[0].setRefuse(refuseWith(http.StatusInternalServerError, "/odd"))
	put(t, front.URL+"/odd", "x")
	eventually(t, "all applied", func() bool { return m.Stats().Backends[1].Writes.Count == 12 })
	s := m.Stats()
	if s.Stored != 12 || s.Refused != 1 || s.Queued != 0 || s.Takeovers != 1 || !s.Sending || len(s.Backends) != 2 {
		t.Errorf("%+v", s)
	}
	a, b := s.Backends[0], s.Backends[1]
	if a.Set.Success != 10 || a.Set.Failure != 2 || a.Delete.Success != 1 || a.Retries != 1 || a.Writes.Count != 13 || b.Set.Success != 11 || b.Set.Failure != 0 {
		t.Errorf("a %+v, b %+v", a, b)
	}
	if reads := a.Get.Success + b.Get.Success; reads != 1 || a.Reads.Count+b.Reads.Count != 1 {
		t.Errorf("%d reads", reads)
	}
	total := uint64(0)
	for _, n := range a.Writes.Buckets {
		total += n
	}
	if len(a.Writes.Buckets) != len(mirror.LatencyBounds())+1 || total != a.Writes.Count || a.Writes.Sum <= 0 {
		t.Errorf("latency %+v", a.Writes)
	}
	eventually(t, "letter", func() bool { s := m.Stats(); return s.Parked == 1 && s.Backends[0].Diverged == 1 })

	goDown(t, r, m, front.URL)
	eventually(t, "log", func() bool { return log.count("backend=b state=live before=down") > 0 })
	if down, back := log.count("backend=b state=down before=live"), log.count("backend=b state=live before=down"); down != 1 || back != 1 {
		t.Errorf("%d lines that the backend is down, %d that it is back, want one each", down, back)
	}
	if applied := log.count(`msg="write applied"`); applied != 40 {
		t.Errorf("%d lines of writes, want 40", applied)
	}
	stop()
	if s := m.Stats(); s.Sending {
		t.Error("sending after the end")
	}
}

// goDown lets the second backend take no writes for a while.
func goDown(t *testing.T, r *rig, m *mirror.Mirror, url string) {
	t.Helper()
	r.backends[1].setRefuse(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	for i := range 8 {
		do(t, []string{http.MethodPut, http.MethodDelete}[i%2], url+fmt.Sprintf("/item/%d", i), "x")
	}
	eventually(t, "backend down", func() bool {
		b := m.Stats().Backends[1]
		return b.Downs == 1 && b.Condition.State == mirror.StateDown && b.Set.Queued == 4 && b.Delete.Queued == 4 && b.Condition.Lag > 0
	})
	r.backends[1].setRefuse(nil)
	eventually(t, "backend back", func() bool {
		b := m.Stats().Backends[1]
		return b.Condition.State == mirror.StateLive && b.Set.Queued == 0 && b.Delete.Queued == 0
	})
}

package mirror_test

import (
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/mirror"
)

// lines counts what is logged, by message.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) count(message string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), message)
}

func (l *lines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// status waits until the ledger tells the answers of n backends to a write.
func status(t *testing.T, m *mirror.Mirror, seq uint64, n int) map[string]int {
	t.Helper()
	var got map[string]int
	eventually(t, "answers in the ledger", func() bool {
		var err error
		if got, err = m.LedgerStatus(t.Context(), seq); err != nil {
			t.Fatal(err)
		}
		return len(got) >= n
	})
	return got
}

func put(t *testing.T, url, body string) uint64 {
	t.Helper()
	got := do(t, http.MethodPut, url, body)
	seq, err := strconv.ParseUint(got.header.Get("Skybus-Seq"), 10, 64)
	if err != nil {
		t.Fatalf("%d %q: %v", got.status, got.body, err)
	}
	return seq
}

// refuseWith answers a path by itself.
func refuseWith(status int, path string) func(w http.ResponseWriter, r *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != path {
			return false
		}
		http.Error(w, "not me", status)
		return true
	}
}

func TestLedgerTellsWhatBackendsAnswered(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	m := r.open(t, mirror.Config{Ack: mirror.All})
	r.backends[1].setRefuse(refuseWith(http.StatusConflict, "/item/3"))
	stop := run(t, m)
	front := serve(t, m)
	seqs := map[string]uint64{}
	for i := range 200 {
		path := fmt.Sprintf("/item/%d", i)
		seqs[path] = put(t, front.URL+path, "x")
		if i == 100 {
			stop()
			stop = run(t, m)
		}
	}
	for path, seq := range seqs {
		want := map[string]int{"a": 200, "b": 200}
		if path == "/item/3" {
			want["b"] = 409
		}
		if got := status(t, m, seq, 2); !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", path, got, want)
		}
	}
	last, err := m.LastSeq(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, seq := range []uint64{0, last + 1} {
		if got, err := m.LedgerStatus(t.Context(), seq); err != nil || len(got) > 0 {
			t.Errorf("write %d, which there is not: %v, %v", seq, got, err)
		}
	}
}

// A write whose lane waits while others go on is found all the same, and until then it is not answered.
func TestLedgerOfALaneThatWaits(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	m := r.open(t, mirror.Config{AnswerTimeout: 200 * time.Millisecond})
	r.backends[0].setRefuse(refuseWith(http.StatusServiceUnavailable, "/slow"))
	run(t, m)
	front := serve(t, m)
	slow := put(t, front.URL+"/slow", "x")
	var last uint64
	for i := range 50 {
		last = put(t, front.URL+fmt.Sprintf("/item/%d", i), "x")
	}
	status(t, m, last, 1)
	if got, err := m.LedgerStatus(t.Context(), slow); err != nil || len(got) > 0 {
		t.Errorf("%v, %v before the backend answered", got, err)
	}
	r.backends[0].setRefuse(nil)
	if got := status(t, m, slow, 1); got["a"] != 200 {
		t.Errorf("%v, want 200", got)
	}
}

// Writes reach the backends also while the ledger cannot be written, and what it lacks is written later.
func TestLedgerAway(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	var log lines
	m := r.open(t, mirror.Config{Ack: mirror.All, Logger: log.logger()})
	run(t, m)
	front := serve(t, m)
	stream, err := r.conn.JetStream().Stream(t.Context(), "SKYBUS_MIRL")
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	if cfg.Discard != jetstream.DiscardOld || cfg.MaxBytes <= 0 {
		t.Errorf("discard %v, limit %d, want the oldest and a limit", cfg.Discard, cfg.MaxBytes)
	}
	if err := r.conn.JetStream().DeleteStream(t.Context(), "SKYBUS_MIRL"); err != nil {
		t.Fatal(err)
	}
	var seqs []uint64
	for i := range 100 {
		seqs = append(seqs, put(t, front.URL+fmt.Sprintf("/item/%d", i), "x"))
	}
	if got := len(r.backends[0].all()); got != 100 {
		t.Errorf("%d writes applied, want 100", got)
	}
	eventually(t, "warning", func() bool { return log.count("ledger not written") > 0 })
	if _, err := r.conn.JetStream().CreateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	for _, seq := range seqs {
		status(t, m, seq, 1)
	}
	if n := log.count("ledger not written"); n != 1 {
		t.Errorf("said %d times that the ledger is not written, want once", n)
	}
}

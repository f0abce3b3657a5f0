package mirror_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/mirror"
)

// TestOrderUnderFaults lets everything fail at once for a while: backends that refuse, apply and cut off, or hang; senders whose connection is
// cut while they work; the server that is killed. Then every write that was stored is applied everywhere, in order within its lane.
func TestOrderUnderFaults(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano()) //nolint:gosec // not negative
	t.Logf("seed %d", seed)
	r := newRig(t, 3)
	cfg := mirror.Config{Lanes: 16, TryTimeout: 300 * time.Millisecond, AnswerTimeout: 2 * time.Second, Window: 200, Tries: 1000}
	m := r.open(t, cfg)
	front := serve(t, m)
	for i, b := range r.backends {
		b.misbehave(seed + uint64(i)) //nolint:gosec // small
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() { r.senders(ctx, cfg, seed+10+uint64(i)) }) //nolint:gosec // small
	}
	wg.Go(func() {
		for sleep(ctx, 2500*time.Millisecond) {
			r.node.Restart(t)
		}
	})
	stored := write(t, front, seed+20, 6*time.Second)
	cancel()
	wg.Wait()
	for _, b := range r.backends {
		b.setRefuse(nil)
	}
	run(t, m)
	last := stored[len(stored)-1]
	eventually(t, "all applied", func() bool {
		for _, b := range r.backends {
			if got := b.seqs(); !got[last] || len(got) < len(stored) {
				return false
			}
		}
		return true
	})
	for i, b := range r.backends {
		checkOrder(t, name(i), b, stored)
	}
	eventually(t, "equal content", func() bool { // the last sender may still repeat what the one before did not commit
		return maps.Equal(r.backends[0].state(), r.backends[1].state()) && maps.Equal(r.backends[0].state(), r.backends[2].state())
	})
}

// misbehave makes a backend fail in the ways backends do.
func (b *backend) misbehave(seed uint64) {
	var mu sync.Mutex
	rnd := rand.New(rand.NewPCG(seed, seed)) //nolint:gosec // for tests
	b.setRefuse(func(w http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		dice := rnd.Float64()
		mu.Unlock()
		switch {
		case dice < 0.02:
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		case dice < 0.04:
			w.WriteHeader(http.StatusInternalServerError)
			return true
		case dice < 0.06:
			panic(http.ErrAbortHandler)
		case dice < 0.065:
			select { // the try is over before; nothing was applied
			case <-time.After(600 * time.Millisecond):
			case <-r.Context().Done():
			}
			panic(http.ErrAbortHandler)
		}
		return false
	})
}

// seqs are those of the writes applied.
func (b *backend) seqs() map[uint64]bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	got := map[uint64]bool{}
	for _, w := range b.log {
		got[w.seq] = true
	}
	return got
}

// senders runs one sender after the other, each until its connection is cut.
func (r *rig) senders(ctx context.Context, cfg mirror.Config, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, seed)) //nolint:gosec // for tests
	for ctx.Err() == nil {
		conn, err := bus.Connect(ctx, bus.Config{InProcess: r.node})
		if err != nil {
			continue // the server is down
		}
		m, err := mirror.Open(ctx, conn, cfg)
		if err == nil {
			run, stop := context.WithCancel(ctx)
			ended := make(chan struct{})
			go func() { defer close(ended); _ = m.Run(run) }()
			sleep(ctx, time.Duration(1000+rnd.IntN(3000))*time.Millisecond)
			conn.NATS().Close()
			stop()
			<-ended
			_ = m.Close()
		}
		_ = conn.Close()
	}
}

// write puts numbered bodies for a while and until enough are stored, eight at a time, and returns what the mirror said it stored.
func write(t *testing.T, front *httptest.Server, seed uint64, atLeast time.Duration) []uint64 {
	t.Helper()
	begin := time.Now()
	var mu sync.Mutex
	var stored []uint64
	more := func() bool {
		mu.Lock()
		defer mu.Unlock()
		passed := time.Since(begin)
		return passed < atLeast || len(stored) < 50 && passed < patience
	}
	var wg sync.WaitGroup
	for i := range 8 {
		rnd := rand.New(rand.NewPCG(seed, uint64(i))) //nolint:gosec // for tests
		wg.Go(func() {
			for n := 0; more(); n++ {
				if seq := putSeq(t, fmt.Sprintf("%s/item/%d", front.URL, rnd.IntN(60)), fmt.Sprintf("%d-%d", i, n)); seq > 0 {
					mu.Lock()
					stored = append(stored, seq)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if len(stored) < 50 {
		t.Fatalf("only %d writes stored", len(stored))
	}
	return stored
}

// putSeq is the number of the write, 0 where it was not stored.
func putSeq(t *testing.T, url, body string) uint64 {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url, strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return 0
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Error(err)
		return 0
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	seq, _ := strconv.ParseUint(resp.Header.Get("Skybus-Seq"), 10, 64)
	return seq
}

// checkOrder checks that within each lane a write was applied for the first time after all before it, and that none is missing.
func checkOrder(t *testing.T, name string, b *backend, stored []uint64) {
	t.Helper()
	got := map[uint64]bool{}
	highest := map[string]uint64{}
	rewinds, repeats := 0, 0
	for _, w := range b.all() {
		switch {
		case got[w.seq] && w.seq < highest[w.lane]:
			rewinds++
		case got[w.seq]:
			repeats++
		case w.seq < highest[w.lane]:
			t.Errorf("backend %s, lane %s: write %d applied for the first time after %d", name, w.lane, w.seq, highest[w.lane])
		}
		got[w.seq] = true
		highest[w.lane] = max(highest[w.lane], w.seq)
	}
	missing := 0
	for _, seq := range stored {
		if !got[seq] {
			missing++
		}
	}
	t.Logf("backend %s: %d stored, %d applied, %d repeats, %d of a replay, %d missing", name, len(stored), len(got), repeats, rewinds, missing)
	if missing > 0 {
		t.Errorf("backend %s lacks %d writes", name, missing)
	}
}

// sleep waits and tells whether ctx goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

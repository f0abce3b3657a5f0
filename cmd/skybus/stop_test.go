package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skybus-io/skybus/bus/bustest"
)

// What takes something from outside is told to stop at once, and what it uses, the connection most of all, is there until the last has ended, or
// until the longest drain is over.
func TestTakersStopTogether(t *testing.T) { // not parallel: a bubble
	bustest.Bubble(t, func(t *testing.T) {
		conn := connectTo(t, bustest.Server(t))
		p := &platform{conn: conn, failed: make(chan error, 1)}
		begin := time.Now()
		var mu sync.Mutex
		type event struct {
			What string
			At   time.Duration
		}
		var events []event
		note := func(what string) {
			mu.Lock()
			defer mu.Unlock()
			events = append(events, event{what, time.Since(begin)})
		}
		p.run(t.Context(), func(ctx context.Context) error {
			<-ctx.Done()
			note("rest told")
			if !conn.NATS().IsConnected() {
				t.Error("the rest has no connection any more")
			}
			return nil
		})
		take := func(drain, takes time.Duration) {
			p.take(t.Context(), drain, func(ctx context.Context) error {
				<-ctx.Done()
				note("told")
				time.Sleep(takes) // fake time: as long as a listener takes to drain
				if !conn.NATS().IsConnected() {
					t.Errorf("without a connection after %v", takes)
				}
				note("ended")
				return nil
			})
		}
		take(8*time.Second, 4*time.Second)
		take(time.Second, 8*time.Second) // longer than it may, within what another may
		if err := p.close(t.Context(), slog.New(slog.DiscardHandler)); err != nil {
			t.Error(err)
		}
		want := []event{{"told", 0}, {"told", 0}, {"ended", 4 * time.Second}, {"ended", 8 * time.Second}, {"rest told", 8 * time.Second}}
		if diff := cmp.Diff(want, events); diff != "" {
			t.Errorf("stopped (-want +got):\n%s", diff)
		}

		// Who does not end is left without a connection, and ends by that.
		p.takers, p.cleanup = nil, nil
		begin = time.Now()
		p.take(t.Context(), 3*time.Second, func(context.Context) error {
			<-conn.Closed()
			return nil
		})
		if err := p.close(t.Context(), slog.New(slog.DiscardHandler)); err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took != 3*time.Second+upCutOff {
			t.Errorf("what does not end was cut off after %v", took)
		}
	})
}

// All listeners of a gateway stop taking requests while one still answers what it has.
func TestGatewayStopsAllListeners(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t, bustest.TCP())
	asked, err := s.Connect(t).SubscribeSync("default.dev.svc.slow.answer")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	entry, ports := filepath.Join(dir, "entry.yaml"), filepath.Join(dir, "ports")
	if err := os.WriteFile(entry, []byte("{method: POST, path: /slow, listener: inner, call: slow.answer}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := runs(t.Context(), &cli{}, "http", "put", "slow", "-f", entry, "--server", s.URL()); code != exitOK {
		t.Fatal(stderr)
	}
	cancel, stop := starts(t, "gateway", "--http", "127.0.0.1:0", "--http-listener", "inner=127.0.0.1:0", "--server", s.URL(), "--ports-file", ports)
	urls := waitPorts(t, ports)
	status := make(chan int, 1)
	go func() { status <- statusOf(t, http.MethodPost, urls["http_inner"]+"/slow") }()
	m, err := asked.NextMsg(waitTimeout)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	bustest.Eventually(t, "the listeners to take nothing more", func() bool {
		return !slices.ContainsFunc([]string{urls["http"], urls["http_inner"]}, func(url string) bool {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
			if err == nil {
				_ = resp.Body.Close()
			}
			return !errors.Is(err, syscall.ECONNREFUSED)
		})
	})
	if err := m.Respond([]byte("{}")); err != nil {
		t.Fatal(err)
	}
	if code := bustest.Receive(t, "the answer", status); code != http.StatusOK {
		t.Errorf("what was in flight was answered %d", code)
	}
	if code, stderr := stop(); code != exitOK {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

// statusOf is the status of an answer.
func statusOf(t *testing.T, method, url string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Error(err)
		return 0
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Error(err)
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

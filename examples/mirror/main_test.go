package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/mirror"
)

const patience = 20 * time.Second

func TestMain(m *testing.M) { bustest.Main(m, "github.com/skybus-io/skybus/") }

func (t *todos) all() map[string]string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.items)
}

// house is three copies of the application, of which the last may be away, behind a mirror.
type house struct {
	mirror *mirror.Mirror
	copies []*todos
	away   atomic.Bool
}

func build(t *testing.T) *house {
	t.Helper()
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: bustest.Server(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	m, err := mirror.Open(t.Context(), conn, mirror.Config{Key: "path:1"})
	if err != nil {
		t.Fatal(err)
	}
	h := &house{mirror: m}
	for i := range 3 {
		c := newTodos()
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if i == 2 && h.away.Load() {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			c.ServeHTTP(w, r)
		}))
		t.Cleanup(srv.Close)
		h.copies = append(h.copies, c)
		if _, err := m.Set(t.Context(), mirror.Backend{Name: string(rune('a' + i)), URL: srv.URL, Active: true}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() {
		if err := m.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { stop(); running.Wait(); _ = m.Close() })
	return h
}

// TestThreeCopies are alike, also the one that was away for a while.
func TestThreeCopies(t *testing.T) {
	t.Parallel()
	h := build(t)
	front := httptest.NewServer(h.mirror)
	t.Cleanup(front.Close)
	h.away.Store(true)
	for i := range 20 {
		id := strings.TrimSpace(do(t, http.MethodPost, front.URL+"/todos", fmt.Sprint("item ", i), http.StatusCreated))
		switch i % 3 {
		case 0:
			do(t, http.MethodPut, front.URL+"/todos/"+id, "changed", http.StatusNoContent)
		case 1:
			do(t, http.MethodDelete, front.URL+"/todos/"+id, "", http.StatusNoContent)
		}
	}
	if n := len(h.copies[2].all()); n != 0 {
		t.Errorf("the copy that is away has %d items", n)
	}
	h.away.Store(false)
	drain, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, err := range h.mirror.Drain(drain) {
		if err != nil {
			t.Fatal(err)
		}
	}
	want := h.copies[0].all()
	if len(want) != 13 {
		t.Errorf("%d items, want 13: %v", len(want), want)
	}
	for i, c := range h.copies[1:] {
		if got := c.all(); !maps.Equal(got, want) {
			t.Errorf("copy %d has %v, want %v", i+1, got, want)
		}
	}
	if got := do(t, http.MethodGet, front.URL+"/todos", "", http.StatusOK); strings.Count(got, "changed") != 7 {
		t.Error(got)
	}
}

func do(t *testing.T, method, url, body string, status int) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }() // it was read
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status {
		t.Fatalf("%s %s: %d %s %v, want %d", method, url, resp.StatusCode, data, err, status)
	}
	return string(data)
}

func TestTodos(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(newTodos())
	t.Cleanup(srv.Close)
	do(t, http.MethodPost, srv.URL+"/todos", "x", http.StatusBadRequest) // not through the mirror
	do(t, http.MethodPut, srv.URL+"/todos/a", "x", http.StatusNoContent)
	if got := do(t, http.MethodGet, srv.URL+"/todos/a", "", http.StatusOK); got != "x\n" {
		t.Errorf("%q", got)
	}
	do(t, http.MethodPut, srv.URL+"/todos/a", strings.Repeat("x", maxItem+1), http.StatusBadRequest)
	do(t, http.MethodDelete, srv.URL+"/todos/a", "", http.StatusNoContent)
	do(t, http.MethodGet, srv.URL+"/todos/a", "", http.StatusNotFound)
	if got := do(t, http.MethodGet, srv.URL+"/todos", "", http.StatusOK); got != "{}\n" {
		t.Errorf("%q", got)
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	if err := run(t.Context(), nil, io.Discard); err == nil {
		t.Error("without an address there is nothing to do")
	}
	ctx, stop := context.WithCancel(t.Context())
	out := &bytes.Buffer{}
	written := make(chan struct{}, 2)
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, []string{"127.0.0.1:0", "127.0.0.1:0"}, writer(func(p []byte) (int, error) { out.Write(p); written <- struct{}{}; return len(p), nil }))
	}()
	for range 2 {
		select {
		case <-written:
		case <-time.After(patience):
			t.Fatal("it does not listen")
		}
	}
	for line := range strings.Lines(out.String()) {
		url := strings.TrimSpace(strings.TrimPrefix(line, "to-do at "))
		if got := do(t, http.MethodGet, url, "", http.StatusOK); got != "{}\n" {
			t.Errorf("%s: %q", url, got)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

type writer func(p []byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

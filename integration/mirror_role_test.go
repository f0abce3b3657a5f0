//go:build unix

package integration_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/auth"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/mirror"
)

// TestMirrorUnderRole stores, sends, reads, parks, compares, repairs and removes writes with nothing but the rights of a mirror, in two processes. It makes no streams,
// and deals with nothing that is parked.
func TestMirrorUnderRole(t *testing.T) {
	t.Parallel()
	s := startSecured(t)
	admin, conn, second := s.admin(t, "shop.prod"), s.part(t, auth.Mirror), s.part(t, auth.Mirror)
	cfg := mirror.Config{Ack: mirror.All, History: -1, MaxAnswer: 1 << 10}
	open := func(conn *bus.Conn) *mirror.Mirror {
		m, err := mirror.Open(t.Context(), conn, cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = m.Close() })
		return m
	}
	if _, err := mirror.Open(t.Context(), s.part(t, auth.Mirror), cfg); bus.CodeOf(err) != bus.PermissionDenied {
		t.Errorf("open without streams: %v, want permission_denied", err)
	}
	if _, err := kv.OpenLeases(t.Context(), admin); err != nil {
		t.Fatal(err)
	}
	owner := open(admin)
	log := &lockedLog{}
	cfg.Logger = slog.New(slog.NewTextHandler(log, nil))
	early, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	first := open(s.part(t, auth.Mirror))
	go func() { ended <- first.Run(early) }()
	bustest.Eventually(t, "it says what is missing", func() bool {
		return log.has("there is no stream SKYBUS_DLQ") && log.has("`skybus mirror run`, started once as a user who may create streams")
	})
	go func() { ended <- owner.Run(early) }() // as it says
	bustest.Eventually(t, "the stream of what is parked", func() bool {
		_, err := admin.JetStream().Stream(t.Context(), "SKYBUS_DLQ")
		return err == nil
	})
	stop()
	if err := errors.Join(<-ended, <-ended); err != nil {
		t.Error(err)
	}
	cfg.Logger = nil
	m, other := open(conn), open(second)
	setBackends(t, m)
	runUntilCleanup(t, m.Run)
	runUntilCleanup(t, other.Run)
	seq := mirrorUnderRole(t, m, other)
	stream, err := admin.JetStream().Stream(t.Context(), "SKYBUS_MIR")
	if err != nil {
		t.Fatal(err)
	}
	bustest.Eventually(t, "writes removed that all have applied", func() bool {
		info, err := stream.Info(t.Context())
		return err == nil && info.State.FirstSeq > 1
	})
	harmless(t, conn, second)
	if err := owner.Parked().Drop(t.Context(), "b2", seq); err != nil {
		t.Error(err)
	}
}

// setBackends sets three, of which one refuses what others take.
func setBackends(t *testing.T, m *mirror.Mirror) {
	t.Helper()
	for i := range 3 {
		backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if i == 2 && r.URL.Path == "/odd" {
				w.WriteHeader(http.StatusConflict)
			}
			_, _ = io.Copy(io.Discard, r.Body)
		}))
		t.Cleanup(backend.Close)
		if _, err := m.Set(t.Context(), mirror.Backend{Name: fmt.Sprintf("b%d", i), URL: backend.URL, Active: true}); err != nil {
			t.Fatal(err)
		}
	}
}

// mirrorUnderRole does what m and other may, as two processes of one mirror, and returns the write that it left parked for b2.
func mirrorUnderRole(t *testing.T, m, other *mirror.Mirror) (parked uint64) {
	t.Helper()
	front := httptest.NewServer(other) // and the first sends
	t.Cleanup(front.Close)
	for path, body := range map[string]string{"/odd": "x", "/small": "x", "/large": strings.Repeat("x", 2<<20)} {
		if got := httpDo(t, http.MethodPut, front.URL+path, body); got != http.StatusOK && path != "/odd" {
			t.Errorf("%s: %d", path, got)
		}
	}
	if got := httpDo(t, http.MethodGet, front.URL+"/small", ""); got != http.StatusOK {
		t.Errorf("read: %d", got)
	}
	if _, err := m.Repair(t.Context(), "b1", 1); err != nil {
		t.Error(err)
	}
	var seq uint64
	for w, err := range m.Parked().List(t.Context(), mirror.ParkedFilter{}) {
		if err != nil || w.Backend != "b2" || seq != 0 {
			t.Errorf("parked %+v, %v", w, err)
		}
		seq = w.Seq
	}
	if _, err := m.Parked().Show(t.Context(), "b2", seq); err != nil {
		t.Error(err)
	}
	bustest.Eventually(t, "difference", func() bool {
		return slices.Contains(differ(t, m), seq)
	})
	if _, err := m.Status(t.Context()); err != nil {
		t.Error(err)
	}
	return seq
}

// differ are the writes that backends have answered differently.
func differ(t *testing.T, m *mirror.Mirror) []uint64 {
	t.Helper()
	var all []uint64
	for d, err := range m.Diff(t.Context(), mirror.DiffFilter{}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, d.Seq)
	}
	return all
}

func httpDo(t *testing.T, method, url, body string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

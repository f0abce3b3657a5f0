//go:build unix

package integration_test

import (
	"net/http"
	"strings"
	"testing"
)

// TestMirrorStorageFull lets clients write until the stream of writes takes no more, while a copy is away so that nothing may be removed. What is refused never
// happens; what was accepted does, and when it has, there is room again.
func TestMirrorStorageFull(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	server := startMirrorServer(t)
	r := newMirrorRig(t, server.Ports["nats"], 2, 1, "limits: {history: 0, window: 20}")
	stream, err := r.conn.JetStream().Stream(t.Context(), "SKYBUS_MIR")
	if err != nil {
		t.Fatal(err)
	}
	small := stream.CachedInfo().Config
	small.MaxBytes = 8 << 20
	if _, err := r.conn.JetStream().UpdateStream(t.Context(), small); err != nil {
		t.Fatal(err)
	}
	w := startPadded(t, r.urls(), 8, 0, strings.Repeat("x", 20_000))
	w.await(10)
	r.copies[1].Kill()
	refused := func() (n int) {
		for _, s := range w.snapshot() {
			if s.status == http.StatusInsufficientStorage || s.status == http.StatusServiceUnavailable {
				if n++; s.retry == "" || s.stored != notStored {
					t.Fatalf("answered %d with Retry-After %q: %s; the write is number %d", s.status, s.retry, s.text, s.Seq)
				}
			}
		}
		return n
	}
	eventually(t, patience, "the store is full", func() bool { return refused() > 50 })
	full := w.accepted()
	r.procs[0].Await(`more than half full[^\n]*"percent":(9\d|100),`) // and removes what it may
	r.copies[1].restart()
	w.await(100)
	t.Logf("%d writes were accepted until the store was full, %d refused, then it went on", full, refused())
	r.settle(w, nil)
}
